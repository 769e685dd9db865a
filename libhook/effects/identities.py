# SPDX-License-Identifier: LGPL-2.1-or-later
"""Keeps the notes of what guests' devices were, in /var/lib/libhook/devices. They outlive a reboot, and libhook.

One file a guest, named by its UUID. Who defines a guest chooses the UUID, so the number of notes has a limit.
"""

from __future__ import annotations

import os

from libhook import plainjson
from libhook.effects import files, locks
from libhook.facts.identity import REMEDY, Note
from libhook.light import TYPE_CHECKING, suppress

if TYPE_CHECKING:
    from collections.abc import Callable

    from libhook.children.child import Deadline
    from libhook.facts.machine import Machine

YEAR = 366 * 24 * 3600
"""Seconds for which the note of a guest that is not defined any more is kept."""
_MOST = 1024
"""Notes. Of more, the oldest of guests that are not defined go."""


def path_of(machine: Machine, uuid: str) -> str:
    """The path of a guest's note. ``uuid`` must be one."""
    return f"{machine.notes}/{uuid}.json"


def load(machine: Machine, uuid: str) -> Note | None:
    """A guest's note; None if there is none. LibhookError where others could write to the folder.

    BadInput where the note cannot be read, or others could have written it. TooNew where a later version did.
    """
    path = path_of(machine, uuid)
    text = files.read(path, REMEDY)
    if text is None:
        return None
    files.expect_own(machine.notes)
    return Note.read(path, uuid, text)


def update(machine: Machine, uuid: str, deadline: Deadline, change: Callable[[], Note]) -> bool:
    """Write a guest's note as ``change`` gives it, while nobody else does. OSError or LibhookError if that fails.

    Returns whether the guest had none.
    """
    for folder in (os.path.dirname(machine.notes), machine.notes):
        with suppress(FileExistsError):
            os.mkdir(folder, 0o700)
        files.expect_own(folder)
    with locks.folder(machine.notes, deadline):
        is_new = not os.path.lexists(path_of(machine, uuid))
        files.replace(path_of(machine, uuid), plainjson.dumps(change().to_json()))
    return is_new


def names(machine: Machine) -> list[str]:
    """The UUIDs of the guests that have a note; none where the folder is missing. OSError where it cannot be read."""
    try:
        found = os.listdir(machine.notes)
    except FileNotFoundError:
        return []
    return sorted(name.removesuffix(".json") for name in found if name.endswith(".json"))


def tidy(machine: Machine, now: float, defined: Callable[[], set[str]]) -> None:
    """Remove notes that are a year old, or too many, and whose guest is not ``defined``; and half-written ones.

    ``defined`` names the UUIDs. It is asked only where a note may go: it reads the XML of all guests. So the note of a
    guest that is defined becomes young again. OSError where the folder cannot be read.
    """
    ages = {}
    for name in os.listdir(machine.notes):
        with suppress(FileNotFoundError):
            ages[name] = now - os.lstat(f"{machine.notes}/{name}").st_mtime
    notes = sorted((name for name in ages if name.endswith(".json")), key=lambda name: ages[name], reverse=True)
    old = [name for number, name in enumerate(notes) if ages[name] > YEAR or number < len(notes) - _MOST]
    old += [name for name in ages if not name.endswith(".json") and ages[name] > YEAR]
    kept = defined() if old else set()
    for name in old:
        with suppress(FileNotFoundError):
            if name.removesuffix(".json") in kept:
                os.utime(f"{machine.notes}/{name}")
            else:
                os.unlink(f"{machine.notes}/{name}")
