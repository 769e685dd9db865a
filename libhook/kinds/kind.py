# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the rest of libhook knows about a kind of action. Each kind fills in a Kind, and registry.py lists them.

The way back depends on what was journalled and what is found now. It never depends on how far an earlier process came.
So it works after success, after a failure and after a crash, and it may run twice.
"""

from __future__ import annotations

from libhook.children.child import Deadline
from libhook.children.worker import Crew
from libhook.effects.state import State
from libhook.facts.address import PciAddress
from libhook.facts.config import Config
from libhook.facts.domain import HostDevice
from libhook.facts.entry import Held, Process
from libhook.facts.event import Event
from libhook.facts.host import NOTHING, Host
from libhook.facts.machine import Machine
from libhook.facts.plan import Action, Stays, Verdict, Warn
from libhook.facts.situation import Situation
from libhook.light import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
    from typing import Any

    from libhook.effects.log import Field
    from libhook.kinds.resource import Resource


class Work(NamedTuple):
    """What a kind needs to work."""

    machine: Machine
    state: State
    deadline: Deadline
    config: Config
    """The guest's settings."""
    guest: str
    """The guest's UUID."""
    document: bytes = b""
    """The guest's XML as libvirtd gave it, where it did."""
    crew: Crew | None = None
    """The devices' workers, where most devices have something to write. Without them a look costs one child for all."""
    host: Host = NOTHING
    """For ``look``: what is known of the guest's devices."""
    devices: tuple[PciAddress, ...] = ()
    """The PCI devices that the guest is to have. Only for ``Kind.look``."""
    name: str = ""
    """The guest's name. Only for ``Kind.look``."""
    event: Event | None = None
    """libvirt's event at the guest's end. None for every other undo: of a start that failed, of what a crash left."""
    entries: dict[str, Collection[str] | None] | None = None
    """What the other guests' entries name (claimants.in_entries): for one batch, or all guests of a command."""


class Failure(NamedTuple):
    """Why something did not work, and what would help."""

    reason: str
    remedy: str


class Outcome(NamedTuple):
    """How one action ended, and how long it took."""

    action: Action
    failure: Failure | None
    milliseconds: float
    log_fields: Mapping[str, Field] = {}
    """More fields for the log."""
    done: str = "done"
    """The word for the log: ``moved``. A failure is logged as ``not moved``."""
    left: str = ""
    """What is not as it should be, though it refuses nothing and is not tried again. It is logged as an error."""
    printed: bytes = b""
    """What libvirt is to get on stdout, where it takes that for the guest's XML."""


class Kind(NamedTuple):
    """One kind of action, as data and functions. ``Any`` stands for the kind's own type of action."""

    name: str
    read: Callable[[Mapping[str, Any]], Action]
    """Read an action from the journal, field by field. BadInput where it is not of this kind."""
    seconds: Callable[[Config, Sequence[Any]], float]
    """The time limit for one batch: actions of this kind that follow each other in a plan. Undoing has its own."""
    carry_out: Callable[[Work, Sequence[Any]], list[Outcome]]
    """Carry out a batch, side by side where possible. Each action has its outcome, whatever happens to the others."""
    way_back: Callable[[Work, Held, Sequence[Any]], Iterable[Action | Stays | Warn]]
    """What undoes a batch, from what is found now. It is given in journal order, and answered in the order of undoing.
    """
    again: Callable[[Work, Held, Sequence[Any], Collection[str]], Iterable[Action | Stays]] = lambda *_: ()
    """What is left to do for a batch once everything is undone, from what is found then and the keys of what failed."""
    look: Callable[[Work], Any] = lambda _work: None
    """What ``wanted`` must know of the host, as ``Situation.looked``. LibhookError where it cannot be seen."""
    wanted: Callable[[Situation], Iterable[Verdict]] = lambda _situation: ()
    """The actions that the guest's settings ask for."""
    at: tuple[str, ...] = ("prepare",)
    """The operations at which the settings may ask for them."""
    told: Callable[[Config, Event, Held | None], Iterable[Action]] = lambda *_: ()
    """What is done at each operation of libvirt's once the plan is done. It is neither journalled nor undone."""
    noticed: Callable[[Work, HostDevice, Process], Action | None] = lambda _work, _device, _daemon: None
    """An action that this libvirtd did on a device without libhook seeing it. It is undone at the guest's end."""
    is_back: Callable[[Work, Any, Held], None] = lambda _work, _action, _held: None
    """Remember what must be known after an action is undone."""
    shared: Callable[[Machine, str], tuple[str, Resource] | None] = lambda _machine, _name: None
    """The shared thing with this name, and the key of the actions that claim it. None where it is not of this kind."""
    max_seconds: float = 3600.0
    """An upper limit for ``seconds``, whatever the settings say."""
    after: Callable[[Host, Any], Host] = lambda host, _action: host
    """The host as it will be after this action. Used to plan what comes later."""
