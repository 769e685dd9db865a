# SPDX-License-Identifier: LGPL-2.1-or-later
"""That a unit is down, or up, as an action."""

from __future__ import annotations

from libhook.effects import systemd as acting
from libhook.errors import named, printable
from libhook.facts.mountpoint import path_of
from libhook.facts.unit import AS_WANTED
from libhook.light import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from typing import Any

NAME = "unit"
DOWN, UP = "down", "up"


class State(NamedTuple):
    """The state that a unit must have while the guest runs. With ``back``: as it was, if no other guest needs it."""

    unit: str
    state: str
    asked: str = ""
    """What the settings call it, if that is another name."""
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
        return named(self.unit)

    @property
    def provides(self) -> tuple[str, ...]:
        """That the unit is as wanted, and what comes with that."""
        return () if self.back else (f"{self.key} {self.state}", AS_WANTED, *self.frees)

    @property
    def summary(self) -> str:
        """See Action."""
        return "given back" if self.back else self.state

    def describe(self) -> tuple[str, ...]:
        """A line of what and why."""
        most = f"and wait for {acting.STOP_SECONDS:.0f} s at most"
        if path := path_of(self.unit) if self.state == DOWN else "":
            if self.back:
                return (printable(f"mount {named(path)} again if it was, and no other guest needs it away"),)
            return (printable(f"unmount {named(path)} ({named(self.unit)}), {most}"),)
        if self.back:
            return (printable(f"give {named(self.unit)} back its state, if no other guest needs it {self.state}"),)
        why = f" ({named(self.asked)})" if self.asked else ""
        if self.state == UP:
            return (printable(f"start {named(self.unit)}{why}"),)
        return (printable(f"stop {named(self.unit)}{why}, {most}"),)

    def to_json(self) -> dict[str, Any]:
        """See Action."""
        return {"kind": NAME, "unit": self.unit, "state": self.state}

    def show(self) -> dict[str, Any]:
        """See Action."""
        return {"action": NAME, "unit": self.unit, "state": None if self.back else self.state}
