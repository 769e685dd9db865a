# SPDX-License-Identifier: LGPL-2.1-or-later
"""Shows the trail as one HTML page that needs no other file: a time line and a table for each device. Pure.

The page has no script and no style attribute, so its content policy can forbid both. The places of bars are attributes
of SVG. All text from the log is made printable, then escaped.
"""

import base64
import hashlib
import html
import itertools
import json
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime

from libhook.errors import printable
from libhook.history.drawing import LEGEND, mark, once, percent
from libhook.history.entry import Entry, Silence
from libhook.history.page_style import STYLE
from libhook.history.shown import clock, remark, what
from libhook.history.timeline import COLUMNS, Bar, Holders, Lane, Line, Span, ticks
from libhook.history.wanted import Selection

_ROWS_OPEN = 1000
"""If all tables together have more rows, they are folded."""
_MOST_SILENCES = 12
_MOST_GUESTS = 10_000
"""Guests are counted up to this number."""
_COLUMNS = ("Guest", "From", "To", "What", "Recorded by")


class Page:
    """Takes entries and silences as they come. Then it takes the entries again, by device, and makes the page."""

    def __init__(self, selection: Selection) -> None:
        self._selection = selection
        self._iso, self._time = clock("%Y-%m-%dT%H:%M:", "Z", UTC), clock("%Y-%m-%d %H:%M:", "")
        self._first: int | None = None
        self._last = 0
        self.entries = self.failed = self.differ = 0
        self._silences: dict[str | None, list[Silence]] = {}
        self._below: dict[str | None, int] = {}
        """Maps a node to the number of the silences that are drawn below its bars."""
        self._holders: dict[str, Holders] = {}
        self._guests: set[str] = set()

    def row(self, entry: Entry) -> str:
        """Return an entry as a line that sorts by device, then by when it began."""
        self.entries += 1
        self.failed += not entry.success
        self.differ += entry.disagree
        if len(self._guests) < _MOST_GUESTS:
            self._guests.add(entry.uuid)
        for time in (entry.start, entry.end):
            if time is not None:
                self.seen(time)
        return f"{_key(entry)}\t{entry.start or 0:014d}\t{json.dumps(entry)}"

    def silence(self, silence: Silence) -> None:
        """Note a time without a trail."""
        self.seen(silence.start)
        self._silences.setdefault(silence.node, []).append(silence)

    def holds(self, entry: Entry) -> None:
        """Note that a guest has the device when the trail ends. The entry itself may be filtered out."""
        self._holders.setdefault(_key(entry), Holders()).add(entry)

    def seen(self, time: int) -> None:
        """Note that the trail covers this time."""
        self._first = time if self._first is None else min(self._first, time)
        self._last = max(self._last, time)

    def write(self, rows: Callable[[], Iterable[str]], made: int) -> Iterator[str]:
        """Give the page in parts. ``rows`` is called twice: all rows must be known before the first time line is drawn.

        ``made`` is the present time in milliseconds since 1970.
        """
        first = self._first if self._first is not None else made
        span = Span(first, max(self._last, first + 1000))
        lines: dict[str, Line] = {}
        for row in rows():
            key, _, text = row.split("\t", 2)
            lines.setdefault(key, Line()).add(_entry(text), span)
        numbers = {key: number for number, key in enumerate(lines, 1)}
        yield from self._top(span, lines, numbers)
        self._below = {node: number for number, node in enumerate(self._silences, 1)}
        current = None
        for row in rows():
            key, _, text = row.split("\t", 2)
            entry = _entry(text)
            if key != current:
                if current is not None:
                    yield self._device_end()
                current = key
                yield from self._device(numbers[key], entry, lines[key], self._holders.get(key, Holders()), span)
            yield self._row(entry)
        if current is not None:
            yield self._device_end()
        yield from self._bottom(made)

    def _top(self, span: Span, lines: dict[str, Line], numbers: dict[str, int]) -> Iterator[str]:
        policy = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
        yield (
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            f"<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'sha256-{policy}'; "
            "base-uri 'none'; form-action 'none'\">\n"
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            "<title>Who had which host device</title>\n"
            f"<style>{STYLE}</style>\n</head>\n<body>\n"
            '<a class="skip" href="#devices">Skip to the devices</a>\n<header>\n<h1>Who had which host device</h1>\n'
            f"<p>From the audit trail, {self._when(span.start)} to {self._when(span.end)} "
            f'<span class="soft">({_zones(span)})</span>, read from {_name(self._selection.files)}.</p>\n'
        )
        if said := self._selection.said:
            yield (
                f"<p><strong>Filtered: {_name(said)}.</strong> Who has a device at the end of the trail is worked out "
                "from all entries.</p>\n"
            )
        yield '<ul class="facts">'
        holders = [self._holders[key] for key in lines if key in self._holders]
        held = sum(len(each.first) + each.more for each in holders)
        facts = [(len(lines), "device", ""), (len(self._guests), "guest", ""), (held, "held still", "held")]
        facts += [(self.failed, "failed", "bad" if self.failed else "")]
        facts += [(self.differ, "where records differ", "differ" if self.differ else "")]
        for number, name, look in facts:
            plural = "s" if number != 1 and name in ("device", "guest") else ""
            more = " or more" if number == _MOST_GUESTS and name == "guest" else ""
            yield f'<li><span class="{look}"><b>{number}{more}</b>{name}{plural}</span></li>'
        yield "</ul>\n</header>\n"
        if lines:
            yield from self._index(lines, numbers)
            yield f"{LEGEND}{once(self._silences.values(), span)}"
        if self._silences:
            yield self._silent()
        yield '<main id="devices">\n'
        if not lines:
            yield f"<p>{'No entry matches.' if self._selection.all else 'The trail names no host device.'}</p>\n"

    def _index(self, lines: Iterable[str], numbers: dict[str, int]) -> Iterator[str]:
        yield '<nav class="card" aria-labelledby="index"><h2 id="index">Devices</h2>\n<ol class="list">\n'
        for key in lines:
            node, bus, device = json.loads(key)
            where = f" on {_name(node)}" if node else ""
            who = self._holders.get(key, Holders())
            names = ", ".join(_name(holder.vm) for holder in who.first) + _more(who)
            now = f'<span class="held">{names}</span>' if names else '<span class="soft">nobody</span>'
            yield f'<li><a href="#d{numbers[key]}">{_name(bus)} {_name(device)}</a>{where}: {now}</li>\n'
        yield "</ol></nav>\n"

    def _silent(self) -> str:
        items = []
        for silence in sorted(itertools.chain(*self._silences.values()), key=lambda silence: silence.start):
            end = f"to {self._when(silence.end)}" if silence.end is not None else "on"
            node = f"{_name(silence.node)}: " if silence.node else ""
            items.append(f"<li>{node}from {self._when(silence.start)} {end}: {html.escape(silence.why)}</li>")
        title = "Times without a trail"
        text = f'<p class="soft">What happened then is not recorded.</p><ul class="times">{"".join(items)}</ul>'
        if len(items) > _MOST_SILENCES:
            text = f"<details><summary>{len(items)} times</summary>{text}</details>"
        return f'<section class="card" aria-labelledby="silent"><h2 id="silent">{title}</h2>\n{text}</section>\n'

    def _device(self, number: int, entry: Entry, line: Line, who: Holders, span: Span) -> Iterator[str]:
        where = f' <span class="bus">on {_name(entry.node)}</span>' if entry.node else ""
        yield (
            f'<section class="card" aria-labelledby="d{number}">\n<h2 id="d{number}" tabindex="-1">'
            f'<span class="bus">{_name(entry.bus)}</span> {_name(entry.device)}{where}</h2>\n<p>'
        )
        if who.first:
            yield "; ".join(
                f'<span class="held">held</span> by {_name(holder.vm)} '
                + (f"since {self._when(holder.start)}" if holder.start is not None else "")
                for holder in who.first
            ) + _more(who)
        else:
            yield '<span class="soft">held by no guest</span>'
        yield "</p>\n<figure>\n"
        below = '<use href="#grid"/>'
        if entry.node in self._below:
            below += f'<use href="#s{self._below[entry.node]}"/>'
        lanes = [(vm, lane) for (vm, _), lane in line.lanes.items()]
        if line.others.times or line.others.failed:
            lanes.append(("other guests", line.others))
        for vm, lane in lanes:
            yield (
                f'{_name(vm, "div")}<svg role="img" aria-label="{_escaped(_said(vm, lane))}">'
                f"{below}{self._bars(lane)}</svg>\n"
            )
        yield '<svg class="axis" aria-hidden="true">'
        for place, (at, text) in enumerate(ticks(span)):
            anchor = "start" if at < 6 else "end" if at > 94 else "middle"
            odd = ' class="odd"' if place % 2 else ""
            yield f'<text{odd} x="{at:.2f}%" y="1rem" text-anchor="{anchor}">{html.escape(text)}</text>'
        yield "</svg>\n</figure>\n"
        state = " open" if self.entries <= _ROWS_OPEN else ""
        times = sum(lane.times + lane.failed for _, lane in lanes)
        heads = "".join(f'<th scope="col" role="columnheader">{name}</th>' for name in _COLUMNS)
        yield (
            f"<details{state}><summary>{times} {'entry' if times == 1 else 'entries'}</summary>\n"
            f'<table role="table"><caption>Of {_name(entry.bus)} {_name(entry.device)}, oldest first</caption>\n'
            f'<thead role="rowgroup"><tr role="row">{heads}</tr></thead>\n<tbody role="rowgroup">\n'
        )

    def _row(self, entry: Entry) -> str:
        note = remark(entry)
        look = "bad" if not entry.success else "held" if entry.end is None else ""
        said = f'<span class="{look}">{html.escape(what(entry))}</span>'
        if note:
            said += f'<br><span class="differ">{html.escape(note)}</span>'
        end = "" if not entry.success else "held still" if entry.end is None else self._when(entry.end)
        if entry.success and entry.end is not None and entry.ended is None:
            end = f"by {end}"
        cells = (
            f'<span>{_name(entry.vm)}<br><span class="uuid">{_escaped(entry.uuid)}</span></span>',
            "unknown" if entry.start is None else self._when(entry.start),
            f"<span>{end or '&#8212;'}</span>",
            f"<span>{said}</span>",
            _name(", ".join(entry.recorded_by)),
        )
        filled = "".join(
            f'<td role="cell" data-label="{name}">{cell}</td>' for name, cell in zip(_COLUMNS, cells, strict=True)
        )
        return f'<tr role="row">{filled}</tr>\n'

    def _device_end(self) -> str:
        return "</tbody></table></details>\n</section>\n"

    def _bottom(self, made: int) -> Iterator[str]:
        yield f"</main>\n<footer><p>Made by libhook history, {self._when(made)}.</p></footer>\n</body>\n</html>\n"

    def _bars(self, lane: Lane) -> str:
        marks = (mark(column, differ, number) for (column, differ), number in lane.marks.items())
        return "".join([*map(self._bar, lane.bars), *marks])

    def _bar(self, bar: Bar) -> str:
        first = min(bar.first, COLUMNS - 2)  # a short bar must stay visible, also at the right end
        last = max(bar.last, first + 2)
        several = f"{bar.times} times, " if bar.times > 1 else ""
        drawn = (
            f'<rect class="had" x="{percent(first)}" width="{percent(last - first)}" y="25%" height="50%" rx="2">'
            f"<title>{several}{self._time(bar.start)} to {self._time(bar.end)}</title></rect>"
        )
        if bar.open:
            drawn += f'<line class="open" x1="{percent(last)}" x2="{percent(last)}" y1="5%" y2="95%"/>'
        return drawn

    def _when(self, time: int) -> str:
        return f'<time datetime="{self._iso(time)}">{self._time(time)}</time>'


def _key(entry: Entry) -> str:
    return json.dumps([entry.node or "", entry.bus, entry.device])


def _entry(text: str) -> Entry:
    fields = json.loads(text)
    fields[10] = tuple(fields[10])  # the writers
    return Entry._make(fields)


def _escaped(text: str) -> str:
    return html.escape(printable(text))


def _name(text: str | None, element: str = "span") -> str:
    """Return a name from the log as an element. The name may hold anything, and must not upset its neighbours."""
    return f'<{element} class="name">{_escaped(text) if text else "&quot;&quot;"}</{element}>'


def _zones(span: Span) -> str:
    """Return how far local time is from UTC at both ends of the span. Summer time may begin or end between them."""
    both = (datetime.fromtimestamp(time / 1000, UTC).astimezone().strftime("UTC%z") for time in span)
    return html.escape(" to ".join(dict.fromkeys(f"{zone[:6]}:{zone[6:8]}" for zone in both)))


def _said(vm: str, lane: Lane) -> str:
    """Describe a lane in words, for screen readers. The table has the details."""
    parts = [f"had it {lane.times} {'time' if lane.times == 1 else 'times'}"] if lane.times else []
    if lane.failed:
        parts.append(f"failed to get it {lane.failed} {'time' if lane.failed == 1 else 'times'}")
    return f"{vm or 'a guest without a name'} {' and '.join(parts)}; the table below says when"


def _more(who: Holders) -> str:
    return f" and {who.more} more" if who.more else ""
