# SPDX-License-Identifier: LGPL-2.1-or-later
"""Places bars, marks, and days or hours on the page's time lines. Pure."""

import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import NamedTuple

from libhook.history.entry import Entry, Silence, began_at

COLUMNS = 800
"""How fine a time line is. What falls into one column is drawn once, however much the trail holds."""
_MOST_HOLDERS = 12
_MOST_IDS = 12
_STEPS = (
    *((minutes, "%H:%M") for minutes in (1, 5, 15, 30, 60, 180, 360, 720)),
    *((days * 1440, "%d %b") for days in (1, 2, 7, 14)),
    *((months * 43200, "%b %Y") for months in (1, 3, 6, 12, 24, 60, 120)),
)
_MOST_TICKS = 7


class Span(NamedTuple):
    """The time that the page shows, in milliseconds since 1970."""

    start: int
    end: int
    whole: tuple[int, int] | None = None
    """From when to when the trail goes, if that is more."""
    hosts: Mapping[str | None, tuple[int, int]] = MappingProxyType({})
    """The same of each host."""

    @property
    def trail(self) -> tuple[int, int]:
        """From when to when the trail goes: what has no start or no end is taken to have these."""
        return self.whole or (self.start, self.end)

    def known(self, entry: Entry) -> tuple[int, int]:
        """Return from when to when the guest had the device. What is not recorded is where its host's trail ends."""
        first, last = self.hosts.get(entry.node, self.trail)
        return first if entry.start is None else entry.start, last if entry.end is None else entry.end

    @property
    def outside(self) -> bool:
        """Whether all of it is before the trail or after it: of this time nothing is known."""
        return self.end < self.trail[0] or self.start > self.trail[1]

    def column(self, time: int) -> int:
        """Return the column of a time."""
        wide = max(self.end - self.start, 1)  # a moment may be asked for
        return round(min(max(time - self.start, 0), wide) * COLUMNS / wide)


class Share:
    """A guest's share of a device: what is drawn on its line, and totals."""

    __slots__ = ("differs", "failed", "failures", "first", "had", "held", "last", "number", "open", "times")

    def __init__(self, number: int) -> None:
        self.number = number
        """What the page calls it, from 1."""
        self.had = self.failures = self.differs = self.open = 0
        """Columns, as bits: it had the device, failed to get it, the records differ, no record of the end."""
        self.times = self.failed = 0
        self.held = 0
        """Milliseconds. It counts from the start of the host's trail where none is recorded, and to the latest end."""
        self.first: int | None = None
        self.last: int | None = None
        """The first start and the last end. None if the first is not recorded, or the guest has the device still."""

    def add(self, entry: Entry, span: Span) -> None:
        """Add an entry of the guest. Entries must come in the order of their start."""
        start, end = span.known(entry)
        column = span.column(start)
        if not self.times + self.failed:
            self.first, self.last = entry.start, entry.end
        elif self.last is not None:
            self.last = None if entry.end is None else max(self.last, entry.end)
        if entry.success:
            self.times += 1
            self.held += max(end - start, 0)
        else:
            self.failed += 1
        if span.outside:
            return
        self.differs |= (entry.disagree and start >= span.start) << column
        if not entry.success:
            self.failures |= 1 << column
            return
        first = min(column, COLUMNS - 2)  # a short use must stay visible, also at the right end
        last = max(span.column(end), first + 2)
        self.had |= (1 << last) - (1 << first)
        self.open |= (entry.ended is None and end <= span.end) << last


class Called(NamedTuple):
    """When a device was called so, first and last, and in how many entries."""

    first: int
    last: int
    entries: int


class Device:
    """A device's time line: the shares of some guests, and one of all others."""

    def __init__(self, number: int, entry: Entry) -> None:
        self.number = number
        self.node, self.bus, self.address = entry.node, entry.bus, entry.device
        self.shares: dict[int, Share] = {}
        """By the number of the guest; -1 is all others."""
        self.ids: dict[tuple[str, bool], Called] = {}
        """What the device was called, by its ids, as 1002:747e, and whether a note says them."""
        self.entries = 0

    def called(self, entry: Entry) -> None:
        """Remember what the device was called at the time."""
        times, key = [time for time in (entry.start, entry.end) if time is not None], (entry.ids, entry.noted)
        if key in self.ids or len(self.ids) < _MOST_IDS:
            before = self.ids.get(key, Called(times[0], times[0], 0))
            self.ids[key] = Called(min(before.first, *times), max(before.last, *times), before.entries + 1)


def runs(columns: int) -> Iterator[tuple[int, int]]:
    """Give the runs of bits that are set: the first bit, and the one after the last."""
    for run in re.finditer("1+", f"{columns:b}"[::-1]):
        yield run.span()


class Holders:
    """Who has a device when the trail ends: some entries, sorted by start, and the number of further ones."""

    __slots__ = ("first", "more")

    def __init__(self) -> None:
        self.first: list[Entry] = []
        self.more = 0

    def add(self, entry: Entry) -> None:
        """Add an entry."""
        if len(self.first) < _MOST_HOLDERS:
            self.first.append(entry)
            self.first.sort(key=began_at)
        else:
            self.more += 1


class Gap(NamedTuple):
    """A stretch of columns without a trail, once or several times."""

    first: int
    last: int
    times: int
    why: tuple[str, ...]


def gaps(silences: Iterable[Silence], span: Span) -> list[Gap]:
    """Merge silences that fall together. There are at most as many gaps as columns."""
    found: list[Gap] = []
    for silence in sorted(silences, key=lambda silence: silence.start):
        first, last = span.column(silence.start), span.column(span.end if silence.end is None else silence.end)
        last = max(last, first + 1)
        if found and first <= found[-1].last:
            before = found[-1]
            why = before.why if silence.why in before.why else (*before.why, silence.why)
            found[-1] = Gap(before.first, max(before.last, last), before.times + 1, why)
        else:
            found.append(Gap(first, last, 1, (silence.why,)))
    return found


def ticks(span: Span) -> Iterator[tuple[float, str]]:
    """Give the place of each round local time, in percent, and its text."""
    minutes = (span.end - span.start) / 60_000
    step, pattern = next((each for each in _STEPS if minutes / each[0] <= _MOST_TICKS), _STEPS[-1])
    at = datetime.fromtimestamp(span.start / 1000).replace(second=0, microsecond=0)  # noqa: DTZ006 - local
    if step < 1440:
        in_day = (at.hour * 60 + at.minute) // step * step
        at = at.replace(hour=in_day // 60, minute=in_day % 60)
    else:
        at = at.replace(hour=0, minute=0)
    if step >= 43200:
        at = at.replace(day=1)
    for _ in range(3 * _MOST_TICKS):
        time = round(at.timestamp() * 1000)
        if time > span.end:
            return
        if time >= span.start:
            yield (time - span.start) * 100 / max(span.end - span.start, 1), at.strftime(pattern)
        if step >= 43200:
            month = at.month - 1 + step // 43200
            at = at.replace(year=at.year + month // 12, month=month % 12 + 1)
        else:
            at += timedelta(minutes=step)
