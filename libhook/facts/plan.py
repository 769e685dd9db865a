# SPDX-License-Identifier: LGPL-2.1-or-later
"""What handlers say of an event, and what is to be done: data, printed by the dry run, logged, journalled, applied.

Every line that is printed or logged comes from ``describe``. What an action does is its kind's (kinds/).
"""

from __future__ import annotations

from libhook.errors import printable
from libhook.light import TYPE_CHECKING, Literal, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from typing_extensions import TypeIs


class Action(Protocol):
    """Something to do, of some kind."""

    @property
    def kind(self) -> str:
        """The kind's name."""

    @property
    def key(self) -> str:
        """What it acts on: ``pci 0000:01:00.0``, by which a guest has at most one action at a time."""

    @property
    def subject(self) -> str:
        """The same as a message names it: ``0000:01:00.0``."""

    @property
    def needs(self) -> tuple[str, ...]:
        """States that must be there before: it comes after the actions of the plan that provide them."""

    @property
    def provides(self) -> tuple[str, ...]:
        """States that are there once it is done."""

    @property
    def ours(self) -> bool:
        """Whether libhook does it; otherwise libvirt will, and it is journalled, checked and given back."""

    @property
    def is_undone(self) -> bool:
        """Whether it is journalled, and undone at the end."""

    @property
    def summary(self) -> str:
        """What it does with that, in a few words: ``e1000e -> vfio-pci``. Printable."""

    def describe(self) -> tuple[str, ...]:
        """A line of what and why, then one for each write."""

    def to_json(self) -> dict[str, Any]:
        """For the journal: ``kind``, and the kind's own fields."""

    def show(self) -> dict[str, Any]:
        """For ``plan --json``: ``action``, and the kind's own fields."""


class Record(NamedTuple):
    """An audit record to send: of which device (its ``key``), the text, and the result it shall say."""

    device: str
    text: str
    success: bool
    reason: Literal["start", "stop", "attach", "detach"] = "start"

    @property
    def ends(self) -> bool:
        """It tells of the device's end with the guest, rather than of its beginning."""
        return self.reason in ("stop", "detach")

    def describe(self) -> tuple[str, ...]:
        """One line; the text holds no byte that a terminal would obey, its encoding sees to that."""
        return (f"record {self.text} res={'success' if self.success else 'failed'}",)


class Refusal(NamedTuple):
    """Why the guest may not have a device, and what would help."""

    device: str
    """``key`` of the guest's device that is refused; "" where it is the whole guest."""
    reason: str
    remedy: str

    def describe(self) -> tuple[str, ...]:
        """One line."""
        return (f"refuse: {self.line}",)

    @property
    def line(self) -> str:
        """For the caller of ``virsh start``."""
        return printable(f"{self.reason}: {self.remedy}")


class Condition(NamedTuple):
    """Refuse unless this state is there. It is not there now: where the plan provides it, look again after that."""

    state: str
    """As one would say it: ``0000:03:00.0 is free``. An action provides it by the same words."""
    refusal: Refusal
    after: str = ""
    """What provides it. Whoever makes the plan fills it in."""
    besides: Refusal | Condition | None = None
    """What speaks against the device once the state is there."""

    def describe(self) -> tuple[str, ...]:
        """One line."""
        line = f"refuse unless {self.state}: {self.refusal.line} (looked at after: {self.after})"
        return (printable(line),)


class Warn(NamedTuple):
    """Something the administrator should know; nothing is done about it."""

    message: str

    def describe(self) -> tuple[str, ...]:
        """One line."""
        return (f"warning: {printable(self.message)}",)


class Stays(NamedTuple):
    """An action that cannot be undone now. It stays in the journal for who comes next."""

    action: Action
    reason: str
    message: str

    def describe(self) -> tuple[str, ...]:
        """One line."""
        return (f"warning: {printable(self.message)}",)


class Fault(NamedTuple):
    """A handler that failed, or answered what has no place in this operation."""

    handler: str
    """Its name: ``vfio.prepare``."""
    what: str

    def describe(self) -> tuple[str, ...]:
        """One line."""
        return (f"fault: {printable(self.message)}",)

    @property
    def message(self) -> str:
        """For the log, or as the reason of a refusal."""
        return f"the handler {self.handler} {self.what}"


Verdict = Action | Record | Refusal | Condition | Warn | Stays | Fault
_NO_ACTIONS = (Record, Refusal, Condition, Warn, Stays, Fault)


def is_action(verdict: Verdict) -> TypeIs[Action]:
    """Whether it is something to do, of whatever kind."""
    return not isinstance(verdict, _NO_ACTIONS)


class Plan(NamedTuple):
    """What the handlers of one event want, in order."""

    verdicts: tuple[Verdict, ...]

    @property
    def refusals(self) -> tuple[Refusal, ...]:
        """Not empty: nothing of the plan may be applied."""
        return tuple(verdict for verdict in self.verdicts if isinstance(verdict, Refusal))

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """What is looked at again once something of the plan is done."""
        return tuple(verdict for verdict in self.verdicts if isinstance(verdict, Condition))

    @property
    def actions(self) -> tuple[Action, ...]:
        """What is to be done, by libhook or libvirt."""
        return tuple(verdict for verdict in self.verdicts if is_action(verdict))

    @property
    def stage(self) -> tuple[Action, ...]:
        """What is done before anything is looked at again: all, or what the conditions wait for."""
        waited = {condition.state for condition in self.conditions}
        if not waited:
            return self.actions
        stage: list[Action] = []
        for action in reversed(self.actions):  # each comes after what it needs
            if waited & set(action.provides):
                stage.insert(0, action)
                waited |= set(action.needs)
        return tuple(stage)

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
        """Handlers that failed."""
        return tuple(verdict for verdict in self.verdicts if isinstance(verdict, Fault))

    def describe(self) -> tuple[str, ...]:
        """Every line of it: what the dry run prints."""
        return describe(self.verdicts)


def describe(verdicts: Iterable[Verdict]) -> tuple[str, ...]:
    """The lines of these, in order."""
    return tuple(line for verdict in verdicts for line in verdict.describe())
