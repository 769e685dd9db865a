# SPDX-License-Identifier: LGPL-2.1-or-later
"""What devices were, from libhook's notes of guests' starts, where the records do not say it. Pure.

The notes are this host's. So they count only for this host's own trail.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from libhook.history.entry import Entry

_BEFORE = 60
"""Seconds. libvirtd's record of a start comes before the hook that notes it."""
_MOST = 1024


class Was(NamedTuple):
    """What a guest had at an address, from one start to another, in seconds since 1970."""

    address: str
    ids: str
    since: int
    seen: int

    def at(self, entry: Entry) -> bool:
        """Whether the entry is about this device.

        A start that failed may have been refused because the address holds another device by then. So only what failed
        in between counts.
        """
        first, last = (self.since - _BEFORE, self.seen + 1) if entry.success else (self.since, self.seen)
        return self.address == entry.device and entry.start is not None and first <= entry.start / 1000 <= last


class Remembered:
    """Adds the ids to entries."""

    def __init__(self, host: str, notes: Callable[[str], Sequence[Was]]) -> None:
        """``host`` is this host's name. ``notes`` says what a guest had, by its UUID, the latest first."""
        self._host, self._notes = host.partition(".")[0], notes
        self._known: dict[str, Sequence[Was]] = {}

    def complete(self, entry: Entry) -> Entry:
        """Return the entry with the ids, if it lacks them and a note has them."""
        if entry.ids or entry.bus != "pci" or (entry.node or self._host).partition(".")[0] != self._host:
            return entry
        ids = next((was.ids for was in self._of(entry.uuid) if was.at(entry)), "")
        return entry._replace(ids=ids, noted=True) if ids else entry

    def _of(self, uuid: str) -> Sequence[Was]:
        if uuid not in self._known:
            if len(self._known) >= _MOST:
                self._known.clear()
            self._known[uuid] = self._notes(uuid)
        return self._known[uuid]
