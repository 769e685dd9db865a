# SPDX-License-Identifier: LGPL-2.1-or-later
"""Drops records that an earlier log had already. Pure, and in bounded memory.

Logs can overlap: somebody copied one while auditd rotated it, or one is a part of another.
"""

from collections.abc import Iterable, Iterator

from libhook.history.records import Record, TrailRecord

_MOST = 1 << 18
"""How many records to remember. The hashes of so many take 20 MiB."""


class Overlap:
    """Takes logs one after the other, oldest first, and passes on the records that no earlier log had."""

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
        self._before: set[int] = set()
        """Hashes of records in earlier logs that are not older than the beginning of the log after them."""
        self._here: set[int] = set()
        self._youngest = self._following = 0
        self.twice = 0
        self.full = False
        """Whether there were too many to remember all that may come again."""

    def log(self, following: int) -> None:
        """Begin the next log. ``following`` is when the log after it begins, in milliseconds since 1970."""
        self._before |= self._here
        self._here.clear()
        self._following = following

    def new(self, records: Iterable[Record]) -> Iterator[Record]:
        """Pass on the log's records, without those that earlier logs had."""
        before, here, youngest = self._before, self._here, self._youngest
        for record in records:
            time = record.time
            if time > youngest and time < self._following:
                yield record
                continue
            # The last fields of a TrailRecord come from the lines around it, so they are not compared.
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
