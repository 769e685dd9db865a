# SPDX-License-Identifier: LGPL-2.1-or-later
"""What must be so before a guest starts. What is not so refuses the start at once, before anything is done.

Most of it is looked at while the plan is made. A command is the exception: a dry run must run none. So it is an action
that changes nothing, and is asked before anything is journalled.
"""

from __future__ import annotations

import os

from libhook.children import tracks
from libhook.children.tracks import Late, Step, paper
from libhook.errors import DISK_ANSWERS, BadInput, LibhookError
from libhook.facts import requirement
from libhook.facts.plan import Refusal, Verdict
from libhook.facts.requirement import Requirement
from libhook.kinds.kind import Kind, Outcome, Work
from libhook.light import TYPE_CHECKING, partial, suppress
from libhook.look import attributes, systemd

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any, NoReturn

    from libhook.children.tracks import Track
    from libhook.facts.config import Config
    from libhook.facts.machine import Machine
    from libhook.facts.situation import Situation
    from libhook.kinds.command import Run

NAME = "require"
_ACTIVE = {"active", "reloading", "refreshing"}
_REPLACED = " (deleted)"
"""What the kernel puts behind the path of a program whose file is gone, as after an upgrade."""


def look(work: Work) -> Mapping[str, str]:
    """See Kind. What is wrong, by the entry's name. LibhookError where that cannot be seen in time."""
    asked, questions = _asked(work.config), _questions(work.config)
    found = _units(work, [one for one in asked if one.unit])
    others = [one for one in asked if not one.unit]
    if others:
        (seen,) = tracks.run([_seen(work.machine, others)], work.deadline)
        if isinstance(seen, LibhookError):
            raise seen
        found |= seen
    wrong = {one.name: one.complaint(found[one.name]) for one in asked}
    if not questions:
        return wrong
    from libhook.kinds import command  # few settings ask a command

    return wrong | command.untrusted(work, [one.question for one in questions])


def wanted(situation: Situation) -> Iterator[Verdict]:
    """See Kind."""
    wrong = situation.looked.get(NAME, {})
    for one in _asked(situation.config):
        if complaint := wrong.get(one.name):
            yield Refusal(
                "",
                complaint,
                one.reason or f"see to it, or change require.{one.name} in the settings; libhook config shows where",
            )
    if questions := _questions(situation.config):
        yield from _asking(situation, questions, wrong)


def _asking(situation: Situation, questions: Sequence[Requirement], wrong: Mapping[str, str]) -> Iterator[Verdict]:
    from libhook.kinds import command

    devices = tuple(str(device.pci) for device in situation.domain.pci)
    for one in questions:
        question = one.question._replace(at=situation.event.operation.name)
        asking = command.Run(question, situation.domain.name, devices, kind=NAME)
        if complaint := wrong.get(one.name):
            yield command.refusal(asking, complaint)
        yield asking


def carry_out(work: Work, actions: Sequence[Run]) -> list[Outcome]:
    """See Kind."""
    from libhook.kinds import command

    return command.carry_out(work, actions)


def _seconds(config: Config, actions: Sequence[Run]) -> float:
    from libhook.kinds import command

    return command.seconds(config, actions)


def _all(config: Config) -> list[Requirement]:
    return [requirement.parse(name, table) for name, table in config.actions.get(NAME, {}).items()]


def _asked(config: Config) -> list[Requirement]:
    return [one for one in _all(config) if not one.command]


def _questions(config: Config) -> list[Requirement]:
    return [one for one in _all(config) if one.command]


def _units(work: Work, asked: Sequence[Requirement]) -> dict[str, int]:
    """Whether each is active. Where it must not be, one on its way up or down counts too: so is a oneshot that runs."""
    if not asked:
        return {}
    shown = systemd.matching(work.machine, [one.unit for one in asked], work.deadline)
    states = {name: {unit.active for unit in units} for name, units in shown.items()}
    return {
        one.name: bool(states[one.unit] - {"inactive", "failed"} if one.absent else states[one.unit] & _ACTIVE)
        for one in asked
    }


def _seen(machine: Machine, asked: Sequence[Requirement]) -> Track[dict[str, int] | LibhookError]:
    """A child looks: a file may be on a disk or server that does not answer."""
    try:
        with paper() as sheet:
            note = partial(_note, machine, asked, sheet.descriptor)
            code = yield Step(note, keep=sheet.descriptor, looks=True)
            answers = sheet.lines()
    except Late:
        code, answers = 0, []
    if code or len(answers) != len(asked):
        what = ", ".join(one.file or one.process or "/proc/meminfo" for one in asked)
        return LibhookError(f"{what} cannot be looked at", DISK_ANSWERS)
    return {one.name: int(answer) for one, answer in zip(asked, answers, strict=True)}


def _note(machine: Machine, asked: Sequence[Requirement], sheet: int) -> None:
    running = _programs(machine) if any(one.process for one in asked) else set()
    for one in asked:
        if one.file:
            found = int(_is_there(f"{machine.root}{one.file}"))
        elif one.process:
            real = os.path.realpath(f"{machine.root}{one.process}").removeprefix(machine.root)
            found = int(not running.isdisjoint((one.process, real)))
        else:
            found = _free(machine)
        os.write(sheet, b"%d\n" % found)


def _is_there(path: str) -> bool:
    """OSError where that cannot be seen: a disk that fails has not lost the file."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _programs(machine: Machine) -> set[str]:
    """The programs of all processes. A process can neither forge the link, nor hide it from root."""
    found = set()
    for pid in filter(str.isdecimal, attributes.entries(machine.proc)):
        with suppress(OSError):
            found.add(os.readlink(f"{machine.proc}/{pid}/exe").removesuffix(_REPLACED))
    return found


def _free(machine: Machine) -> int:
    """Bytes of memory that are free; 0 where the kernel does not say."""
    for line in attributes.whole(f"{machine.proc}/meminfo").split("\n"):
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 0


def _never(*_: Any) -> NoReturn:  # noqa: ANN401 - whatever a kind is given
    raise BadInput("what a guest requires is never journalled")


KIND = Kind(
    NAME,
    _never,
    _seconds,
    carry_out,
    _never,
    look=look,
    wanted=wanted,
    at=("prepare", "attach"),
    is_asked=True,
)
