# SPDX-License-Identifier: LGPL-2.1-or-later
"""``libhook history``, with libhook's notes of what guests' devices were."""

import argparse
import os
from contextlib import suppress

from libhook.effects import identities
from libhook.errors import LibhookError
from libhook.facts.machine import Machine
from libhook.history.remembered import Remembered, Was


def history(machine: Machine, options: argparse.Namespace) -> int:
    """``libhook history``."""
    from libhook.history.command import run

    return run(machine.root, options, lambda: remembered(machine))


def remembered(machine: Machine) -> Remembered | None:
    """Return what the notes say; None without notes. A note that cannot be read says nothing."""
    try:
        known = frozenset(identities.names(machine))
    except OSError:  # whoever may read the trail need not be root
        return None

    def of_guest(uuid: str) -> list[Was]:
        note = None
        with suppress(LibhookError, OSError):
            note = identities.load(machine, uuid) if uuid in known else None
        had = (*note.devices, *reversed(note.past)) if note else ()
        return [Was(one.address, one.identity.ids, one.since, one.seen) for one in had]

    return Remembered(os.uname().nodename, of_guest) if known else None
