# SPDX-License-Identifier: LGPL-2.1-or-later
"""A systemd unit that is down, or up, while a guest runs.

Several guests may want the same unit down; it comes back with the last of them, and only if it ran before the first.
What would start it again, such as its socket, goes down and comes back with it. A unit is down when systemd says so and
none of its processes is left: a stop job ends well even if they stay (unit.c, unit_process_job).

state.py       that a unit is down, or up, as an action
wanting.py     which units the settings mean, and which they may not mean
switching.py   how a unit is read, stopped and started
"""

from __future__ import annotations

from libhook.children import tracks
from libhook.children.child import Deadline
from libhook.effects import systemd as acting
from libhook.errors import BadInput, LibhookError
from libhook.facts.config import Config
from libhook.facts.entry import Held
from libhook.facts.machine import Machine
from libhook.facts.plan import Action, Stays, Verdict, Warn
from libhook.facts.situation import Situation
from libhook.facts.unit import is_name, is_protected
from libhook.kinds import claims
from libhook.kinds.kind import Failure, Kind, Outcome, Work
from libhook.kinds.resource import Resource
from libhook.kinds.unit.state import DOWN, NAME, State
from libhook.kinds.unit.switching import resource
from libhook.light import TYPE_CHECKING
from libhook.look import systemd

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from typing import Any

    from libhook.facts.unit import Unit
_LOOK_SECONDS = 20.0


def read(value: Mapping[str, Any]) -> State:
    """See Kind. The name is checked, because root will act on the unit that it names."""
    match value:
        case {"unit": str(unit), "state": "down" | "up" as state} if _is_ours(unit):
            return State(unit, state)
    raise BadInput("not the state of a unit")


def _is_ours(unit: str) -> bool:
    return is_name(unit) and not is_protected(unit)


def look(work: Work) -> Mapping[str, Unit]:
    """See Kind."""
    from libhook.kinds.unit import wanting  # only prepare asks

    return wanting.look(work)


def wanted(situation: Situation) -> Iterable[Verdict]:
    """See Kind."""
    from libhook.kinds.unit import wanting

    return wanting.wanted(situation)


def carry_out(work: Work, actions: Sequence[State]) -> list[Outcome]:
    """See Kind. All side by side: systemd orders them."""
    resources = [resource(work.machine, action.unit) for action in actions]
    try:
        with claims.locked(work, resources):
            wants = (None if action.back else action.state for action in actions)
            lanes = (claims.carry_out(work, *each) for each in zip(actions, resources, wants, strict=True))
            outcomes = tracks.run(lanes, work.deadline)
    except LibhookError as error:
        outcomes = [Outcome(action, Failure(error.message, error.hint), 0.0) for action in actions]
    if any(action.back for action in actions) and any(one.failure or one.left for one in outcomes):
        (stops,) = tracks.run([systemd.is_stopping(work.machine)], Deadline.after(_LOOK_SECONDS))
        return [_given_up(one, stops) for one in outcomes]
    return outcomes


def _given_up(outcome: Outcome, stops: bool) -> Outcome:
    """If the host shuts down, systemd has stopped all, and the next boot starts what it should."""
    if stops and (outcome.failure or outcome.left):
        return outcome._replace(failure=None, left="", log_fields={"void": "the host shuts down"})
    return outcome


def way_back(_work: Work, _held: Held, actions: Sequence[State]) -> Iterator[Action | Stays | Warn]:
    """See Kind. The claims know what the unit was, and whether another guest needs it as it is."""
    yield from (action._replace(back=True) for action in reversed(actions))


def _seconds(_config: Config, _actions: Sequence[Action]) -> float:
    return acting.STOP_SECONDS + 30


def _shared(machine: Machine, name: str) -> tuple[str, Resource] | None:
    unit = name.removeprefix(f"{NAME} ")
    if unit == name or not _is_ours(unit):
        return None
    return State(unit, DOWN).key, resource(machine, unit)


KIND = Kind(NAME, read, _seconds, carry_out, way_back, look=look, wanted=wanted, shared=_shared)
