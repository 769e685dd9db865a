# SPDX-License-Identifier: LGPL-2.1-or-later
"""What sections for devices mean at hot-plug: ``require`` and ``values``, for as long as the guest has the device."""

import pytest
from aftermath import recover
from cases import DISK, GPU, NIC, SOUND
from command import libhook
from plugging import attach, detach, xml
from scenario import Host, guest
from watch_play import Watched

from libhook.simulation import faults, systemd
from libhook.simulation.hosts import workstation
from libhook.simulation.hypervisor import Hypervisor

SWAPPINESS, DIRTY = "/proc/sys/vm/swappiness", "/proc/sys/vm/dirty_ratio"
WANTS = '[devices."{}"]\nvalues = {{ "vm.swappiness" = {} }}\n'
OF_NIC = WANTS.format(NIC, 10)
HAS, GAVE_UP = f"win11: has pci {NIC} now", f"win11: gave up pci {NIC}"


def _host(root: str, config: str, *devices: str) -> Host:
    host = Host(root, workstation(), config)
    host.put(SWAPPINESS, "60")
    host.put(DIRTY, "20")
    host.start(guest(*devices))
    return host


def _value(host: Host, path: str = SWAPPINESS) -> str:
    return host.read(path)


def _ended(host: Host) -> None:
    if host.libvirt.guests:
        host.libvirt.stop("win11", "shutdown")
    assert (_value(host), _value(host, DIRTY)) == ("60", "20")
    assert (host.changed, host.leftovers) == ([], [])


@pytest.mark.parametrize("name", [NIC, "8086:10d3", "network"])
def test_values_come_and_go_with_the_device(root: str, name: str) -> None:
    """The plan says so. What other sections ask for is not done again."""
    more = '[domains."win11"]\nvalues = { "vm.dirty_ratio" = 5 }\n'
    host = _host(root, WANTS.format(name, 10), DISK)
    host.configure(WANTS.format(name, 10) + more)
    foretold = attach(host, Hypervisor(host.libvirt), xml(NIC), dry_run=True).lines
    assert [line for line in foretold if line.startswith("set ")] == [f'set {SWAPPINESS} to "10"']
    for _ in range(2):
        assert attach(host, Hypervisor(host.libvirt), xml(NIC)) == ([HAS], "")
        assert (_value(host), _value(host, DIRTY)) == ("10", "20")
        assert f'value {SWAPPINESS}  set to "10"' in libhook(host, "status").out
        foretold = detach(host, Hypervisor(host.libvirt), xml(NIC), dry_run=True).lines
        assert f"give {SWAPPINESS} its value back, if no other guest wants this one" in foretold
        assert detach(host, Hypervisor(host.libvirt), xml(NIC)) == ([GAVE_UP], "")
        assert _value(host) == "60"
    _ended(host)


def test_values_go_with_the_guest(root: str) -> None:
    """That ends with the device."""
    host = _host(root, OF_NIC)
    attach(host, Hypervisor(host.libvirt), xml(NIC))
    assert _value(host) == "10"
    _ended(host)


@pytest.mark.parametrize("first", [NIC, DISK])
def test_two_devices_that_need_the_same_value(root: str, first: str) -> None:
    """It goes with the last of them."""
    host = _host(root, OF_NIC + WANTS.format("nvme", 10))
    for address in (NIC, DISK):
        assert attach(host, Hypervisor(host.libvirt), xml(address)).error == ""
    detach(host, Hypervisor(host.libvirt), xml(first))
    assert _value(host) == "10"
    detach(host, Hypervisor(host.libvirt), xml(NIC if first == DISK else DISK))
    assert _value(host) == "60"
    _ended(host)


def test_a_value_that_the_guest_has_from_its_start_stays(root: str) -> None:
    """Another device of its start asked for it, and plugging one in and out changes nothing of that."""
    host = _host(root, OF_NIC + WANTS.format("nvme", 10), DISK)
    attach(host, Hypervisor(host.libvirt), xml(NIC))
    detach(host, Hypervisor(host.libvirt), xml(NIC))
    assert _value(host) == "10"
    _ended(host)


def test_a_section_that_takes_it_away(root: str) -> None:
    """The guest's own, with ``replace``."""
    host = _host(root, OF_NIC + '[domains."win11"]\nreplace = true\nvalues = {}\n', DISK)
    assert attach(host, Hypervisor(host.libvirt), xml(NIC)) == ([HAS], "")
    assert _value(host) == "60"
    _ended(host)


def test_what_is_said_of_the_guest_itself_wins(root: str) -> None:
    """As at a start."""
    host = _host(root, OF_NIC + '[domains."win11"]\nvalues = { "vm.swappiness" = 30 }\n', DISK)
    assert _value(host) == "30"
    attach(host, Hypervisor(host.libvirt), xml(NIC))
    assert _value(host) == "30"
    _ended(host)


@pytest.mark.parametrize("how", ["refuses", "monitor"])
def test_libvirt_does_not_plug_it_in(root: str, how: str) -> None:
    """The value goes back with the device."""
    host = _host(root, OF_NIC, DISK)
    assert "libvirt: " in attach(host, Hypervisor(host.libvirt, attach=how), xml(NIC)).error
    assert (_value(host), host.driver(NIC)) == ("60", "e1000e")
    _ended(host)


def test_the_driver_does_not_let_go(root: str) -> None:
    """The value was set before; it goes back."""
    host = _host(root, OF_NIC, DISK)
    faults.inject(root, faults.Fault(f"write */e1000e/unbind {NIC}", 0, error="EIO"))
    assert "does not let go of it" in attach(host, Hypervisor(host.libvirt), xml(NIC)).error
    assert _value(host) == "60"
    _ended(host)


def test_a_process_that_is_killed_leaves_it_to_recover(root: str) -> None:
    """Nobody answered, and the guest does not have the device."""
    host = _host(root, OF_NIC, DISK)
    attach(host, Hypervisor(host.libvirt, attach="no answer, not"), xml(NIC))
    held = host.state.load(guest().uuid)
    assert held
    gone = tuple(one._replace(plugging=one.plugging and one.plugging._replace(pid=99999)) for one in held.devices)
    host.state.save(held._replace(devices=gone))
    recover(host)
    assert (_value(host), host.driver(NIC)) == ("60", "e1000e")
    _ended(host)


def test_two_guests_cannot_want_different_values(root: str) -> None:
    """The second is refused, and its device stays with the host."""
    host = _host(root, OF_NIC + '[domains."other"]\nvalues = { "vm.swappiness" = 30 }\n')
    other = guest(DISK, name="other")._replace(uuid="11111111-2222-3333-4444-555555555555")
    assert host.libvirt.start(other).error == ""
    assert "to be 30, and this one 10" in attach(host, Hypervisor(host.libvirt), xml(NIC)).error
    assert (_value(host), host.driver(NIC)) == ("30", "e1000e")
    host.libvirt.stop("other")
    _ended(host)


def test_what_is_not_done_at_hot_plug_is_said_in_one_line(root: str) -> None:
    """By the command, and in the plan."""
    modules = 'modules = ["e1000e"]\n[domains."win11"]\nmodules = ["nvme"]\n'
    units = f'[devices."{NIC}"]\nunits = {{ "cups.service" = "down" }}\n'
    host = _host(root, "", DISK)
    host.configure(units + modules)
    systemd.add(root, "cups.service")
    line = "the settings for the device ask for units, modules: that is done when a guest starts, not at hot-plug"
    assert f"warning: {line}" in attach(host, Hypervisor(host.libvirt), xml(NIC), dry_run=True).lines
    assert attach(host, Hypervisor(host.libvirt), xml(NIC)) == ([HAS, f"win11: {line}"], "")
    assert systemd.state(root, "cups.service") == "active"
    host.libvirt.stop("win11", "shutdown")
    assert systemd.state(root, "cups.service") == "active"


def test_nothing_is_said_of_what_other_sections_ask_for(root: str) -> None:
    """It was done when the guest started, or was not to be."""
    host = _host(root, '[domains."win11"]\nmodules = []\n[devices."display"]\nmodules = ["x"]\n', DISK)
    assert attach(host, Hypervisor(host.libvirt), xml(NIC)) == ([HAS], "")
    _ended(host)


def test_one_that_waits_for_its_group_keeps_its_value(root: str) -> None:
    """It is the guest's until the rest of the group is home."""
    host = _host(root, WANTS.format(GPU, 10), DISK)
    for address in (GPU, SOUND):
        host.configure(WANTS.format(GPU, 10) + '[domains."win11"]\nsiblings = "bind"\n')
        assert attach(host, Hypervisor(host.libvirt), xml(address)).error == ""
    detach(host, Hypervisor(host.libvirt), xml(GPU))
    assert (_value(host), host.driver(GPU)) == ("10", "vfio-pci")
    detach(host, Hypervisor(host.libvirt), xml(SOUND))
    assert (_value(host), host.driver(GPU)) == ("60", "amdgpu")
    _ended(host)


def test_others_plug_it_out(root: str) -> None:
    """The watch may write to nothing but devices: the value stays until the guest's end."""
    host = _host(root, OF_NIC, DISK)
    attach(host, Hypervisor(host.libvirt), xml(NIC))
    watched = Watched(host)
    watched.tell("began", now=guest(DISK, NIC))
    host.libvirt.unplug("win11", NIC)
    watched.tell("removed", "hostdev1", guest(DISK))
    assert (_value(host), host.driver(NIC)) == ("10", "e1000e")
    host.libvirt.stop("win11", "shutdown")
    assert (_value(host), host.changed, host.leftovers) == ("60", [], ["watched.json"])
