# SPDX-License-Identifier: LGPL-2.1-or-later
"""Devices that the host stands on, that somebody has open, and that hang."""

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import hanging
import pytest
from cases import DISK, GPU, NIC, SOUND, setting
from command import libhook
from family import until
from scenario import Host, guest, reap

from libhook.children.child import Deadline, spawn
from libhook.errors import BUSY, MORE_TIME
from libhook.facts.address import PciAddress
from libhook.facts.config import Config
from libhook.facts.entry import Held
from libhook.facts.host import Binding
from libhook.kinds.kind import Failure, Work
from libhook.kinds.pci.binding import carry_out
from libhook.kinds.pci.move import Move
from libhook.look import sysfs
from libhook.simulation import faults, processes, store
from libhook.simulation.hosts import workstation
from libhook.simulation.kernel import SimulatedKernel
from libhook.story import giveback
from libhook.story.session import state_of

OTHER = "11111111-2222-3333-4444-555555555555"
FREE = "free it first, or give the guest another disk"
UNMOUNT = """units = { "/srv/a b" = "down" }' >/etc/libhook/config.d/win11@mounts.toml"""
ROUTE = (
    "reach the host another way first; if it can do without the network cards of this guest, "
    f"{setting('network', 'warn', 'preflight.')}"
)


def _answers(host: Host, answer: str) -> None:
    """What whoever opens the disk exclusively is told."""
    os.makedirs(f"{host.root}/simulation/claimed", exist_ok=True)
    store.create(f"{host.root}/simulation/claimed/nvme0n1", answer)


def _claimed(host: Host) -> None:
    _answers(host, "EBUSY")


def _forbidden(host: Host) -> None:
    """A cgroup of devices, or SELinux, does not let libvirtd's children open the disk."""
    _answers(host, "EPERM")


def _mounted_and_forbidden(host: Host) -> None:
    _forbidden(host)
    _add(host, "self/mountinfo", "40 22 259:1 / /srv rw - xfs /dev/nvme0n1 rw")


def _add(host: Host, path: str, line: str) -> None:
    with open(f"{host.root}/proc/{path}", "a") as file:
        file.write(f"{line}\n")


def _mounted(host: Host, path: str = "/srv/a\\040b") -> None:
    _claimed(host)
    _add(host, "self/mountinfo", f"40 22 259:1 / {path} rw - xfs /dev/nvme0n1 rw")


def _swap(host: Host) -> None:
    _claimed(host)
    _add(host, "swaps", "/dev/nvme0n1\tpartition\t1\t0\t-2")


def _volume(host: Host) -> None:
    """A logical volume on the disk, with a file system on it, as LVM and device-mapper show it."""
    _claimed(host)
    folder = f"{host.root}/sys/class/block"
    os.makedirs(f"{folder}/nvme0n1/holders/dm-0")
    os.makedirs(f"{folder}/dm-0/dm")
    store.create(f"{folder}/dm-0/dm/name", "vg-root\n")
    store.create(f"{folder}/dm-0/dev", "253:0\n")
    _add(host, "self/mountinfo", "41 22 253:0 / /srv rw - xfs /dev/mapper/vg-root rw")


def _route(host: Host) -> None:
    _add(host, "net/route", "eth1\t00000000\t0100000A\t0003\t0\t0\t100\t00000000\t0\t0\t0")


def _route6(host: Host) -> None:
    zeros = "0" * 32
    _add(host, "net/ipv6_route", f"{zeros} 00 {zeros} 00 fe800000000000000000000000000001 00000400 1 0 3 eth1")


def _bridge(host: Host) -> None:
    os.makedirs(f"{host.root}/sys/class/net/br0/bridge")
    os.symlink("../br0", f"{host.root}/sys/class/net/eth1/master")


def _open(node: str) -> Callable[[Host], None]:
    return lambda host: processes.open_file(host.root, processes.spawn(host.root, "Xorg"), node)


class Use(NamedTuple):
    """How the host uses a device, and what is said of it."""

    address: str
    arrange: Callable[[Host], None]
    kind: str
    what: str
    remedy: str


USES = {
    "mounted": Use(DISK, _mounted, "storage", 'mounted on "/srv/a b"', UNMOUNT),
    "odd": Use(DISK, lambda host: _mounted(host, "/srv/a\fb"), "storage", 'mounted on "/srv/a\\x0cb"', " of the guest"),
    "swap": Use(DISK, _swap, "storage", "used as swap", FREE),
    "a volume": Use(DISK, _volume, "storage", "part of vg-root, mounted on /srv", FREE),
    "claimed by nobody who shows": Use(DISK, _claimed, "storage", "does not show here", FREE),
    "nobody may ask": Use(DISK, _forbidden, "storage", "cannot be opened to see whether it is in use", FREE),
    "mounted, and nobody may ask": Use(
        DISK,
        _mounted_and_forbidden,
        "storage",
        "mounted on /srv",
        """units = { "/srv" = "down" }' >/etc/libhook/config.d/win11@mounts.toml""",
    ),
    "default route": Use(NIC, _route, "network", "has the default route", ROUTE),
    "default route of IPv6": Use(NIC, _route6, "network", "has the default route", ROUTE),
    "bridge port": Use(NIC, _bridge, "network", "is in the bridge br0", ROUTE),
    "a screen": Use(
        GPU,
        _open("/dev/dri/card0"),
        "display",
        "Xorg (pid 2000, /dev/dri/card0)",
        ": stop what has it open first; to see what that belongs to, run: cat /proc/2000/cgroup",
    ),
}
QUICK = "holder_wait = 0.05\n"


@pytest.mark.parametrize("name", USES)
def test_what_the_host_stands_on_is_refused(root: str, name: str) -> None:
    """In one line that says the device, who uses it and what to do; nothing is written."""
    use = USES[name]
    host = Host(root, workstation(), QUICK)
    use.arrange(host)
    one = guest(GPU, SOUND) if use.address == GPU else guest(use.address)
    outcome = host.event(one, "prepare")
    assert outcome.code == 1
    assert outcome.line.startswith(f"{use.address} is in use by the host: ")
    assert use.what in outcome.line
    assert outcome.line.endswith(use.remedy)
    assert (outcome.writes, outcome.changed) == ((), ())
    assert host.records == [f"start {use.address} failed"]


@pytest.mark.parametrize("answer", ["ENOMEDIUM", "ENXIO", "ENODEV"])
def test_a_disk_that_is_not_there_is_in_nobodys_use(root: str, answer: str) -> None:
    """A reader without a card, or a disk that has just gone: nothing can stand on it."""
    host = Host(root, workstation(), QUICK)
    _answers(host, answer)
    assert host.event(guest(DISK), "prepare").code == 0


@pytest.mark.parametrize("strictness", ["warn", "off"])
@pytest.mark.parametrize("name", [name for name, use in USES.items() if use.kind != "display"])
def test_who_consents_gets_the_device(root: str, name: str, strictness: str) -> None:
    """With a warning in the plan, or without."""
    use = USES[name]
    host = Host(root, workstation(), f'[domains.win11.preflight]\n{use.kind} = "{strictness}"\n')
    use.arrange(host)
    outcome = host.event(guest(use.address), "prepare")
    assert (outcome.code, outcome.stderr) == (0, ())
    assert any(line.startswith("warning: ") and use.what in line for line in outcome.plan) is (strictness == "warn")
    assert host.driver(use.address) == "vfio-pci"


def test_a_device_that_is_merely_there_is_free(root: str) -> None:
    """An interface that is up, a disk that nobody has claimed, a screen that nobody looks at."""
    host = Host(root, workstation())
    host.begin(guest(NIC, DISK, GPU, SOUND))


def test_who_has_it_open_is_waited_for(root: str) -> None:
    """The start goes on as soon as the process lets go."""
    host = Host(root, workstation(), "holder_wait = 600\nwrite_deadline = 600\n")
    pid = processes.spawn(root, "smartd")
    processes.open_file(root, pid, "/dev/nvme0n1")
    begun = time.monotonic()
    with subprocess.Popen(["/bin/sh", "-c", f"sleep 0.4; rm {root}/proc/{pid}/fd/3"]):
        outcome = host.event(guest(DISK), "prepare")
    assert (outcome.code, outcome.stderr) == (0, ())
    assert time.monotonic() - begun > 0.2


def test_who_does_not_let_go_is_named(root: str) -> None:
    """After holder_wait, with pid and node; nothing was written meanwhile."""
    host = Host(root, workstation(), "holder_wait = 0.2\n")
    processes.open_file(root, processes.spawn(root, "smart\nd"), "/dev/nvme0n1")
    outcome = host.event(guest(DISK), "prepare")
    assert outcome.code == 1
    assert '"smart\\nd" (pid 2000, /dev/nvme0n1)' in outcome.line
    assert outcome.line.endswith(
        ": stop what has it open first; to see what that belongs to, run: cat /proc/2000/cgroup"
    )
    assert outcome.writes == ()


def test_who_has_let_go_at_last_is_not_said_to_hold_it(root: str) -> None:
    """A move for which no time is left says so, and nobody's name."""
    host = Host(root, workstation())
    work = Work(host.machine, state_of(host.machine), Deadline.after(0), Config(holder_wait=0), guest().uuid)
    move = Move(PciAddress.parse(NIC), Binding("e1000e", ""), Binding("vfio-pci", "vfio-pci"), "")
    (outcome,) = carry_out(work, [move])
    assert outcome.failure == Failure(
        f"{NIC} was not reached in time",
        MORE_TIME,
    )


def test_a_driver_that_hangs_costs_one_child(root: str) -> None:
    """The others come back, the device is marked and left alone; once it wakes, recover settles it."""
    host = Host(root, workstation())
    host.patience = 0.1
    hanging.hold(root, NIC)
    outcome = host.event(guest(NIC, DISK), "prepare")
    assert outcome.code == 1
    assert outcome.line.startswith(f"{NIC} hangs: ")
    assert host.driver(DISK) == "nvme"
    (held,) = outcome.journal.values()
    assert [(device.address, device.wedged) for device in held.devices if device.key in held.actions_by_key()] == [
        (NIC, True)
    ]
    for one in (guest(NIC, name="other")._replace(uuid=OTHER), guest(NIC, managed=True)._replace(uuid=OTHER)):
        refused = host.event(one, "prepare")
        assert refused.code == 1
        assert f"{NIC}{BUSY}" in refused.line
        assert host.event(one, "release", "failed").code == 0
    released = host.event(guest(NIC, DISK), "release", "failed")
    assert (released.code, released.writes) == (0, ())
    stuck = libhook(host, "status")
    assert "hangs" in stuck.out
    faults.let_go(root, NIC)
    assert reap(60)
    host.patience = 60
    done = libhook(host, "recover")
    assert (done.code, done.out) == (0, "win11: given back\n")
    assert (host.changed, host.leftovers) == ([], [])


def test_who_keeps_a_driver_from_letting_go_is_named(root: str) -> None:
    """Also when what he has open went from /dev before the driver began to wait for him."""
    world = workstation()
    devices = tuple(
        device._replace(children=(("sound", "controlC0"),)) if device.address == SOUND else device
        for device in world.devices
    )
    host = Host(root, world._replace(devices=devices))
    host.patience = 0.1
    processes.open_file(root, processes.spawn(root, "pulse"), "/dev/snd/controlC0")
    hanging.hold(root, SOUND)
    outcome = host.event(guest(SOUND, GPU), "prepare")
    hangs = f"{SOUND} hangs: its driver does not answer in time; it is in use by pulse (pid 2000, /dev/snd/controlC0); "
    assert outcome.line.startswith(hangs)
    assert outcome.line.endswith(": stop what uses it, then run: libhook recover")
    faults.let_go(root, SOUND)
    assert reap(60)
    host.patience = 60
    assert libhook(host, "recover").code == 0
    assert (host.changed, host.leftovers) == ([], [])


def test_what_hangs_by_another_hand_is_shown_as_that(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The others are shown all the same; a guest that wants the device is told that it does not answer."""
    host = Host(root, workstation())
    faults.hold(root, NIC)
    hung = spawn(lambda: SimulatedKernel(root, "somebody").write("bus/pci/drivers/e1000e/unbind", NIC))
    override = Path(root, f"sys/bus/pci/devices/{NIC}/driver_override")
    until(override.is_fifo)
    host.patience = 0.1
    monkeypatch.setattr(sysfs, "_PATIENCE", 2.0)
    hanging.late_at(override, seconds=3)  # one attribute may take two, and the command has more
    shown = libhook(host, "devices")
    assert shown.code == 0
    assert "82574L Gigabit Network Connection [8086:10d3]  [does not answer]\n" in shown.out
    assert f"  in the way: {NIC} does not answer: its driver is still busy with an earlier request\n" in shown.out
    assert DISK in shown.out
    hanging.late_at(override)
    refused = host.event(guest(NIC, DISK), "prepare")
    assert refused.line.startswith(f"{NIC} does not answer: see what the kernel says of it: ")
    faults.let_go(root, NIC)
    assert hung.result() == 0


def test_a_late_write_is_not_waited_for_once_more(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The deadline is what it may cost: only the writes of others are waited for before anything is undone."""
    waited: list[Held] = []
    monkeypatch.setattr(giveback, "wait_for_writes", lambda _, held: waited.append(held))
    host = Host(root, workstation())
    host.patience = 0.1
    hanging.hold(root, NIC)
    assert host.event(guest(NIC, DISK), "prepare").code == 1
    assert waited == []
    faults.let_go(root, NIC)
    assert reap(60)


def test_a_record_that_cannot_be_sent_is_logged_whole(root: str) -> None:
    """The trail must not be shorter than what happened, and the guest starts all the same."""
    host = Host(root, workstation())
    faults.inject(root, faults.Fault("record *", 0, returns=0))
    host.begin(guest(NIC))
    (entry,) = host.outcomes[-1].logged("not recorded")
    assert entry["record"].startswith("virt=kvm resrc=dev reason=start vm=")
    assert entry["record"].endswith("res=success")


def test_whoever_uses_the_screen_is_named_before_those_who_only_hold_it_open(root: str) -> None:
    """logind and PID 1 have it open for a session: nobody may stop them."""
    host = Host(root, workstation(), "holder_wait = 0.1\n")
    for pid, name in ((510, "systemd-logind"), (800, "Xorg")):
        processes.add(root, pid, name, ["/dev/dri/card0"])
    assert host.event(guest(GPU, SOUND), "prepare").line.startswith(
        f"{GPU} is in use by the host: it is open in Xorg (pid 800, "
    )
