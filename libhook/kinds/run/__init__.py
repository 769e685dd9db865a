# SPDX-License-Identifier: LGPL-2.1-or-later
"""Commands of the administrator's own, each with its undo. They are run once, in the order of the settings.

Nothing can tell what a command has changed. So its way back is a second command, which is run at the guest's end, and
after a crash perhaps once more.

action.py   a command, or its undo, as an action
"""

from __future__ import annotations

import errno
import os
import time

from libhook.children import tracks
from libhook.children.child import Deadline
from libhook.children.tracks import Late, Pause, Step, paper
from libhook.effects import commands, systemd
from libhook.effects.locks import is_locked
from libhook.errors import DISK_ANSWERS, BadInput, LibhookError, printable
from libhook.facts import command as facts
from libhook.facts.command import Command
from libhook.facts.config import Config
from libhook.facts.entry import Held
from libhook.facts.launch import Launch
from libhook.facts.plan import Action, Refusal, Stays, Verdict, Warn
from libhook.facts.situation import Situation
from libhook.facts.unit import AS_WANTED
from libhook.kinds.kind import Failure, Kind, Outcome, Work
from libhook.kinds.run.action import NAME, Run
from libhook.light import TYPE_CHECKING, partial
from libhook.look import executables

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any

    from libhook.children.tracks import Track

_KILLED = errno.EINTR
"""The result of a child that was killed."""
_LOOK_AGAIN = 0.05


def read(value: Mapping[str, Any]) -> Run:
    """See Kind."""
    taps = value.get("taps", [])
    if not (isinstance(taps, list) and all(isinstance(tap, str) for tap in taps)):
        raise BadInput("a command with names of interfaces that are none")
    return Run(facts.from_journal({key: inner for key, inner in value.items() if key != "taps"}), taps=tuple(taps))


def look(work: Work) -> Mapping[str, str]:
    """See Kind. Why root may not run a command, and what would help, by the command's name."""
    return _untrusted(work, _asked(work.config))


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
        frees = tuple(f"{device} is free" for device in devices) if command.at == "prepare" and command.command else ()
        needs = (AS_WANTED,) if command.after else ()
        action = Run(command, domain.name, devices, taps, needs=needs, provides=frees)
        if complaint := complaints.get(command.name):
            yield _refusal(action, complaint)
        if command.at == operation and action.key not in done:
            yield action


def _asked(config: Config) -> list[Command]:
    return [facts.parse(name, table) for name, table in config.actions.get(NAME, {}).items()]


def _untrusted(work: Work, asked: Sequence[Command]) -> dict[str, str]:
    """Of these commands those that may not be run, by name: why, and what would help."""
    (found,) = tracks.run([_seen(work, asked)], work.deadline)
    if isinstance(found, LibhookError):
        raise found
    return found


def _seen(work: Work, asked: Sequence[Command]) -> Track[dict[str, str] | LibhookError]:
    try:
        with paper() as sheet:
            code = yield Step(partial(_note, work, asked, sheet.descriptor), keep=sheet.descriptor, looks=True)
            answers = sheet.lines()
    except Late:
        code, answers = errno.ETIMEDOUT, []
    if code or len(answers) != len(asked):
        what = ", ".join(program for one in asked for program in one.programs)
        return LibhookError(f"{what} cannot be looked at in time", DISK_ANSWERS)
    return {one.name: answer for one, answer in zip(asked, answers, strict=True) if answer}


def _note(work: Work, asked: Sequence[Command], sheet: int) -> None:
    for one in asked:
        os.write(sheet, f"{_complaint(work, one, one.programs)}\n".encode("utf-8", "replace"))


def _refusal(action: Run, complaint: str) -> Refusal:
    """With what ``_untrusted`` says of the action's command."""
    reason, _, remedy = complaint.rpartition(": ")
    return Refusal("", f"{action.subject}: {reason}", remedy)


def _complaint(work: Work, one: Command, programs: Sequence[str]) -> str:
    """Why these may not be run, or "". What other users run may be their own."""
    if one.background and not systemd.runs(work.machine):
        return "it would run in the background, which needs systemd: take background out of the settings"
    number = executables.user_id(one.user) if one.user else 0
    if number is None and not work.machine.root:  # a simulated host has no users of its own
        return f"there is no user {one.user}: correct the user in the settings"
    if number != 0:
        return ""
    found = (executables.complaint(work.machine, program) for program in programs)
    return next((printable(": ".join(complaint)) for complaint in found if complaint), "")


def carry_out(work: Work, actions: Sequence[Run]) -> list[Outcome]:
    """See Kind. One after the other. After a failure that refuses the start, no other command is run."""
    if any(action.again for action in actions):
        return _once_more(work, actions)
    outcomes: list[Outcome] = []
    for action in actions:
        outcomes.append(_one(work, action))
        if outcomes[-1].failure and not action.back:
            break
    return outcomes


def _once_more(work: Work, actions: Sequence[Run]) -> list[Outcome]:
    """All undos, the last first, then all commands. What may not be run any more is not undone either."""
    wrong = _untrusted(work, [action.command for action in actions])
    able = [action for action in actions if action.command.name not in wrong]
    undone = {action.key: _one(work, action._replace(back=True)) for action in reversed(able)}
    outcomes = [Outcome(action, None, 0.0, left=wrong.get(action.command.name, "")) for action in actions]
    for at, action in enumerate(actions):
        if action in able:
            first, then = undone[action.key], _one(work, action)
            left = "; ".join(filter(None, (first.left, then.left)))
            outcomes[at] = Outcome(action, None, first.milliseconds + then.milliseconds, left=left)
    return outcomes


def _one(work: Work, action: Run) -> Outcome:
    (outcome,) = tracks.run([_carried_out(work, action)], Deadline.after(_most(action.command)))
    return outcome


def way_back(_work: Work, held: Held, actions: Sequence[Run]) -> Iterator[Action | Stays | Warn]:
    """See Kind. Whatever is journalled may have run."""
    devices = tuple(map(str, held.addresses))
    yield from (action._replace(back=True, guest=held.name, devices=devices) for action in reversed(actions))


def _carried_out(work: Work, action: Run) -> Track[Outcome]:
    begun, one = time.monotonic(), action.command
    failure: Failure | None
    try:
        failure = yield from _run(work, action)
    except Late:
        failure = Failure(f"{action.subject} does not end in time", _remedy(work, action))
    milliseconds = (time.monotonic() - begun) * 1000
    if failure and (action.back or action.again or one.on_failure == "log" or one.at == "started"):
        # Trying an undo again would not help. What failed here must not keep the guest from its next start.
        return Outcome(action, None, milliseconds, left=f"{failure.reason}: {failure.remedy}")
    return Outcome(action, failure, milliseconds)


def _run(work: Work, action: Run) -> Track[Failure | None]:
    """Run it under a mark. An undo may be run twice, so it is begun anew if somebody kills the child that runs it."""
    one, mark = action.command, f"{NAME}-{work.guest}-{action.command.name}"
    argv = one.undo if action.back else one.command
    code = _KILLED
    while code == _KILLED:
        if action.back:
            yield from _end(work, one, mark)
        if not argv:
            return None
        begun = time.monotonic()
        with paper() as sheet:
            begin = partial(_begin, work, action, argv, sheet.descriptor)
            path = work.state.in_flight_path(mark)
            code = yield Step(begin, path, unmarked=action.back, keep=sheet.descriptor)
            status, *said = sheet.lines() or [""]
        if not action.back:
            break
    if status == "0":
        return None
    if code or said:
        why = said[0] if said else os.strerror(code)
        return Failure(
            printable(f"{action.subject} cannot be executed: {why}"), f"correct {action.kind} in the settings"
        )
    if time.monotonic() - begun >= one.seconds:
        return Failure(f"{action.subject} has not ended within {one.seconds:g} s", _remedy(work, action))
    return Failure(f"{action.subject} has ended with status {status}", _remedy(work, action))


def _end(work: Work, one: Command, mark: str) -> Track[None]:
    """End what is left of a command and its undo, and what the child of a killed hook is about to begin."""
    units = [facts.unit(work.guest, one.name, undo=undo) for undo in (False, True)]
    end = partial(commands.way(work.machine).end, work.machine, units)
    while True:
        is_at_work = is_locked(work.state.in_flight_path(mark))  # before: that child may begin it, and be gone after
        if (yield Step(end)) != _KILLED and not is_at_work:
            break
        yield Pause(_LOOK_AGAIN)
    work.state.remove("in-flight", mark)


def _begin(work: Work, action: Run, argv: Sequence[str], sheet: int) -> None:
    """In the child: run it, and note its status, then what systemd-run says."""
    one = action.command
    environment = {
        "LIBHOOK_GUEST": action.guest,
        "LIBHOOK_UUID": work.guest,
        "LIBHOOK_OPERATION": "reconnect" if action.again else "release" if action.back else one.at,
        "LIBHOOK_DEVICES": " ".join(action.devices),
        "LIBHOOK_TAPS": " ".join(action.taps),
    }
    if complaint := _complaint(work, one, argv[:1]):  # since prepare somebody may have changed the program's rights
        os.write(sheet, f"1\n{complaint}\n".encode("utf-8", "replace"))
        return
    unit = facts.unit(work.guest, one.name, undo=action.back)
    seconds = None if one.background and not action.back else one.seconds
    wait = action.back or action.again or one.is_waited_for
    launch = Launch(tuple(argv), environment, work.document, one.user)
    status, said = commands.way(work.machine).run(work.machine, unit, launch, seconds=seconds, wait=wait)
    if status == errno.ETIMEDOUT:
        raise OSError(status, os.strerror(status))
    os.write(sheet, f"{status}\n{said}".rstrip("\n").encode("utf-8", "replace") + b"\n")


def _remedy(work: Work, action: Run) -> str:
    where = commands.way(work.machine).log_of(facts.unit(work.guest, action.command.name, undo=action.back))
    return (not action.back and action.command.reason) or f"see {where}"


def _seconds(_config: Config, actions: Sequence[Run]) -> float:
    """See Kind."""
    return sum((2 if action.again else 1) * _most(action.command) for action in actions)


def _most(one: Command) -> float:
    return one.seconds + 2 * commands.MARGIN  # the second is for ending what is left


KIND = Kind(NAME, read, _seconds, carry_out, way_back, look=look, wanted=wanted, at=(*facts.AT, "reconnect"))
__all__ = ["KIND", "Run", "carry_out", "read"]
