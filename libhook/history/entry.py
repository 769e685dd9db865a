# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the trail comes to: who had which device, and when nothing was written down. Types only."""

from typing import NamedTuple


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
