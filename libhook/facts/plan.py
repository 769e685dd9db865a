# SPDX-License-Identifier: LGPL-2.1-or-later
"""What handlers answer to an event, and what is to be done.

The answers are data. The dry run prints them, and an event logs, journals and applies them. Every line that is printed
or logged comes from ``describe``. The kind of an action (kinds/) knows how to carry it out.
"""

from __future__ import annotations

from libhook.errors import harmless, printable
from libhook.light import TYPE_CHECKING, Literal, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

    from typing_extensions import TypeIs


class Action(Protocol):
    """Something to do. Each kind of action has its own type."""

    @property
    def kind(self) -> str:
        """The name of the kind."""

    @property
    def key(self) -> str:
        """What the action acts on: ``pci 0000:01:00.0``. A guest has at most one action per key at a time."""

    @property
    def subject(self) -> str:
        """What the action acts on, as a message names it: ``0000:01:00.0``."""

    @property
    def needs(self) -> tuple[str, ...]:
        """States that must be there first. The action comes after the actions of the plan that provide them."""

    @property
    def provides(self) -> tuple[str, ...]:
        """States that are there once the action is done."""

    @property
    def ours(self) -> bool:
        """Whether libhook carries the action out, rather than libvirt.

        libhook journals, checks and undoes libvirt's actions all the same.
        """

    @property
    def is_undone(self) -> bool:
        """Whether the action is journalled, and undone at the guest's end."""

    @property
    def summary(self) -> str:
        """What the action does, in a few words: ``e1000e -> vfio-pci``. Printable."""

    def describe(self) -> tuple[str, ...]:
        """A line of what and why, then one line for each write."""

    def to_json(self) -> dict[str, Any]:
        """The action as data for the journal: ``kind``, and the kind's own fields."""

    def show(self) -> dict[str, Any]:
        """The action as data for ``plan --json``: ``action``, and the kind's own fields."""


class Record(NamedTuple):
    """An audit record to send: the ``key`` of its device, the text, and the result it shows."""

    device: str
    text: str
    success: bool
    reason: Literal["start", "stop", "attach", "detach"] = "start"

    @property
    def ends(self) -> bool:
        """Whether the record is about the end of the guest's use of the device, not the beginning."""
        return self.reason in ("stop", "detach")

    def describe(self) -> tuple[str, ...]:
        """One line. The record's encoding leaves no byte in it that a terminal would obey."""
        return (f"record {self.text} res={'success' if self.success else 'failed'}",)


class Refusal(NamedTuple):
    """Why the guest may not have a device, and what would help."""

    device: str
    """The ``key`` of the guest's device that is refused, or "" for the whole guest."""
    reason: str
    remedy: str

    def describe(self) -> tuple[str, ...]:
        """One line."""
        return (printable(f"refuse: {self.line}"),)

    @property
    def line(self) -> str:
        """The line for the caller of ``virsh start``. LibhookError makes it printable."""
        return f"{self.said}: {self.remedy}"

    @property
    def said(self) -> str:
        """The reason. A foreign name in it, such as a process's, cannot begin what looks like a command to paste."""
        return harmless(self.reason)


class Condition(NamedTuple):
    """A refusal unless a state is there. The state is not there now.

    Where the plan provides the state, libhook looks again after the action that provides it.
    """

    state: str
    """The state in words: ``0000:03:00.0 is free``. The action that provides it uses the same words."""
    refusal: Refusal
    after: str = ""
    """The action that provides the state, in words. The code that makes the plan fills it in."""
    then: Refusal | Condition | None = None
    """What else speaks against the device, once the state is there."""

    def describe(self) -> tuple[str, ...]:
        """One line."""
        reason, remedy = self.refusal.said, self.refusal.remedy
        line = f"refuse unless {self.state}: {reason} (checked after: {self.after}): {remedy}"
        return (printable(line),)


class Warn(NamedTuple):
    """Something the administrator should know. libhook does nothing about it."""

    message: str

    def describe(self) -> tuple[str, ...]:
        """One line."""
        return (f"warning: {printable(self.message)}",)


class Stays(NamedTuple):
    """An action that cannot be undone now. It stays in the journal until a later event or ``libhook recover``."""

    action: Action
    reason: str
    message: str

    def describe(self) -> tuple[str, ...]:
        """One line."""
        return (f"warning: {printable(self.message)}",)


class Fault(NamedTuple):
    """A handler that failed, or gave an answer that this operation does not allow."""

    handler: str
    """The handler's name: ``vfio.prepare``."""
    what: str

    def describe(self) -> tuple[str, ...]:
        """One line."""
        return (f"fault: {printable(self.message)}",)

    @property
    def message(self) -> str:
        """The text for the log, or for the reason of a refusal."""
        return f"the handler {self.handler} {self.what}"


Verdict = Action | Record | Refusal | Condition | Warn | Stays | Fault
_NO_ACTIONS = (Record, Refusal, Condition, Warn, Stays, Fault)


def is_action(verdict: Verdict) -> TypeIs[Action]:
    """Whether the verdict is an action, of whatever kind."""
    return not isinstance(verdict, _NO_ACTIONS)


class Limit(NamedTuple):
    """How long a part of an event may take at most."""

    what: str
    """The name of a kind of action, or ``all else``."""
    seconds: float

    def __str__(self) -> str:
        """``pci 30 s``."""
        return f"{self.what} {self.seconds:g} s"


class Plan(NamedTuple):
    """What the handlers of one event want, in order."""

    verdicts: tuple[Verdict, ...]
    limits: tuple[Limit, ...] = ()
    """How long its parts may take, if there is something to do. The code that makes the plan fills it in."""

    def without(self, actions: Sequence[Action]) -> Plan:
        """The plan without these actions, and without the time that they may take."""
        kinds = {action.kind for action in actions}
        return Plan(
            tuple(verdict for verdict in self.verdicts if verdict not in actions),
            tuple(limit for limit in self.limits if limit.what not in kinds),
        )

    @property
    def seconds(self) -> float:
        """How long it may take at most. Undoing a start that fails has limits of its own."""
        return sum(limit.seconds for limit in self.limits)

    @property
    def refusals(self) -> tuple[Refusal, ...]:
        """The refusals. If there are any, nothing of the plan may be applied."""
        return tuple(verdict for verdict in self.verdicts if isinstance(verdict, Refusal))

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """The states to look at again once part of the plan is done."""
        return tuple(verdict for verdict in self.verdicts if isinstance(verdict, Condition))

    @property
    def actions(self) -> tuple[Action, ...]:
        """What is to be done, by libhook or by libvirt."""
        return tuple(verdict for verdict in self.verdicts if is_action(verdict))

    @property
    def stage(self) -> tuple[Action, ...]:
        """The actions to do before anything is looked at again.

        Without conditions these are all actions, else those up to the last that a condition waits for. They are done
        in the plan's order, so that what may fail cheaply fails before a desktop is down.
        """
        waited = {condition.state for condition in self.conditions}
        if not waited:
            return self.actions
        last = max((at for at, action in enumerate(self.actions) if waited & set(action.provides)), default=-1)
        return self.actions[: last + 1]

    @property
    def stays(self) -> tuple[Stays, ...]:
        """What cannot be undone now."""
        return tuple(verdict for verdict in self.verdicts if isinstance(verdict, Stays))

    @property
    def records(self) -> tuple[Record, ...]:
        """The audit records."""
        return tuple(verdict for verdict in self.verdicts if isinstance(verdict, Record))

    @property
    def warnings(self) -> tuple[Warn, ...]:
        """What the administrator should know."""
        return tuple(verdict for verdict in self.verdicts if isinstance(verdict, Warn))

    @property
    def faults(self) -> tuple[Fault, ...]:
        """The handlers that failed."""
        return tuple(verdict for verdict in self.verdicts if isinstance(verdict, Fault))

    def describe(self) -> tuple[str, ...]:
        """Every line of the plan, as the dry run prints it. The last says how long it may take."""
        verdicts: Iterable[Verdict] = self.verdicts
        if len(self.refusals) > 1:
            from libhook.facts.joined import said_once

            verdicts = said_once(verdicts)
        lines = describe(verdicts)
        return (
            (*lines, f"may take up to {self.seconds:g} s: {', '.join(map(str, self.limits))}") if self.limits else lines
        )


def describe(verdicts: Iterable[Verdict]) -> tuple[str, ...]:
    """The lines of these verdicts, in order."""
    return tuple(line for verdict in verdicts for line in verdict.describe())
