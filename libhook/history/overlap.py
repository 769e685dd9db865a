# SPDX-License-Identifier: LGPL-2.1-or-later
"""Logs that hold the same records, since one was copied while auditd rotated it, or is a part of another: each counts
once. Pure, and in bounded memory.
"""

from collections.abc import Iterable, Iterator

from libhook.history.records import Record, TrailRecord

_MOST = 1 << 18
"""Records that are remembered; of so many the hashes take 20 MiB."""


class Overlap:
    """Of one log after the other, oldest first, lets through what was in none before."""

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
        self._before: set[int] = set()
        """The hashes of what is in logs before, and as young as the log after it."""
        self._here: set[int] = set()
        self._youngest = self._following = 0
        self.twice = 0
        self.full = False
        """Whether not all that may come again could be remembered."""

    def log(self, following: int) -> None:
        """The next log; and when the one after it begins."""
        self._before |= self._here
        self._here.clear()
        self._following = following

    def new(self, records: Iterable[Record]) -> Iterator[Record]:
        """The log's records, without those of logs before."""
        before, here, youngest = self._before, self._here, self._youngest
        for record in records:
            time = record.time
            if time > youngest and time < self._following:
                yield record
                continue
            # What the lines around it say is not its own.
            key = hash(record[:3] if isinstance(record, TrailRecord) else record)
            if key in before:
                self.twice += 1
                continue
            if time >= self._following and len(before) + len(here) < self._most:
                here.add(key)
                self._youngest = max(self._youngest, time)
            elif time >= self._following:
                self.full = True
            yield record
