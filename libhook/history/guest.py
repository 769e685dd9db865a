# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is known of a guest while the trail is read. Pure.

A log may name ten thousand devices of one guest, and then have ten thousand more records of that guest. So no code here
goes through all devices for one record. It looks at a device only as often as the log has records of it.
"""

from collections import deque
from heapq import heappop, heappush

from libhook.history.entry import TRUSTED, Entry, began_at

ONE_START = 60_000
"""The records of one start lie within so many milliseconds, if no VIRT_CONTROL separates it from the start before."""
UNRESOLVED = "usb 000.000"
NAMELESS = frozenset((UNRESOLVED, "usb USB redirdev"))
"""Names that libvirtd may write for several devices of one guest."""
_NEVER = -(1 << 60)
_MOST_KNOWN = 1_000
_FEW = 50
"""It is cheap to go through this many devices for one record."""
_DIGITS = 10
"""Our numbers have fewer digits. A device in the log may look like our ``NAME#NUMBER``, with any number."""


class _Alike:
    """Devices of a guest that have the same name in the log. We number them, and use free numbers again."""

    __slots__ = ("free", "last", "taken")

    def __init__(self) -> None:
        self.last = 0
        self.taken: deque[tuple[str, int]] = deque()
        """Key and beginning of each that the guest has, oldest first. Some that it no longer has may be among them."""
        self.free: dict[str, list[int]] = {}
        """For each writer a heap of all numbers without a record of that writer. Some that have one may be in it."""

    def may_be_free(self, number: int) -> None:
        """Note that a number may be free, for one writer or for all."""
        for writer, heap in self.free.items():
            heappush(heap, number)
            if len(heap) > _MOST_KNOWN + 2 * self.last:
                self.free[writer] = sorted(set(heap))


class Guest:
    """A guest on one node."""

    __slots__ = (
        "_alike", "_parts", "_told", "_waited", "began", "controlled", "fresh", "heard", "held",
        "indexed", "owed", "recent", "runs", "unresolved", "unreturned",
    )  # fmt: skip

    def __init__(self) -> None:
        self.held: dict[str, Entry] = {}
        self.recent: dict[str, Entry] = {}
        """Ended or failed entries. Another record may still add to them."""
        self.unreturned: dict[str, Entry] = {}
        self.fresh: set[str] = set()
        """What began after libvirtd's last VIRT_CONTROL. "After" is the log's order, since a clock may be set back."""
        self.owed: set[str] = set()
        """What began, and has no record by libhook of its end yet. If that record comes late, it makes no new entry."""
        self.runs = False
        """Whether the guest runs, by libvirtd's records."""
        self.began = _NEVER
        """When libvirtd recorded that the guest runs."""
        self.unresolved = False
        """Whether a record of this start names a USB device without its address."""
        self.controlled = False
        """Whether libvirtd has written a VIRT_CONTROL of the guest's start or stop."""
        self.heard = 0
        """When the guest's last record was written."""
        self.indexed = False
        """Whether any of the indexes below is in use. A guest with few devices needs none."""
        self._parts: tuple[list[tuple[int, str]], dict[str, None]] | None = None
        """An index of ``held``: a heap of the devices of this start with their times, and all others.

        Some of them are no longer held. None until ``former`` builds it.
        """
        self._told: dict[str, None] | None = None
        """The keys in ``recent`` with a record by libhook. Some are no longer recent. None until ``told`` builds it."""
        self._waited = 0
        self._alike: dict[str, _Alike] | None = None

    @property
    def idle(self) -> bool:
        """Whether nothing of the guest must be remembered."""
        return not (self.held or self.recent or self.unreturned)

    def takes(self, key: str, entry: Entry) -> None:
        """Index a device that the guest has from now on."""
        if self._parts is not None and entry.began == "start":
            heappush(self._parts[0], (began_at(entry), key))
        elif self._parts is not None:
            self._parts[1][key] = None
        if self._alike and (alike := self._alike.get(key.partition("#")[0])):
            alike.taken.append((key, began_at(entry)))
            if len(alike.taken) > _MOST_KNOWN + 2 * len(self.held):
                alike.taken = deque((key, at) for key, at in alike.taken if self._has(key, at))

    def leaves(self, key: str, entry: Entry) -> None:
        """Index an entry that has ended or failed."""
        if self._told is not None and "libhook" in entry.recorded_by:
            self._told[key] = None
        self.frees(key)

    def frees(self, key: str) -> None:
        """Note that a device with a shared name may be over, or lack a writer's record: its number may be free."""
        if self._alike and (alike := self._alike.get(key.partition("#")[0])):
            number = key.partition("#")[2]
            alike.may_be_free(int(number) if number.isdecimal() and len(number) < _DIGITS else 1)

    def begins(self, key: str) -> None:
        """Note that a device began. If too much is remembered, forget what only adds to other records."""
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
        """Forget what began before now: it is not part of the next start."""
        if self.indexed:
            for key in self.fresh if self._alike else ():
                self.frees(key)
            if self.controlled:
                self._parts = None
        self.fresh.clear()

    def former(self, time: int) -> tuple[list[str], int]:
        """The guest starts again: return the keys of what it held before, and the latest time at which that ended."""
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
            # After libvirtd's VIRT_CONTROL, the record may be libhook's late one of that start. The nearer start wins.
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
        """Return the keys of recent entries with a record by libhook. Each is returned once; the caller removes it."""
        maybe = self.recent if self._told is None else self._told
        found = [key for key in maybe if key in self.recent and "libhook" in self.recent[key].recorded_by]
        if self._told is not None or len(self.recent) > _FEW:
            self.indexed, self._told = True, {}
        for key in found:
            self.frees(key)
        return found

    def settled(self, before: int) -> list[str]:
        """Return the keys of recent entries that ended at ``before`` or earlier."""
        self._waited = 0
        if self._told and len(self._told) > len(self.recent):
            self._told = {key: None for key in self._told if key in self.recent}
        found = [key for key, entry in self.recent.items() if entry.end is None or entry.end <= before]
        for key in found:
            self.frees(key)
        return found

    def has_waited(self) -> bool:
        """Whether it is time to call ``settled``. The more is recent, the longer that takes, so it is called less."""
        self._waited += 1
        return self._waited >= len(self.recent)

    def free(self, key: str, who: str) -> str:
        """Return the key of the first device with this shared name that has no record of this writer."""
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
        """Return the key of the device with this shared name that the guest has had longest."""
        taken = self._alike[key].taken if self._alike and key in self._alike else ()
        while taken:
            if self._has(*taken[0]):
                return taken[0][0]
            taken.popleft()
        return key

    def numbers(self) -> dict[str, int]:
        """Return how far each shared name was numbered. Of the indexes, only this is not seen from the entries."""
        return {key: alike.last for key, alike in (self._alike or {}).items()}

    def renumber(self, numbers: dict[str, int]) -> None:
        """Take up what ``numbers`` returned, once the entries are there."""
        self._alike = {key: _Alike() for key in numbers} or None
        self.indexed = bool(numbers)
        for key, entry in self.held.items():
            if self._alike and (alike := self._alike.get(key.partition("#")[0])):
                alike.taken.append((key, began_at(entry)))
        for key, last in numbers.items():
            if self._alike:
                self._alike[key].last = last

    def _now(self, key: str) -> bool:
        """Whether the guest has the device from this start, or may have."""
        return self.held[key].began == "start" and (key in self.fresh or not self.controlled)

    def _has(self, key: str, at: int) -> bool:
        """Whether the guest has the device, and got it at that time."""
        entry = self.held.get(key)
        return entry is not None and began_at(entry) == at


def _named(key: str, number: int) -> str:
    return key if number == 1 else f"{key}#{number}"
