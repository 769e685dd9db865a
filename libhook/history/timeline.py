# SPDX-License-Identifier: LGPL-2.1-or-later
"""Places bars, marks, and days or hours on the page's time lines. Pure."""

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import NamedTuple

from libhook.history.entry import Entry, Silence, began_at

COLUMNS = 800
"""How fine a time line is. What falls into one column is drawn once, however much the trail holds."""
_MOST_LANES = 12
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

    def column(self, time: int) -> int:
        """Return the column of a time."""
        return round((min(max(time, self.start), self.end) - self.start) * COLUMNS / max(self.end - self.start, 1))


class Bar(NamedTuple):
    """A stretch of columns in which the guest had the device, once or several times."""

    first: int
    last: int
    start: int
    """In milliseconds: the start of the first entry. ``end`` is the end of the last."""
    end: int
    times: int
    open: bool
    """The guest still has the device, or no record says when that ended."""


class Lane:
    """One guest's part of a device's time line."""

    __slots__ = ("bars", "failed", "marks", "times")

    def __init__(self) -> None:
        self.bars: list[Bar] = []
        self.marks: dict[tuple[int, bool], int] = {}
        """The number of failures, by column and by whether the records differ."""
        self.times = 0
        self.failed = 0

    def add(self, entry: Entry, span: Span) -> None:
        """Add an entry of the guest. Entries must come in the order of their start."""
        first = span.column(span.start if entry.start is None else entry.start)
        if not entry.success:
            mark = (first, entry.disagree)
            self.marks[mark] = self.marks.get(mark, 0) + 1
            self.failed += 1
            return
        self.times += 1
        start = span.start if entry.start is None else entry.start
        end = span.end if entry.end is None else entry.end
        last = span.column(end)
        unknown = entry.ended is None
        if self.bars and first <= self.bars[-1].last + 1:
            before = self.bars[-1]
            unknown = unknown if last >= before.last else before.open
            last, end = max(before.last, last), max(before.end, end)
            self.bars[-1] = Bar(before.first, last, before.start, end, before.times + 1, unknown)
        else:
            self.bars.append(Bar(first, last, start, end, 1, unknown))


class Line:
    """A device's time line: a lane for each of the first guests, and one lane for all others."""

    __slots__ = ("lanes", "others")

    def __init__(self) -> None:
        self.lanes: dict[tuple[str, str], Lane] = {}
        self.others = Lane()

    def add(self, entry: Entry, span: Span) -> None:
        """Add an entry of the device."""
        guest = (entry.vm, entry.uuid)
        lane = self.lanes.get(guest)
        if lane is None and len(self.lanes) < _MOST_LANES:
            lane = self.lanes[guest] = Lane()
        if lane is None:
            lane = self.others
        lane.add(entry, span)


class Holders:
    """Who has a device when the trail ends: some entries, sorted by start, and the number of further ones."""

    __slots__ = ("first", "more")

    def __init__(self) -> None:
        self.first: list[Entry] = []
        self.more = 0

    def add(self, entry: Entry) -> None:
        """Add an entry."""
        if len(self.first) < _MOST_LANES:
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
