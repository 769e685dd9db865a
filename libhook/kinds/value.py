# SPDX-License-Identifier: LGPL-2.1-or-later
"""A sysctl or a sysfs file that has another value while a guest runs.

The setting ``values`` names the file: by a sysctl's name as for sysctl(8), or by the path of a file below /sys or
/proc/sys. Two guests that set the same file must want the same value. They meet at the file's real path, which follows
each link: the journal entry, the claims and their lock have that name. It is found once, when the plan is made. So a
device that is renamed or gone by the guest's end is never taken for another one.

The file is given its own value first. So it is known that this value can come back, before it is changed.
"""

from __future__ import annotations

import errno
import os

from libhook.children import tracks
from libhook.children.tracks import Late, Step, paper
from libhook.errors import KERNEL_LOG, BadInput, LibhookError, in_quotes, named, printable
from libhook.facts.config import Config
from libhook.facts.entry import Held
from libhook.facts.machine import Machine
from libhook.facts.plan import Action, Refusal, Verdict
from libhook.facts.situation import Situation
from libhook.facts.value import file_below, is_act, path_of
from libhook.kinds import claims
from libhook.kinds.kind import Failure, Kind, Outcome, Work
from libhook.kinds.resource import Resource, equal, printed
from libhook.light import TYPE_CHECKING, NamedTuple, partial, suppress

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any

    from libhook.children.tracks import Track

NAME = "value"
_SETTING = "values"
_PAGE = 4096
_NEVER_SET = "(null)"
"""What a module's parameter without any text shows (param_get_charp()). A write of it stores the word."""
_SWAPPED = str.maketrans("/ ", " /")
_INSTEAD = f"take it out of {_SETTING} in the settings; a command under run may set it, if it has an undo"
_REMEDY = f"correct {_SETTING} in the settings; libhook config shows where"


class Value(NamedTuple):
    """Set a file to this value. With ``back``: give the file the value it had before the first guest."""

    path: str
    value: str
    asked: str = ""
    """The path that the settings mean, if it is another."""
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
        return named(self.path)

    @property
    def summary(self) -> str:
        """See Action."""
        return printable(f"set to {in_quotes(self.value)}")

    def describe(self) -> tuple[str, ...]:
        """See Action."""
        if self.back:
            return (f"give {self.path} its value back, if no other guest wants this one",)
        why = f" ({self.asked})" if self.asked else ""
        return (printable(f"set {self.path}{why} to {in_quotes(self.value)}"),)

    def to_json(self) -> dict[str, Any]:
        """See Action."""
        return {"kind": NAME, "path": self.path, "value": self.value}

    def show(self) -> dict[str, Any]:
        """See Action."""
        return {"action": NAME, "path": self.path, "value": None if self.back else self.value}


def read(value: Mapping[str, Any]) -> Value:
    """See Kind."""
    match value:
        case {"path": str(path), "value": str(text)} if path.startswith("/") and 0 < len(text) <= _PAGE:
            return Value(file_below(path), text)
    raise BadInput("not a value of a file")


def look(work: Work) -> dict[str, str]:
    """See Kind. The real path of each file of the settings, "" where it is none below /sys or /proc/sys.

    A child looks: systemd may have to mount what is below /proc/sys/fs/binfmt_misc first.
    """
    paths = [path_of(name) for name in work.config.actions.get(_SETTING, {})]
    if not paths:
        return {}
    (found,) = tracks.run([_real_paths(work.machine.root, paths)], work.deadline)
    if isinstance(found, int):
        raise LibhookError(f"{paths[0]} cannot be looked up ({os.strerror(found)})", "see whether ls shows its folder")
    return dict(zip(paths, found, strict=True))


def wanted(situation: Situation) -> Iterator[Verdict]:
    """See Kind. What the table ``values`` asks for, without what is journalled already.

    At hot-plug also that: the entry must say that another device needs it, too.
    """
    plugging = situation.event.operation.name == "attach"
    done = {action.key for action in situation.held.actions} if situation.held and not plugging else set[str]()
    seen = dict[str, tuple[str, str]]()
    for name, text in situation.config.actions.get(_SETTING, {}).items():
        asked = path_of(name)
        path = situation.looked[NAME][asked]
        action = Value(path, str(text), "" if path == asked else asked)
        other, value = seen.setdefault(path, (name, action.value))
        if not path:
            yield Refusal("", f"there is no file {asked}", _REMEDY)
        elif is_act(path):
            yield Refusal("", f"{name} is no value: a write to {path} does something", _REMEDY)
        elif value != action.value:
            yield Refusal("", f'"{name}" and "{other}" are the same file', _REMEDY)
        elif other == name and action.key not in done:
            yield action


def carry_out(work: Work, values: Sequence[Value]) -> list[Outcome]:
    """See Kind. One after the other, as some files limit each other: the settings say which comes first."""
    resources = {value.path: _resource(work.machine, value.path) for value in values}
    outcomes: list[Outcome] = []
    try:
        with claims.locked(work, resources.values()):
            for value in values:
                want = None if value.back else value.value
                outcomes += tracks.run([claims.carry_out(work, value, resources[value.path], want)], work.deadline)
    except LibhookError as error:
        return [Outcome(value, Failure(error.message, error.hint), 0.0) for value in values]
    return outcomes


def way_back(_work: Work, _held: Held, values: Sequence[Value]) -> Iterator[Action]:
    """See Kind. The claims know what the value was, and whether another guest wants this one."""
    yield from (value._replace(back=True) for value in reversed(values))


def thing(path: str) -> str:
    """The name of the shared thing that is the file with this path."""
    return f"{NAME}{path.translate(_SWAPPED)}"


def _real_paths(root: str, paths: Sequence[str]) -> Track[list[str] | int]:
    try:
        with paper() as sheet:
            code = yield Step(partial(_note, root, paths, sheet.descriptor), keep=sheet.descriptor, looks=True)
            found = sheet.lines()
    except Late:
        return errno.ETIMEDOUT
    return found if len(found) == len(paths) else code or errno.EIO


def _note(root: str, paths: Sequence[str], sheet: int) -> None:
    os.write(sheet, "".join(f"{_real(root, path)}\n" for path in paths).encode())


def _real(root: str, path: str) -> str:
    real, above = os.path.realpath(f"{root}{path}"), os.path.realpath(root) if root else ""
    with suppress(BadInput):
        if real.startswith(f"{above}/") and os.path.lexists(real):
            return file_below(real.removeprefix(above))
    return ""


def _resource(machine: Machine, path: str) -> Resource:
    return Resource(
        name=thing(path),
        says=named(path),
        read=partial(_now, machine, path),
        write=partial(_write, machine, path),
        fold=equal,
        failed=partial(_failed, path),
        unlasting=_unlasting,
        instead=_INSTEAD,
    )


def _unlasting(text: str) -> str:
    if len(os.fsencode(text)) > _PAGE:
        return f"it shows more than {_PAGE} bytes"
    return "it does not show one line of text" if text == _NEVER_SET or any(c < " " and c != "\t" for c in text) else ""


def _failed(path: str, target: str, now: str | None, code: int) -> Failure:
    """A file may show another text than was written to it: a mask of CPUs with zeros in front, tabs for blanks."""
    if now is None:
        return Failure(f"there is no file {path}", _REMEDY)
    why, ask = f" ({os.strerror(code)})", ""
    if not code:
        why, ask = "", "if that is the same, write it so in the settings; else "
    return Failure(f"{path} is {printed(now)} instead of {printed(target)}{why}", f"{ask}{KERNEL_LOG}")


def clearing(path: str) -> str:
    """What to write so that the file is empty. A write of no bytes reaches no handler.

    A sysctl ends at a line feed (_proc_do_string(), proc_do_large_bitmap()), and an attribute takes it off. A module's
    parameter keeps it (param_set_copystring()), but code that takes it as a C string ends it at the NUL.
    """
    return "\0" if path.startswith("/sys/module/") else "\n"


def chosen(path: str, text: str) -> str:
    """The value that a file with this text has: of a choice, ``always [madvise] never``, the word in brackets.

    In a sysctl and in an interface's alias brackets are somebody's own.
    """
    words = () if path.startswith("/proc/sys/") or path.endswith("/ifalias") else text.split(" ")
    found = [word[1:-1] for word in words if word.startswith("[") and word.endswith("]")]
    return found[0] if len(found) == 1 else text


def _write(machine: Machine, path: str, value: str) -> None:
    machine.kernel.set_value(path, value or clearing(path))


def _now(machine: Machine, path: str) -> Track[str | None]:
    """The file's value. None where there is no such file. A child reads it, as a driver may block whoever reads."""
    with paper() as sheet:
        show = partial(_show, f"{machine.root}{path}", sheet.descriptor)
        code = yield Step(show, keep=sheet.descriptor, looks=True)
        text = "\n".join(sheet.lines()).removesuffix("\n")
    if code == errno.ENOENT:
        return None
    if code:  # a folder, or a file that is write-only
        raise LibhookError(f"{path}: {os.strerror(code)}", "name a file that can be read")
    return chosen(path, text)


def _show(path: str, sheet: int) -> None:
    """Copy the file. Some files show themselves to one read alone, however much that asks for."""
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    left = _PAGE + 2  # with its line feed, and one more
    while left and (part := os.read(file, left)):
        os.write(sheet, part)
        left -= len(part)
    os.write(sheet, b"\n")


def _seconds(config: Config, _actions: Sequence[Action]) -> float:
    return config.write_deadline


def _shared(machine: Machine, name: str) -> tuple[str, Resource] | None:
    if not name.startswith(f"{NAME} "):
        return None
    path = file_below(name.removeprefix(NAME).translate(_SWAPPED))
    return Value(path, "").key, _resource(machine, path)


KIND = Kind(
    NAME, read, _seconds, carry_out, way_back, look=look, wanted=wanted, at=("prepare", "attach"), shared=_shared
)
