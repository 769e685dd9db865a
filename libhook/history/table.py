# SPDX-License-Identifier: LGPL-2.1-or-later
"""Shows the trail as a table, or as short paragraphs on a narrow terminal. Pure."""

import time
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from operator import itemgetter
from types import MappingProxyType

from libhook.errors import harmless, named, printable
from libhook.history.colour import Paint, plain, sense
from libhook.history.entry import NAMELESS, Entry, Silence, trail_of
from libhook.history.names import NameOf
from libhook.history.shown import NOTED, clock, name, remark, what

_HEADINGS = ("FROM", "TO", "NODE", "DEVICE", "NAME", "GUEST", "UUID", "WHAT", "RECORDED BY", "")
_VERDICT = _HEADINGS.index("WHAT")
"""From this cell on they are the same for most entries."""
_SILENT = "no trail from "
"""So begins a row of a host without a name that is no entry."""
_GAP = "  "
_MOST = 8192


@lru_cache(_MOST)
def _named(name: str) -> str:
    """A name for a cell. Most come many times."""
    return printable(named(name))


class Table:
    """Makes rows as entries come, and lays them out when it has seen all."""

    def __init__(self, name_of: NameOf) -> None:
        self._name_of = name_of
        self._time, self._zoned = clock("%Y-%m-%d %H:%M:", ""), clock("%Y-%m-%d %H:%M:", " %z")
        self._zone = "/".join(dict.fromkeys(time.tzname if time.daylight else time.tzname[:1]))
        self._summer = bool(time.daylight)
        self._headings = (f"FROM ({self._zone})", *_HEADINGS[1:])
        self._widths = [0] * len(_HEADINGS)
        self._noted = False
        self._uuids: dict[tuple[str | None, str], str] = {}
        self._unique = True
        """Whether each name is known to stand for one guest of a host. Else the UUID must be shown."""
        self._verdicts: dict[tuple[object, ...], str] = {}
        self._hosts: set[str | None] = set()
        """Those that have a line."""

    def row(self, entry: Entry) -> str:
        """Return the cells of an entry with tabs between them. No cell has a tab in it."""
        node, vm, uuid, bus, device, began, ended, start, end, success, writers, disagree, unreturned = entry[:13]
        key = began, ended, end is None, success, writers, disagree, unreturned, device == "000.000"
        verdict = self._verdicts.get(key) or self._verdict(key, entry)
        cells = (
            "unknown" if start is None else self._time(start),
            "" if end is None or not success else self._time(end),
            _named(node) if node else "",
            printable(harmless(f"{bus} {device}")),
            printable(name(entry, self._name_of)) if entry.ids else "",
            _named(vm),
            printable(harmless(uuid)),
        )
        if self._summer and start is not None and cells[1]:
            cells = (*self._both(cells[0], cells[1], start, end or 0), *cells[2:])
        self._noted = self._noted or entry.noted
        self._hosts.add(node)
        if (self._unique and self._uuids.setdefault((node, vm), uuid) != uuid) or len(self._uuids) > _MOST:
            self._unique = False
            self._uuids.clear()
        widths = self._widths
        for number, cell in enumerate(cells):
            if len(cell) > widths[number] or not cell.isascii():
                widths[number] = max(widths[number], _columns(cell))
        return "\t".join((*cells, verdict))

    def _both(self, first: str, last: str, start: int, end: int) -> tuple[str, str]:
        """Return both times. If their offsets from UTC differ, show them: the end could seem to be before the start."""
        zoned = self._zoned(start), self._zoned(end)
        return (first, last) if zoned[0][-5:] == zoned[1][-5:] else zoned

    def _verdict(self, key: tuple[object, ...], entry: Entry) -> str:
        """Return and cache the last cells, which are the same for most entries."""
        if len(self._verdicts) > _MOST:
            self._verdicts.clear()
        cells = [printable(harmless(cell)) for cell in (what(entry), ", ".join(entry.recorded_by), remark(entry))]
        self._widths[_VERDICT:] = map(max, self._widths[_VERDICT:], map(_columns, cells))
        return self._verdicts.setdefault(key, "\t".join(cells))

    def silence(self, silence: Silence) -> str:
        """Return a time without a trail, as the only cell of its row."""
        self._hosts.add(silence.node)
        until = f"to {self._time(silence.end)}" if silence.end is not None else "on"
        node = f"{named(silence.node)}: " if silence.node else ""
        return printable(f"{node}{_SILENT}{self._time(silence.start)} {until}: {silence.why}")

    def lines(
        self,
        rows: Iterable[str],
        width: int | None,
        said: str = "",
        paint: Paint = plain,
        hosts: Mapping[str | None, tuple[int, int]] = MappingProxyType({}),
    ) -> Iterator[str]:
        """Give the whole text for a terminal of this width. With None it is as wide as it needs to be.

        ``said`` says that a filter leaves entries out; "" without one. ``hosts`` says from when to when the trail of
        each goes.
        """
        if None in hosts and len(hosts) > 1:
            rows = (f"{NAMELESS}: {row}" if row.startswith(_SILENT) else row for row in rows)
        if not any(self._widths):
            silences = [paint("silent", f"-- {row}") for row in rows]
            yield from [f"-- times are {self._zone}", *silences] if silences else []
            yield from self._trails(hosts, width)
            yield said or "no host device in the trail"
            return
        if said:
            yield from _remarked(said, width)
        shown = [number for number, widest in enumerate(self._widths) if widest]
        if width is not None and self._wide(shown) > width and self._unique:
            shown.remove(_HEADINGS.index("UUID"))
        if width is not None and self._wide(shown) > width:
            yield from _remarked(f"times are {self._zone}", width)
            yield from _paragraphs(rows, width, paint)
        else:
            yield from self._laid_out(rows, shown, paint)
        yield from self._trails(hosts, width)
        if self._noted:
            yield from _remarked(f"{NOTED} by libhook's notes, not by a record", width)

    def _trails(self, hosts: Mapping[str | None, tuple[int, int]], width: int | None) -> Iterator[str]:
        """Say from when to when the trail goes of each host that has a line."""
        for node in sorted(self._hosts & hosts.keys(), key=lambda node: node or ""):
            first, last = map(self._time, hosts[node])
            yield from _remarked(f"{printable(trail_of(node, alone=len(hosts) < 2))} is from {first} to {last}", width)

    def _laid_out(self, rows: Iterable[str], shown: list[int], paint: Paint) -> Iterator[str]:
        widths = [max(self._widths[number], len(self._headings[number])) for number in shown]
        headings = (self._headings[number].ljust(wide) for number, wide in zip(shown, widths, strict=True))
        yield _GAP.join(headings).rstrip()
        layout, pick = _GAP.join(f"%-{wide}s" for wide in widths), itemgetter(*shown)
        for row in rows:
            cells = row.split("\t")
            if len(cells) == 1:
                yield paint("silent", f"-- {row}")
                continue
            if paint is plain and row.isascii():
                yield (layout % pick(cells)).rstrip()
                continue
            senses = {_VERDICT: sense(cells[_VERDICT]), len(cells) - 1: "odd"}
            padded = (
                paint(senses.get(number, ""), cells[number]) + " " * (wide - _columns(cells[number]))
                for number, wide in zip(shown, widths, strict=True)
            )
            yield _GAP.join(padded).rstrip()

    def _wide(self, shown: list[int]) -> int:
        return sum(max(self._widths[number], len(self._headings[number])) + len(_GAP) for number in shown) - len(_GAP)


def _remarked(text: str, width: int | None) -> Iterator[str]:
    """Give a line that is no row."""
    return _wrapped([f"-- {text}"], width, "   ") if width else iter([f"-- {text}"])


def _paragraphs(rows: Iterable[str], width: int, paint: Paint) -> Iterator[str]:
    for row in rows:
        cells = row.split("\t")
        if len(cells) == 1:
            yield from (paint("silent", line) for line in _wrapped([f"-- {row}"], width, "   "))
            continue
        start, end, node, device, called, guest, uuid, how, writers, odd = cells
        yield from _wrapped([device, guest, *([f"on {node}"] if node else [])], width, "    ")
        if called:
            yield from _wrapped([f"  {called}"], width, "    ")
        yield from _wrapped([f"  {start}" + (f" to {end}" if end else "")], width, "    ")
        verdict = _wrapped([f"  {how}", f"by {writers}", *([odd] if odd else [])], width, "    ")
        yield from (paint(sense(how) or ("odd" if odd else ""), line) for line in verdict)
        yield from _wrapped([f"  {uuid}"], width, "    ")


def _wrapped(parts: list[str], width: int, indent: str) -> Iterator[str]:
    """Put parts beside each other. Break lines at blanks, and within a word only if the word alone is too long."""
    width = max(width, 20)
    line = ""
    words = [
        f"{_GAP if number and not position else ' ' if position else ''}{word}"
        for number, part in enumerate(parts)
        for position, word in enumerate(part.split(" "))
    ]
    for word in words:
        if line.strip() and _columns(line) + _columns(word) > width:
            yield line
            line, word = indent, word.lstrip()
        for letter in word:
            if _columns(line) + _columns(letter) > width:
                yield line
                line = indent
            line += letter
    yield line


def _columns(text: str) -> int:
    """Return how many columns of a terminal the text takes."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(letter) else 2 if unicodedata.east_asian_width(letter) in "WF" else 1
        for letter in text
    )
