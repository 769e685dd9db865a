# SPDX-License-Identifier: LGPL-2.1-or-later
"""Kernel modules.

loading.py     load a module so that its driver can take a device
unloading.py   keep a module out of the kernel while any guest needs it out
consoles.py    keep the virtual consoles off the framebuffers, so that a module can be taken out
wanting.py     which modules the setting ``modules`` means, and which it may not mean
"""

from __future__ import annotations

from itertools import groupby

from libhook.children import tracks
from libhook.errors import LibhookError
from libhook.facts.machine import Machine
from libhook.kinds.kind import Failure, Kind, Outcome, Work
from libhook.kinds.module import loading
from libhook.kinds.module.loading import NAME, Load
from libhook.light import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from typing import Any

    from libhook.children.tracks import Track
    from libhook.facts.plan import Verdict
    from libhook.facts.situation import Situation
    from libhook.kinds.module.consoles import Consoles
    from libhook.kinds.module.unloading import Out
    from libhook.kinds.module.wanting import Seen
    from libhook.kinds.resource import Resource

# What the settings ask for is imported where they do: most starts only load a module.


def read(value: Mapping[str, Any]) -> Out | Consoles:
    """See Kind. A load is not journalled."""
    from libhook.kinds.module import consoles, unloading

    return consoles.read(value) if consoles.CONSOLES in value else unloading.read(value)


def carry_out(work: Work, actions: Sequence[Load | Out | Consoles]) -> list[Outcome]:
    """See Kind."""
    outcomes: list[Outcome] = []
    for loads, together in groupby(actions, key=lambda action: isinstance(action, Load)):
        batch = list(together)
        if loads:
            outcomes += loading.carry_out(work, [action for action in batch if isinstance(action, Load)])
        else:
            outcomes += _in_turn(work, [action for action in batch if not isinstance(action, Load)])
    return outcomes


def _in_turn(work: Work, actions: Sequence[Out | Consoles]) -> list[Outcome]:
    """One after the other, in this order: a module cannot go before those that need it.

    After one that fails, no other is begun, and the guest is refused. Giving back goes on after a failure as long as
    there is time left, and says of each what became of it: what failed is tried again.
    """
    from libhook.kinds import claims

    try:
        with claims.locked(work, [_resource(work.machine, action) for action in actions]):
            (outcomes,) = tracks.run([_lane(work, actions)], work.deadline)
    except LibhookError as error:
        return [Outcome(action, Failure(error.message, error.hint), 0.0) for action in actions]
    return outcomes


def _lane(work: Work, actions: Sequence[Out | Consoles]) -> Track[list[Outcome]]:
    from libhook.kinds.module import consoles, unloading

    outcomes: list[Outcome] = []
    stopped = ""
    for action in actions:
        if stopped and not action.back:
            break
        if stopped:
            reason = f"{action.subject} was left as it was, because {stopped} is in the way"
            outcomes.append(Outcome(action, Failure(reason, "what is said of that says why"), 0.0))
            continue
        if isinstance(action, unloading.Out):
            outcome = yield from unloading.carry_out(work, action)
        else:
            outcome = yield from consoles.carry_out(work, action)
        outcomes.append(outcome)
        if outcome.failure and not (action.back and work.deadline.left):
            stopped = action.subject
    return outcomes


def way_back(_work: Work, _held: object, actions: Sequence[Out | Consoles]) -> Iterator[Out | Consoles]:
    """See Kind. In the opposite order, so that what a module needs is there first, and the consoles come last.

    The claims know whether there is anything to do.
    """
    for action in reversed(actions):
        yield action._replace(needs=(), back=True)


def _resource(machine: Machine, action: Out | Consoles) -> Resource:
    from libhook.kinds.module import consoles, unloading

    if isinstance(action, unloading.Out):
        return unloading.resource(machine, action.module)
    return consoles.resource(machine)


def _shared(machine: Machine, name: str) -> tuple[str, Resource] | None:
    from libhook.kinds.module import consoles, unloading

    action: Out | Consoles
    if name == consoles.CONSOLES:
        action = consoles.Consoles()
    elif name.startswith(f"{NAME}-"):
        action = unloading.out(name.removeprefix(f"{NAME}-"))
    else:
        return None
    return action.key, _resource(machine, action)


def _look(work: Work) -> Seen:
    from libhook.kinds.module import wanting

    return wanting.look(work)


def _wanted(situation: Situation) -> Iterable[Verdict]:
    from libhook.kinds.module import wanting

    return wanting.wanted(situation)


KIND = Kind(
    NAME,
    read,
    lambda config, _actions: config.write_deadline,
    carry_out,
    way_back,
    look=_look,
    wanted=_wanted,
    shared=_shared,
)
__all__ = ["KIND", "Load", "carry_out", "way_back"]
