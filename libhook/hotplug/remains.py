# SPDX-License-Identifier: LGPL-2.1-or-later
"""Has systemd give back what guests that are gone still hold, because no ``release`` hook ran or none came to its end.

The watch sees such guests, but its sandbox lets it write to PCI devices and to nothing else. What a guest held may be a
unit, a module or a command's undo. So a unit without that sandbox runs ``libhook recover``.
"""

from __future__ import annotations

import time

from libhook.children import tracks
from libhook.children.child import Deadline
from libhook.children.tracks import Late, Step
from libhook.effects import systemd
from libhook.errors import LibhookError, named
from libhook.facts.entry import Held
from libhook.facts.machine import Machine
from libhook.light import TYPE_CHECKING, partial, suppress
from libhook.look import libvirtd
from libhook.story import giveback
from libhook.story.recovery import sign_of_life
from libhook.story.session import Session

if TYPE_CHECKING:
    from collections.abc import Iterator

    from libhook.children.tracks import Track

UNIT = "libhook-recover.service"
_SECONDS = 30.0
_CERTAIN = 5.0
"""Seconds for which a guest must be gone. An ordinary end takes less until its ``release`` has the guest's lock."""


class Remains:
    """Knows for which guests the unit was started already."""

    def __init__(self) -> None:
        """For none yet."""
        self._told: dict[str, Held] = {}
        self._since: dict[str, tuple[Held, float]] = {}

    def try_again(self) -> None:
        """What a start of the unit could not settle before may be settled now."""
        self._told = {}

    def look(self, session: Session) -> None:
        """Start the unit if a guest is gone and holds something. Once for each entry, until that changes or goes.

        It must have been gone for a while: at an ordinary end there is a moment in which libvirt has forgotten the
        guest, and has not called ``release`` yet.
        """
        dead, now, before = {held.uuid: held for held in _dead(session)}, time.monotonic(), self._since
        self._since = {uuid: (held, now) for uuid, held in dead.items()}
        self._since |= {uuid: one for uuid, one in before.items() if dead.get(uuid) == one[0]}
        certain = {uuid for uuid, (_, since) in self._since.items() if now - since >= _CERTAIN}
        new = {uuid: held for uuid, held in dead.items() if uuid in certain and self._told.get(uuid) != held}
        # Who is busy may be what was started. Who lives is told of again at its end.
        told = {uuid: held for uuid, held in self._told.items() if uuid in dead or session.state.is_busy(uuid)}
        self._told = told | new
        if not new:
            return
        names = ", ".join(named(held.name) for held in new.values())
        reason = f"these guests are gone, and not all is given back: {names}"
        (started,) = tracks.run([_start(session.machine)], Deadline.after(_SECONDS))
        if started:
            session.log.add("info", "recovering", reason=reason, unit=UNIT)
        else:
            session.log.add("warning", "not given back", reason=reason, hint="run: libhook recover")


def _dead(session: Session) -> Iterator[Held]:
    """The entries that are dead. That of a guest that runs costs no look at who has its devices open."""
    for uuid in session.state.uuids():
        with suppress(LibhookError):  # what cannot be read may not be dead
            held = session.state.load(uuid)
            if (
                held
                and not libvirtd.has_status_file(session.machine, held.name, uuid)
                and sign_of_life(held, giveback.facts(session, held)) is None
            ):
                yield held


def _start(machine: Machine) -> Track[bool]:
    """Whether systemd was told. A child tells it, as PID 1 may be busy for long."""
    try:
        return not (yield Step(partial(systemd.start, machine, (UNIT,))))
    except Late:
        return False
