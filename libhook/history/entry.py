# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the trail comes to: who had which device, and when nothing was written down. Pure."""

from typing import NamedTuple

TRUSTED = {"start": "libhook", "attach": "libvirtd"}
"""Whose word counts where they differ: of a start, libvirtd says success in any case."""
_MOST_WRITERS = 8


class Entry(NamedTuple):
    """That a guest had a device, or failed to get it. Times are milliseconds since 1970."""

    node: str | None
    vm: str
    uuid: str
    bus: str
    device: str
    began: str | None
    """start or attach; None where the trail begins later."""
    ended: str | None
    """stop or detach; None while held, and where no record says how it ended."""
    start: int | None
    end: int | None
    """None while held. Without a record of the end, when it was over at the latest; of a failure, its moment."""
    success: bool
    recorded_by: tuple[str, ...]
    disagree: bool = False
    """libvirtd's record says otherwise than libhook's."""
    unreturned: bool = False
    """The guest has ended, and the host did not get the device back."""


class Silence(NamedTuple):
    """A time of which a node's trail can say nothing."""

    node: str | None
    start: int
    end: int | None
    """None: until the trail ends."""
    why: str


def began_at(entry: Entry) -> int:
    """When; before everything where the trail does not say."""
    return entry.start if entry.start is not None else -1


def with_writer(writers: tuple[str, ...], who: str) -> tuple[str, ...]:
    """Libvirtd first, then libhook, then others, of whom not all need be named."""
    if who in writers or (len(writers) >= _MOST_WRITERS and who not in TRUSTED.values()):
        return writers
    return (who, *writers) if who == "libvirtd" else (*writers, who)


def ended(entry: Entry, how: str, time: int, writers: tuple[str, ...], unreturned: bool) -> Entry:
    """As _replace, which takes several times as long, for what every entry goes through."""
    node, vm, uuid, bus, device, began, _, start, _, success, _, disagree, _ = entry
    parts = node, vm, uuid, bus, device, began, how, start, time, success, writers, disagree, unreturned
    return tuple.__new__(Entry, parts)


def merged(entry: Entry, who: str, success: bool) -> Entry:
    """An entry and what another says of its beginning."""
    writers = with_writer(entry.recorded_by, who)
    if success == entry.success:
        return tuple.__new__(Entry, (*entry[:10], writers, *entry[11:]))
    end = entry.end
    if who == TRUSTED.get(entry.began or ""):
        end = None if success else entry.start
    else:
        success = entry.success
    return entry._replace(recorded_by=writers, disagree=True, success=success, end=end)
