# SPDX-License-Identifier: LGPL-2.1-or-later
"""A process may have as many descriptors as it likes: what a look at them costs, and what it misses."""

import os
import resource
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from family import until
from neighbour import NOBODY, neighbour
from place import LONG, Place, here

from libhook.look import openfiles

pytestmark = pytest.mark.race


@pytest.fixture(name="place")
def _place(tmp_path: Path) -> Iterator[Place]:
    with here(tmp_path) as it:
        yield it


MANY = 3_000


def has_many(then: str = "", before: str = "") -> Callable[[Callable[[], None]], None]:
    """What a neighbour does with more descriptors than it has a budget for, and perhaps the device."""

    def task(ready: Callable[[], None]) -> None:
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
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


@pytest.mark.parametrize("budget", ["EACH", "OF_USER", "OF_ALL"])
def test_who_has_no_right_has_a_budget_of_descriptors(
    place: Place, monkeypatch: pytest.MonkeyPatch, budget: str
) -> None:
    """What is beyond it costs nothing: no look, no refusal, a line in the log."""
    monkeypatch.setattr(openfiles, budget, 500)
    with neighbour(has_many()) as pid:
        only(monkeypatch, pid)
        assert place.who() == []
    assert place.kernel.count.stat().st_size == 500
    said = f"not looked at: 1 processes that may not open {place.node}\n"
    until(lambda: said in place.kernel.said.read_text())


@pytest.mark.parametrize("budget", ["OF_USER", "OF_ALL"])
def test_no_crowd_hides_who_has_the_device(place: Place, monkeypatch: pytest.MonkeyPatch, budget: str) -> None:
    """Neither one of another user nor of the same: of each process the lowest descriptors are looked at."""
    monkeypatch.setattr(openfiles, budget, 500)
    monkeypatch.setattr(openfiles, "BRIEFLY", LONG)
    with neighbour(has_many()) as crowd, neighbour(has_many(before=place.device)) as holder:
        only(monkeypatch, crowd, crowd, holder)
        assert place.who() == [holder]


def test_a_long_crowd_is_looked_at_for_a_short_time(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the budget nobody waits for all of them."""
    monkeypatch.setattr(openfiles, "OF_USER", 500)
    monkeypatch.setattr(openfiles, "BRIEFLY", -1)
    with neighbour(has_many()) as pid:
        only(monkeypatch, *[pid] * 100)
        assert place.who() == []
    assert place.kernel.count.stat().st_size == 500


def only(monkeypatch: pytest.MonkeyPatch, *pids: int) -> None:
    """No other processes are there."""
    listing = os.listdir
    monkeypatch.setattr(
        os, "listdir", lambda path: [*map(str, pids)] if path.startswith("/proc/self/fd/") else listing(path)
    )


def test_who_was_handed_the_device_is_found_within_the_budget(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as a display server that got its GPU from logind: what a process opens early has a low number."""
    monkeypatch.setattr(openfiles, "EACH", 500)
    with neighbour(has_many(before=place.device)) as pid:
        assert place.who() == [pid]


def test_who_has_a_right_is_looked_at_to_the_end(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the node's group, here; by its owner, the root that this test is."""
    monkeypatch.setattr(openfiles, "EACH", 500)
    os.chown(place.node, 0, NOBODY)
    place.node.chmod(0o660)
    with neighbour(has_many(then=place.device)) as pid:
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
    with neighbour(has_many(then=place.device)) as pid:
        assert place.who() == [pid]
