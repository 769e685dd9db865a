# SPDX-License-Identifier: LGPL-2.1-or-later
"""Tells what becomes of entries while the trail grows: each began, ended, failed, or is now known better. Pure.

A reader who keeps the last line of each entry, and drops what was withdrawn, has what ``libhook history`` shows.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal, NamedTuple

from libhook.history import memory
from libhook.history.entry import Entry, name_of

Kind = Literal["began", "ended", "failed", "changed", "withdrawn"]
QUIET = 2.0
"""Seconds. An entry is told once its guest has had no record for so long. libvirtd and libhook both write of it, mostly
within a second of each other, and a start that fails is known to have failed only by the last record.
"""


class Event(NamedTuple):
    """One thing to tell."""

    kind: Kind
    name: str
    """Of the entry. It stays the same for all its events."""
    number: int
    """1 for the first event of the entry, and so on."""
    entry: Entry

    @property
    def time(self) -> int:
        """When it happened, in milliseconds since 1970."""
        first = self.entry.start if self.kind in ("began", "failed") else self.entry.end
        return first or self.entry.start or 0


class Told(NamedTuple):
    """What was told of an entry last."""

    number: int
    entry: Entry


class Events:
    """Remembers what was told of each entry to which something may still be added."""

    def __init__(self, has: Callable[[Entry], bool], look: Callable[[Entry], str]) -> None:
        """``has`` says which entries to tell of. ``look`` is what can be seen of one."""
        self._has, self._look = has, look
        self._told: dict[str, Told] = {}
        self._waiting: dict[str, tuple[Entry, float]] = {}
        """Entries that are not told yet as they are now, and since when they have been so."""

    @property
    def waits(self) -> bool:
        """Whether something is to be told that nothing must be added to for a while first."""
        return bool(self._waiting)

    def final(self, entries: Iterable[Entry]) -> list[Event]:
        """Return what is to be told of entries to which nothing can be added, and forget them."""
        found: list[Event] = []
        for entry in entries:
            name = name_of(entry)
            found += self._tell(name, entry)
            self._told.pop(name, None)
            self._waiting.pop(name, None)
        return sorted(found, key=lambda event: event.time)

    def now(self, known: Iterable[tuple[int, Entry]], clock: int, elapsed: float) -> list[Event]:
        """Return what is to be told of all other entries, each with the time of its guest's last record.

        ``clock`` is the present time in milliseconds since 1970, and ``elapsed`` is of a clock that is never set.
        """
        found: list[Event] = []
        seen = set()
        for heard, entry in known:
            if (name := name_of(entry)) in seen:  # the log has a record twice
                continue
            seen.add(name)
            told = self._told.get(name)
            if (told.entry == entry) if told else not self._has(entry):
                self._waiting.pop(name, None)
                continue
            before, since = self._waiting.get(name, (entry, elapsed))
            since = since if before == entry else elapsed
            self._waiting[name] = entry, since
            if clock - heard >= QUIET * 1000 or elapsed - since >= QUIET:
                del self._waiting[name]
                found += self._tell(name, entry)
        for name in self._told.keys() - seen:
            number, entry = self._told.pop(name)
            found.append(Event("withdrawn", name, number + 1, entry))
        for name in self._waiting.keys() - seen:
            del self._waiting[name]
        return sorted(found, key=lambda event: event.time)

    def _tell(self, name: str, entry: Entry) -> Iterator[Event]:
        told = self._told.get(name)
        if told is None and not self._has(entry):
            return
        number, state = told.number if told else 0, _state(entry)
        if told is None and state == "ended" and entry.began:
            number += 1
            yield Event("began", name, number, entry._replace(ended=None, end=None, unreturned=False))
        if told is None or state != _state(told.entry):
            number += 1
            yield Event(state, name, number, entry)
        elif told.entry != entry and self._look(told.entry) != self._look(entry):
            number += 1
            yield Event("changed", name, number, entry)
        self._told[name] = Told(number, entry)

    def saved(self) -> dict[str, Any]:
        """Return what was told, as values for JSON."""
        return {name: [number, entry] for name, (number, entry) in self._told.items()}

    def restore(self, values: dict[str, Any]) -> None:
        """Take up what ``saved`` returned. TypeError or ValueError if it is something else."""
        self._told = {name: Told(int(number), memory.entry(entry)) for name, (number, entry) in values.items()}


def _state(entry: Entry) -> Kind:
    if not entry.success:
        return "failed"
    return "began" if entry.end is None else "ended"
