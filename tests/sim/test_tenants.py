# SPDX-License-Identifier: LGPL-2.1-or-later
"""A guest has something below a device: what goes with the device's driver is not torn from under it."""

import json
import os
import time
from pathlib import Path

import hanging
import pytest
from cases import NIC
from command import libhook
from family import until
from plugging import attach, xml
from scenario import Host, document, guest, reap

from libhook.facts.entry import HeldDevice
from libhook.look import tenants
from libhook.simulation import processes, store
from libhook.simulation.guests import Guest
from libhook.simulation.hosts import E1000E
from libhook.simulation.hypervisor import Hypervisor
from libhook.simulation.kernel import SimulatedKernel
from libhook.simulation.world import USB, VGA, Device, Driver, World

OTHER = "11111111-2222-3333-4444-555555555555"
MDEV = "a6a0b3b2-6c4e-4b1c-9d0f-0c7d2b1f5e11"
WWPN = "naa.5001405df3e54061"
IGPU, XHCI, HBA = "0000:00:02.0", "0000:00:14.0", "0000:00:17.0"
DRIVERS = (
    Driver("i915", ids=("8086:3e98",)),
    Driver("xhci_hcd", ids=("class:0c03",)),
    Driver("ahci", ids=("8086:a352",)),
    E1000E,
)
XML = {
    f"mdev {MDEV}": f"<hostdev mode='subsystem' type='mdev' model='vfio-pci'><source><address uuid='{MDEV}'/></source>"
    "</hostdev>",
    "usb 001.004": "<hostdev mode='subsystem' type='usb'><source><address bus='1' device='4'/></source></hostdev>",
    "scsi scsi_host0:0:0:0": "<hostdev mode='subsystem' type='scsi'><source><adapter name='scsi_host0'/>"
    "<address bus='0' target='0' unit='0'/></source></hostdev>",
    f"scsi_host {WWPN}": "<hostdev mode='subsystem' type='scsi_host'>"
    f"<source protocol='vhost' wwpn='{WWPN}'/></hostdev>",
}
PARENTS = dict(zip(XML, (IGPU, XHCI, HBA, HBA), strict=True))


def _world(**changes: int) -> World:
    """An integrated GPU with a mediated device, a USB controller and an adapter with a disk; each in its group."""
    return World(
        (
            Device(IGPU, "i915", 1, VGA, "8086:3e98", children=(("drm", "card0"), ("mdev", MDEV))),
            Device(XHCI, "xhci_hcd", 2, USB, "8086:a36d", children=(("usb_device", "001.004"),)),
            Device(HBA, "ahci", 3, "010601", "8086:a352", children=(("scsi_host", "host0"), ("block", "sda"))),
            Device(NIC, "e1000e", changes.get("nic", 4), children=(("net", "eth1"),)),
        ),
        DRIVERS,
    )


def _host(root: str, config: str = "", **changes: int) -> Host:
    host = Host(root, _world(**changes), f"holder_wait = 0.05\n{config}")
    lun = Path(root, f"sys/kernel/config/target/vhost/{WWPN}/tpgt_1/lun/lun_0/disk")
    lun.mkdir(parents=True)
    Path(lun, "udev_path").write_text("/dev/disk/by-id/wwn-1\n")
    Path(root, "dev/disk/by-id").mkdir(parents=True)
    Path(root, "dev/disk/by-id/wwn-1").symlink_to("../../sda")
    return host


def _other(what: str) -> Guest:
    return Guest("the\nother", uuid=OTHER, document=document(XML[what], name="the\nother", uuid=OTHER))


def _runs(host: Host, one: Guest, *, now: bool = True) -> Guest:
    """The guest is started through the hook, and libvirt says that it runs, or it has ended unseen."""
    host.begin(one)
    if now:
        Path(host.root, f"run/libvirt/qemu/{one.name}.xml").touch()
    return one


@pytest.mark.parametrize("managed", [False, True])
@pytest.mark.parametrize("what", XML)
def test_what_a_guest_has_below_a_device_is_not_torn_away(root: str, what: str, managed: bool) -> None:
    """Its own journal entry says so; the refusal names guest and thing, and nothing is written."""
    host = _host(root)
    _runs(host, _other(what))
    parent = PARENTS[what]
    refused = host.event(guest(parent, managed=managed), "prepare")
    assert refused.line == (
        f'{what} behind {parent} is held by the guest "the\\nother", which would lose it: '
        "stop that guest first, or detach it there; libhook status shows what it holds"
    )
    assert (refused.code, refused.writes, refused.changed) == (1, (), ())
    assert libhook(host, "plan", "-", stdin=guest(parent).xml()).code == 1
    others = {IGPU, XHCI, HBA} - {parent}
    assert host.event(guest(*others, name="third")._replace(uuid=OTHER[::-1]), "prepare").code == 0


@pytest.mark.parametrize("what", XML)
def test_it_is_free_once_the_guest_has_ended(root: str, what: str) -> None:
    """By its release, or unseen: then who comes next settles what it has left, as the plan foretells."""
    host = _host(root)
    one = _runs(host, _other(what), now=False)
    assert libhook(host, "plan", "-", stdin=guest(PARENTS[what]).xml()).code == 0
    host.begin(guest(PARENTS[what]))
    assert f"stop {what.partition(' ')[2]} success" in host.records
    host.event(guest(PARENTS[what]), "release", "shutdown")
    _runs(host, one)
    os.unlink(f"{root}/run/libvirt/qemu/{one.name}.xml")
    host.event(one, "release", "shutdown")
    host.begin(guest(PARENTS[what]))


def test_a_guest_that_was_refused_has_nothing(root: str) -> None:
    """Its journal entry stays until libvirt releases it, and keeps nobody from anything."""
    host = _host(root)
    _runs(host, _other("usb 001.004"))
    held = host.state.load(OTHER)
    assert held
    host.state.save(held._replace(phase="refused"))
    host.begin(guest(XHCI))
    assert OTHER in host.state.uuids()


def test_a_guest_that_runs_is_not_waited_for(root: str) -> None:
    """It has the mediated device open, and will for days: it is refused at once, and by the guest's name."""
    host = _host(root, "")
    host.configure("holder_wait = 600\nwrite_deadline = 600\n")
    _runs(host, _other(f"mdev {MDEV}"))
    processes.open_file(root, processes.spawn(root, "qemu"), "/dev/vfio/40")
    begun = time.monotonic()
    assert 'is held by the guest "the\\nother"' in host.event(guest(IGPU), "prepare").line
    assert time.monotonic() - begun < 300


def test_a_sibling_with_something_below_is_not_taken_along(root: str) -> None:
    """Consent to take the group is none to take a running guest's stick."""
    host = _host(root, 'siblings = "bind"\n', nic=2)
    _runs(host, _other("usb 001.004"))
    refused = host.event(guest(NIC), "prepare")
    assert f"{NIC} shares IOMMU group 2 with {XHCI}: usb 001.004 behind {XHCI} is held by the guest" in refused.line
    assert refused.writes == ()


@pytest.mark.parametrize("what", ["usb 001.004", f"mdev {MDEV}"])
def test_a_guest_is_not_given_both(root: str, what: str) -> None:
    """At its start the one would be gone when libvirt comes to it; plugged in, it would be torn away."""
    host = _host(root)
    parent = PARENTS[what]
    said = (
        f"{what} behind {parent} is also given to this guest, which would lose it: give the guest only one of the two"
    )
    both = document(XML[what], guest(parent).devices[0].xml(1))
    refused = host.event(Guest(document=both), "prepare")
    assert (refused.line, refused.writes) == (said, ())
    host.event(Guest(document=both), "release", "failed")
    assert host.libvirt.start(guest(NIC)).error == ""
    held = host.state.load(guest().uuid)
    assert held
    kind, _, address = what.partition(" ")
    plugged = HeldDevice(kind, address, recorded="success", began="attach")  # type: ignore[arg-type]
    host.state.save(held._replace(devices=(*held.devices, plugged)))
    assert said in attach(host, Hypervisor(host.libvirt), xml(parent)).error
    assert host.driver(parent) == ("i915" if parent == IGPU else "xhci_hcd")


def test_a_device_is_not_plugged_in_from_under_another_guest(root: str) -> None:
    """The look of a hot-plug is a start's."""
    host = _host(root)
    _runs(host, _other("usb 001.004"))
    assert host.libvirt.start(guest(NIC)).error == ""
    assert f"usb 001.004 behind {XHCI} is held by the guest" in attach(host, Hypervisor(host.libvirt), xml(XHCI)).error
    assert host.driver(XHCI) == "xhci_hcd"


def test_a_function_behind_vmd_keeps_it(root: str) -> None:
    """It is one of another PCI domain, and has an IOMMU group; a guest that has VMD itself is refused by that."""
    host = _host(root)
    inner = Path(root, f"sys/devices/pci0000:00/{HBA}/pci10000:e0/10000:e0:06.0")
    inner.mkdir(parents=True)
    Path(root, "sys/bus/pci/devices/10000:e0:06.0").symlink_to(inner)
    one = _runs(host, _other("usb 001.004"))
    held = host.state.load(OTHER)
    assert held
    host.state.save(held._replace(devices=(HeldDevice("pci", "10000:e0:06.0"),)))
    assert f"pci 10000:e0:06.0 behind {HBA} is held by the guest" in host.event(guest(HBA), "prepare").line
    host.event(guest(HBA), "release", "failed")
    host.state.save(held._replace(devices=(HeldDevice("pci", HBA),)))
    host.begin(guest(XHCI))
    assert one.uuid in host.state.uuids()


def test_an_export_to_a_guest_that_does_not_answer_refuses(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody is at it in configfs, and nobody knows what is behind it; where it is only shown, the rest is."""
    host = _host(root, "")
    _runs(host, _other(f"scsi_host {WWPN}"))
    silent = Path(root, f"sys/kernel/config/target/vhost/{WWPN}/tpgt_1/lun/lun_0/disk/udev_path")
    silent.unlink()
    os.mkfifo(silent)
    monkeypatch.setattr(tenants, "_PATIENCE", 2.0)
    host.patience = 0
    hanging.late_at_a_pipe(waiting=2)  # the first look gives up by itself, after two seconds
    refused = host.event(guest(HBA), "prepare")
    said = "LIO does not say which of its disks guests have: something in /sys/kernel/config/target does not answer: "
    assert said in refused.line
    assert refused.writes == ()
    assert f"  {HBA}  SATA      ahci" in libhook(host, "devices").out
    hanging.answer(silent)
    assert reap(60)


def test_a_broken_entry_of_a_guest_that_runs_may_hold_anything(root: str) -> None:
    """Nobody knows what would be torn away; once the guest is gone it is in nobody's way."""
    host = _host(root)
    _runs(host, _other("usb 001.004"))
    Path(host.machine.state, f"domains/{OTHER}.json").write_text("{")
    status = Path(root, "run/libvirt/qemu/the\nother.xml")
    status.write_text(f"<domstatus><domain><uuid>{OTHER}</uuid>{XML['usb 001.004']}</domain></domstatus>")
    refused = host.event(guest(XHCI), "prepare")
    assert f"something behind {XHCI} is held by the guest {OTHER}, whose journal entry is broken" in refused.line
    assert host.event(guest(NIC, name="third")._replace(uuid=OTHER[::-1]), "prepare").code == 0
    status.unlink()
    status.mkdir()
    assert host.event(guest(XHCI), "prepare").line == refused.line, "nobody knows whose file this is"
    status.rmdir()
    status.parent.rename(f"{status.parent}.away")
    status.parent.symlink_to("qemu")
    assert host.event(guest(XHCI), "prepare").line == refused.line, "nobody can list the folder"
    status.parent.unlink()
    Path(f"{status.parent}.away").rename(status.parent)
    assert host.event(guest(XHCI), "prepare").code == 0


def test_an_entry_of_a_later_version_may_hold_anything_and_is_called_so(root: str) -> None:
    """Its guest runs; what it has only that version knows."""
    host = _host(root)
    _runs(host, _other("usb 001.004"))
    entry = Path(host.machine.state, f"domains/{OTHER}.json")
    entry.write_text(json.dumps({**json.loads(entry.read_text()), "format": 99}))
    status = Path(root, "run/libvirt/qemu/the\nother.xml")
    status.write_text(f"<domstatus><domain><uuid>{OTHER}</uuid>{XML['usb 001.004']}</domain></domstatus>")
    refused = host.event(guest(XHCI), "prepare")
    assert (
        f"something behind {XHCI} is held by the guest {OTHER}, whose journal entry is from a later libhook"
        in refused.line
    )


@pytest.mark.parametrize("strange", ["../../pci/devices/x", "a\0b", "", "scsi_host0/../..", "9" * 5000])
def test_what_an_entry_names_is_a_name(root: str, strange: str) -> None:
    """It leads to no other path, and to no error."""
    host = _host(root)
    one = _runs(host, _other("usb 001.004"))
    held = host.state.load(OTHER)
    assert held
    kinds = ("usb", "scsi", "mdev", "scsi_host")
    strangers = tuple(HeldDevice(kind, strange) for kind in kinds)  # type: ignore[arg-type]
    host.state.save(held._replace(devices=strangers))
    host.begin(guest(XHCI, HBA))
    assert one.uuid in host.state.uuids()


def test_devices_says_who_has_something_below(root: str) -> None:
    """As text and as JSON."""
    host = _host(root)
    _runs(host, _other("usb 001.004"))
    said = 'usb 001.004 behind it is held by the guest "the{}other"'
    escaped = said.format("\\n")
    (line,) = (line for line in libhook(host, "devices").out.splitlines() if line.startswith(f"  {XHCI}  USB "))
    assert line.endswith(f"  [{escaped}]")
    groups = json.loads(libhook(host, "devices", "--json").out)["groups"]
    found = {device["address"]: device["uses"] for group in groups for device in group["devices"]}
    assert (found[XHCI], found[IGPU]) == ([said.format("\n")], [])


@pytest.mark.parametrize("consent", ["", '[domains.win11.preflight]\ndisplay = "{}"\n'])
@pytest.mark.parametrize("strictness", ["warn", "off"])
def test_an_open_mediated_device_keeps_its_parent(root: str, consent: str, strictness: str) -> None:
    """Without any record, by its group's node; that the parent is a screen that may be taken changes nothing."""
    host = _host(root, consent.format(strictness))
    pid = processes.spawn(root, "qemu")
    processes.open_file(root, pid, "/dev/vfio/40")
    refused = host.event(guest(IGPU), "prepare")
    assert f"{IGPU} is in use by the host: it is open in qemu (pid {pid}, /dev/vfio/40)" in refused.line
    assert refused.writes == ()
    processes.end(root, pid)
    host.event(guest(IGPU), "release", "failed")
    host.begin(guest(IGPU))
    assert not Path(root, f"sys/bus/mdev/devices/{MDEV}").exists()


def test_one_opened_at_the_last_moment_keeps_its_parent_too(root: str) -> None:
    """Between the check and the unbind, also of a screen that may be taken: the kernel would wait for ever."""
    host = _host(root, '[domains.win11.preflight]\ndisplay = "off"\n')
    pid = processes.spawn(root, "qemu")

    class Late(SimulatedKernel):
        def write(self, path: str, value: str) -> None:
            super().write(path, value)
            if path.endswith("/driver_override") and value != "\n":
                processes.open_file(root, pid, "/dev/vfio/40")

    host.machine = host.machine._replace(kernel=Late(root))
    refused = host.event(guest(IGPU), "prepare")
    assert f"{IGPU} is in use by qemu (pid {pid}, /dev/vfio/40)" in refused.line
    assert not [path for path, _ in refused.writes if path.endswith("/unbind")]
    assert host.driver(IGPU) == "i915"


def test_the_kernel_waits_for_who_has_a_mediated_device_open(root: str) -> None:
    """mdev_unregister_parent(): what the refusals above are for."""
    host = _host(root)
    pid = processes.spawn(root, "qemu")
    processes.open_file(root, pid, "/dev/vfio/40")
    writer = os.fork()
    if not writer:
        try:
            host.somebody_writes("bus/pci/drivers/i915/unbind", IGPU)
        finally:
            os._exit(0)
    override = Path(root, f"sys/bus/pci/devices/{IGPU}/driver_override")
    until(override.is_fifo)
    assert os.waitpid(writer, os.WNOHANG) == (0, 0)
    processes.end(root, pid)
    assert reap(60)
    assert store.bound(root, IGPU) is None
