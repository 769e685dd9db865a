# SPDX-License-Identifier: LGPL-2.1-or-later
"""A sysctl or a sysfs file that has another value while a guest runs.

Two guests that set the same file must want the same value. The setting ``values`` names the file: by a sysctl's name as
for sysctl(8), or by the path of a file below /sys or /proc/sys.
"""

from __future__ import annotations

import errno
import os

from libhook.children import tracks
from libhook.children.tracks import Step, paper
from libhook.errors import KERNEL_LOG, BadInput, LibhookError, printable
from libhook.facts.config import Config
from libhook.facts.entry import Held
from libhook.facts.machine import Machine
from libhook.facts.plan import Action, Refusal, Stays, Verdict, Warn
from libhook.facts.situation import Situation
from libhook.facts.value import path_of
from libhook.kinds import claims
from libhook.kinds.kind import Failure, Kind, Outcome, Work
from libhook.kinds.resource import Resource, equal
from libhook.light import TYPE_CHECKING, NamedTuple, partial

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any

    from libhook.children.tracks import Track

NAME = "value"
_SETTING = "values"
_LONGEST = 4096
_REMEDY = f"correct {_SETTING} in the settings; libhook config shows where"


class Value(NamedTuple):
    """Set a file to this value. With ``back``: give the file the value it had before the first guest."""

    path: str
    value: str
    back: bool = False
    kind: str = NAME
    needs: tuple[str, ...] = ()
    provides: tuple[str, ...] = ()
    ours: bool = True
    is_undone: bool = True

    @property
    def key(self) -> str:
        """See Action."""
        return f"{NAME} {self.path}"

    @property
    def subject(self) -> str:
        """See Action."""
        return self.path

    @property
    def summary(self) -> str:
        """See Action."""
        return printable(f'set to "{self.value}"')

    def describe(self) -> tuple[str, ...]:
        """See Action."""
        if self.back:
            return (f"give {self.path} its value back, if no other guest wants this one",)
        return (printable(f'set {self.path} to "{self.value}"'),)

    def to_json(self) -> dict[str, Any]:
        """See Action."""
        return {"kind": NAME, "path": self.path, "value": self.value}

    def show(self) -> dict[str, Any]:
        """See Action."""
        return {"action": NAME, "path": self.path, "value": None if self.back else self.value}


def read(value: Mapping[str, Any]) -> Value:
    """See Kind."""
    match value:
        case {"path": str(path), "value": str(text)} if path.startswith("/") and 0 < len(text) <= _LONGEST:
            return Value(path_of(path), text)
    raise BadInput("not a value of a file")


def wanted(situation: Situation) -> Iterator[Verdict]:
    """See Kind. What the table ``values`` asks for, without what is journalled already.

    At hot-plug also that: the entry must say that another device needs it, too.
    """
    plugging = situation.event.operation.name == "attach"
    done = {action.key for action in situation.held.actions} if situation.held and not plugging else set[str]()
    named: dict[str, str] = {}
    for name, text in situation.config.actions.get(_SETTING, {}).items():
        try:
            action = Value(path_of(name), str(text))
            if action.path in named:
                raise BadInput(f'"{name}" and "{named[action.path]}" are the same file')
        except BadInput as error:
            yield Refusal("", error.message, _REMEDY)
            continue
        named[action.path] = name
        if action.key not in done:
            yield action


def foresee(machine: Machine, value: Value, before: Sequence[Action]) -> Refusal | Warn | None:
    """See Kind. A file that is not there; a command of the settings may still make it."""
    if os.path.lexists(f"{machine.root}{value.path}"):
        return None
    if any(action.kind == "run" for action in before):
        return Warn(f"there is no file {value.path} yet; unless a command makes it, the start is refused")
    return Refusal("", *_no_file(value.path))


def carry_out(work: Work, values: Sequence[Value]) -> list[Outcome]:
    """See Kind."""
    resources = [_resource(work.machine, value.path) for value in values]
    try:
        with claims.locked(work, resources):
            wants = (None if value.back else value.value for value in values)
            lanes = (claims.carry_out(work, *each) for each in zip(values, resources, wants, strict=True))
            return tracks.run(lanes, work.deadline)
    except LibhookError as error:
        return [Outcome(value, Failure(error.message, error.hint), 0.0) for value in values]


def way_back(_work: Work, _held: Held, values: Sequence[Value]) -> Iterator[Action | Stays | Warn]:
    """See Kind. The claims know what the value was, and whether another guest wants this one."""
    yield from (value._replace(back=True) for value in values)


def _resource(machine: Machine, path: str) -> Resource:
    return Resource(
        name=f"{NAME}{path.replace('/', ' ')}",
        says=path,
        read=partial(_now, machine, path),
        write=partial(machine.kernel.set_value, path),
        fold=equal,
        failed=partial(_failed, path),
    )


def _no_file(path: str) -> Failure:
    return Failure(f"there is no file {path}", _REMEDY)


def _failed(path: str, target: str, now: str | None, code: int) -> Failure:
    """A file may show another text than was written to it: a mask of CPUs with zeros in front, tabs for blanks."""
    if now is None:
        return _no_file(path)
    why, ask = f" ({os.strerror(code)})", ""
    if not code:
        why, ask = "", "if that is the same, write it so in the settings; else "
    return Failure(f'{path} is "{now}" instead of "{target}"{why}', f"{ask}{KERNEL_LOG}")


def _now(machine: Machine, path: str) -> Track[str | None]:
    """The file's value. None where there is no such file. A child reads it, as a driver may block whoever reads.

    For a choice such as ``always [madvise] never`` it is the word in brackets.
    """
    with paper() as sheet:
        show = partial(_show, f"{machine.root}{path}", sheet.descriptor)
        code = yield Step(show, keep=sheet.descriptor, looks=True)
        text = "\n".join(sheet.lines()).removesuffix("\n")
    if code == errno.ENOENT:
        return None
    if code:  # a folder, a link, or a file that is write-only
        raise LibhookError(f"{path}: {os.strerror(code)}", "name a file that can be read, and no link")
    chosen = [word[1:-1] for word in text.split(" ") if word.startswith("[") and word.endswith("]")]
    return chosen[0] if len(chosen) == 1 else text


def _show(path: str, sheet: int) -> None:
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    os.write(sheet, os.read(file, _LONGEST) + b"\n")


def _seconds(config: Config, _actions: Sequence[Action]) -> float:
    return config.write_deadline


def _shared(machine: Machine, name: str) -> tuple[str, Resource] | None:
    if not name.startswith(f"{NAME} "):
        return None
    action = Value(name.removeprefix(NAME).replace(" ", "/"), "")
    return action.key, _resource(machine, path_of(action.path))


KIND = Kind(
    NAME, read, _seconds, carry_out, way_back, wanted=wanted, shared=_shared, at=("prepare", "attach"), foresee=foresee
)
