# SPDX-License-Identifier: LGPL-2.1-or-later
"""Users without any right to a device, on this kernel: what they have open is no reason to refuse or to wait."""

import os
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from neighbour import NOBODY, neighbour
from scenario import Host, guest

from libhook.effects import holders, openfiles
from libhook.effects.child import Deadline
from libhook.effects.descriptors import Descriptors
from libhook.effects.kernel import LinuxKernel, Machine
from libhook.simulation import processes
from libhook.simulation.hosts import nic, workstation

NODE, NUMBER = "/dev/full", "c 1:7"
"""A device that everybody may open, and nobody has open."""
NIC = "0000:01:00.0"
GPU, SOUND = "0000:03:00.0", "0000:03:00.1"
LONG = 120


class Counting(Descriptors):
    """Leaves a byte in a file for each descriptor that it looks at."""

    def __init__(self, count: Path) -> None:
        super().__init__()
        self.count = os.open(count, os.O_WRONLY | os.O_APPEND)

    def device(self, folder: int, number: str) -> str:
        """Count it."""
        os.write(self.count, b".")
        return super().device(folder, number)


class Kernel(LinuxKernel):
    """This one; its log, and how many descriptors were looked at, are in files."""

    def __init__(self, folder: Path) -> None:
        self.said, self.count = folder / "said", folder / "count"
        self.said.touch()
        self.count.touch()

    def log(self, fields: dict[str, object]) -> None:
        """Into a file."""
        with open(self.said, "a") as file:
            file.write(f"{fields['event']}: {fields['what']}\n")

    def descriptors(self) -> Descriptors:
        """Those that count."""
        return Counting(self.count)


class Place(NamedTuple):
    """This machine. For the right to the device stands a file that its owner alone may open."""

    machine: Machine
    kernel: Kernel
    node: Path

    def who(self) -> list[int]:
        """Has the device open. In a container root may not see what process 1 has open; that is not asked here."""
        found = holders.of_nodes(self.machine, {NUMBER: str(self.node)}, Deadline.after(LONG))
        return [holder.pid for holder in found]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """One that nobody has used yet."""
    node, kernel = tmp_path / "node", Kernel(tmp_path)
    node.touch(0o600)
    if os.geteuid():
        pytest.skip("needs root to see what others have open, and to become somebody else")
    return Place(Machine("", kernel), kernel, node)


def opens(path: str, flags: int) -> Callable[[Callable[[], None]], None]:
    """What a neighbour does that has this open."""

    def task(ready: Callable[[], None]) -> None:
        os.open(path, flags)
        ready()

    return task


@pytest.mark.parametrize("flags", [os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_WRONLY | os.O_RDWR])
def test_who_has_opened_the_device_is_found(place: Place, flags: int) -> None:
    """Under whatever path, and also by the fourth access mode, which is for ioctl alone (open(2))."""
    with neighbour(opens(NODE, flags)) as pid:
        assert place.who() == [pid]


def test_who_only_names_the_device_does_not_hold_it(place: Place) -> None:
    """O_PATH takes no right to it."""
    with neighbour(opens(NODE, os.O_PATH)):
        assert place.who() == []


def test_another_file_of_that_path_is_not_the_device(place: Place) -> None:
    """As in a /dev of one's own: a path is what a process says."""
    place.node.chmod(0o666)
    with open(place.node, "r+b"):
        assert place.who() == []


def test_who_changes_what_a_descriptor_stands_for_holds_nothing(place: Place) -> None:
    """A name of the device, and a file that is open for use, in turn as fast as can be: never both at once."""

    def task(ready: Callable[[], None]) -> None:
        named, used = os.open(NODE, os.O_PATH), os.open("/dev/null", os.O_RDWR)
        ready()
        while True:
            for what in (named, used):
                for number in range(100, 160):
                    os.dup2(what, number)

    with neighbour(task):
        assert [place.who() for _ in range(30)] == [[]] * 30


def wait_for(condition: Callable[[], bool]) -> None:
    """For what is done by a process that nobody waits for."""
    until = time.monotonic() + LONG
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


MANY = 3_000


def has_many(then: str = "", before: str = "") -> Callable[[Callable[[], None]], None]:
    """What a neighbour does with more descriptors than it has a budget for, and perhaps the device."""

    def task(ready: Callable[[], None]) -> None:
        null = os.open("/dev/null", os.O_RDWR)
        if before:
            os.open(before, os.O_RDWR)
        for number in range(100, 100 + MANY):
            os.dup2(null, number)
        if then:
            low = os.open(then, os.O_RDWR)
            os.dup2(low, 100 + MANY)
            os.close(low)
        ready()

    return task


@pytest.mark.parametrize("budget", ["EACH", "TOGETHER"])
def test_who_has_no_right_has_a_budget_of_descriptors(
    place: Place, monkeypatch: pytest.MonkeyPatch, budget: str
) -> None:
    """What is beyond it costs nothing: no look, no refusal, a line in the log."""
    monkeypatch.setattr(openfiles, budget, 500)
    listing = os.listdir
    with neighbour(has_many()) as pid:
        monkeypatch.setattr(os, "listdir", lambda path: [str(pid)] if path == "/proc" else listing(path))
        assert place.who() == []
    assert place.kernel.count.stat().st_size == 500
    said = f"not looked at: the files of 1 processes that have no right to {place.node}\n"
    wait_for(lambda: said in place.kernel.said.read_text())


def test_who_was_handed_the_device_is_found_within_the_budget(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as a display server that got its GPU from logind: what a process opens early has a low number."""
    monkeypatch.setattr(openfiles, "EACH", 500)
    with neighbour(has_many(before=NODE)) as pid:
        assert place.who() == [pid]


def test_who_has_a_right_is_looked_at_to_the_end(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the node's group, here; by its owner, the root that this test is."""
    monkeypatch.setattr(openfiles, "EACH", 500)
    os.chown(place.node, 0, NOBODY)
    place.node.chmod(0o660)
    with neighbour(has_many(then=NODE)) as pid:
        assert place.who() == [pid]
        place.node.chmod(0o600)
        assert place.who() == []
        place.node.chmod(0o606)
        assert place.who() == [pid]


ACCESS = {
    "a user": [(0x01, 6, -1), (0x02, 6, NOBODY), (0x04, 0, -1), (0x10, 6, -1), (0x20, 0, -1)],
    "a group": [(0x01, 6, -1), (0x04, 0, -1), (0x08, 6, NOBODY), (0x10, 6, -1), (0x20, 0, -1)],
}
"""Tag, permissions and number of each entry (include/uapi/linux/posix_acl.h)."""


@pytest.mark.parametrize("who", ACCESS)
def test_who_is_in_the_access_list_has_a_right(place: Place, monkeypatch: pytest.MonkeyPatch, who: str) -> None:
    """logind puts who sits at the machine there."""
    monkeypatch.setattr(openfiles, "EACH", 500)
    entries = b"".join(struct.pack("<HHi", *entry) for entry in ACCESS[who])
    os.setxattr(place.node, "system.posix_acl_access", struct.pack("<I", 2) + entries)
    with neighbour(has_many(then=NODE)) as pid:
        assert place.who() == [pid]


@pytest.mark.parametrize("how", [{"named_only": True}, {"shown_as": "/dev/vfio/12"}])
def test_a_device_comes_home_though_somebody_claims_to_have_it(root: str, how: dict[str, object]) -> None:
    """By a name that takes no right, or by a file of that path: nobody waits for him, and the end is recorded true."""
    host = Host(root, nic(), "holder_wait = 30\nwrite_deadline = 60\n")
    host.begin(guest(NIC))
    path = "/dev/vfio/12" if "named_only" in how else "/etc/libhook"
    processes.open_file(root, processes.spawn(root, "neighbour"), path, **how)  # type: ignore[arg-type] # either
    ended = host.event(guest(NIC), "release", "shutdown")
    assert (ended.code, host.driver(NIC)) == (0, "e1000e")
    assert host.records == [f"start {NIC} success", f"stop {NIC} success"]
    assert (host.changed, host.leftovers) == ([], [])


def test_a_device_is_handed_over_though_somebody_names_it(root: str) -> None:
    """A GPU, whose node anybody may name."""
    host = Host(root, workstation(), "holder_wait = 30\n")
    processes.open_file(root, processes.spawn(root, "neighbour"), "/dev/dri/card0", named_only=True)
    assert host.event(guest(GPU, SOUND), "prepare").code == 0
