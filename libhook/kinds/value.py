# SPDX-License-Identifier: LGPL-2.1-or-later
"""A sysctl or a sysfs file that has another value while a guest runs.

Two guests that set the same file must want the same value. The setting ``values`` names the file: by a sysctl's name as
for sysctl(8), or by the path of a file below /sys or /proc/sys.

Two names are one file where they lead to the same folder, each link followed, and there have the same last part, or
where the kernel has two names for one variable (facts/samefile.py). The path without links is the file's name: in the
journal entry, in the claims and in their lock. It is found once, before the first write, and what is journalled stays:
so a device that is renamed or gone by the guest's end is never taken for another one.

A guest may have another name of the file in its entry: an earlier version followed no links, and of a folder that came
after the plan was made nobody knew what it would be. As long as there are claims by such a name, all claim it so.

Of two files of which the kernel has one in force (facts/knob.py), either one's value is read as ``dirty_ratio=20``
while the other one is in force. Two guests cannot have one of them each, nor a minimum and its maximum.
"""

from __future__ import annotations

import errno
import os

from libhook.children import tracks
from libhook.children.tracks import Step, paper
from libhook.errors import KERNEL_LOG, BadInput, LibhookError, in_quotes, named, printable
from libhook.facts.config import Config
from libhook.facts.entry import Held
from libhook.facts.knob import clearing, counterpart, is_mtu, is_text, rank, unfit
from libhook.facts.machine import Machine
from libhook.facts.plan import Action, Refusal, Stays, Verdict, Warn
from libhook.facts.situation import Situation
from libhook.facts.value import file_below, path_of
from libhook.kinds import claims, naming
from libhook.kinds.kind import Failure, Kind, Outcome, Work
from libhook.kinds.lasting import LONGEST, PAGE, lasting
from libhook.kinds.naming import Known
from libhook.kinds.resource import Resource, equal, printed
from libhook.light import TYPE_CHECKING, NamedTuple, partial, suppress

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any

    from libhook.children.tracks import Track

NAME = "value"
_SETTING = "values"
_OFF = "0"
_AGAIN = "start the guest again; if that is refused, too, stop the guests that keep it: libhook status names them"
_ONE = "stop that guest first, or name the same in the settings of both; libhook config shows them"
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
        case {"path": str(path), "value": str(text)} if path.startswith("/") and 0 < len(text) <= PAGE:
            return Value(file_below(path), text)
    raise BadInput("not a value of a file")


def look(work: Work) -> dict[str, Known]:
    """See Kind. What each path of the settings leads to."""
    paths = []
    for name in work.config.actions.get(_SETTING, {}):
        with suppress(BadInput):
            paths.append(path_of(name))
    return naming.look(work, paths)


def wanted(situation: Situation) -> Iterator[Verdict]:
    """See Kind. What the table ``values`` asks for, without what is journalled already.

    At hot-plug also that: the entry must say that another device needs it, too.
    """
    plugging = situation.event.operation.name == "attach"
    done = {action.key for action in situation.held.actions} if situation.held and not plugging else set[str]()
    named, paths = dict[str, tuple[str, str]](), dict[str, str]()
    for name, text in situation.config.actions.get(_SETTING, {}).items():
        try:
            path = path_of(name)
            known: Known = situation.looked[NAME][path]
            action = Value(known.path, str(text), "" if path == known.path else path)
            _expect_fit(name, known, action)
            _expect_one(name, known, action, named.get(action.path), paths)
        except BadInput as error:
            yield Refusal("", error.message, _REMEDY)
            continue
        paths[path] = name
        if action.path not in named and action.key not in done:  # else two names of one file, and one value
            yield action
        named[action.path] = (name, action.value)


def _expect_fit(name: str, known: Known, action: Value) -> None:
    """BadInput where the name is no file's, or the file is not set for a guest."""
    if not known.file.name:
        raise BadInput(f'"{name}" leads to no file below /sys or /proc/sys')
    if why := unfit(action.path, action.value):
        raise BadInput(f"{name} is not set for a guest: {why}")


def _expect_one(name: str, known: Known, action: Value, same: tuple[str, str] | None, paths: Mapping[str, str]) -> None:
    """BadInput where an earlier name sets the file to another value: it is the ``same``, or a part of it."""
    if same and same[1] != action.value:
        raise BadInput(f'"{name}" and "{same[0]}" are the same file')
    if other := next((paths[path] for path in known.rivals if path in paths), ""):
        raise BadInput(f'"{name}" and "{other}" do not go together, as one sets or limits the other')


def foresee(machine: Machine, value: Value, before: Sequence[Action]) -> Refusal | Warn | None:
    """See Kind. A file that is not there; a command of the settings may still make it."""
    if os.path.lexists(f"{machine.root}{value.path}"):
        return None
    if any(action.kind == "run" for action in before):
        return Warn(f"there is no file {value.path} yet; unless a command makes it, the start is refused")
    return Refusal("", *_no_file(value.path))


def carry_out(work: Work, values: Sequence[Value]) -> list[Outcome]:
    """See Kind. Also under the locks of the files' own names: so nobody claims one of them by two names."""
    locked = {value.path for value in values}
    try:
        while True:
            with claims.locked(work, [_resource(work.machine, path) for path in locked]):
                found = naming.look(work, (value.path for value in values if not value.back))
                names = {name for known in found.values() for name in (known.file.name, *known.file.others) if name}
                if names <= locked:
                    return _in_order(work, values, found)
            locked |= names
    except LibhookError as error:
        return [Outcome(value, Failure(error.message, error.hint), 0.0) for value in values]


def _in_order(work: Work, values: Sequence[Value], found: Mapping[str, Known]) -> list[Outcome]:
    """Side by side, but for files of which one keeps the other from its value. What is given back has one order.

    A bridge's MTU comes before that of its port: the port's may change it (br_mtu_auto_adjust()).
    """
    names = {known.file.name for known in found.values()}
    ranks = {value: rank(value.path, value.value) for value in values}
    for value in values:
        if is_mtu(value.path) and not value.back:
            ranks[value] = len(names.intersection(found[value.path].file.masters))
    outcomes: list[Outcome] = []
    for turn in sorted(set(ranks.values()), reverse=any(value.back for value in values)):
        those = (_carried_out(work, value, found) for value in values if ranks[value] == turn)
        outcomes += tracks.run(those, work.deadline)
    return outcomes


def _carried_out(work: Work, value: Value, found: Mapping[str, Known]) -> Track[Outcome]:
    if not value.back and (failure := _in_the_way(work, value.path, found[value.path])):
        return Outcome(value, failure, 0.0)
    resource = _resource(work.machine, value.path)
    return (yield from claims.carry_out(work, value, resource, None if value.back else value.value))


def _in_the_way(work: Work, path: str, known: Known) -> Failure | None:
    """Claims to the same file by another name, or to another file where one of the two sets or limits the other."""
    if other := next((other for other in known.claimed if other != path), ""):
        return Failure(f"{path} is also {other}, and another guest keeps it under that name", _AGAIN)
    for other in (*known.rivals, *known.bounds):
        beside = Value(path, "").key if other in known.bounds else ""
        if guest := claims.keeper(work, Value(other, "").key, _resource(work.machine, other), beside):
            return Failure(f"the guest {guest} sets {other}, and one of it and {path} sets or limits the other", _ONE)
    return None


def way_back(_work: Work, _held: Held, values: Sequence[Value]) -> Iterator[Action | Stays | Warn]:
    """See Kind. The claims know what the value was, and whether another guest wants this one."""
    yield from (value._replace(back=True) for value in values)


def _resource(machine: Machine, path: str) -> Resource:
    return Resource(
        name=naming.thing(path),
        says=named(path),
        read=partial(_now, machine, path),
        write=partial(write, machine, path),
        fold=equal,
        failed=partial(_failed, path),
        lasting=lasting(machine, path),
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
    return Failure(f"{path} is {printed(now)} instead of {printed(target)}{why}", f"{ask}{KERNEL_LOG}")


def write(machine: Machine, path: str, value: str) -> None:
    """Give the file what ``_now`` has read, in a child."""
    other = counterpart(path)
    begin = f"{os.path.basename(other)}="
    if other and value.startswith(begin):
        path, value = other, value.removeprefix(begin)
    machine.kernel.set_value(path, value or clearing(path))


def _now(machine: Machine, path: str) -> Track[str | None]:
    """The file's value. None where there is no such file.

    For a choice such as ``always [madvise] never`` it is the word in brackets.
    """
    text = yield from _text(machine, path)
    other = counterpart(path)
    if not other or text != _OFF:
        return text
    beside = yield from _text(machine, other)
    return text if beside in (None, _OFF) else f"{os.path.basename(other)}={beside}"


def _text(machine: Machine, path: str) -> Track[str | None]:
    """What the file shows. A child reads it, as a driver may block whoever reads."""
    with paper() as sheet:
        show = partial(_show, f"{machine.root}{path}", sheet.descriptor)
        code = yield Step(show, keep=sheet.descriptor, looks=True)
        text = "\n".join(sheet.lines()).removesuffix("\n")
    if code == errno.ENOENT:
        return None
    if code:  # a folder, a link, or a file that is write-only
        raise LibhookError(f"{path}: {os.strerror(code)}", "name a file that can be read, and no link")
    words = () if is_text(path) else text.split(" ")
    chosen = [word[1:-1] for word in words if word.startswith("[") and word.endswith("]")]
    return chosen[0] if len(chosen) == 1 else text


def _show(path: str, sheet: int) -> None:
    """Copy the file. A list of ports shows itself to one read alone, however much that asks for."""
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    left = LONGEST + 2  # with its line feed, and one more
    while left and (part := os.read(file, left)):
        os.write(sheet, part)
        left -= len(part)
    os.write(sheet, b"\n")


def _seconds(config: Config, _actions: Sequence[Action]) -> float:
    return config.write_deadline


def _shared(machine: Machine, name: str) -> tuple[str, Resource] | None:
    if not name.startswith(f"{NAME} "):
        return None
    action = Value(naming.path_in(name), "")
    return action.key, _resource(machine, action.path)


KIND = Kind(
    NAME,
    read,
    _seconds,
    carry_out,
    way_back,
    look=look,
    wanted=wanted,
    foresee=foresee,
    at=("prepare", "attach"),
    shared=_shared,
)
