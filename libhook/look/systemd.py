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
from libhook.errors import LibhookError
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
_MOST = 4096
"""Units that are looked at for one guest."""


def must_run(machine: Machine) -> None:
    """LibhookError unless systemd runs on this host."""
    if not runs(machine):
        raise LibhookError(
            "systemd does not run on this host",
            "take units out of the settings; libhook config shows where",
        )


def units(machine: Machine, names: Iterable[str], deadline: Deadline) -> dict[str, Unit]:
    """The units with these names, with their families. LibhookError where systemd does not answer.

    A name that systemd does not know has a unit whose ``load`` says so.
    """
    must_run(machine)
    (found,) = tracks.run([_bounded(_units(machine, tuple(dict.fromkeys(names))))], deadline)
    if isinstance(found, LibhookError):
        raise found
    return found


def family(machine: Machine, name: str) -> Track[list[Unit]]:
    """The unit, and all that may stop with it or would start it again, as far as systemd knows them."""
    (first,) = yield from _show(machine, [name])
    known = yield from _with_families(machine, {first.name: first})
    others = (known[name] for name in known[first.name].family)
    return [known[first.name], *(one for one in others if one.load == "loaded")]


def ask(machine: Machine, names: Iterable[str]) -> str:
    """What ``systemctl show`` prints of these units. May block: only for a child. OSError where it gives no answer."""
    properties = f"--property={','.join(unit.PROPERTIES)}"
    status, text = machine.kernel.systemctl(("show", "--all", properties, "--", *names), _SECONDS)
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
    """Whether a process is left in the unit's control group.

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


def _show(machine: Machine, names: Collection[str]) -> Track[list[Unit]]:
    """These units, in this order. LibhookError where systemd does not answer for each."""
    with paper() as sheet:
        note = partial(_note, machine, sheet.descriptor, tuple(names))
        code = yield Step(note, keep=sheet.descriptor, looks=True)
        found = list(unit.parse("\n".join(sheet.lines())))
    if code or len(found) != len(names):
        why = os.strerror(code) if code else "it leaves some out"
        raise LibhookError(f"systemd does not say what {' '.join(names)} does ({why})", _REMEDY)
    return found


def _units(machine: Machine, names: tuple[str, ...]) -> Track[dict[str, Unit]]:
    found = dict(zip(names, (yield from _show(machine, names)), strict=True)) if names else {}
    known = yield from _with_families(machine, {one.name: one for one in found.values()})
    return {name: one._replace(family=known[one.name].family, lost=known[one.name].lost) for name, one in found.items()}


def _with_families(machine: Machine, known: dict[str, Unit]) -> Track[dict[str, Unit]]:
    """These units with their families, and all units of these. LibhookError where there are too many."""
    first, asked = tuple(known), set(known)
    pending = {name for one in known.values() for name in (*one.stops_with, *one.triggered_by)} - asked
    while pending or len(asked) > _MOST:
        asked |= pending
        if len(asked) > _MOST:
            raise LibhookError(
                f"{first[0]} has more than {_MOST} units that stop with it",
                "take it out of units in the settings; libhook config shows where",
            )
        for name, one in zip(sorted(pending), (yield from _show(machine, sorted(pending))), strict=True):
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


def _bounded(track: Track[dict[str, Unit]]) -> Track[dict[str, Unit] | LibhookError]:
    try:
        return (yield from track)
    except Late:
        return LibhookError("systemd does not answer in time", _REMEDY)
    except LibhookError as error:
        return error


def _note(machine: Machine, sheet: int, names: tuple[str, ...]) -> None:
    os.write(sheet, ask(machine, names).encode("utf-8", "replace") + b"\n")
