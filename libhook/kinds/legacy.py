# SPDX-License-Identifier: LGPL-2.1-or-later
"""The administrator's old hook scripts, run as libvirt ran them, but with a deadline and their output in the log.

At ``prepare`` they are an action. Its way back is what libvirt would call after that: ``release``. So they stand in
their place among the other actions, in both directions. libvirt's own calls after a start that libhook has refused and
undone come to nothing. All other operations are passed on once libhook is done with them (``told``).
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
from libhook.errors import DISK_ANSWERS, LibhookError, named, printable
from libhook.facts import legacy as facts
from libhook.facts.config import Config
from libhook.facts.entry import Held
from libhook.facts.event import Event
from libhook.facts.launch import Launch
from libhook.facts.legacy import FAILED, PREPARE, Call, Legacy
from libhook.facts.plan import Action, Refusal, Stays, Verdict, Warn
from libhook.facts.situation import Situation
from libhook.kinds.kind import Failure, Kind, Outcome, Work
from libhook.light import TYPE_CHECKING, NamedTuple, partial
from libhook.look import oldscripts
from libhook.look.oldscripts import Script, Unusable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any

    from libhook.children.tracks import Track

NAME = "legacy"
_SETTING = "legacy"
_KILLED = errno.EINTR
_LOOK_AGAIN = 0.05
_MARGIN = 90.0
"""Seconds beside those of the scripts: for ending what is late, and for reading the log."""


class Old(NamedTuple):
    """Run the old scripts of these calls."""

    legacy: Legacy
    guest: str = ""
    """The guest's name."""
    calls: tuple[Call, ...] = (PREPARE,)
    frees: tuple[str, ...] = ()
    """States that may come with it, such as devices that no process has open any more."""
    back: bool = False
    kind: str = NAME
    ours: bool = True
    is_undone: bool = True
    """So they are run once, however often the plan is made, and run again for the guest's end."""
    needs: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """See Action."""
        return f"{NAME} {self.legacy.path}"

    @property
    def subject(self) -> str:
        """See Action."""
        return f"the old script {named(self.legacy.path)}"

    @property
    def provides(self) -> tuple[str, ...]:
        """See Action. Scripts for graphics cards unload drivers (ANY_DRIVER_OUT in kinds/pci/move.py)."""
        return (*self.frees, "any driver may be out")

    @property
    def summary(self) -> str:
        """See Action."""
        return "run" if self.back else "to be run at the guest's end, too"

    def describe(self) -> tuple[str, ...]:
        """See Action."""
        calls, most = ", then ".join(map(str, self.calls)), f"for {self.legacy.seconds:g} s at most"
        return (printable(f"run the old script {named(self.legacy.path)} ({calls}), {most}"),)

    def to_json(self) -> dict[str, Any]:
        """See Action."""
        return {"kind": NAME, "path": self.legacy.path, "seconds": self.legacy.seconds}

    def show(self) -> dict[str, Any]:
        """See Action."""
        return {"action": NAME, "path": self.legacy.path, "calls": [list(call) for call in self.calls]}


def read(value: Mapping[str, Any]) -> Old:
    """See Kind."""
    return Old(facts.from_journal(value))


def look(work: Work) -> tuple[bool, tuple[str, str] | None]:
    """See Kind. Whether there is a script to run at ``prepare``, and why root may not run it and what would help.

    A child looks: a script may be on a disk or server that does not answer.
    """
    asked = _asked(work.config)
    if not asked.path:
        return False, None
    (answer,) = tracks.run([_seen(work, asked)], work.deadline)
    if answer is None:
        raise LibhookError(f"{asked.path} cannot be looked at in time", DISK_ANSWERS)
    if answer in ("some", "none"):
        return answer == "some", None
    reason, _, remedy = answer.rpartition(": ")
    return False, (reason, remedy)


def _seen(work: Work, asked: Legacy) -> Track[str | None]:
    with paper() as sheet:
        try:
            yield Step(partial(_note, work, asked, sheet.descriptor), keep=sheet.descriptor, looks=True)
        except Late:
            return None
        return next(iter(sheet.lines()), None)


def _note(work: Work, asked: Legacy, sheet: int) -> None:
    try:
        answer = "some" if oldscripts.find(work.machine, asked.path, work.name, PREPARE) else "none"
    except Unusable as error:
        answer = ": ".join(map(printable, error.args))
    os.write(sheet, f"{answer}\n".encode("utf-8", "replace"))


def wanted(situation: Situation) -> Iterator[Verdict]:
    """See Kind. Also where there is nothing to run at ``prepare``: there may be at the guest's end."""
    asked = _asked(situation.config)
    if not asked.path:
        return
    some, complaint = situation.looked[NAME]
    if complaint:
        yield Refusal("", *complaint)
    mounts = (mount for uses in situation.host.uses.values() for use in uses for mount in use.mounts)
    freed = (
        *(f"{device.pci} is free" for device in situation.domain.pci),
        *(f"{one} is not mounted" for one in mounts),
    )
    frees = freed if some else ()
    action = Old(asked, situation.event.guest, frees=frees)
    if not (situation.held and action.key in situation.held.actions_by_key()):
        yield action


def told(config: Config, event: Event, held: Held | None) -> Iterator[Old]:
    """See Kind. What libvirt calls, but for ``prepare``, and what the way back has called or will call."""
    asked, name = _asked(config), event.operation.name
    if not asked.path or name == PREPARE.operation:
        return
    if held and name in ("stopped", "release"):
        begun = any(action.kind == NAME for action in held.actions)
        is_undone = not begun and held.phase != "started"
        if is_undone or (begun and name == "release"):
            return
    yield Old(asked, event.guest, (facts.call(name, event.extra),))


def _asked(config: Config) -> Legacy:
    return facts.parse(config.actions[_SETTING])


def way_back(work: Work, held: Held, actions: Sequence[Old]) -> Iterator[Action | Stays | Warn]:
    """See Kind. Whatever is journalled may have run.

    Only at ``release`` does libvirt tell how the guest has ended. After any other end it calls no hook any more, or it
    finds nothing to do then.
    """
    event = work.event
    calls = (facts.call(event.operation.name, event.extra),) if event else FAILED
    yield from (action._replace(back=True, guest=held.name, calls=calls) for action in reversed(actions))


def carry_out(work: Work, actions: Sequence[Old]) -> list[Outcome]:
    """See Kind."""
    return [_outcome(work, action) for action in actions]


def _outcome(work: Work, action: Old) -> Outcome:
    begun = time.monotonic()
    ((reason, printed),) = tracks.run([_run(work, action)], Deadline.after(len(action.calls) * _most(action.legacy)))
    milliseconds, remedy = (time.monotonic() - begun) * 1000, f"see {commands.way(work.machine).log_of()}"
    if reason and action.back:
        # Another try would not help. What failed here must not keep the guest from its next start.
        return Outcome(action, None, milliseconds, left=f"{reason}: {remedy}")
    return Outcome(action, Failure(reason, remedy) if reason else None, milliseconds, printed=printed)


def _run(work: Work, action: Old) -> Track[tuple[str, bytes]]:
    """Run it. Return why it has failed, or "", and what is for libvirt's stdout.

    An end may come twice, so it is begun anew if somebody kills the child that runs it.
    """
    is_prepare = action.calls == (PREPARE,)
    # A call that is only passed on may come while another is on its way, so its mark is its own.
    mark = _mark(work) if action.back or is_prepare else f"{_mark(work)}-{os.getpid()}"
    path = work.state.in_flight_path(mark)
    try:
        while True:
            if action.back:
                yield from _end(work)
            with paper() as sheet:
                task = partial(_begin, work, action, os.getpid(), sheet.descriptor)
                code = yield Step(task, path, unmarked=not is_prepare, keep=sheet.descriptor)
                answer = os.pread(sheet.descriptor, os.fstat(sheet.descriptor).st_size, 0)
            if not (action.back and code == _KILLED):
                break
    except Late:
        code, answer = errno.ETIMEDOUT, b""
    if code:
        return printable(f"{action.subject} cannot be executed: {os.strerror(code)}"), b""
    reason, _, printed = answer.partition(b"\n")
    return reason.decode(), b"" if reason else printed


def _mark(work: Work) -> str:
    return f"{NAME}-{work.guest}"


def _end(work: Work) -> Track[None]:
    """End the scripts that run, and what the children of killed hooks are about to begin."""
    kill = Step(partial(commands.way(work.machine).kill_running, work.machine, facts.units(work.guest)))
    while True:
        # Looked at before: such a child may begin one, and be gone.
        are_at_work = any(is_locked(work.state.in_flight_path(name)) for name in _marks(work))
        if (yield kill) != _KILLED and not are_at_work:
            break
        yield Pause(_LOOK_AGAIN)
    for name in _marks(work):
        work.state.remove("in-flight", name)


def _marks(work: Work) -> list[str]:
    return [name for name in work.state.names("in-flight") if name.startswith(_mark(work))]


def _begin(work: Work, action: Old, parent: int, sheet: int) -> None:
    """In the child: run all scripts of all calls. Note the last failure, as libvirt does, and what was printed."""
    whole = Deadline.after(len(action.calls) * action.legacy.seconds)
    reason, printed = "", b""
    for call in action.calls:
        deadline = min(Deadline.after(action.legacy.seconds), whole)  # looking for scripts takes time, too
        try:
            scripts = oldscripts.find(work.machine, action.legacy.path, action.guest, call)
        except Unusable as error:
            reason = ": ".join(error.args)
            continue
        failure, printed = _all(work, action, call, scripts, parent, deadline)
        reason = failure or reason
    answer = printable(reason).encode("utf-8", "replace") + b"\n" + printed
    while answer:
        answer = answer[os.write(sheet, answer) :]


def _all(
    work: Work, action: Old, call: Call, scripts: Sequence[Script], parent: int, deadline: Deadline
) -> tuple[str, bytes]:
    """Run the scripts of one call. One that fails ends the tree, and libvirt's own go on.

    What one prints for libvirt is the next one's document, until one has failed (virHookCall() in virhook.c). When the
    hook is gone, no other is begun: somebody may already undo what the first have done.
    """
    failure, printed = "", b""
    filters = action.legacy.filter and call.operation in facts.FILTERS
    for script in scripts:
        if os.getppid() != parent:
            return "the hook is gone", b""
        if failure and script.in_tree:
            continue
        output = os.memfd_create("output") if filters else -1
        document = work.document if failure else printed or work.document
        reason = _one(work._replace(document=document), action, call, script.path, deadline, output)
        if output >= 0:
            printed = os.pread(output, os.fstat(output).st_size, 0) or printed
            os.close(output)
        failure = reason or failure
    return failure, printed


def _one(work: Work, action: Old, call: Call, path: str, deadline: Deadline, output: int) -> str:
    late = f"{path} has not ended within {action.legacy.seconds:g} s ({call.operation}), and was ended"
    if not deadline.left:
        return late
    unit = facts.unit(work.guest, call.operation, os.urandom(4).hex())
    argv = (*oldscripts.interpreter(work.machine, path), path, action.guest, *call)
    launch = Launch(argv, {"LC_ALL": "C"}, work.document, output=output)
    way = commands.way(work.machine)
    status, said = way.run_old(work.machine, unit, launch, deadline.left)
    if status == 0:
        return ""
    if status is None:
        return late
    if said:
        return f"{path} cannot be executed: {said.strip()}"
    words = way.last_words(work.machine, unit)
    return f"{path} has ended with status {status} ({call.operation})" + (f": {words}" if words else "")


def _most(asked: Legacy) -> float:
    return asked.seconds + _MARGIN


def _seconds(config: Config, _actions: Sequence[Action]) -> float:
    """What is undone may be in the settings no more."""
    return _most(_asked(config) if _SETTING in config.actions else Legacy())


KIND = Kind(NAME, read, _seconds, carry_out, way_back, look=look, wanted=wanted, told=told)
