# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whatever stands against a hand-over is said in one line before anything is written."""

import fcntl
import os
from collections.abc import Callable
from typing import NamedTuple

import pytest
from cases import DISK, GPU, NIC, SOUND, VF0, VF1, setting
from scenario import Host, guest

from libhook.errors import BUSY
from libhook.facts.address import PciAddress
from libhook.facts.entry import Held, HeldDevice
from libhook.look.processes import process
from libhook.simulation import processes, store
from libhook.simulation.guests import Guest
from libhook.simulation.hosts import E1000E, IGB, bridge_group, nic, sriov, workstation
from libhook.simulation.world import Device, World
from libhook.story.session import make_state

OTHER = "11111111-2222-3333-4444-555555555555"


def _nothing(_: Host) -> None:
    """The host as it is."""


def _hold(*addresses: str) -> Callable[[Host], None]:
    """Another guest, which runs, has these devices."""

    def arrange(host: Host) -> None:
        make_state(host.machine)
        libvirtd = process(host.machine, host.libvirt.pid)
        devices = tuple(HeldDevice("pci", address) for address in addresses)
        host.state.save(Held(OTHER, "the\nother", "kvm", "started", host.state.boot(), libvirtd, devices))
        for address in addresses:
            host.state.claim(PciAddress.parse(address), OTHER)
        with open(f"{host.root}/run/libvirt/qemu/the\nother.xml", "w"):
            pass

    return arrange


def _open(node: str) -> Callable[[Host], None]:
    """Some process has this node open."""

    def arrange(host: Host) -> None:
        processes.open_file(host.root, processes.spawn(host.root, "dpdk\x1b[2J"), node)

    return arrange


def _on_vfio(*devices: Device) -> World:
    """Devices of the administrator's that are on vfio-pci already."""
    return World(
        tuple(device._replace(driver="vfio-pci", override="vfio-pci") for device in devices), (), vfio_loaded=True
    )


class Refusal(NamedTuple):
    """What stands in the way, and what is said of it."""

    world: World
    guest: Guest
    line: str
    arrange: Callable[[Host], None] = _nothing
    config: str = ""


def _trail(fields: str) -> Callable[[Host], None]:
    """What the kernel says of its audit trail."""
    return lambda host: store.create(f"{host.root}/simulation/trail", fields)


def _groupless(host: Host) -> None:
    """The IOMMU does not cover the device."""
    os.unlink(f"{host.root}/sys/bus/pci/devices/{NIC}/iommu_group")


STOP_FIRST = "stop that guest first (libhook status shows what it holds); if it has ended already, run: libhook recover"
WHEN_IT_ENDS = "if its driver never answers, reboot the host; when it does, run: libhook recover"
IN_XML = "take <driver model=...> out of the guest's XML, or name another there; this kernel has vfio-pci"
CHOOSE = f"this kernel has vfio-pci; to have libhook choose, {setting('driver', 'auto')}"
SHOWN = "libhook devices shows those that are; to correct the address in the guest's XML, run: virsh edit win11"
TRAIL = f"{NIC}: the audit trail is required, but"
VFS = (
    "give the guest a VF, which libhook devices shows; or, where nothing uses the VFs, to remove them all, "
    "run: echo 0 >/sys/bus/pci/devices/{}/sriov_numvfs"
)
BOTH = f"give the guest the whole group, or to have the rest taken along, {setting('siblings', 'bind')}"
GPU_AND_SOUND = _on_vfio(Device(GPU, group=14), Device(SOUND, group=14))
PF_AS_SIBLING = World(
    (Device(NIC, "igb", 7, ids="8086:10c9", totalvfs=8, numvfs=1), Device("0000:01:00.1", "e1000e", 7)), (IGB, E1000E)
)
BIND, REQUIRED = 'siblings = "bind"\n', "[audit]\nrequired = true\n"

REFUSALS = {
    "not there": Refusal(nic(), guest("0000:99:00.0"), f"0000:99:00.0 is not on this host: {SHOWN}"),
    "bridge": Refusal(
        bridge_group(),
        guest("0000:05:00.0"),
        "0000:05:00.0 is a bridge, and a guest cannot have a bridge: "
        "give the guest a device behind it; libhook devices shows them",
    ),
    "IOMMU off": Refusal(
        World((Device(NIC, "e1000e"),), (E1000E,), iommu=False),
        guest(NIC),
        f"{NIC} cannot be handed over, because the IOMMU is off: turn it on in the firmware (VT-d, AMD-Vi), "
        "on Intel add intel_iommu=on to the kernel's command line, then reboot",
    ),
    "in no group": Refusal(
        nic(),
        guest(NIC),
        f"{NIC} is in no IOMMU group: "
        "see what the kernel says of it: journalctl -k -b -g 'IOMMU|DMAR|AMD-Vi', or dmesg",
        _groupless,
    ),
    "driver": Refusal(nic(), guest(NIC, model="nvme"), f"{NIC}: 'nvme' is not a vfio driver of this kernel: {IN_XML}"),
    "driver with a path": Refusal(
        nic(), guest(NIC, model="../../tmp/x"), f"{NIC}: '../../tmp/x' is not a vfio driver of this kernel: {IN_XML}"
    ),
    "driver with an escape": Refusal(
        nic(), guest(NIC, model="a\x85b"), f"{NIC}: 'a\\x85b' is not a vfio driver of this kernel: {IN_XML}"
    ),
    "driver in the configuration": Refusal(
        nic(),
        guest(NIC),
        f"{NIC}: 'nouveau' is not a vfio driver of this kernel: {CHOOSE}",
        config='driver = "nouveau"\n',
    ),
    "held": Refusal(nic(), guest(NIC), f'{NIC} is held by the guest "the\\nother": {STOP_FIRST}', _hold(NIC)),
    "held, managed": Refusal(
        nic(), guest(NIC, managed=True), f'{NIC} is held by the guest "the\\nother": {STOP_FIRST}', _hold(NIC)
    ),
    "VF held": Refusal(
        sriov(), guest(NIC), f'{NIC}: its VF {VF1} is held by the guest "the\\nother": {STOP_FIRST}', _hold(VF1)
    ),
    "PF held": Refusal(
        sriov(), guest(VF0), f'{VF0}: its PF {NIC} is held by the guest "the\\nother": {STOP_FIRST}', _hold(NIC)
    ),
    "PF with VFs": Refusal(sriov(), guest(NIC), f"{NIC} is a PF with VFs enabled (4): {VFS.format(NIC)}", config=BIND),
    "PF with VFs, managed": Refusal(
        sriov(), guest(NIC, managed=True), f"{NIC} is a PF with VFs enabled (4): {VFS.format(NIC)}", config=BIND
    ),
    "open": Refusal(
        _on_vfio(Device(NIC, group=12)),
        guest(NIC),
        f'{NIC} is open in "dpdk\\x1b[2J" (pid 2000, /dev/vfio/12): {"stop what has it open first"}',
        _open("/dev/vfio/12"),
    ),
    "open by its own node": Refusal(
        _on_vfio(Device(NIC, group=12)),
        guest(NIC),
        f'{NIC} is open in "dpdk\\x1b[2J" (pid 2000, /dev/vfio/devices/vfio0): {"stop what has it open first"}',
        _open("/dev/vfio/devices/vfio0"),
    ),
    "sibling": Refusal(
        workstation(), guest(GPU), f"{GPU} shares IOMMU group 14 with {SOUND}, which is on snd_hda_intel: {BOTH}"
    ),
    "sibling, managed": Refusal(
        workstation(),
        guest(GPU, managed=True),
        f"{GPU} shares IOMMU group 14 with {SOUND}, which is on snd_hda_intel: {BOTH}",
    ),
    "sibling held": Refusal(
        GPU_AND_SOUND,
        guest(GPU),
        f'{GPU} shares IOMMU group 14 with {SOUND}: {SOUND} is held by the guest "the\\nother": {STOP_FIRST}',
        _hold(SOUND),
    ),
    "group open": Refusal(
        GPU_AND_SOUND,
        guest(GPU),
        f'{GPU} is open in "dpdk\\x1b[2J" (pid 2000, /dev/vfio/14): {"stop what has it open first"}',
        _open("/dev/vfio/14"),
    ),
    "sibling open": Refusal(
        GPU_AND_SOUND,
        guest(GPU),
        f"{GPU} shares IOMMU group 14 with {SOUND}: "
        f'{SOUND} is open in "dpdk\\x1b[2J" (pid 2000, /dev/vfio/devices/vfio1): {"stop what has it open first"}',
        _open("/dev/vfio/devices/vfio1"),
    ),
    "sibling is a PF, despite consent": Refusal(
        PF_AS_SIBLING,
        guest("0000:01:00.1"),
        f"0000:01:00.1 shares IOMMU group 7 with {NIC}: {NIC} is a PF with VFs enabled (1): {VFS.format(NIC)}",
        config=BIND,
    ),
    "trail off": Refusal(
        nic(),
        guest(NIC),
        f"{TRAIL} it is off in the kernel: with auditd installed, to turn it on, run: auditctl -e 1",
        _trail('{"enabled": false, "daemon": 700, "lost": 0}'),
        REQUIRED,
    ),
    "no auditd": Refusal(
        nic(),
        guest(NIC),
        f"{TRAIL} no auditd runs: with auditd installed, start it; under systemd, run: systemctl start auditd",
        _trail('{"enabled": true, "daemon": 0, "lost": 0}'),
        REQUIRED,
    ),
    "auditd stopped": Refusal(
        nic(),
        guest(NIC),
        f"{TRAIL} auditd (pid 700) is stopped: to let it go on, run: kill -CONT 700",
        _trail('{"enabled": true, "daemon": 700, "lost": 0, "stopped": true}'),
        REQUIRED,
    ),
    "trail not ours to write": Refusal(
        nic(),
        guest(NIC),
        f"{NIC}: the audit trail is required, but libhook cannot write to it: "
        "run install.sh again, for python3-audit; libhook needs CAP_AUDIT_WRITE",
        _trail('{"enabled": true, "daemon": 700, "lost": 0, "may_send": false}'),
        REQUIRED,
    ),
    "trail silent": Refusal(
        nic(),
        guest(NIC),
        f"{NIC}: the audit trail is required, but the kernel does not answer questions about it: "
        "start the guest again; libhook doctor asks it, too (it needs CAP_AUDIT_CONTROL and a kernel with audit)",
        _trail("null"),
        REQUIRED,
    ),
}


def _but_state(host: Host) -> dict[str, str]:
    """All of the host but what libhook keeps for itself, which is no part of it."""
    return {path: text for path, text in host.everything().items() if not path.startswith(f"{host.root}/run/libhook")}


@pytest.mark.parametrize("name", REFUSALS)
def test_each_reason_is_one_line_and_nothing_is_written(root: str, name: str) -> None:
    """The line is exactly this; the failure is recorded at once, once; no byte of the host is changed."""
    case = REFUSALS[name]
    host = Host(root, case.world, case.config)
    case.arrange(host)
    before = _but_state(host)
    (device,) = case.guest.devices
    outcome = host.event(case.guest, "prepare")
    assert (outcome.code, outcome.line) == (1, case.line)
    assert (outcome.writes, outcome.changed) == ((), ())
    assert outcome.journal[case.guest.uuid].phase == "refused"
    assert host.records == [f"start {device.address} failed"]
    assert host.event(case.guest, "stopped").log == ()
    ended = host.event(case.guest, "release", "failed")
    assert (ended.code, ended.stderr, ended.writes, ended.records) == (0, (), (), ())
    changed = {path for path, text in _but_state(host).items() if before.get(path) != text}
    assert changed <= {f"{root}/simulation/{name}" for name in ("serial", "locks/audit")}  # of the audit record
    assert not any(Guest().uuid in name for name in host.leftovers)


def test_a_device_that_hangs_is_refused_and_not_read(root: str) -> None:
    """A write of an earlier event is still on its way: whoever reads the override now would sleep."""
    host = Host(root, nic())
    make_state(host.machine)
    os.unlink(f"{root}/sys/bus/pci/devices/{NIC}/driver_override")
    os.mkfifo(f"{root}/sys/bus/pci/devices/{NIC}/driver_override")
    with open(host.state.in_flight_path(NIC), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for one in (guest(NIC), guest(NIC, managed=True)):
            outcome = host.event(one, "prepare")
            assert (outcome.code, outcome.line) == (
                1,
                f"{NIC}{BUSY}: {WHEN_IT_ENDS}",
            )
            assert host.event(one, "release", "failed").code == 0
    assert host.state.in_flight_path(NIC).removeprefix(host.machine.state + "/") in host.leftovers


def test_only_the_device_that_is_refused_is_recorded_at_once(root: str) -> None:
    """The others fail with it, which is recorded when libvirt releases the guest; none is recorded twice."""
    host = Host(root, workstation())
    one = guest(NIC, GPU, DISK)
    outcome = host.event(one, "prepare")
    assert GPU in outcome.line
    assert outcome.writes == ()
    assert host.records == [f"start {GPU} failed"]
    host.event(one, "release", "failed")
    assert host.records == [f"start {GPU} failed", f"start {NIC} failed", f"start {DISK} failed"]
    host.event(one, "release", "failed")
    assert len(host.records) == 3
    assert (host.changed, host.leftovers) == ([], [])


def test_a_refusal_is_not_remembered_into_the_next_life(root: str) -> None:
    """Once the reason is gone the guest starts, and its records are those of a life like any other."""
    host = Host(root, workstation())
    assert host.libvirt.start(guest(GPU)).error
    host.configure('[domains.win11]\nsiblings = "bind"\n')
    assert host.libvirt.start(guest(GPU)).error == ""
    host.libvirt.stop("win11")
    assert host.records == [f"start {GPU} failed", f"start {GPU} success", f"stop {GPU} success"]
    assert (host.changed, host.leftovers) == ([], [])


def test_many_refusals_are_still_one_line(root: str) -> None:
    """One cause is said once, three of its devices are shown and the rest counted; each is recorded."""
    host = Host(root, nic())
    addresses = [f"0000:20:{slot:02x}.0" for slot in range(6)]
    outcome = host.event(guest(*addresses), "prepare")
    assert outcome.line == f"{', '.join(addresses[:3])} and 3 more are not on this host: {SHOWN}"
    assert host.records == [f"start {address} failed" for address in addresses]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ('"lost": 3', "records were lost since the guest was prepared"),
        ('"lost": 1', "records were lost since the guest was prepared"),  # after auditctl --reset-lost
        ('"lost": 2, "stopped": true', "auditd (pid 700) is stopped"),
    ],
)
def test_the_trail_is_asked_again_at_start(root: str, fields: str, reason: str) -> None:
    """It broke since prepare: the guest is not given its device, and it is taken back."""
    host = Host(root, nic(), REQUIRED)
    _trail('{"enabled": true, "daemon": 700, "lost": 2}')(host)
    assert host.event(guest(NIC), "prepare").code == 0
    _trail(f'{{"enabled": true, "daemon": 700, {fields}}}')(host)
    refused = host.event(guest(NIC), "start")
    assert refused.code == 1
    assert f"the audit trail is required, but {reason}" in refused.line
    host.event(guest(NIC), "release", "failed")
    assert host.records == [f"start {NIC} failed"]
    assert (host.changed, host.leftovers) == ([], [])
