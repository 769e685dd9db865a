# SPDX-License-Identifier: LGPL-2.1-or-later
"""Finds when a host's lines around a place in the log were written. Pure."""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from itertools import islice

AROUND = 1 << 16
"""How many bytes to search for a node's line before a place in the log, and how many after it."""
_FEW = 16
"""How many lines to look at one by one. Mostly the next line is the right one. If not, all lines are read, once."""

Stamp = tuple[str | None, int]
"""A node, and a time in milliseconds since 1970."""


class Around:
    """The lines of a piece of the log, and those at the end of the piece before."""

    def __init__(self, tail: bytes, piece: bytes, stamp: Callable[[bytes], Stamp | None]) -> None:
        self._parts = tail, piece
        self._begins = len(tail)
        self._stamp = stamp
        self._nodes: dict[str | None, tuple[list[int], list[int]]] | None = None

    @cached_property
    def _text(self) -> bytes:
        return b"".join(self._parts)  # few pieces are asked

    def before(self, node: str | None, start: int) -> int | None:
        """Return when the node's last line before the line at ``start`` was written."""
        start += self._begins
        for stamp in self._stamps(self._back(start)):
            if stamp[0] == node:
                return stamp[1]
        places, times = self._all().get(node, ([], []))
        last = bisect_left(places, start) - 1
        return times[last] if last >= 0 and places[last] >= start - AROUND else None

    def after(self, node: str | None, time: int, start: int) -> int | None:
        """Return the time of the node's first line from ``start`` on that is younger than ``time``."""
        start += self._begins
        for stamp in self._stamps(self._on(start)):
            if stamp[0] == node and stamp[1] > time:
                return stamp[1]
        places, times = self._all().get(node, ([], []))
        found = range(bisect_left(places, start), bisect_left(places, start + AROUND))
        return next((times[at] for at in found if times[at] > time), None)

    def _stamps(self, lines: Iterable[bytes]) -> Iterator[Stamp]:
        return (stamp for stamp in map(self._stamp, islice(lines, _FEW)) if stamp)

    def _back(self, end: int) -> Iterator[bytes]:
        least = max(end - AROUND, 0)
        while end > least:
            start = self._text.rfind(b"\n", least, end)
            yield self._text[start + 1 : end]
            end = start

    def _on(self, start: int) -> Iterator[bytes]:
        most = min(start + AROUND, len(self._text))
        while 0 <= start < most:
            end = self._text.find(b"\n", start + 1, most)
            yield self._text[start + 1 : end if end >= 0 else most]
            start = end

    def _all(self) -> dict[str | None, tuple[list[int], list[int]]]:
        """Return for each node where its lines are, and when they were written."""
        if self._nodes is None:
            self._nodes = {}
            place = 0
            for line in self._text.split(b"\n"):
                if stamp := self._stamp(line):
                    places, times = self._nodes.setdefault(stamp[0], ([], []))
                    places.append(place - 1)  # the line feed before it
                    times.append(stamp[1])
                place += len(line) + 1
        return self._nodes
