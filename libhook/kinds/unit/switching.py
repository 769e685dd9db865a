# SPDX-License-Identifier: LGPL-2.1-or-later
"""Units as things that several guests share: how they are read, stopped and started."""

from __future__ import annotations

import errno
import os

from libhook.effects import systemd as acting
from libhook.errors import named, pasted
from libhook.facts.machine import Machine
from libhook.facts.mountpoint import path_of
from libhook.facts.shared import Value
from libhook.facts.unit import is_protected
from libhook.kinds.kind import Failure
from libhook.kinds.resource import Conflict, Resource, equal
from libhook.kinds.unit.state import DOWN, NAME, UP
from libhook.light import TYPE_CHECKING, partial
from libhook.look import systemd

if TYPE_CHECKING:
    from collections.abc import Mapping

    from libhook.children.tracks import Track

_LEFT = "stopped, and processes of it are left"
_STOPPING = "stopping"


def resource(machine: Machine, unit: str) -> Resource:
    """The unit, for kinds/claims.py."""
    seen: set[str] = set()  # what the last read saw on

    return Resource(
        name=f"{NAME} {unit}",
        says=named(unit),
        read=partial(_now, machine, unit, seen),
        write=partial(_write, machine, unit, seen),
        fold=partial(_fold, unit),
        failed=partial(_failed, unit),
        reached=partial(_reached, unit),
        gives_up=True,
        era=partial(systemd.soft_reboots, machine),
    )


def _now(machine: Machine, unit: str, seen: set[str]) -> Track[Value]:
    """``down``, or the names of those of its family that are on. None: there is no unit."""
    first, *others = yield from systemd.family(machine, unit)
    if first.load == "not-found":
        return None
    on = sorted(one.name for one in (first, *others) if one.is_on)
    seen.clear()
    seen.update(on)
    if on:
        return " ".join(on)
    if first.active == "deactivating":
        return _STOPPING
    return _LEFT if systemd.is_populated(machine, first) else DOWN


def _on(value: Value) -> set[str]:
    """The units that are on. What is on its way down, or has left processes, was down before."""
    return set() if value in (None, DOWN, _STOPPING, _LEFT) else set(str(value).split())


def _write(machine: Machine, unit: str, seen: set[str], value: str) -> None:
    """Stop what was seen on and is not to be, then start what is to be on."""
    wanted_on = _on(value)
    off = sorted(({unit} if value == DOWN else set()) | seen - wanted_on)
    if any(map(is_protected, off)):  # it came along after the plan was made
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))
    if off:
        acting.stop(machine, off)
    if wanted_on:
        acting.start(machine, sorted(wanted_on))


def _fold(unit: str, base: Value, wants: Mapping[str, str]) -> Value | Conflict:
    """What all guests want. For ``up`` the unit is on beside what was on before."""
    target = equal(base, wants)
    return " ".join(sorted({unit, *_on(base)})) if target == UP else target


def _reached(unit: str, target: str, now: Value) -> bool:
    """Down is down alone. Else the unit is on or not, as it is to be, and so are the others that are to be on."""
    if target == DOWN:
        return now == DOWN
    wanted_on, on = _on(target), _on(now)
    return now is not None and wanted_on <= on and (unit in wanted_on) == (unit in on)


def _failed(unit: str, target: str, now: Value, code: int) -> Failure:
    ask = f"this says why: systemctl status {pasted(unit)}"
    if target != DOWN:
        return Failure(f"{named(unit)} does not start", ask)
    if (path := path_of(unit)) and unit in _on(now):
        below = f"-lname {pasted(path)} -o -lname {pasted(f'{path}/*')}"
        busy = (
            "stop what has it open first; to see which processes do, "
            f"run: find /proc/[0-9]*/fd /proc/[0-9]*/cwd {below}"
        )
        return Failure(f"{named(path)} cannot be unmounted: something has a file open there", busy)
    if now == _LEFT:
        return Failure(f"{named(unit)} is {_LEFT}", f"end them, then start the guest again; {ask}")
    if now == _STOPPING:
        return Failure(f"{named(unit)} is {_STOPPING}", f"wait until it is down, then start the guest again; {ask}")
    return Failure(f"{named(unit)} does not stop{' in time' if code == errno.ETIMEDOUT else ''}", ask)
