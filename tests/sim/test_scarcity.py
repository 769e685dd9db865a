# SPDX-License-Identifier: LGPL-2.1-or-later
"""The host lacks something, or hides it: descriptors, memory, room. No device goes astray, and no word is false."""

import errno
import itertools
import os
import resource
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from cases import GPU, NIC, SOUND, VF0
from command import libhook
from disturbing import read_only, refusing
from scenario import Host, guest

from libhook.children import telling
from libhook.children.child import Deadline
from libhook.children.tracks import Step
from libhook.effects import files
from libhook.errors import LIMITS
from libhook.facts.machine import Machine
from libhook.look import holders, openfiles
from libhook.simulation import processes, store
from libhook.simulation.hosts import nic, sriov, workstation
from libhook.simulation.kernel import SimulatedKernel
from libhook.simulation.processes import SimulatedDescriptors
from libhook.simulation.world import Device, Driver, World


@pytest.mark.parametrize("first_hidden", [1, 2])
def test_a_process_that_hides_what_it_has_open_refuses_a_start(root: str, first_hidden: int) -> None:
    """At the check, or only when the driver is to let go: nobody knows whether it has the GPU open."""
    host = Host(root, workstation(), "holder_wait = 0.2\n")
    pid = processes.spawn(root, "Xorg")
    looks = itertools.count(1)
    scan = openfiles.scan

    def hides(machine: Machine, wanted: Mapping[str, str], report: int) -> None:
        with _refusing(f"{root}/proc/{pid}/fd", errno.EACCES):
            scan(machine, wanted, report)

    def step(*arguments: Any) -> Step:  # noqa: ANN401 - whatever it takes
        with mock.patch.object(openfiles, "scan", hides if next(looks) >= first_hidden else scan):
            return stepping(*arguments)

    stepping = holders._step
    with mock.patch.object(holders, "_step", step):
        refused = host.event(guest(GPU, SOUND), "prepare")
    assert refused.code == 1
    assert (
        f"libhook cannot see what Xorg (pid {pid}) has open (Permission denied): libhook must run as root"
        in refused.line
    )
    assert not [write for write in refused.writes if write[0].endswith("/amdgpu/unbind")]
    assert host.event(guest(GPU, SOUND), "release", "failed").code == 0
    assert (host.changed, host.leftovers) == ([], [])
    assert set(host.records) == {f"start {GPU} failed", f"start {SOUND} failed"}


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.EACCES, "(Permission denied): libhook must run as root, with CAP_SYS_PTRACE"),
        (
            errno.EMFILE,
            f"(Too many open files): {LIMITS}",
        ),
    ],
)
def test_whatever_keeps_from_seeing_what_is_open_refuses_a_start(root: str, number: int, said: str) -> None:
    """The folder of a process's descriptors that cannot be opened."""
    host = Host(root, workstation(), "holder_wait = 0.2\n")
    pid = processes.spawn(root, "Xorg")
    processes.open_file(root, pid, "/dev/dri/card0")
    with _refusing(f"{root}/proc/{pid}/fd", number):
        refused = host.event(guest(GPU, SOUND), "prepare")
    assert f"what Xorg (pid {pid}) has open {said}" in refused.line
    assert not [write for write in refused.writes if write[0].endswith("/unbind")]


@pytest.mark.parametrize("options", [(), ("--dry-run",)])
def test_a_broken_entry_is_not_given_up_while_a_process_hides_what_it_has_open(
    root: str, options: tuple[str, ...]
) -> None:
    """It may be the guest."""
    host = Host(root, nic())
    host.begin(guest(NIC))
    (entry,) = Path(host.machine.state, "domains").iterdir()
    entry.write_text("")
    pid = processes.spawn(root, "qemu")
    with _refusing(f"{root}/proc/{pid}/fd", errno.EACCES):
        kept = libhook(host, "recover", "--give-up", str(entry), *options)
    assert (kept.code, kept.out, entry.exists()) == (1, "", True)
    assert kept.err.startswith(f"libhook cannot see what qemu (pid {pid}) has open (Permission denied): ")
    assert libhook(host, "recover", "--give-up", str(entry)).code == 0


@pytest.mark.parametrize("number", [errno.ENOENT, errno.ESRCH, errno.EACCES])
def test_a_process_that_has_ended_hides_nothing(root: str, number: int) -> None:
    """Also one that ends at the moment at which it is looked at, which is refused."""
    host = Host(root, workstation())
    pid = processes.spawn(root, "cat")
    processes.open_file(root, pid, "/dev/dri/card0")
    with _refusing(f"{root}/proc/{pid}/fd", number, partial(processes.end, root, pid)):
        assert _who_has_the_card(host) == []


class _Answers(SimulatedDescriptors):
    """At each look: an errno."""

    def __init__(self, root: str, device: int, holds: int) -> None:
        super().__init__(root)
        self.refusals = {"device": device, "holds": holds}

    def device(self, folder: int, number: str) -> str:
        self._refuse("device")
        return super().device(folder, number)

    def holds(self, pid: int, folder: int, number: str, device: str) -> bool:
        self._refuse("holds")
        return super().holds(pid, folder, number, device)

    def _refuse(self, call: str) -> None:
        if code := self.refusals[call]:
            raise OSError(code, os.strerror(code))


@pytest.mark.parametrize(
    ("device", "holds", "open_in"),
    [
        (0, 0, ["Xorg"]),
        (errno.ENOENT, 0, []),
        (errno.ENOTCONN, 0, []),
        (0, errno.ENOENT, []),
        (0, errno.EACCES, ["Xorg"]),
    ],
)
def test_what_is_closed_meanwhile_is_not_open(root: str, device: int, holds: int, open_in: list[str]) -> None:
    """Nor what is on a file system that has no answer; what is the device, and does not show how, is taken for open."""
    host = Host(root, workstation())
    processes.open_file(root, processes.spawn(root, "Xorg"), "/dev/dri/card0")
    with mock.patch.object(SimulatedKernel, "descriptors", return_value=_Answers(root, device, holds)):
        assert _who_has_the_card(host) == open_in


def test_root_that_may_not_see_what_another_has_open_refuses_a_start(root: str) -> None:
    """Without CAP_SYS_PTRACE it may list another process's descriptors, and neither follow nor read them."""
    host = Host(root, workstation(), "holder_wait = 0.2\n")
    pid = processes.spawn(root, "Xorg")
    processes.open_file(root, pid, "/dev/dri/card0")
    with mock.patch.object(SimulatedKernel, "descriptors", return_value=_Answers(root, errno.EACCES, 0)):
        with refusing("readlink", errno.EACCES, lambda _, dir_fd=None: dir_fd is not None):
            refused = host.event(guest(GPU, SOUND), "prepare")
        assert f"libhook cannot see what Xorg (pid {pid}) has open (Permission denied)" in refused.line
        assert host.event(guest(GPU, SOUND), "release", "failed").code == 0
        # Where the paths are shown it is a file system of somebody's that refuses root: not a device.
        assert host.event(guest(GPU, SOUND), "prepare").code == 0


def _who_has_the_card(host: Host) -> list[str]:
    number = store.read(f"{host.root}/dev/dri/card0")
    found = holders.of_nodes(host.machine, {number: "/dev/dri/card0"}, Deadline.after(200), must_see=True)
    return [holder.name for holder in found]


@contextmanager
def _refusing(folder: str, number: int, first: Callable[[], object] = lambda: None) -> Iterator[None]:
    """This folder cannot be opened; ``first`` happens just before."""

    def due(path: str, *_: int, **__: object) -> bool:
        if path != folder:
            return False
        with mock.patch("os.open", opening):
            first()
        return True

    opening = os.open
    with refusing("open", number, due):
        yield


def test_a_process_that_hides_what_it_has_open_holds_nothing_back(root: str) -> None:
    """Nor does it keep anybody from seeing the rest."""
    host = Host(root, workstation())
    host.begin(guest(GPU, SOUND))
    pid = processes.spawn(root, "Xorg")
    with _refusing(f"{root}/proc/{pid}/fd", errno.EACCES):
        assert libhook(host, "devices").code == 0
        assert host.event(guest(GPU, SOUND), "release", "shutdown").code == 0
    assert (host.driver(GPU), host.leftovers) == ("amdgpu", [])


def test_a_vf_comes_home_though_its_pf_lets_nobody_drive_it_by_now(root: str) -> None:
    """Somebody turned sriov_drivers_autoprobe off meanwhile; the VF has no override afterwards, as before."""
    host = Host(root, sriov())
    host.begin(guest(VF0))
    Path(root, "sys/bus/pci/devices/0000:01:00.0/sriov_drivers_autoprobe").write_text("0\n")
    host.event(guest(VF0), "release", "shutdown")
    assert host.driver(VF0) == "igbvf"
    assert SimulatedKernel(root).override(VF0) == ""
    assert host.records == [f"start {VF0} success", f"stop {VF0} success"]
    assert host.leftovers == []


def test_more_disks_than_descriptors_are_looked_at(root: str) -> None:
    """A few at a time; where not even these are to be had, that is said, and not that a disk is in use."""
    disks = tuple(("block", f"sd{number}") for number in range(100))
    card = Device(NIC, "hba", class_="010700", children=disks)
    host = Host(root, World((card,), (Driver("hba", ids=("8086:10d3",)),)))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 80, hard))
        assert host.event(guest(NIC), "prepare").code == 0
        assert host.event(guest(NIC), "release", "failed").code == 0
        resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 20, hard))
        refused = host.event(guest(NIC), "prepare")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert refused.code == 1
    assert "Too many open files" in refused.line
    assert "in use" not in refused.line


@pytest.mark.parametrize("times", [1, 2])
def test_a_reader_that_is_killed_is_not_taken_for_a_driver_that_hangs(root: str, times: int) -> None:
    """As where memory is short: it is asked once more, and then that is what is said."""
    host = Host(root, nic())
    hear, killed = telling.lines, itertools.count(1)

    def lines(task: Callable[[Callable[[bytes], None]], None], deadline: Deadline) -> list[str]:
        heard = hear(task, deadline)
        return [] if next(killed) <= times else heard

    with mock.patch.object(telling, "lines", lines):
        outcome = host.event(guest(NIC), "prepare")
    assert outcome.code == times - 1
    if outcome.code:
        assert f"/bus/pci/devices/{NIC}/driver_override was killed: free some memory, and try again" in outcome.line
    host.event(guest(NIC), "release", "failed")
    assert (host.changed, host.leftovers) == ([], [])


@pytest.mark.parametrize("why", [errno.EDQUOT, errno.EIO, errno.EACCES], ids=errno.errorcode.get)
def test_a_new_file_that_cannot_be_had_loses_no_record(root: str, why: int) -> None:
    """As in a full /run the guest's journal entry is overwritten in its place, and nothing is recorded twice."""
    host = Host(root, nic())
    host.event(guest(NIC), "prepare")
    host.event(guest(NIC), "start")
    with mock.patch.object(files, "replace", side_effect=OSError(why, os.strerror(why))):
        host.event(guest(NIC), "started")
    host.event(guest(NIC), "release", "shutdown")
    assert host.records == [f"start {NIC} success", f"stop {NIC} success"]
    assert (host.changed, host.leftovers) == ([], [])


def test_a_run_that_is_read_only_keeps_no_device(root: str) -> None:
    """The log says that the journal entry stays; whoever comes next says the end again, rather than nobody ever."""
    host = Host(root, nic())
    host.begin(guest(NIC))
    with read_only(host):
        ended = host.event(guest(NIC), "release", "shutdown")
    assert (ended.code, ended.stderr, host.driver(NIC)) == (0, (), "e1000e")
    assert f"{guest().uuid}.json: Read-only file system" in ended.logged("failed")[0]["reason"]
    assert libhook(host, "recover").out == "win11: given back\n"
    assert host.trail == [f"start {NIC} success", *[f"stop {NIC} success"] * 2]
    with read_only(host):
        refused = host.event(guest(NIC), "prepare")
    assert (refused.code, refused.changed) == (1, ())
    assert "Read-only file system" in refused.line
    host.event(guest(NIC), "release", "failed")
    assert (host.changed, host.leftovers) == ([], [])
