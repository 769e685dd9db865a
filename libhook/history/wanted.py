# SPDX-License-Identifier: LGPL-2.1-or-later
"""Filters entries, and says how many are not shown. Pure."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from libhook.errors import named
from libhook.history.entry import Entry, Silence, trail_of

_MOST_FILES = _MOST_HOSTS = 3
_LATEST = 100_000_000_000_000
"""No record is younger than this, in milliseconds since 1970: its seconds have at most eleven digits."""


class Wanted(NamedTuple):
    """The filters. An empty set, or None, lets everything through. Times are milliseconds since 1970."""

    devices: frozenset[str]
    guests: frozenset[str]
    uuids: frozenset[str]
    nodes: frozenset[str | None]
    start: int | None
    end: int | None
    success: bool | None

    @property
    def times(self) -> tuple[int | None, int | None]:
        """Return start and end, as far as they can be written."""
        start, end = (None if time is None else _writable(time) for time in (self.start, self.end))
        return start, end

    @property
    def everything(self) -> bool:
        """Whether there is no filter."""
        return not any(self[:4]) and self[4:] == (None, None, None)

    @property
    def said(self) -> str:
        """Describe the filters in words."""
        parts = []
        for name, values in zip(("device", "guest", "UUID", "host"), self[:4], strict=True):
            if values:
                parts.append(f"{name} {' or '.join(map(named, sorted(map(str, values))))}")
        times = ("since", self.start), ("until", self.end)
        parts += [f"{word} {_local(time)}" for word, time in times if time is not None]
        if self.success is not None:
            parts.append("only success" if self.success else "only failed")
        return ", ".join(parts)

    def has(self, entry: Entry) -> bool:
        """Whether the entry passes all filters."""
        if self.devices and self.devices.isdisjoint((entry.device, f"{entry.bus} {entry.device}", entry.ids)):
            return False
        if self.guests and entry.vm not in self.guests:
            return False
        if self.uuids and entry.uuid.lower() not in self.uuids:
            return False
        if self.nodes and entry.node not in self.nodes:
            return False
        return self.success in (None, entry.success) and self.has_time(entry.start, entry.end)

    def has_silence(self, silence: Silence) -> bool:
        """Whether any part of a time without a trail is asked for."""
        here = not self.nodes or silence.node in self.nodes
        return here and self.has_time(silence.start, silence.end)

    def has_time(self, start: int | None, end: int | None) -> bool:
        """Whether any part of this time is asked for."""
        if self.end is not None and start is not None and start > self.end:
            return False
        return self.start is None or end is None or end >= self.start


class Selection:
    """Filters entries, and counts all of them and those that are shown."""

    def __init__(self, wanted: Wanted, files: Sequence[str]) -> None:
        self.wanted = wanted
        more = f" and {len(files) - _MOST_FILES} more" if len(files) > _MOST_FILES else ""
        self.files = ", ".join(map(named, files[:_MOST_FILES])) + more
        self.all = self.shown = 0
        self.covered: tuple[int, int] | None = None
        """From when to when the trail has records, once it was read."""
        self.hosts: dict[str | None, tuple[int, int]] = {}
        """The same of each host."""

    def has(self, entry: Entry) -> bool:
        """Whether to show the entry. Also counts it."""
        self.all += 1
        has = self.wanted.has(entry)
        self.shown += has
        return has

    @property
    def said(self) -> str:
        """Say how many entries match which filters, from which files, and whether the trail covers what is asked.

        "" without a filter, and without entries if nothing is asked that the trail does not cover.
        """
        count = f"{self.shown or 'none'} of {self.all} entries match: {self.wanted.said}; from {self.files}"
        if not self._beyond:
            return count if self.all else ""
        return f"{count if self.all else 'no host device in the trail'}; {self._beyond}"

    @property
    def _beyond(self) -> str:
        """Say what is asked of a time before the trail or after it; "" if nothing is."""
        if not self.covered:
            return ""
        asked = [node for node in self.hosts if not self.wanted.nodes or node in self.wanted.nodes]
        if len(self.hosts) < 2 or not asked:
            return self._beyond_of("the trail", self.covered)
        told = [text for node in asked if (text := self._beyond_of(trail_of(node, alone=False), self.hosts[node]))]
        more = [f"{len(told) - _MOST_HOSTS} more hosts' trails do not cover all of it"] * (len(told) > _MOST_HOSTS)
        return "; ".join([*told[:_MOST_HOSTS], *more])

    def _beyond_of(self, trail: str, covered: tuple[int, int]) -> str:
        since, until = self.wanted.start, self.wanted.end
        first, last = covered
        before, after = since is not None and since < first, until is not None and until > last
        if (since is not None and since > last) or (until is not None and until < first):
            missing = "not the time that is asked for"
        elif before or after:
            missing = f"nothing {' or '.join(['before'] * before + ['after'] * after)}"
        else:
            return ""
        return f"{trail} covers {_local(first)} to {_local(last)}, and {missing}"


def _writable(time: int) -> int:
    """Return the time, or the nearest that can be written in every zone."""
    return min(max(time, 0), _LATEST)


def _local(time: int) -> str:
    return datetime.fromtimestamp(_writable(time) / 1000).astimezone().isoformat(" ", "seconds")
