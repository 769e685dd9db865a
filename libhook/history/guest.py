# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is known of a guest while the trail is read. Pure.

A log may name ten thousand devices of one guest, and may then speak of that guest ten thousand times. So nothing here
goes through all devices for one record: each device is looked at as often as something was said of it, not more.
"""

from collections import deque
from heapq import heappop, heappush

from libhook.history.entry import TRUSTED, Entry, began_at

ONE_START = 60_000
"""Milliseconds within which the records of one start lie, where no VIRT_CONTROL parts it from the one before."""
UNRESOLVED = "usb 000.000"
NAMELESS = frozenset((UNRESOLVED, "usb USB redirdev"))
"""What libvirtd writes for several devices of a guest alike."""
_NEVER = -(1 << 60)
_MOST_KNOWN = 1_000
_FEW = 50
"""So many can be gone through for a record."""
_DIGITS = 10
"""More than a number of ours has; a device in the log may be called as we number them, with any number."""


class _Alike:
    """Devices of a guest that are written alike: numbered, and a number that is free is taken again."""

    __slots__ = ("free", "last", "taken")

    def __init__(self) -> None:
        self.last = 0
        self.taken: deque[tuple[str, int]] = deque()
        """By key and beginning what the guest has, oldest first, and some that it had."""
        self.free: dict[str, list[int]] = {}
        """For each writer a heap of all numbers that lack his word, and some that do not."""

    def may_be_free(self, number: int) -> None:
        """For one of the writers, or all."""
        for writer, heap in self.free.items():
            heappush(heap, number)
            if len(heap) > _MOST_KNOWN + 2 * self.last:
                self.free[writer] = sorted(set(heap))


class Guest:
    """A guest of one node."""

    __slots__ = (
        "_alike", "_parts", "_told", "_waited", "began", "controlled", "fresh", "heard", "held",
        "indexed", "owed", "recent", "runs", "unresolved", "unreturned",
    )  # fmt: skip

    def __init__(self) -> None:
        self.held: dict[str, Entry] = {}
        self.recent: dict[str, Entry] = {}
        """Ended or failed; another record may add to it."""
        self.unreturned: dict[str, Entry] = {}
        self.fresh: set[str] = set()
        """What began since libvirtd's last word; in the log's order, as a clock may be set back."""
        self.owed: set[str] = set()
        """What began, and libhook has not said yet that it ended: a late word of that is no news."""
        self.runs = False
        """By libvirtd's word."""
        self.began = _NEVER
        """When libvirtd said that it runs."""
        self.unresolved = False
        """Whether libvirtd has named a USB device that it did not find, in this start."""
        self.controlled = False
        """Whether libvirtd has said anything of it."""
        self.heard = 0
        """When the last record of it was written."""
        self.indexed = False
        """Whether there is any of what follows; a guest that has little does not need it."""
        self._parts: tuple[list[tuple[int, str]], dict[str, None]] | None = None
        """What it holds, parted: a heap of what this start gave and when, and all else. Some of it is no longer held.
        None until somebody asks.
        """
        self._told: dict[str, None] | None = None
        """All of recent that libhook has written of, and some that is no longer recent. None until somebody asks."""
        self._waited = 0
        self._alike: dict[str, _Alike] | None = None

    @property
    def idle(self) -> bool:
        """Whether nothing has to be remembered of it."""
        return not (self.held or self.recent or self.unreturned)

    def takes(self, key: str, entry: Entry) -> None:
        """The guest has it from now on."""
        if self._parts is not None and entry.began == "start":
            heappush(self._parts[0], (began_at(entry), key))
        elif self._parts is not None:
            self._parts[1][key] = None
        if self._alike and (alike := self._alike.get(key.partition("#")[0])):
            alike.taken.append((key, began_at(entry)))
            if len(alike.taken) > _MOST_KNOWN + 2 * len(self.held):
                alike.taken = deque((key, at) for key, at in alike.taken if self._has(key, at))

    def leaves(self, key: str, entry: Entry) -> None:
        """It has ended or failed."""
        if self._told is not None and "libhook" in entry.recorded_by:
            self._told[key] = None
        self.frees(key)

    def frees(self, key: str) -> None:
        """One written alike may be over, or lack somebody's word: its number may be taken."""
        if self._alike and (alike := self._alike.get(key.partition("#")[0])):
            number = key.partition("#")[2]
            alike.may_be_free(int(number) if number.isdecimal() and len(number) < _DIGITS else 1)

    def begins(self, key: str) -> None:
        """A record says that it began. What is only remembered is forgotten where it is too much."""
        fresh, owed, most = self.fresh, self.owed, _MOST_KNOWN + 2 * len(self.held)
        if len(fresh) + len(owed) >= most:
            self.forget()
            owed.clear()
        fresh.add(key)
        owed.add(key)
        if self.indexed:
            if self._parts is not None and sum(map(len, self._parts)) >= most:
                self._parts = None
            self.frees(key)

    def forget(self) -> None:
        """What began before now is not of the next start."""
        if self.indexed:
            for key in self.fresh if self._alike else ():
                self.frees(key)
            if self.controlled:
                self._parts = None
        self.fresh.clear()

    def former(self, time: int) -> tuple[list[str], int]:
        """It starts again: what it held before, and when that was over at the latest."""
        if self._parts is None:
            now = {key: None for key in self.held if self._now(key)}
            others = {key: None for key in self.held if key not in now}
            begun = sorted((began_at(self.held[key]), key) for key in now)
            if len(self.held) > _FEW:
                self.indexed, self._parts = True, (begun, others)
        else:
            begun, others = self._parts
        found = {key: None for key in others if key in self.held and not self._now(key)}
        others.clear()
        while begun:
            at, key = begun[0]
            holds = self._has(key, at) and self.held[key].began == "start"
            # After libvirtd's word that it runs, it may be libhook's late word of that start: whichever is nearer.
            if holds and time - at <= (at - self.began if self.controlled else ONE_START):
                time = min(time, at)
                break
            heappop(begun)
            if holds:
                found[key] = None
        for key in found:
            self.frees(key)
        return list(found), time

    def told(self) -> list[str]:
        """What is recent and has libhook's word; asked for once."""
        maybe = self.recent if self._told is None else self._told
        found = [key for key in maybe if key in self.recent and "libhook" in self.recent[key].recorded_by]
        if self._told is not None or len(self.recent) > _FEW:
            self.indexed, self._told = True, {}
        for key in found:
            self.frees(key)
        return found

    def settled(self, before: int) -> list[str]:
        """What is recent and ended so long ago."""
        self._waited = 0
        if self._told and len(self._told) > len(self.recent):
            self._told = {key: None for key in self._told if key in self.recent}
        found = [key for key, entry in self.recent.items() if entry.end is None or entry.end <= before]
        for key in found:
            self.frees(key)
        return found

    def has_waited(self) -> bool:
        """Whether it is time to look what has settled: that takes as long as much is recent."""
        self._waited += 1
        return self._waited >= len(self.recent)

    def free(self, key: str, who: str) -> str:
        """Of those written alike, the first that has no record of this writer."""
        if self._alike is None:
            self.indexed, self._alike = True, {}
        alike = self._alike.setdefault(key, _Alike())
        writer = who if who in TRUSTED.values() else ""
        if (heap := alike.free.get(writer)) is None:
            heap = alike.free[writer] = list(range(1, alike.last + 1))
        while heap:
            name = _named(key, heap[0])
            entry = self.held.get(name) or (self.recent.get(name) if name in self.fresh else None)
            if entry is None or who not in entry.recorded_by:
                return name
            heappop(heap)
        alike.last += 1
        return _named(key, alike.last)

    def first(self, key: str) -> str:
        """Of those written alike, the one that it has had longest."""
        taken = self._alike[key].taken if self._alike and key in self._alike else ()
        while taken:
            if self._has(*taken[0]):
                return taken[0][0]
            taken.popleft()
        return key

    def _now(self, key: str) -> bool:
        """Whether it has it from this start, or may have."""
        return self.held[key].began == "start" and (key in self.fresh or not self.controlled)

    def _has(self, key: str, at: int) -> bool:
        """Whether it has it, and got it then."""
        entry = self.held.get(key)
        return entry is not None and began_at(entry) == at


def _named(key: str, number: int) -> str:
    return key if number == 1 else f"{key}#{number}"
