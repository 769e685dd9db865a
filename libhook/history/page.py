# SPDX-License-Identifier: LGPL-2.1-or-later
"""Shows the trail as one HTML page that needs no other file. Pure.

First comes an overview with a line for each device, then the guests, then each device with all its entries. The page is
written in parts, so that memory grows with its devices and guests, and not with its entries. page_parts.py says what
templates/page.html.j2 is given.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby

from libhook.history import drawing
from libhook.history.entry import NAMELESS, Entry, Silence
from libhook.history.evidence import Log, Made
from libhook.history.names import NameOf
from libhook.history.page_names import name_shown, short
from libhook.history.page_parts import Block, Called, Clocks, DeviceView, Guest, Line, Row, facts, nothing_known
from libhook.history.page_template import render, template
from libhook.history.shown import remark, what
from libhook.history.timeline import COLUMNS, Device, Holders, Share, Span
from libhook.history.wanted import Selection

_MOST_GUESTS = 1_000
"""Guests with letters and a part of their own. Of a further one the page has the entries, with its UUID."""
_MOST_SHARES = 20_000
_MOST_UUIDS = 20_000
"""Names of which is known whether they stand for several guests. Further ones are shown with their UUID."""
_ROWS = 250
"""Entries of a block, which is opened and closed, and laid out, at once."""
_ROWS_OPEN = 1000
"""If all blocks together have more rows, they are folded."""
_MOST_NAMES = 4
_ENDS = "its log ends then"
_HARDLY = 600_000
"""Hosts write at other moments: a log that ends so many milliseconds before the last one is not said to, nor one that
begins later."""
_DAY = 86_400_000
"""How much is drawn, in milliseconds, of a time that has one end and lies outside the trail."""


class Page:
    """Takes entries and silences as they come. Then it takes the entries again, by device, and makes the page."""

    def __init__(self, selection: Selection, name_of: NameOf) -> None:
        """LibhookError if what makes pages is missing."""
        self._template = template()
        self._selection = selection
        self._name_of = name_of
        self._first: int | None = None
        self._last = 0
        self.entries = self.failed = self.differ = self.named = self.noted = 0
        self._silences: dict[str | None, list[Silence]] = {}
        self._holders: dict[str, Holders] = {}
        self._names: dict[str, dict[str, None]] = {}
        """The names of each guest, by UUID."""
        self._uuids: dict[str, str] = {}
        """The first UUID of each name as it is shown, and "" for one that stands for several guests."""
        self._more_guests = False
        self._numbers: dict[str, int] = {}
        self._guests: list[Guest] = []
        self._shares = 0

    def row(self, entry: Entry) -> str:
        """Return an entry as a line that sorts by device, then by when it began."""
        self.entries += 1
        self.failed += not entry.success
        self.differ += entry.disagree
        self.named += bool(entry.ids)
        self.noted += entry.noted
        self._meet(entry)
        names = self._names.get(entry.uuid)
        if names is None and len(self._names) < _MOST_GUESTS:
            names = self._names[entry.uuid] = {}
        if names is None:
            self._more_guests = True
        elif entry.vm not in names and len(names) < _MOST_NAMES:
            names[entry.vm] = None
        for time in (entry.start, entry.end):
            if time is not None:
                self._seen(time)
        return f"{_key(entry)}\t{entry.start or 0:014d}\t{json.dumps(entry)}"

    def silence(self, silence: Silence) -> None:
        """Take a time without a trail."""
        self._seen(silence.start)
        self._silences.setdefault(silence.node, []).append(silence)

    def holds(self, entry: Entry) -> None:
        """Take an entry of a device that is held when the trail ends. The entry itself may be filtered out."""
        self._meet(entry)
        self._holders.setdefault(_key(entry), Holders()).add(entry)

    def _meet(self, entry: Entry) -> None:
        """Remember which names stand for several guests as they are shown: theirs alone do not say who it was."""
        name, uuid = name_shown(entry.vm), entry.uuid
        if (name in self._uuids or len(self._uuids) < _MOST_UUIDS) and self._uuids.setdefault(name, uuid) != uuid:
            self._uuids[name] = ""

    def _unique(self, name: str) -> bool:
        """Whether what this name is shown as is known to stand for one guest."""
        return bool(self._uuids.get(name_shown(name)))

    def _seen(self, time: int) -> None:
        """Remember that the trail covers this time."""
        self._first = time if self._first is None else min(self._first, time)
        self._last = max(self._last, time)

    def write(self, rows: Callable[[], Iterable[str]], made: Made, logs: Iterable[Log]) -> Iterator[str]:
        """Give the page in parts. ``rows`` is called twice: all rows must be known before the first line is drawn."""
        span = self._span(made)
        self._hosts_end(span)
        clocks = Clocks(span)
        said = nothing_known(span, clocks, self._selection.wanted)
        self._letter()
        devices = self._measure(rows(), span)
        views = {key: self._view(key, device, clocks) for key, device in devices.items()}
        for view in views.values():
            for line in view.lines:
                if line.guest is not None:
                    line.guest.lines.append(line)
        missing = bool(made.missing)
        script = facts(span, clocks, self._guests, [*views.values()], self._silences, unknown=said, missing=missing)
        held = [self._holders[key] for key in devices if key in self._holders]
        yield from render(
            self._template,
            clocks=clocks,
            span=span,
            selection=self._selection,
            devices=views,
            nodes=list(dict.fromkeys(device.node for device in devices.values())),
            guests=self._guests,
            more_guests=self._more_guests,
            counts=(self.entries, self.failed, self.differ, sum(len(each.first) + each.more for each in held)),
            named=(self.named, self.noted),
            nameless=NAMELESS if len(span.hosts) > 1 else "",
            silences=sorted((one for each in self._silences.values() for one in each), key=lambda one: one.start),
            silent=[drawing.silent(each, span) for each in self._silences.values()],
            grid=drawing.grid(span),
            axis=drawing.axis(span),
            unique=self._unique,
            ends={one.node: one.start for each in self._silences.values() for one in each if one.why == _ENDS},
            unknown=said,
            facts=script,
            blocks=self._blocks(rows(), views, span, clocks),
            unfolded=self.entries <= _ROWS_OPEN,
            made=made,
            logs=logs,
        )

    def _span(self, made: Made) -> Span:
        """Return the time to show: what is asked for, as far as it is in the trail; all of it if it lies outside."""
        first, last = self._selection.covered or (made.time, 0)
        hosts = self._selection.hosts
        if self._first is not None:
            first, last = min(first, self._first), max(last, self._last)
        last = max(last, first)
        since, until = self._selection.wanted.times
        if until is not None and until < first:
            return Span(until - _DAY if since is None else since, until, (first, last), hosts)
        if since is not None and since > last:
            return Span(since, since + _DAY if until is None else until, (first, last), hosts)
        start = first if since is None else max(first, since)
        drawn = max(last, first + 1000)  # of a moment nothing would be seen
        end = drawn if until is None else min(drawn, until)
        return Span(start, end, (first, last), hosts)

    def _hosts_end(self, span: Span) -> None:
        """Before the first record of a host and after its last there is no trail of it, where others have one."""
        first, last = span.trail
        seen = min((last - first) // COLUMNS, _HARDLY)
        for node, (begins, ends) in sorted(span.hosts.items(), key=lambda one: one[0] or ""):
            edges = Silence(node, first, begins, "its log begins then"), Silence(node, ends, None, _ENDS)
            for edge, lasts in zip(edges, (begins - first, last - ends), strict=True):
                if lasts > seen and self._selection.wanted.has_silence(edge):
                    self._silences.setdefault(node, []).append(edge)

    def _letter(self) -> None:
        """Give each guest its letters, in the order of their names, and its look."""
        known = sorted(self._names, key=lambda uuid: (next(iter(self._names[uuid])).casefold(), uuid))
        look = drawing.looks(known)
        self._numbers = {uuid: number for number, uuid in enumerate(known)}
        for number, uuid in enumerate(known):
            names = list(self._names[uuid])
            alone = all(map(self._unique, names))
            self._guests.append(Guest(number, drawing.letters(number), uuid, names, alone, look[uuid], []))

    def _measure(self, rows: Iterable[str], span: Span) -> dict[str, Device]:
        devices: dict[str, Device] = {}
        for key, entry in _entries(rows):
            device = devices.get(key)
            if device is None:
                device = devices[key] = Device(len(devices) + 1, entry)
            device.entries += 1
            number = self._numbers.get(entry.uuid, -1)
            share = device.shares.get(number)
            if share is None and self._shares >= _MOST_SHARES:
                number = -1
                share = device.shares.get(number)
            if share is None:
                self._shares += 1
                share = device.shares[number] = Share(self._shares)
            share.add(entry, span)
            if entry.ids:
                device.called(entry)
        return devices

    def _view(self, key: str, device: Device, clocks: Clocks) -> DeviceView:
        nodes = list(self._silences)
        names = [
            Called(self._name_of(device.bus, ids).text, noted, called) for (ids, noted), called in device.ids.items()
        ]
        view = DeviceView(
            device, names, self._holders.get(key, Holders()), [],
            nodes.index(device.node) + 1 if device.node in nodes else 0,
        )  # fmt: skip
        shares = sorted(device.shares.items(), key=lambda each: (each[0] < 0, -each[1].held, each[0]))
        for number, share in shares:
            view.lines.append(Line(share, self._guests[number] if number >= 0 else None, view, clocks))
        return view

    def _blocks(
        self, rows: Iterable[str], views: dict[str, DeviceView], span: Span, clocks: Clocks
    ) -> Iterator[tuple[DeviceView, Iterator[Block]]]:
        """Give each device with its entries, a block after the other."""
        for key, found in groupby(_entries(rows), lambda each: each[0]):
            yield views[key], self._blocks_of((entry for _, entry in found), span, clocks)

    def _blocks_of(self, entries: Iterator[Entry], span: Span, clocks: Clocks) -> Iterator[Block]:
        block = Block(span)
        for entry in entries:
            number = self._numbers.get(entry.uuid, -1)
            block.add(entry, number, self._row(entry, number, clocks))
            if len(block.rows) == _ROWS:
                yield block
                block = Block(span)
        if block.rows:
            yield block

    def _row(self, entry: Entry, number: int, clocks: Clocks) -> Row:
        start, end = entry.start, entry.end
        name = name_shown(entry.vm)
        guest = self._guests[number] if number >= 0 else None
        to = "" if not entry.success else "held still" if end is None else clocks.time(end)
        return Row(
            guest.look if guest else drawing.OTHERS,
            " f" if not entry.success else " h" if end is None else "",
            guest.letters if guest else "",
            name if guest and self._unique(entry.vm) else f"{name} {short(entry.uuid)}",
            "unknown" if start is None else clocks.time(start),
            f"by {to}" if entry.success and end is not None and entry.ended is None else to,
            clocks.lasting(entry) if entry.success else "",
            what(entry),
            remark(entry),
            ", ".join(entry.recorded_by),
            f"{entry.serial} \u2026 {entry.last}" if entry.last not in (0, entry.serial) else str(entry.serial),
        )


def _key(entry: Entry) -> str:
    return json.dumps([entry.node or "", entry.bus, entry.device])


def _entries(rows: Iterable[str]) -> Iterator[tuple[str, Entry]]:
    for row in rows:
        key, _, text = row.split("\t", 2)
        fields = json.loads(text)
        fields[10] = tuple(fields[10])  # the writers
        yield key, Entry._make(fields)
