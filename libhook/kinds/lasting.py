# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whether a file below /sys or /proc/sys could have the value again that it has, before that is changed."""

from __future__ import annotations

import os

from libhook.children.tracks import Step, paper
from libhook.errors import LibhookError
from libhook.facts.knob import is_mtu
from libhook.facts.machine import Machine
from libhook.kinds.kind import Failure
from libhook.kinds.resource import Lasting, printed
from libhook.light import TYPE_CHECKING, partial
from libhook.look import attributes, interfaces

if TYPE_CHECKING:
    from libhook.children.tracks import Track

LONGEST = 1 << 18
"""The longest sysctl has each second of 65,536 ports, by name: 196,608 bytes."""
PAGE = 4096
_NEVER_SET = "(null)"
"""What a module's parameter without any text shows (param_get_charp()). A write of it stores the word."""
_INSTEAD = "take it out of values in the settings; a command under run may set it, if it has an undo"


def lasting(machine: Machine, path: str) -> Lasting:
    """How to find out."""
    return Lasting(partial(_judge, machine, path), partial(_refused, path))


def _judge(machine: Machine, path: str, value: str, wanted: str) -> Track[Failure | None]:
    """Why a value that the file has now could not be given back: it cannot be read whole, or not be written whole.

    Or what the file sets with the wanted one would not come back with it.
    """
    if len(os.fsencode(value)) > (PAGE if path.startswith("/sys/") else LONGEST):
        return Failure(f"{path} shows more text than libhook could give back", _INSTEAD)
    if value == _NEVER_SET and path.startswith("/sys/module/"):
        return Failure(f"{path} was never set, and no write brings that back", _INSTEAD)
    if any(c < " " and c != "\t" for c in value):
        return Failure(f"{path} does not show one line of text, so libhook could not give it back", _INSTEAD)
    for line in (yield from _set_along(machine, path, wanted)) if is_mtu(path) else ():
        other, now = line.split("\t")
        return Failure(f"{path} also sets {other}, which is {printed(now)} now, and would not come back", _INSTEAD)
    return None


def _set_along(machine: Machine, path: str, wanted: str) -> Track[list[str]]:
    with paper() as sheet:
        note = partial(_note, machine.root, path, wanted, sheet.descriptor)
        code = yield Step(note, keep=sheet.descriptor, looks=True)
        if code:
            raise LibhookError(f"{path}: {os.strerror(code)}", "see whether ls shows its folder")
        return sheet.lines()


def _note(root: str, path: str, wanted: str, sheet: int) -> None:
    real = os.path.realpath(root) if root else ""
    for other in interfaces.set_along(root, os.path.dirname(f"{root}{path}"), wanted):
        os.write(sheet, os.fsencode(f"{other.removeprefix(real).removeprefix(root)}\t{attributes.text(other)}\n"))


def _refused(path: str, code: int) -> Failure:
    why = f" ({os.strerror(code)})" if code else ""
    return Failure(f"{path} could not be given back: it does not take the value that it has now{why}", _INSTEAD)
