# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the page's template is given: devices, guests, their lines, blocks of entries. Pure.

The script gets the same as JSON. Its times are seconds since the trail's start.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

from libhook.errors import printable
from libhook.history import drawing, timeline
from libhook.history.entry import Entry, Silence
from libhook.history.page_names import name_shown, plain, short
from libhook.history.shown import NOTED, clock
from libhook.history.timeline import COLUMNS, Device, Holders, Share, Span
from libhook.history.wanted import Wanted

_STEP = 3_600_000
"""How finely is looked for the hour in which summer time begins or ends, in milliseconds."""
_MOST_STEPS = 200_000
_MOST_SILENCES = 2_000
"""Times without a trail, of each node, that the script can draw anew."""


class Clocks:
    """Writes times and durations. Each time has its offset from UTC if the trail has several."""

    def __init__(self, span: Span) -> None:
        self.zones = zones(Span(*span.trail))
        if span.outside:
            self.zones = sorted({*self.zones, *zones(Span(span.start, span.end))})
        several = len({offset for _, offset in self.zones}) > 1
        self.time = clock("%Y-%m-%d %H:%M:", " %z" if several else "")
        self.iso = clock("%Y-%m-%dT%H:%M:", "Z", UTC)
        names = dict.fromkeys(_offset(offset) for _, offset in self.zones)
        self.zone = " and ".join(names)
        self._span = span

    def lasting(self, entry: Entry) -> str:
        """Return how long the guest had the device, as far as it is recorded."""
        (first, last), end = self._span.known(entry), entry.end
        text = duration(last - first)
        if entry.start is None:
            return "unknown" if end is not None and entry.ended is None else f"{text} or more"
        if end is None:
            return f"{text} so far"
        return text if entry.ended else f"{text} at most"


def _offset(minutes: int) -> str:
    sign = "-" if minutes < 0 else "+"
    return f"UTC{sign}{abs(minutes) // 60:02d}:{abs(minutes) % 60:02d}"


def zones(span: Span) -> list[tuple[int, int]]:
    """Return from when on local time has which offset from UTC: milliseconds since 1970, and minutes."""
    found: list[tuple[int, int]] = []
    step = max(_STEP, (span.end - span.start) // _MOST_STEPS)
    first = span.start // step * step
    # a change is looked for day by day first, because hours are many
    days = [*range(first, span.end, max(24 * _STEP, step)), span.end]
    for day, following in zip(days, [*days[1:], span.end], strict=True):
        if found and _local(day) == found[-1][1] == _local(following):
            continue
        for time in range(day, max(following, day + 1), step):
            if not found or found[-1][1] != _local(time):
                found.append((time, _local(time)))
    return found


def _local(time: int) -> int:
    offset = datetime.fromtimestamp(time / 1000, UTC).astimezone().utcoffset()
    return round(offset.total_seconds() / 60) if offset else 0


def duration(milliseconds: int) -> str:
    """Return a time in its two largest units."""
    seconds = max(milliseconds, 0) // 1000
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60} s"
    if seconds < 86400:
        return f"{seconds // 3600} h {seconds % 3600 // 60} min"
    return f"{seconds // 86400} d {seconds % 86400 // 3600} h"


class Row(NamedTuple):
    """An entry, as text."""

    look: int
    state: str
    letters: str
    guest: str
    start: str
    end: str
    lasting: str
    what: str
    remark: str
    writers: str
    events: str
    """The number of the event of its first record, and that of its last."""


@dataclass(frozen=True)
class Guest:
    """A guest, by its UUID."""

    number: int
    letters: str
    uuid: str
    names: list[str]
    alone: bool
    """Whether its names are no other guest's."""
    look: int
    lines: list["Line"]

    @property
    def name(self) -> str:
        """Return its first name, cut if it is long."""
        return name_shown(self.names[0])

    @property
    def named(self) -> bool:
        """Whether its names must be said in full beside that."""
        return len(self.names) > 1 or short(self.names[0]) != plain(self.names[0])

    @property
    def said(self) -> str:
        """Return what tells it from all other guests, as text: its name, and its UUID if others have that name."""
        return self.name if self.alone else f"{self.name} {self.uuid}"

    @property
    def totals(self) -> tuple[int, int, str]:
        """Return how often it had a device, how often it failed to get one, and how long it had them together."""
        shares = [line.share for line in self.lines]
        held = duration(sum(share.held for share in shares))
        return sum(share.times for share in shares), sum(share.failed for share in shares), held


class Called(NamedTuple):
    """What a device was called."""

    text: str
    noted: bool
    """By libhook's notes, and by no record."""
    when: timeline.Called


@dataclass(frozen=True)
class DeviceView:
    """A device."""

    device: Device
    names: list[Called]
    holders: Holders
    lines: list["Line"]
    """The guests that had it; the one that had it for longest comes first."""
    silent: int
    """The number of its node's silences, from 1; 0 if there are none."""

    @property
    def address(self) -> str:
        """Return its address, cut if it is long."""
        return short(self.device.address)

    @property
    def labels(self) -> list[tuple[str, str, int]]:
        """Return what is written in its bars."""
        return drawing.labels(
            (line.guest.letters, line.guest.name, line.look, line.share) for line in self.lines if line.guest
        )

    @property
    def called(self) -> str:
        """Return all its names in short."""
        recorded = {name.text for name in self.names if not name.noted}
        shown = (name.text if name.text in recorded else f"{name.text}{NOTED}" for name in self.names if name.text)
        return ", then ".join(dict.fromkeys(shown))


class Line:
    """A guest's share of a device, seen from either."""

    def __init__(self, share: Share, guest: Guest | None, view: DeviceView, clocks: Clocks) -> None:
        self.share, self.guest, self.view = share, guest, view
        self.look = guest.look if guest else drawing.OTHERS
        self.held = duration(share.held)
        self.first = "unknown" if share.first is None else clocks.time(share.first)
        self.last = "held still" if share.last is None else clocks.time(share.last)
        self.paths = list(drawing.paths(share))


class Block:
    """Some entries of a device, one after the other."""

    def __init__(self, span: Span) -> None:
        self.rows: list[Row] = []
        self._span = span
        self._before = span.start
        self._numbers: tuple[list[int], ...] = ([], [], [], [])
        self.first = self.last = 0
        """When the first began, and the latest end."""

    def add(self, entry: Entry, guest: int, row: Row) -> None:
        """Add an entry: its guest's number, seconds since the one before began, how many it lasted, and its flags."""
        start, end = self._span.known(entry)
        if not self.rows:
            self.first = start
        self.rows.append(row)
        end = max(start, end)
        self.last = max(self.last, end)
        guests, starts, lasts, flags = self._numbers
        guests.append(guest)
        starts.append(start // 1000 - self._before // 1000)
        lasts.append(end // 1000 - start // 1000)
        flags.append((not entry.success) | entry.disagree << 1 | (entry.success and entry.end is None) << 2
                     | (entry.success and entry.ended is None) << 3)  # fmt: skip
        self._before = start

    @property
    def data(self) -> str:
        """Return it as JSON for the script."""
        return json.dumps(self._numbers, separators=(",", ":"))


def nothing_known(span: Span, clocks: Clocks, wanted: Wanted) -> str:
    """Say what was asked for where all of it lies outside the trail; "" elsewhere."""
    if not span.outside:
        return ""
    start, end = map(clocks.time, (span.start, span.end))
    asked = f"until {end}" if wanted.start is None else f"from {start} " + ("on" if wanted.end is None else f"to {end}")
    before = span.end < span.trail[0]
    edge = f"begins {clocks.time(span.trail[0])}" if before else f"ends {clocks.time(span.trail[1])}"
    return f"The trail {edge}. Of the time that is asked for, {asked}, nothing is known."


def facts(
    span: Span,
    clocks: Clocks,
    guests: Iterable[Guest],
    devices: Sequence[DeviceView],
    silences: Mapping[str | None, list[Silence]],
    *,
    unknown: str,
    missing: bool,
) -> str:
    """Return what the script must know of the whole, as JSON. ``<`` is escaped: it could end the element."""
    start = span.start // 1000
    several = len({view.device.node for view in devices} | set(silences)) > 1
    said: dict[str, Any] = {
        "start": start,
        "end": max(-(-span.end // 1000), start + 1),
        "columns": COLUMNS,
        "label": drawing.LABEL,
        "whole": (not unknown and span.start <= span.trail[0], not unknown and span.end >= span.trail[1]),
        "unknown": unknown,
        "zones": [(time // 1000, offset * 60) for time, offset in clocks.zones],
        "guests": [
            [guest.letters, *map(printable, (guest.name, guest.uuid)), guest.look, printable(" ".join(guest.names))]
            for guest in guests
        ],
        "devices": [
            printable(" ".join(filter(None, (view.device.node, view.device.bus, view.address, view.called))))
            for view in devices
        ],
        "lines": [
            [line.share.number, view.device.number, line.guest.number if line.guest else -1]
            for view in devices
            for line in view.lines
        ],
        "silences": [
            [
                (one.start // 1000 - start, (span.trail[1] if one.end is None else one.end) // 1000 - start)
                for one in each[:_MOST_SILENCES]
            ]
            for each in silences.values()
        ],
        "silent": [view.silent for view in devices],
        "nodes": [short(node or "") if several else "" for node in silences],
        "missing": missing,
        "cut": any(len(each) > _MOST_SILENCES for each in silences.values()),
    }  # fmt: skip
    return json.dumps(said, separators=(",", ":")).replace("<", "\\u003c")
