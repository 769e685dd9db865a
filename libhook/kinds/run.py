# SPDX-License-Identifier: LGPL-2.1-or-later
"""Commands of the administrator's own, each with its undo. They are run once, in the order of the settings."""

from __future__ import annotations

from libhook.errors import BadInput
from libhook.facts import command as facts
from libhook.facts.command import Command
from libhook.facts.config import Config
from libhook.facts.plan import Verdict
from libhook.facts.situation import Situation
from libhook.facts.unit import AS_WANTED
from libhook.kinds.command import RUN, Run, carry_out, refusal, seconds, untrusted, way_back
from libhook.kinds.kind import Kind, Work
from libhook.light import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

NAME = RUN
_SETTING = "run"


def read(value: Mapping[str, Any]) -> Run:
    """See Kind."""
    taps = value.get("taps", [])
    if not (isinstance(taps, list) and all(isinstance(tap, str) for tap in taps)):
        raise BadInput("a command with names of interfaces that are none")
    return Run(facts.from_journal({key: inner for key, inner in value.items() if key != "taps"}), taps=tuple(taps))


def look(work: Work) -> Mapping[str, str]:
    """See Kind. Why root may not run a command, and what would help, by the command's name."""
    return untrusted(work, _asked(work.config))


def wanted(situation: Situation) -> Iterator[Verdict]:
    """See Kind. The commands of this operation, without what is journalled already. At ``reconnect`` those again."""
    domain, operation = situation.domain, situation.event.operation.name
    devices = tuple(str(device.pci) for device in domain.pci)
    if operation == "reconnect":
        # What is journalled for this guest counts, not what the settings say by now: so its undo is the right one.
        for action in situation.held.actions if situation.held else ():
            if isinstance(action, Run) and action.command.reconnect:
                yield action._replace(guest=domain.name, devices=devices, taps=domain.taps, again=True)
        return
    done = {action.key for action in situation.held.actions} if situation.held else set[str]()
    taps = domain.taps if operation != "prepare" else ()  # before that they are the wishes of the XML's author
    complaints = situation.looked.get(NAME, {})
    for command in sorted(_asked(situation.config), key=lambda one: bool(one.after)):
        action = Run(command, domain.name, devices, taps, needs=(AS_WANTED,) if command.after else ())
        if complaint := complaints.get(command.name):
            yield refusal(action, complaint)
        if command.at == operation and action.key not in done:
            yield action


def _asked(config: Config) -> list[Command]:
    return [facts.parse(name, table) for name, table in config.actions.get(_SETTING, {}).items()]


KIND = Kind(NAME, read, seconds, carry_out, way_back, look=look, wanted=wanted, at=(*facts.AT, "reconnect"))
