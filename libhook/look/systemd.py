# SPDX-License-Identifier: LGPL-2.1-or-later
"""Asks systemd about units. A child asks, since PID 1 may be busy for long.

The exit status of systemctl is not relied on (systemctl(1)): what it prints counts.
"""

from __future__ import annotations

import errno
import os

from libhook.children import tracks
from libhook.children.tracks import Late, Step, paper
from libhook.effects.systemd import runs
from libhook.errors import LibhookError, named, pasted
from libhook.facts import unit
from libhook.facts.unit import Unit
from libhook.light import TYPE_CHECKING, partial

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from libhook.children.child import Deadline
    from libhook.children.tracks import Track
    from libhook.facts.machine import Machine

_SECONDS = 20.0
"""That systemctl gets to answer."""
_REMEDY = "this says more: systemctl status"
_NEEDING = "units, mounts, sleep, and a unit in require"
_CORRECT = "correct units in the settings; libhook config shows where"
_MOST, _MOST_OF_USER = 4096, 256
"""Units that are looked at for one guest."""
_NO_USER = {
    errno.ENXIO: ("there is no user {}", _CORRECT),
    errno.EPERM: ("{} is root, and root acts on no units as a user", _CORRECT),
}
"""What is said of these errors of a user's manager."""


class NoManager(LibhookError):
    """The user has no manager: none of the user's units is on."""


def must_run(machine: Machine) -> None:
    """LibhookError unless systemd runs on this host."""
    if not runs(machine):
        raise LibhookError(
            "systemd does not run on this host",
            f"take what needs it out of the settings ({_NEEDING}); libhook config shows where",
        )


def matching(
    machine: Machine, patterns: Iterable[str], deadline: Deadline, user: str = ""
) -> dict[str, tuple[Unit, ...]]:
    """The units of each name or pattern, with their families. LibhookError where systemd does not answer.

    A name that systemd does not know has a unit whose ``load`` says so. A pattern matches what systemd has loaded.
    With a ``user`` it is that user's manager that is asked, or NoManager.
    """
    must_run(machine)
    (found,) = tracks.run([_bounded(_matching(machine, user, tuple(patterns)))], deadline)
    if isinstance(found, LibhookError):
        raise found
    return found


def first_name(machine: Machine, user: str, deadline: Deadline) -> str:
    """Which of a user's names counts: the one that its number has. LibhookError where there is no such user."""
    (found,) = tracks.run([_first_name(machine, user)], deadline)
    if isinstance(found, str):
        return found
    unknown = (f"nobody says who the user {{}} is ({os.strerror(found)})", "this says more: getent passwd {}")
    raise LibhookError(*(text.format(user) for text in _NO_USER.get(found, unknown)))


def _first_name(machine: Machine, user: str) -> Track[str | int]:
    with paper() as sheet:
        try:
            note = partial(_note_name, machine, user, sheet.descriptor)
            code = yield Step(note, keep=sheet.descriptor, looks=True)
        except Late:
            return errno.ETIMEDOUT
        return code or "".join(sheet.lines())


def _note_name(machine: Machine, user: str, sheet: int) -> None:
    os.write(sheet, f"{machine.kernel.first_name(user)}\n".encode("utf-8", "replace"))


def family(machine: Machine, name: str, user: str = "") -> Track[list[Unit]]:
    """The unit, and all that may stop with it or would start it again, as far as systemd knows them."""
    (first,) = yield from _show(machine, user, [name])
    known = yield from _with_families(machine, user, {first.name: first})
    others = (known[name] for name in known[first.name].family)
    return [known[first.name], *(one for one in others if one.load == "loaded")]


def ask(machine: Machine, names: Iterable[str], user: str = "") -> str:
    """What ``systemctl show`` prints of these units. May block: only for a child. OSError where it gives no answer."""
    properties = f"--property={','.join(unit.PROPERTIES)}"
    status, text = machine.systemctl(user, ("show", "--all", properties, "--", *names), _SECONDS)
    if status and not text:
        raise OSError(errno.ETIMEDOUT if status == errno.ETIMEDOUT else errno.ECONNREFUSED, "systemctl show")
    return text


def soft_reboots(machine: Machine) -> Track[str]:
    """How often the host has begun anew with the same kernel: a soft-reboot keeps /run and the boot id.

    "" where systemd does not count that. Debian's 257 does.
    """
    return _of_manager(machine, "SoftRebootsCount")


def is_stopping(machine: Machine) -> Track[bool]:
    """Whether the host shuts down. systemd starts nothing any more then (transaction_is_destructive())."""
    try:
        return (yield from _of_manager(machine, "SystemState")) == "stopping"
    except (Late, LibhookError):
        return False


def _of_manager(machine: Machine, name: str) -> Track[str]:
    with paper() as sheet:
        note = partial(_note_property, machine, sheet.descriptor, name)
        code = yield Step(note, keep=sheet.descriptor, looks=True)
        text = "".join(sheet.lines()[:1])
    if code:
        raise LibhookError(f"systemd does not say its {name} ({os.strerror(code)})", _REMEDY)
    return text


def _note_property(machine: Machine, sheet: int, name: str) -> None:
    status, text = machine.kernel.systemctl(("show", f"--property={name}", "--value", "--"), _SECONDS)
    if status:
        raise OSError(errno.ETIMEDOUT if status == errno.ETIMEDOUT else errno.ECONNREFUSED, "systemctl show")
    os.write(sheet, text.strip().encode("utf-8", "replace") + b"\n")


def is_populated(machine: Machine, one: Unit) -> bool:
    """Whether a process is left in the unit's control group. A user's manager may name any path as one.

    A unit without a group has no process. In a container the root of the tree shows those of all others.
    """
    first, *parts = one.control_group.split("/")
    return first == "" and any(parts) and ".." not in parts and is_group_populated(machine, one.control_group)


def is_group_populated(machine: Machine, group: str) -> bool:
    """Whether a process is left in a control group, or in one below it. ``group`` begins with a slash."""
    try:
        with open(f"{machine.sys}/fs/cgroup{group}/cgroup.events", encoding="ascii") as file:
            return "populated 1" in file.read().split("\n")
    except OSError:
        return False


def _show(machine: Machine, user: str, names: Collection[str], *, pattern: bool = False) -> Track[list[Unit]]:
    """These units, in this order, or those of a ``pattern``. LibhookError where systemd does not answer for each."""
    with paper() as sheet:
        note = partial(_note, machine, user, sheet.descriptor, tuple(names))
        code = yield Step(note, keep=sheet.descriptor, looks=True)
        found = list(unit.parse("\n".join(sheet.lines())))
    if user and code == errno.ESRCH:
        raise NoManager(
            f"{named(user)} is not logged in",
            f"log in as that user, or to have those units without that, run: loginctl enable-linger {pasted(user)}",
        )
    if user and code in _NO_USER:
        raise LibhookError(*(text.format(user) for text in _NO_USER[code]))
    if code or not (pattern or len(found) == len(names)):
        why = os.strerror(code) if code else "it leaves some out"
        whose = f"the systemd of {named(user)}" if user else "systemd"
        raise LibhookError(f"{whose} does not say what {' '.join(names)} does ({why})", _REMEDY)
    return found


def _matching(machine: Machine, user: str, patterns: tuple[str, ...]) -> Track[dict[str, tuple[Unit, ...]]]:
    names = dict.fromkeys(filter(unit.is_name, patterns))
    found: dict[str, tuple[Unit, ...]] = {}
    if names:
        for name, one in zip(names, (yield from _show(machine, user, names)), strict=True):
            found[name] = (one,)
    for pattern in patterns:
        if pattern not in names:
            matches = yield from _show(machine, user, [pattern], pattern=True)
            # Some other unit may name one that does not exist.
            found[pattern] = tuple(one for one in matches if one.load != "not-found")
    known = yield from _with_families(machine, user, {one.name: one for units in found.values() for one in units})
    return {
        pattern: tuple(one._replace(family=known[one.name].family, lost=known[one.name].lost) for one in units)
        for pattern, units in found.items()
    }


def _with_families(machine: Machine, user: str, known: dict[str, Unit]) -> Track[dict[str, Unit]]:
    """These units with their families, and all units of these. LibhookError where there are too many."""
    first, asked, most = tuple(known), set(known), _MOST_OF_USER if user else _MOST
    pending = {name for one in known.values() for name in (*one.stops_with, *one.triggered_by)} - asked
    while pending or len(asked) > most:
        asked |= pending
        if len(asked) > most:
            raise LibhookError(
                f"{first[0]} has more than {most} units that stop with it",
                "take it out of units in the settings; libhook config shows where",
            )
        for name, one in zip(sorted(pending), (yield from _show(machine, user, sorted(pending))), strict=True):
            known[name] = one
        pending = {name for one in known.values() for name in (*one.stops_with, *one.triggered_by)} - asked
    for name in first:
        found, rest = set[str](), [name]
        while rest:
            one = known[rest.pop()]
            new = {*one.stops_with, *one.triggered_by} - found - {name}
            found |= new
            rest += new
        lost = (one for one in sorted(found) if known[one].is_on and not known[one].may_return)
        known[name] = known[name]._replace(family=tuple(sorted(found)), lost=tuple(lost))
    return known


def _bounded(track: Track[dict[str, tuple[Unit, ...]]]) -> Track[dict[str, tuple[Unit, ...]] | LibhookError]:
    try:
        return (yield from track)
    except Late:
        return LibhookError("systemd does not answer in time", _REMEDY)
    except LibhookError as error:
        return error


def _note(machine: Machine, user: str, sheet: int, names: tuple[str, ...]) -> None:
    os.write(sheet, ask(machine, names, user).encode("utf-8", "replace") + b"\n")
