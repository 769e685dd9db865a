# SPDX-License-Identifier: LGPL-2.1-or-later
"""Devices that the settings name and the XML does not: ``take_along``."""

import json
import os
import signal
import time
from pathlib import Path

import pytest
from cases import DISK, GPU, NIC, SOUND
from command import libhook
from plugging import attach, detach, xml
from scenario import Host, guest, reap

from libhook.simulation import processes, store
from libhook.simulation.guests import Guest
from libhook.simulation.hosts import workstation
from libhook.simulation.hypervisor import Hypervisor

WIN11, PLAIN = guest(NIC), guest()
OTHER = guest(DISK, name="other")._replace(uuid="11111111-2222-3333-4444-555555555555")
ALONG = f'[domains."win11"]\ntake_along = ["{DISK}"]\n'


def _host(root: str, config: str = ALONG, *, launcher: bool = False) -> Host:
    host = Host(root, workstation(), config, launcher=launcher)
    for path in (Path(host.machine.config), Path(host.machine.config).parent):
        os.utime(path, (time.time() - 60,) * 2)
    return host


def _leave(host: Host) -> None:
    """The guest is gone, and libvirtd with it."""
    processes.end(host.root, host.libvirt.pid)


@pytest.mark.parametrize("launcher", [False, True])
@pytest.mark.parametrize("one", [WIN11, PLAIN])
def test_it_is_the_guests_while_the_guest_has_its_devices(root: str, one: Guest, launcher: bool) -> None:
    """Also of a guest whose XML names none. The trail has what the XML names, and nothing else."""
    host = _host(root, launcher=launcher)
    for _ in range(2):
        assert host.libvirt.start(one).error == ""
        assert host.driver(DISK) == "vfio-pci"
        assert f"  pci {DISK}  nvme -> vfio-pci  [taken along]" in libhook(host, "status").out.splitlines()
        assert "held by the guest win11" in host.event(OTHER, "prepare").line
        host.event(OTHER, "release", "failed")
        host.libvirt.stop("win11")
        assert (host.driver(DISK), host.changed, host.leftovers) == ("nvme", [], [])
    own = [device.address for device in one.devices]
    assert [record for record in host.records if DISK not in record] == [
        f"{reason} {address} success" for _ in range(2) for reason in ("start", "stop") for address in own
    ]
    assert [record for record in host.records if DISK in record] == [f"start {DISK} failed"] * 2, "the other guest's"


def test_plan_inspect_and_config_show_it(root: str) -> None:
    """With the driver of the settings, and where it comes from."""
    host = _host(root)
    xml = WIN11.xml()
    assert f"{DISK}: nvme -> vfio-pci (settings of the guest)" in libhook(host, "plan", "-", stdin=xml).out
    shown = libhook(host, "inspect", "-", stdin=xml).out.splitlines()
    assert shown[-2].startswith(f"pci   settings  no       {DISK}  Samsung ")
    assert shown[-1] == "    no record"
    device = json.loads(libhook(host, "inspect", "--json", "-", stdin=xml).out)["host_devices"][1]
    assert (device["source"], device["address"], device["record"]) == ("settings", DISK, None)
    settings = libhook(host, "config", "win11").out.splitlines()
    assert [line.split()[-3:] for line in settings if "take_along" in line] == [
        [f'"{DISK}"', "/etc/libhook/config.toml", '[domains."win11"]']
    ]
    assert f'domains."win11".take_along = "{DISK}"' in libhook(host, "config").out
    host.begin(WIN11)
    assert f"{DISK}: vfio-pci -> nvme" in libhook(host, "plan", "--event", "release", "-", stdin=xml).out
    assert "nothing to do at start" in libhook(host, "plan", "--event", "start", "-", stdin=xml).out


def test_the_plan_of_a_guest_that_runs_is_that_of_its_next_start(root: str) -> None:
    """Though its QEMU has the device open, by arguments of its own."""
    host = _host(root)
    assert host.libvirt.start(WIN11).error == ""
    group = Path(root, f"sys/bus/pci/devices/{DISK}/iommu_group").resolve().name
    processes.open_file(root, processes.spawn(root, "qemu-system-x86"), f"/dev/vfio/{group}")
    planned = libhook(host, "plan", "-", stdin=WIN11.xml())
    assert (planned.code, planned.err) == (0, "")
    assert f"{DISK}: nvme -> vfio-pci (settings of the guest)" in planned.out


def test_what_the_xml_names_as_well_is_the_guests_own(root: str) -> None:
    """It is recorded, and there once."""
    host = _host(root, f'[domains."win11"]\ntake_along = ["{NIC}", "{DISK}", "{DISK}"]\n')
    assert host.libvirt.start(WIN11).error == ""
    held = host.state.load(WIN11.uuid)
    assert held
    assert [(one.address, one.audited, one.named) for one in held.devices] == [(NIC, True, False), (DISK, False, True)]
    host.libvirt.stop("win11")
    assert host.records == [f"start {NIC} success", f"stop {NIC} success"]


@pytest.mark.parametrize(
    ("address", "line"),
    [
        (
            "0000:05:00.0",
            (
                "0000:05:00.0 is not on this host: libhook devices shows those that are; "
                "correct the address in take_along, which libhook config shows"
            ),
        ),
        ("0000:00:01.0", "0000:00:01.0 is a bridge, and a guest cannot have a bridge: give the guest"),
        (GPU, f"{GPU} shares IOMMU group 14 with {SOUND}, which is on snd_hda_intel: give the guest the whole group"),
    ],
)
@pytest.mark.parametrize("one", [WIN11, PLAIN])
def test_what_cannot_be_taken_refuses_the_start(root: str, one: Guest, address: str, line: str) -> None:
    """As a device of the XML. Of those a record says that the start failed."""
    host = _host(root, f'[domains."win11"]\ntake_along = ["{address}"]\n', launcher=True)
    assert line in host.libvirt.start(one).error
    assert host.records == [f"start {device.address} failed" for device in one.devices]
    assert (host.changed, host.leftovers) == ([], [])


def test_one_of_the_guests_group_is_consent_for_that_one(root: str) -> None:
    """The rest of a card."""
    host = _host(root, f'[domains."win11"]\ntake_along = ["{SOUND}"]\n')
    one = guest(GPU)
    assert host.libvirt.start(one).error == ""
    host.libvirt.stop("win11")
    assert host.records == [f"start {GPU} success", f"stop {GPU} success"]
    assert (host.changed, host.leftovers) == ([], [])


def test_one_that_was_on_vfio_stays_there_and_is_held(root: str) -> None:
    """The administrator has put it there; no other guest may have it meanwhile."""
    host = Host(root, workstation()._replace(vfio_loaded=True), ALONG)
    host.somebody_rebinds(DISK, "vfio-pci")
    assert host.libvirt.start(PLAIN).error == ""
    assert f"  pci {DISK}  left as it was  [taken along]" in libhook(host, "status").out.splitlines()
    assert "held by the guest win11" in host.event(OTHER, "prepare").line
    host.event(OTHER, "release", "failed")
    host.libvirt.stop("win11")
    assert (host.driver(DISK), host.leftovers) == ("vfio-pci", [])


def test_at_start_it_must_be_on_vfio(root: str) -> None:
    """Somebody has taken it back since prepare."""
    host = _host(root)
    assert host.event(PLAIN, "prepare").code == 0
    host.somebody_rebinds(DISK, "\n")
    refused = host.event(PLAIN, "start")
    assert f"{DISK} is on nvme instead of vfio-pci" in refused.line
    host.event(PLAIN, "release", "failed")
    assert (host.records, host.leftovers) == ([], [])


def test_settings_that_change_while_the_guest_runs_change_nothing_for_it(root: str) -> None:
    """What it took comes back; what is named since is not touched."""
    host = _host(root)
    assert host.event(PLAIN, "prepare").code == 0
    host.configure(f'[domains."win11"]\ntake_along = ["{NIC}"]\n')
    for operation in ("start", "started", "reconnect"):
        done = host.event(PLAIN, operation)
        assert (done.code, done.logged("not given back")) == (0, [])
    assert (host.driver(NIC), host.driver(DISK)) == ("e1000e", "vfio-pci")
    host.event(PLAIN, "release", "shutdown")
    assert (host.changed, host.leftovers) == ([], [])


def test_a_killed_prepare_does_not_start_the_guest(root: str) -> None:
    """The launcher let it pass where it did not know better; recover gives back what was taken."""
    host = _host(root)
    host.event(PLAIN, "prepare")
    held = host.state.load(PLAIN.uuid)
    assert held
    host.state.save(held._replace(phase="preparing"))
    assert "the hook was ended before it was done with prepare" in host.event(PLAIN, "start").line
    assert libhook(host, "recover").code == 0
    assert (host.changed, host.leftovers) == ([], [])


def test_a_dead_guest_gives_way_to_the_next(root: str) -> None:
    """Whoever wants the device settles what the dead one left."""
    host = _host(root)
    host.begin(PLAIN)
    _leave(host)
    assert host.event(OTHER, "prepare").code == 0
    assert host.state.load(PLAIN.uuid) is None
    host.event(OTHER, "release", "failed")
    assert (host.changed, host.leftovers) == ([], [])


@pytest.mark.parametrize("one", [WIN11, PLAIN])
def test_an_entry_that_somebody_removed_before_start(root: str, one: Guest) -> None:
    """It refuses: nobody knows what the device was on."""
    host = _host(root)
    host.event(one, "prepare")
    os.unlink(f"{root}/run/libhook/domains/{one.uuid}.json")
    assert f"{DISK} would never be given back" in host.event(one, "start").line


def test_an_entry_that_somebody_removed(root: str) -> None:
    """The guest's end warns: nobody knows what the device was on. No record is about it."""
    host = _host(root)
    host.begin(WIN11)
    os.unlink(f"{root}/run/libhook/domains/{WIN11.uuid}.json")
    ended = host.event(WIN11, "release", "shutdown")
    warned = [entry["reason"] for entry in ended.logged("not given back")]
    assert [address in " ".join(warned) for address in (NIC, DISK)] == [True, True]
    assert host.records == [f"start {NIC} success", f"stop {NIC} success"]


@pytest.mark.parametrize("address", [NIC, GPU])
def test_it_stays_when_others_are_plugged_out(root: str, address: str) -> None:
    """Also where another device of its IOMMU group goes: the guest may use it past libvirt. Its end gives it back."""
    host = _host(root, f'[domains."win11"]\ntake_along = ["{SOUND}"]\n')
    one = guest(NIC, GPU)
    assert host.libvirt.start(one).error == ""
    assert detach(host, Hypervisor(host.libvirt), xml(address))[1] == ""
    assert (host.driver(NIC), host.driver(GPU), host.driver(SOUND)) == (
        ("e1000e", "vfio-pci", "vfio-pci") if address == NIC else ("vfio-pci", "vfio-pci", "vfio-pci")
    )
    host.libvirt.stop("win11")
    assert (host.changed, host.leftovers) == ([], [])


def test_it_is_not_plugged_in_once_more(root: str) -> None:
    """It is the guest's already."""
    host = _host(root)
    assert host.libvirt.start(WIN11).error == ""
    assert f"the guest has pci {DISK} already" in attach(host, Hypervisor(host.libvirt), xml(DISK))[1]
    assert host.driver(DISK) == "vfio-pci"
    host.libvirt.stop("win11")
    assert (host.changed, host.leftovers) == ([], [])


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (f'take_along = ["{DISK}"]\n', "take_along may not be set for all guests: name one guest in [domains]"),
        (f'[domains."win*"]\ntake_along = ["{DISK}"]\n', "may not be set for a pattern: name one guest"),
        (f'[devices."{NIC}"]\ntake_along = ["{DISK}"]\n', "may not be set for whichever guest has a device"),
        ('[domains."win11"]\ntake_along = ["05:00.0"]\n', 'must be a list of PCI addresses: ["0000:05:00.0"]'),
        ('[domains."win11"]\ntake_along = [5]\n', 'must be a list of PCI addresses: ["0000:05:00.0"]'),
        (f'[domains."win11"]\ntake_along = "{DISK}"\n', 'must be a list of PCI addresses: ["0000:05:00.0"]'),
    ],
)
def test_it_names_devices_and_one_guest(root: str, config: str, said: str) -> None:
    """A pattern would give one device to many guests, and to those that are made later."""
    host = _host(root, config)
    assert said in host.event(WIN11, "prepare").line
    assert said in libhook(host, "config").err
    assert host.changed == []


def test_an_empty_list_may_stand_anywhere(root: str) -> None:
    """It asks for nothing. Lists of the guest's name and of its UUID add up."""
    host = _host(root, f'take_along = []\n{ALONG}[domains."{PLAIN.uuid}"]\ntake_along = ["{NIC}"]\n')
    host.begin(PLAIN)
    assert (host.driver(NIC), host.driver(DISK)) == ("vfio-pci", "vfio-pci")
    host.event(PLAIN, "release", "shutdown")
    assert (host.changed, host.leftovers) == ([], [])


def test_a_killed_attach_is_no_success_where_only_the_group_is_open(root: str) -> None:
    """QEMU has the card by arguments of its own, and the group with it; nobody asked libvirt for the sound."""
    config = f'[domains."win11"]\ntake_along = ["{GPU}"]\nsiblings = "bind"\npreflight.display = "off"\n'
    host = Host(root, workstation(), config)
    assert host.libvirt.start(guest(NIC)).error == ""
    group = Path(root, f"sys/bus/pci/devices/{GPU}/iommu_group").resolve().name
    qemu = int(Path(root, "run/libvirt/qemu/win11.pid").read_text())
    processes.open_file(root, qemu, f"/dev/vfio/{group}")
    hypervisor = Hypervisor(host.libvirt)
    hypervisor.meanwhile = lambda: os.kill(os.getpid(), signal.SIGKILL)
    pid = os.fork()
    if pid == 0:
        attach(host, hypervisor, xml(SOUND))
        os._exit(0)
    os.waitpid(pid, 0)
    assert reap(60)
    libhook(host, "recover")
    trail = store.lines(f"{root}/var/log/audit.jsonl")
    assert not [record for record in trail if "reason=attach" in record["text"] and record["success"]]
