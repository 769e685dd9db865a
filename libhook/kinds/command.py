# SPDX-License-Identifier: LGPL-2.1-or-later
"""A command of the administrator's own as an action, and how it is run: for ``run`` and ``require``.

Nothing can tell what a command has changed. So its way back is a second command, which is run at the guest's end, and
after a crash perhaps once more. A question, as ``require`` has them, has changed nothing.
"""

from __future__ import annotations

import errno
import os
import time

from libhook.children import tracks
from libhook.children.child import Deadline
from libhook.children.tracks import Late, Pause, Step, paper
from libhook.effects import commands
from libhook.effects.locks import is_locked
from libhook.errors import DISK_ANSWERS, LibhookError, pasted, printable
from libhook.facts import command as facts
from libhook.facts.command import Command
from libhook.facts.config import Config
from libhook.facts.entry import Held
from libhook.facts.launch import Launch
from libhook.facts.plan import Action, Refusal, Stays, Warn
from libhook.kinds.kind import Failure, Outcome, Work
from libhook.light import TYPE_CHECKING, NamedTuple, partial
from libhook.look import executables

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

    from libhook.children.tracks import Track

RUN = "run"
"""The kind whose commands are journalled, and undone."""
_KILLED = errno.EINTR
"""The result of a child that was killed."""
_LOOK_AGAIN = 0.05
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
    kind: str = RUN
    ours: bool = True
    needs: tuple[str, ...] = ()
    provides: tuple[str, ...] = ()

    @property
    def is_question(self) -> bool:
        """Whether it is of ``require``. It has changed nothing, and ends by itself."""
        return self.kind != RUN

    @property
    def is_undone(self) -> bool:
        """Also without an undo: so it is run once, however often the plan is made, and ended if its hook was killed."""
        return not (self.is_question or self.again)

    @property
    def key(self) -> str:
        """See Action."""
        return f"{self.kind} {self.command.name}"

    @property
    def subject(self) -> str:
        """See Action."""
        return f"the command {f'{self.kind}.' if self.is_question else ''}{self.command.name}"

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
        if self.is_question:
            return (printable(f"refuse unless {_shown(one.command)} ends with status 0{most}"),)
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


def untrusted(work: Work, asked: Sequence[Command]) -> dict[str, str]:
    """Of these commands those that may not be run, by name: why, and what would help."""
    commands.expect_possible(work.machine)
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


def refusal(action: Run, complaint: str) -> Refusal:
    """With what ``untrusted`` says of the action's command."""
    reason, _, remedy = complaint.rpartition(": ")
    return Refusal("", f"{action.subject}: {reason}", remedy)


def _complaint(work: Work, one: Command, programs: Sequence[str]) -> str:
    """Why these may not be run, or "". What other users run may be their own."""
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
    wrong = untrusted(work, [action.command for action in actions])
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
    one, mark = action.command, f"{RUN}-{work.guest}-{action.command.name}"
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
            path = None if action.is_question else work.state.in_flight_path(mark)
            code = yield Step(begin, path, unmarked=action.back, keep=sheet.descriptor, looks=action.is_question)
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
    unit = _unit(work, action, os.urandom(4).hex())
    seconds = None if one.background and not action.back else one.seconds
    wait = action.back or action.again or one.is_waited_for
    launch = Launch(tuple(argv), environment, work.document, one.user)
    status, said = commands.way(work.machine).run(work.machine, unit, launch, seconds=seconds, wait=wait)
    if status == errno.ETIMEDOUT:
        raise OSError(status, os.strerror(status))
    os.write(sheet, f"{status}\n{said}".rstrip("\n").encode("utf-8", "replace") + b"\n")


def _remedy(work: Work, action: Run) -> str:
    where = commands.way(work.machine).log_of(_unit(work, action, "*"))
    return (not action.back and action.command.reason) or f"see {where}"


def _unit(work: Work, action: Run, number: str) -> str:
    """The transient unit. Only a question is another each time."""
    if action.is_question:
        return facts.unit_of_question(work.guest, action.command.name, number)
    return facts.unit(work.guest, action.command.name, undo=action.back)


def _shown(argv: Sequence[str]) -> str:
    return " ".join(map(pasted, argv))


def seconds(_config: Config, actions: Sequence[Run]) -> float:
    """See Kind."""
    return sum((2 if action.again else 1) * _most(action.command) for action in actions)


def _most(one: Command) -> float:
    return one.seconds + 2 * commands.MARGIN  # the second is for ending what is left
