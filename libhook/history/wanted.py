# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which entries are asked for, and what is said of those that are not shown. Pure."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from libhook.errors import printable
from libhook.history.entry import Entry

_MOST_FILES = 3
_LATEST = 100_000_000_000_000
"""No record is older than 1970, or younger than this: of its seconds there are at most eleven digits."""


class Wanted(NamedTuple):
    """All that each filter lets through."""

    devices: frozenset[str]
    guests: frozenset[str]
    uuids: frozenset[str]
    nodes: frozenset[str | None]
    start: int | None
    end: int | None
    success: bool | None

    @property
    def everything(self) -> bool:
        """Whether there is no filter."""
        return not any(self[:4]) and self[4:] == (None, None, None)

    @property
    def said(self) -> str:
        """The filters in words."""
        parts = []
        for name, values in zip(("device", "guest", "UUID", "host"), self[:4], strict=True):
            if values:
                parts.append(f"{name} {' or '.join(sorted(map(str, values)))}")
        times = ("since", self.start), ("until", self.end)
        parts += [f"{word} {_local(time)}" for word, time in times if time is not None]
        if self.success is not None:
            parts.append("only success" if self.success else "only failed")
        return printable(", ".join(parts))

    def has(self, entry: Entry) -> bool:
        """Whether the entry is one of them."""
        if self.devices and entry.device not in self.devices and f"{entry.bus} {entry.device}" not in self.devices:
            return False
        if self.guests and entry.vm not in self.guests:
            return False
        if self.uuids and entry.uuid.lower() not in self.uuids:
            return False
        if self.nodes and entry.node not in self.nodes:
            return False
        return self.success in (None, entry.success) and self.has_time(entry.start, entry.end)

    def has_time(self, start: int | None, end: int | None) -> bool:
        """Whether some of that time is asked for."""
        if self.end is not None and start is not None and start > self.end:
            return False
        return self.start is None or end is None or end >= self.start


class Selection:
    """Lets through what is wanted, and counts: what is shown of how much."""

    def __init__(self, wanted: Wanted, files: Sequence[str]) -> None:
        self.wanted = wanted
        more = f" and {len(files) - _MOST_FILES} more" if len(files) > _MOST_FILES else ""
        self.files = printable(", ".join(files[:_MOST_FILES])) + more
        self.all = self.shown = 0

    def has(self, entry: Entry) -> bool:
        """Whether the entry is shown."""
        self.all += 1
        has = self.wanted.has(entry)
        self.shown += has
        return has

    @property
    def said(self) -> str:
        """That not all is shown, why not, and of which files; nothing where no filter is, or nothing to filter."""
        if not self.all:
            return ""
        return f"{self.shown or 'none'} of {self.all} entries match: {self.wanted.said}; from {self.files}"


def _local(time: int) -> str:
    within = min(max(time, 0), _LATEST)
    return datetime.fromtimestamp(within / 1000).astimezone().isoformat(" ", "seconds")
