# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the rest of libhook knows of a kind of action. Each file beside this one fills it in; registry.py names them.

The way back is decided from what was journalled and from what is found now. Never from how far somebody had come: so
it serves after success, failure and a crash, and may run twice.
"""

from __future__ import annotations

from libhook.effects.child import Deadline
from libhook.effects.state import State
from libhook.facts.config import Config
from libhook.facts.domain import HostDevice
from libhook.facts.entry import Held, Process
from libhook.facts.host import Host
from libhook.facts.machine import Machine
from libhook.facts.plan import Action, Stays, Verdict, Warn
from libhook.facts.situation import Situation
from libhook.light import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from typing import Any


class Work(NamedTuple):
    """What a kind has at hand."""

    machine: Machine
    state: State
    deadline: Deadline
    config: Config
    """The settings of the guest."""
    guest: str
    """Its UUID."""


class Failure(NamedTuple):
    """Why something did not succeed, and what would help."""

    reason: str
    remedy: str


class Outcome(NamedTuple):
    """How one action ended, and in what time."""

    action: Action
    failure: Failure | None
    milliseconds: float
    told: Mapping[str, object] = {}
    """What the log says of it besides."""


def _nothing(_situation: Situation) -> Iterator[Verdict]:
    yield from ()


def _unseen(_work: Work, _device: HostDevice, _daemon: Process) -> Action | None:
    return None


def _is_back(_work: Work, _action: Action, _held: Held) -> None:
    pass


def _unchanged(host: Host, _action: Action) -> Host:
    return host


class Kind(NamedTuple):
    """One kind, as data and functions. ``Any`` stands for the kind's own type of action."""

    name: str
    read: Callable[[Mapping[str, Any]], Action]
    """An action from the journal, field by field. BadInput where it is not one of this kind."""
    seconds: Callable[[Config], float]
    """How long all actions of this kind in one event may take, and the undo of all: they run side by side."""
    carry_out: Callable[[Work, Sequence[Any]], list[Outcome]]
    """Do them, side by side where they can be; the outcome of each, whatever happens to the others."""
    way_back: Callable[[Work, Held, Sequence[Any]], Iterable[Action | Stays | Warn]]
    """What undoes them, from what is found now. The actions come in the order in which they are to be undone."""
    wanted: Callable[[Situation], Iterable[Verdict]] = _nothing
    """What the guest's settings ask for."""
    noticed: Callable[[Work, HostDevice, Process], Action | None] = _unseen
    """What this libvirtd has done with a device unseen, to be undone at the end."""
    is_back: Callable[[Work, Any, Held], None] = _is_back
    """Remember what must be known once it is undone."""
    most: float = 3600.0
    """Seconds that it never has more of, whatever the settings say."""
    after: Callable[[Host, Any], Host] = _unchanged
    """How the host will be once this is done: for the plan of what comes later."""
