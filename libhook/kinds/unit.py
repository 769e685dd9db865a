# SPDX-License-Identifier: LGPL-2.1-or-later
"""A systemd unit that is down, or up, while a guest runs.

Several guests may want the same unit down; it comes back with the last of them, and only if it ran before the first.
What would start it again, such as its socket, goes down and comes back with it. A unit is down when systemd says so and
none of its processes is left: a stop job ends well even if they stay (unit.c, unit_process_job).
"""

from __future__ import annotations

import errno
import os
from fnmatch import fnmatchcase

from libhook import plainjson
from libhook.children import tracks
from libhook.effects import systemd as acting
from libhook.errors import BadInput, LibhookError, printable
from libhook.facts.config import Config
from libhook.facts.entry import Held
from libhook.facts.machine import Machine
from libhook.facts.plan import Action, Refusal, Stays, Verdict, Warn
from libhook.facts.shared import Shared, Value
from libhook.facts.situation import Situation
from libhook.facts.unit import Unit, is_name, is_protected
from libhook.kinds import claims
from libhook.kinds.kind import Failure, Kind, Outcome, Work
from libhook.kinds.resource import Conflict, Resource, equal
from libhook.light import TYPE_CHECKING, NamedTuple, partial, suppress
from libhook.look import systemd

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any

    from libhook.children.tracks import Track

NAME = "unit"
DOWN, UP = "down", "up"
_SETTING = "units"
_REMEDY = f"correct {_SETTING} in the settings: libhook config shows them"
_LEFT = "stopped, and processes of it are left"
_STOPPING = "stopping"


class State(NamedTuple):
    """The state that a unit must have while the guest runs. With ``back``: as it was, if no other guest needs it."""

    unit: str
    state: str
    asked: str = ""
    """The name or pattern in the settings, if it is another."""
    frees: tuple[str, ...] = ()
    """States that may come with it, such as devices that no process has open any more."""
    back: bool = False
    kind: str = NAME
    ours: bool = True
    is_undone: bool = True
    needs: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """See Action."""
        return f"{NAME} {self.unit}"

    @property
    def subject(self) -> str:
        """See Action."""
        return self.unit

    @property
    def provides(self) -> tuple[str, ...]:
        """That the unit is as wanted, and what comes with that."""
        return () if self.back else (f"{self.key} {self.state}", *self.frees)

    @property
    def summary(self) -> str:
        """See Action."""
        return "given back" if self.back else self.state

    def describe(self) -> tuple[str, ...]:
        """A line of what and why."""
        if self.back:
            return (printable(f"give {self.unit} back its state, if no other guest needs it {self.state}"),)
        why = f" ({self.asked})" if self.asked else ""
        if self.state == UP:
            return (printable(f"start {self.unit}{why}"),)
        return (printable(f"stop {self.unit}{why}, and wait for {acting.STOP_SECONDS:.0f} s at most"),)

    def to_json(self) -> dict[str, Any]:
        """See Action."""
        return {"kind": NAME, "unit": self.unit, "state": self.state}

    def show(self) -> dict[str, Any]:
        """See Action."""
        return {"action": NAME, "unit": self.unit, "state": None if self.back else self.state}


def read(value: Mapping[str, Any]) -> State:
    """See Kind. The name is checked, because root will act on the unit that it names."""
    match value:
        case {"unit": str(unit), "state": "down" | "up" as state} if is_name(unit) and not is_protected(unit):
            return State(unit, state)
    raise BadInput("not the state of a unit")


def look(work: Work) -> Mapping[str, Sequence[Unit]]:
    """See Kind. The units that the settings name, by name or pattern.

    systemd forgets a unit that is down and that nobody names. So patterns match what guests keep down, too.
    """
    patterns: list[str] = list(work.config.actions[_SETTING])
    kept = [name for name in _kept(work) if name not in patterns]
    found = systemd.matching(work.machine, [*patterns, *kept], work.deadline)
    for pattern in patterns:
        more = [one for name in kept if fnmatchcase(name, pattern) for one in found[name]]
        found[pattern] = (*found[pattern], *(one for one in more if one not in found[pattern]))
    return {pattern: found[pattern] for pattern in patterns}


def _kept(work: Work) -> Iterator[str]:
    """The units that guests keep in some state."""
    for file in work.state.names("shared"):
        with suppress(BadInput, ValueError, RecursionError):
            shared = Shared.from_json(plainjson.loads(work.state.read_shared(file.removesuffix(".json")) or "null"))
            name = shared.resource.removeprefix(f"{NAME} ")
            if name != shared.resource and is_name(name):
                yield name


def wanted(situation: Situation) -> Iterator[Verdict]:
    """See Kind. What the table ``units`` asks for, without what is journalled already."""
    done = {action.key for action in situation.held.actions} if situation.held else set[str]()
    frees = tuple(f"{device.pci} is free" for device in situation.domain.pci)
    states: dict[str, str] = {}
    for pattern, state in situation.config.actions.get(_SETTING, {}).items():
        for unit in situation.looked.get(NAME, {}).get(pattern, ()):
            if complaint := _complaint(unit, pattern, state, states):
                yield Refusal("", complaint, _REMEDY)
                continue
            if unit.name in states:
                continue
            states[unit.name] = state
            action = State(unit.name, state, "" if pattern == unit.name else pattern, frees if state == DOWN else ())
            if action.key not in done:
                yield action


def carry_out(work: Work, actions: Sequence[State]) -> list[Outcome]:
    """See Kind. All side by side: systemd orders them."""
    resources = [_resource(work.machine, action.unit) for action in actions]
    try:
        with claims.locked(work, resources):
            wants = (None if action.back else action.state for action in actions)
            lanes = (claims.carry_out(work, *each) for each in zip(actions, resources, wants, strict=True))
            return tracks.run(lanes, work.deadline)
    except LibhookError as error:
        return [Outcome(action, Failure(error.message, error.hint), 0.0) for action in actions]


def way_back(_work: Work, _held: Held, actions: Sequence[State]) -> Iterator[Action | Stays | Warn]:
    """See Kind. The claims know what the unit was, and whether another guest needs it as it is."""
    yield from (action._replace(back=True) for action in reversed(actions))


def _complaint(unit: Unit, pattern: str, state: str, states: Mapping[str, str]) -> str:
    """Why this unit may not be put into this state, or "". What is up for a guest is stopped at its end."""
    if unit.load == "not-found":
        return f"there is no unit {pattern} on this host"
    if states.get(unit.name, state) != state:
        return f"{unit.name} is to be {states[unit.name]}, and {pattern} to be {state}: they are one unit"
    if is_protected(unit.name):
        return f"{unit.name} may not be stopped: libvirt or the host itself depends on it"
    if along := next(filter(is_protected, unit.family), ""):
        return f"{unit.name} may not be stopped: it would take {along} along"
    if state == UP and unit.load == "masked":
        return f"{unit.name} is masked"
    if unit.is_transient:
        return f"{unit.name} has no file: nobody could start it again"
    return "" if unit.may_stop else f"{unit.name} refuses to be stopped by hand"


def _resource(machine: Machine, unit: str) -> Resource:
    seen: set[str] = set()  # what the last read saw on

    return Resource(
        name=f"{NAME} {unit}",
        says=unit,
        read=partial(_now, machine, unit, seen),
        write=partial(_write, machine, unit, seen),
        fold=partial(_fold, unit),
        failed=partial(_failed, unit),
        reached=partial(_reached, unit),
        gives_up=True,
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
    ask = f"see what systemctl status {unit} says"
    if target != DOWN:
        return Failure(f"{unit} does not start", ask)
    if now in (_LEFT, _STOPPING):
        return Failure(f"{unit} is {now}", f"end them, then try again; {ask}")
    return Failure(f"{unit} does not stop{' in time' if code == errno.ETIMEDOUT else ''}", ask)


def _seconds(_config: Config) -> float:
    return acting.STOP_SECONDS + 30


def _shared(machine: Machine, name: str) -> tuple[str, Resource] | None:
    unit = name.removeprefix(f"{NAME} ")
    if unit == name or not is_name(unit) or is_protected(unit):
        return None
    return State(unit, DOWN).key, _resource(machine, unit)


KIND = Kind(NAME, read, _seconds, carry_out, way_back, look=look, wanted=wanted, shared=_shared)
