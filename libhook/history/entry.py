# SPDX-License-Identifier: LGPL-2.1-or-later
"""The results of reading the trail: who had which device, and when the trail was silent. Pure."""

from typing import NamedTuple

from libhook.errors import named

TRUSTED = {"start": "libhook", "attach": "libvirtd"}
"""Whose record counts if the two differ. At a start, libvirtd always says success."""
NAMELESS = "the host without a name"
"""auditd writes none of its own host, unless its name_format says so."""
_MOST_WRITERS = 8


class Entry(NamedTuple):
    """A guest had a device, or failed to get it. Times are milliseconds since 1970."""

    node: str | None
    vm: str
    uuid: str
    bus: str
    device: str
    began: str | None
    """start or attach; None if the trail begins later."""
    ended: str | None
    """stop or detach; None while held, or if no record says how it ended."""
    start: int | None
    end: int | None
    """None while held. Without a record of the end: the latest time at which it was over. Of a failure: its time."""
    success: bool
    recorded_by: tuple[str, ...]
    disagree: bool = False
    """libvirtd's record and libhook's differ."""
    unreturned: bool = False
    """The guest has ended, and the host did not get the device back."""
    ids: str = ""
    """Vendor and product, as ``8086:10d3``, if a record says them, or a note of the guest's start (remembered.py).
    Today another card may be at that address."""
    serial: int = 0
    """The number of the event of its first record."""
    noted: bool = False
    """A note says the ids, and no record: they are not part of the trail."""
    last: int = 0
    """The number of the event of its last record."""


class Silence(NamedTuple):
    """A time without a trail on a node."""

    node: str | None
    start: int
    end: int | None
    """None if it lasts until the trail ends."""
    why: str
    missing: tuple[int, int] | None = None
    """The first and the last number of the events that a log does not have; None if that is not why."""


class Host(NamedTuple):
    """What is known of a host's trail: what it was read from, and from when to when it goes."""

    node: str | None
    trail: str
    """log, excerpt, or unknown: whether events are missing could not be found out."""
    first: int | None
    last: int | None
    """None if unknown."""


def trail_of(node: str | None, *, alone: bool) -> str:
    """What a sentence calls a host's trail. ``alone``: there is no other host's."""
    return "the trail" if alone and not node else f"the trail of {named(node) if node else NAMELESS}"


def began_at(entry: Entry) -> int:
    """Return when the entry began, or -1, before everything, if the trail does not say."""
    return entry.start if entry.start is not None else -1


def name_of(entry: Entry) -> str:
    """Name an entry by its first record: time and serial, as ``ausearch -a`` takes it, and the host if there are more.

    It is the same whoever reads the log, and from where on.
    """
    first = entry.start if entry.start is not None else entry.end or 0
    name = f"{first // 1000}.{first % 1000:03d}:{entry.serial}"
    return f"{entry.node} {name}" if entry.node else name


def with_writer(writers: tuple[str, ...], who: str) -> tuple[str, ...]:
    """Add a writer, with libvirtd first. At most eight are named, but libvirtd and libhook always."""
    if who in writers or (len(writers) >= _MOST_WRITERS and who not in TRUSTED.values()):
        return writers
    return (who, *writers) if who == "libvirtd" else (*writers, who)


def with_ids(entry: Entry, who: str, ids: str) -> str:
    """Return an entry's ids, once another record of it has these. libhook's own count, if others say something else."""
    return ids if ids and (who == "libhook" or not entry.ids) else entry.ids


def ended(entry: Entry, how: str, time: int, who: str, unreturned: bool, ids: str, last: int) -> Entry:
    """Return the entry with its end. Every entry passes here, and _replace would take several times as long."""
    node, vm, uuid, bus, device, began, _, start, _, success, writers, disagree, _, known, serial, _, _ = entry
    writers = with_writer(writers, who)
    if ids != known:
        known = with_ids(entry, who, ids)
    first = node, vm, uuid, bus, device, began, how, start, time, success
    return tuple.__new__(Entry, (*first, writers, disagree, unreturned, known, serial, False, last))


def merged(entry: Entry, who: str, success: bool, ids: str, last: int) -> Entry:
    """Add another writer's record of the beginning to an entry."""
    writers = with_writer(entry.recorded_by, who)
    known = with_ids(entry, who, ids)
    if success == entry.success:
        more = entry.disagree, entry.unreturned, known, entry.serial, False, last
        return tuple.__new__(Entry, (*entry[:10], writers, *more))
    end = entry.end
    if who == TRUSTED.get(entry.began or ""):
        end = None if success else entry.start
    else:
        success = entry.success
    return entry._replace(recorded_by=writers, disagree=True, success=success, end=end, ids=known, last=last)
