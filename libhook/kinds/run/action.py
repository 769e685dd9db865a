# SPDX-License-Identifier: LGPL-2.1-or-later
"""A command of the administrator's own, or its undo, as an action."""

from __future__ import annotations

from libhook.errors import pasted, printable
from libhook.facts.command import Command
from libhook.light import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

NAME = "run"
_WHEN = {"prepare": "", "start": "once QEMU is there, ", "started": "once the guest runs, "}


class Run(NamedTuple):
    """Run a command. With ``back``: end what is left of it, and run its undo."""

    command: Command
    guest: str = ""
    """The guest's name."""
    devices: tuple[str, ...] = ()
    """The addresses of its PCI devices."""
    taps: tuple[str, ...] = ()
    """The host's names of its network interfaces, as far as they were known when it was run."""
    back: bool = False
    again: bool = False
    """The guest runs, and its command has run: undo it, and run it once more."""
    kind: str = NAME
    ours: bool = True
    needs: tuple[str, ...] = ()
    provides: tuple[str, ...] = ()
    """That no process has the devices open any more: it may have ended what had."""

    @property
    def is_undone(self) -> bool:
        """Also without an undo: so it is run once, however often the plan is made, and ended if its hook was killed."""
        return not self.again

    @property
    def key(self) -> str:
        """See Action."""
        return f"{self.kind} {self.command.name}"

    @property
    def subject(self) -> str:
        """See Action."""
        return f"the command {self.command.name}"

    @property
    def summary(self) -> str:
        """See Action."""
        return printable(_shown(self.command.command) or "to be undone")

    def describe(self) -> tuple[str, ...]:
        """See Action. What is run, by whom, and for how long."""
        one = self.command
        by = f" as {one.user}" if one.user else ""
        most = f", for {one.seconds:g} s at most"
        if self.back:
            if not one.undo:
                return (f"end what is left of {self.subject}",)
            return (printable(f"undo {self.subject}: {_shown(one.undo)}{by}{most}"),)
        if not one.command:
            return (printable(f"at the guest's end run {_shown(one.undo)}{by}{most}"),)
        if self.again:
            first = f"once more {_shown(one.undo)}, then " if one.undo else "once more "
            return (printable(f"{first}{_shown(one.command)}{by}{most} each"),)
        how = most if one.is_waited_for else f"{most}, and do not wait for it"
        how = ", in the background as long as the guest lives" if one.background else how
        more = [printable(f"  undone by {_shown(one.undo)}")] if one.undo else []
        more += ["  and again when libvirtd has been started anew"] if one.reconnect else []
        return (printable(f"{_WHEN[one.at]}run {_shown(one.command)}{by}{how}"), *more)

    def to_json(self) -> dict[str, Any]:
        """See Action."""
        taps = {"taps": list(self.taps)} if self.taps else {}
        return {"kind": self.kind, **self.command.to_json(), **taps}

    def show(self) -> dict[str, Any]:
        """See Action."""
        argv = self.command.undo if self.back else self.command.command
        when = "release" if self.back else "reconnect" if self.again else self.command.at
        return {"action": self.kind, "name": self.command.name, "undo": self.back, "at": when, "command": list(argv)}


def _shown(argv: Sequence[str]) -> str:
    return " ".join(map(pasted, argv))
