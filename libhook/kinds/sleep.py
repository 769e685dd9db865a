# SPDX-License-Identifier: LGPL-2.1-or-later
"""The host does not sleep while a guest runs.

A unit of ours holds the lock of systemd-logind against it (packaging/libhook-awake.service). It is up while any guest
wants that. It is active only once logind has given it the lock, and so its start is waited for.
"""

from __future__ import annotations

from libhook.children import tracks
from libhook.effects import systemd as acting
from libhook.errors import LibhookError, named
from libhook.facts.config import Config
from libhook.facts.entry import Held
from libhook.facts.machine import Machine
from libhook.facts.plan import Action, Refusal, Stays, Verdict, Warn
from libhook.facts.shared import Value
from libhook.facts.situation import Situation
from libhook.facts.unit import Unit
from libhook.kinds import claims
from libhook.kinds.kind import Failure, Kind, Outcome, Work
from libhook.kinds.resource import Resource, equal
from libhook.light import TYPE_CHECKING, NamedTuple, partial
from libhook.look import systemd

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any

    from libhook.children.tracks import Track

NAME = "sleep"
_INHIBIT = "inhibit"
UNIT = "libhook-awake.service"
LOGIND = "systemd-logind.service"
_HELD, _NOT_HELD = "inhibited", "allowed"
_WITHOUT = 'or set sleep = "allow" in the settings'


class Awake(NamedTuple):
    """The host must not sleep. With ``back``: it may sleep again, if no other guest needs it awake."""

    back: bool = False
    kind: str = NAME
    key: str = NAME
    subject: str = "the host's sleep"
    summary: str = _HELD
    needs: tuple[str, ...] = ()
    provides: tuple[str, ...] = ()
    ours: bool = True
    is_undone: bool = True

    def describe(self) -> tuple[str, ...]:
        """See Action."""
        if self.back:
            return (f"let the host sleep again, if no other guest needs it awake (stop {UNIT})",)
        return (f"keep the host from sleeping (start {UNIT})",)

    def to_json(self) -> dict[str, Any]:
        """See Action."""
        return {"kind": NAME}

    def show(self) -> dict[str, Any]:
        """See Action."""
        return {"action": NAME, "sleep": None if self.back else _INHIBIT}


def read(_value: Mapping[str, Any]) -> Awake:
    """See Kind. There is but one sleep."""
    return Awake()


def look(work: Work) -> Sequence[Unit]:
    """See Kind. The units that are needed, as systemd sees them; none where the guest lets the host sleep."""
    if work.config.actions[NAME] != _INHIBIT:
        return ()
    found = systemd.matching(work.machine, (UNIT, LOGIND), work.deadline)
    return [*found[UNIT], *found[LOGIND]]


def wanted(situation: Situation) -> Iterator[Verdict]:
    """See Kind."""
    if situation.config.actions[NAME] != _INHIBIT or (situation.held and NAME in situation.held.actions_by_key()):
        return
    for unit in situation.looked.get(NAME, ()):
        if unit.load != "loaded":
            what = f"is {unit.load}" if unit.load != "not-found" else "is not on this host"
            remedy = f"systemctl unmask {unit.name}" if unit.load == "masked" else _missing(unit.name)
            reason = f"the host cannot be kept from sleeping, because {named(unit.name)} {what}"
            yield Refusal("", reason, f"{remedy}, {_WITHOUT}")
            return
    yield Awake()


def _missing(unit: str) -> str:
    return "run install.sh again" if unit == UNIT else f"this says why: systemctl status {unit}"


def carry_out(work: Work, actions: Sequence[Awake]) -> list[Outcome]:
    """See Kind. There is one action at a time."""
    resource = _resource(work.machine)
    try:
        with claims.locked(work, [resource]):
            lanes = (claims.carry_out(work, one, resource, None if one.back else _HELD) for one in actions)
            return tracks.run(lanes, work.deadline)
    except LibhookError as error:
        return [Outcome(action, Failure(error.message, error.hint), 0.0) for action in actions]


def way_back(_work: Work, _held: Held, actions: Sequence[Awake]) -> Iterator[Action | Stays | Warn]:
    """See Kind. The claims know whether another guest needs the host awake."""
    yield from (action._replace(back=True) for action in actions)


def _resource(machine: Machine) -> Resource:
    return Resource(
        name=NAME,
        says=Awake().subject,
        read=partial(_now, machine),
        write=partial(_write, machine),
        fold=equal,
        failed=_failed,
        gives_up=True,
    )


def _now(machine: Machine) -> Track[Value]:
    first, *_ = yield from systemd.family(machine, UNIT)
    return _HELD if first.active == "active" else _NOT_HELD


def _write(machine: Machine, value: str) -> None:
    if value == _HELD:
        acting.start(machine, [UNIT], wait=True)
    else:
        acting.stop(machine, [UNIT])


def _failed(target: str, _now: Value, _code: int) -> Failure:
    ask = f"this says why: systemctl status {UNIT}"
    if target == _HELD:
        return Failure(f"the host cannot be kept from sleeping, because {UNIT} does not start", f"{ask}, {_WITHOUT}")
    return Failure(f"the host is still kept from sleeping, because {UNIT} does not stop", ask)


def _seconds(_config: Config, _actions: Sequence[Action]) -> float:
    return acting.START_SECONDS + 40


def _shared(machine: Machine, name: str) -> tuple[str, Resource] | None:
    return (NAME, _resource(machine)) if name == NAME else None


KIND = Kind(NAME, read, _seconds, carry_out, way_back, look=look, wanted=wanted, shared=_shared)
