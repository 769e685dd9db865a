# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whose session is active on a seat, by logind's word. A child asks, since logind may not answer."""

from __future__ import annotations

import errno
import os

from libhook.children import tracks
from libhook.children.tracks import Late, Step, paper
from libhook.errors import LibhookError
from libhook.facts.unit import is_user
from libhook.light import TYPE_CHECKING, partial

if TYPE_CHECKING:
    from libhook.children.child import Deadline
    from libhook.children.tracks import Track
    from libhook.facts.machine import Machine

_SECONDS = 20.0


def user_on(machine: Machine, seat: str, deadline: Deadline) -> str:
    """The user's name; "" where no session is active there. LibhookError where logind does not answer."""
    (found,) = tracks.run([_user_on(machine, seat)], deadline)
    if found is None:
        raise LibhookError(f"logind does not say who is at {seat}", f"this says more: loginctl seat-status {seat}")
    return found if is_user(found) else ""


def _user_on(machine: Machine, seat: str) -> Track[str | None]:
    with paper() as sheet:
        try:
            code = yield Step(partial(_note, machine, seat, sheet.descriptor), keep=sheet.descriptor, looks=True)
        except Late:
            return None
        return None if code else "".join(sheet.lines()[:1])


def _note(machine: Machine, seat: str, sheet: int) -> None:
    session = _ask(machine, "show-seat", "ActiveSession", seat)
    user = _ask(machine, "show-session", "Name", session) if session.isascii() and session.isalnum() else ""
    os.write(sheet, f"{user}\n".encode("utf-8", "replace"))


def _ask(machine: Machine, verb: str, what: str, name: str) -> str:
    """loginctl also fails for a seat or session that is not there (any more)."""
    status, text = machine.kernel.loginctl((verb, f"--property={what}", "--value", "--", name), _SECONDS)
    if status == errno.ETIMEDOUT:
        raise OSError(status, os.strerror(status), f"loginctl {verb}")
    return "" if status else text.strip()
