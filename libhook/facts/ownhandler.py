# SPDX-License-Identifier: LGPL-2.1-or-later
"""Handlers by others: who wants one, what it says of itself, and the index of those that are enabled. Pure.

The index is what ``libhook handlers enable`` writes. The hook believes it while the files are the same as then.
"""

from __future__ import annotations

from libhook import plainjson
from libhook.errors import BadInput
from libhook.facts.config import HANDLERS
from libhook.light import TYPE_CHECKING, NamedTuple, suppress

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from libhook.facts.config import Config

API = 1
OPERATIONS = ("prepare", "start", "attach", "started", "reconnect", "release", "detach")
ON_FAULT = "on_fault"
FOLDER = "/etc/libhook/handlers"
REFUSE, SKIP = "refuse", "skip"
MODULES = (
    *("__future__", "abc", "base64", "binascii", "bisect", "calendar", "collections", "collections.abc", "copy"),
    *("dataclasses", "datetime", "decimal", "enum", "fnmatch", "fractions", "functools", "heapq", "ipaddress"),
    *("itertools", "json", "math", "operator", "re", "statistics", "string", "textwrap", "time", "typing"),
    *("unicodedata", "xml", "xml.etree", "xml.etree.ElementTree", "libhook.handler"),
)
"""What a handler may import, of Python's own."""
BEHIND_STRPTIME = "_strptime"
"""What strptime() imports once it is called. Then there are no files any more."""
_BEHIND = {"functools": "weakref", "xml.etree.ElementTree": "encodings.ascii"}
"""What functools.singledispatch() and ElementTree.tostring() import once they are called."""
_MOST_NAMES = 32
_LONGEST_NAME = 64
_DEEPEST, _MOST_PARTS, _LONGEST_TEXT = 8, 1000, 4096
_WHOLE = 1 << 63


class Declared(NamedTuple):
    """What a handler says of itself."""

    api: int
    operations: tuple[str, ...]
    needs: tuple[str, ...] = ()
    provides: tuple[str, ...] = ()


class Stamp(NamedTuple):
    """A file as it was when the handler was enabled. Whoever writes to it changes at least one of these."""

    path: str
    inode: int
    size: int
    mtime: int
    ctime: int
    """In nanoseconds. Nobody can set it (inode_set_ctime_current)."""


class Enabled(NamedTuple):
    """An entry of the index."""

    declared: Declared
    modules: tuple[str, ...]
    """What it imports, of MODULES."""
    files: tuple[Stamp, ...]

    def to_json(self) -> dict[str, Any]:
        """As it stands in the index."""
        return {**self.declared._asdict(), "modules": self.modules, "files": self.files}


class Wanted(NamedTuple):
    """A handler that a guest's settings want."""

    name: str
    options: Mapping[str, Any]
    skips: bool
    """If it fails where a start may be refused, the start goes on."""


def wanted(config: Config) -> list[Wanted]:
    """The handlers that these settings want, by name."""
    tables = config.actions.get(HANDLERS, {})
    return [
        Wanted(name, {key: value for key, value in table.items() if key != ON_FAULT}, table.get(ON_FAULT) == SKIP)
        for name, table in sorted(tables.items())
    ]


def is_name(name: object) -> bool:
    """Whether this can be a handler's name: it is the name of a module, too."""
    return isinstance(name, str) and name.isascii() and name.isidentifier() and len(name) <= _LONGEST_NAME


def wrong_entry(name: str, table: object) -> str:
    """What an entry of the table ``handlers`` should have been, or ""."""
    if not is_name(name) or name.startswith("_"):
        return "named after a file in /etc/libhook/handlers, without .py: letters, digits and _"
    if not isinstance(table, dict):
        return f"a section with the handler's options: [{HANDLERS}.{name}]"
    if table.get(ON_FAULT, REFUSE) not in (REFUSE, SKIP):
        return f'a section in which {ON_FAULT} is "{REFUSE}" or "{SKIP}"'
    return "" if is_small(table) else "a section of texts, numbers, true, false, lists and tables, and no long one"


def is_small(value: object) -> bool:
    """Whether this is JSON of a few things, not deep, with no long text and no number that other languages lack."""
    pending, parts = [(value, 0)], 0
    while pending:
        one, depth = pending.pop()
        parts += 1
        if depth > _DEEPEST or parts > _MOST_PARTS:
            return False
        if isinstance(one, dict):
            pending += ((each, depth + 1) for pair in one.items() for each in pair)
        elif isinstance(one, list):
            pending += ((each, depth + 1) for each in one)
        elif not _is_plain(one):
            return False
    return True


def _is_plain(value: object) -> bool:
    if isinstance(value, str):
        return len(value) <= _LONGEST_TEXT and not any("\ud800" <= character <= "\udfff" for character in value)
    if isinstance(value, float):
        return abs(value) < float("inf")  # NaN is less than nothing
    return value is None or (isinstance(value, int) and -_WHOLE <= value < _WHOLE)


def declared_from(value: object) -> Declared:
    """What a handler says of itself. BadInput says what is wrong with it."""
    match value:
        case {"api": api, "operations": operations, "needs": needs, "provides": provides, **more} if not more:
            if api != API or isinstance(api, bool):
                raise BadInput("asks for another version of the contract", f"this libhook has: api={API}")
            if not _are_names(operations) or not operations or not set(operations) <= set(OPERATIONS):
                raise BadInput("names wrong operations", f"the operations are {', '.join(OPERATIONS)}")
            for what, names in (("needs", needs), ("provides", provides)):
                if not _are_names(names):
                    raise BadInput(f"{what} something wrong", f'name it with letters, digits and _: {what}=("night",)')
            if set(needs) & set(provides):
                raise BadInput("needs what it provides itself", "take it out of needs")
            return Declared(API, tuple(operations), tuple(needs), tuple(provides))
    raise BadInput("does not say what it is", "put @handler(api=1, operations=...) before its function")


def _are_names(value: object) -> bool:
    is_list = isinstance(value, (list, tuple)) and len(value) <= _MOST_NAMES and all(map(is_name, value))
    return is_list and len(set(value)) == len(value)  # type: ignore[arg-type, call-overload] # it is a list of texts


def expect_known(modules: Sequence[object]) -> None:
    """BadInput where a handler may not import one of these."""
    for name in modules:
        if name not in (*MODULES, BEHIND_STRPTIME):
            raise BadInput(f"imports {name}, which a handler may not", "libhook-handlers(7) has what it may import")


def preloaded(modules: Sequence[str]) -> list[str]:
    """What to import for a handler that imports these."""
    return [*modules, *(_BEHIND[name] for name in modules if name in _BEHIND)]


def read_index(text: str) -> dict[str, Enabled]:
    """The index from its file. BadInput where it is none of ours. A wrong entry is as if it were not there."""
    try:
        match plainjson.loads(text):
            case {"version": 1, "handlers": dict(entries)}:
                return {name: found for name, value in entries.items() if is_name(name) and (found := _entry(value))}
    except (ValueError, RecursionError):
        pass
    raise BadInput("it is no index of handlers", "remove it, and enable the handlers again")


def _entry(value: object) -> Enabled | None:
    """An entry, or None where this version cannot go by it."""
    with suppress(BadInput, ValueError):
        match value:
            case {"modules": [*modules], "files": [*files], **declared} if modules and files:
                expect_known(modules)  # they are imported before there are walls
                return Enabled(declared_from(declared), tuple(modules), tuple(map(_stamp, files)))
    return None


def _stamp(value: object) -> Stamp:
    match value:
        case [str(path), int(inode), int(size), int(mtime), int(ctime)]:
            return Stamp(path, inode, size, mtime, ctime)
    raise ValueError


def write_index(entries: Mapping[str, Enabled]) -> str:
    """The text of the index's file, one handler a line."""
    lines = [f"{plainjson.dumps(name)}: {plainjson.dumps(one.to_json())}" for name, one in sorted(entries.items())]
    return '{"version": 1, "handlers": {\n' + ",\n".join(lines) + "\n}}\n"


def providers(name: str, all_: Mapping[str, Declared]) -> list[str]:
    """The handlers that provide what this one needs. BadInput where none of these does."""
    found = dict[str, None]()
    for need in all_[name].needs:
        those = [one for one, declared in sorted(all_.items()) if need in declared.provides]
        if not those:
            raise BadInput(f"it needs {need}, which no other handler provides", "enable and want one that does")
        found.update(dict.fromkeys(those))
    return list(found)


def in_order(all_: Mapping[str, Declared]) -> list[str]:
    """The handlers, each after all that provide what it needs; ties by name. BadInput where they wait in a circle."""
    waiting, come = sorted(all_), list[str]()
    needed = {name: {one for one in all_ if set(all_[name].needs) & set(all_[one].provides)} for name in all_}
    while waiting:
        ready = next((name for name in waiting if needed[name] <= set(come)), None)
        if ready is None:
            raise BadInput(f"{', '.join(waiting)} need each other in a circle", "take a name out of their needs")
        come.append(ready)
        waiting.remove(ready)
    return come


def then_enable(hint: str, name: str) -> str:
    """What to do, and then to enable the handler. A command ends the line, so two commands are one."""
    if "run: " in hint:
        return f"{hint} && libhook handlers enable {name}"
    return f"{hint}, then run: libhook handlers enable {name}"
