# SPDX-License-Identifier: LGPL-2.1-or-later
"""Reads what strace wrote: which programs were started, what was written, and from which line of which script. Pure.

bash writes each command to a file of its own before it runs it (inside/tracing.sh), so strace has both in their order.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

from libhook.importing.inside.wrapping import inner

_LINE = re.compile(r"(\d+)\s+(.*)")
_CALL = re.compile(r"(\w+)\((.*)\)\s+= (-?\d+|\?)(<[^>]*>)?( E\w+)?")
_TEXT = re.compile(r'"((?:[^"\\]|\\.)*)"(?:\.\.\.)?')
_ESCAPE = re.compile(r"\\([0-7]{1,3}|x[0-9a-f]{2}|.)")
_SHORT = {"n": "\n", "t": "\t", "r": "\r", "v": "\v", "f": "\f", "a": "\a", "e": "\x1b"}
_OWN = (
    "/.trace",
    "/.state",
    "/.libhook",
    "/dev/tty",
    "/dev/null",
    "/proc/self",
    "pipe:",
    "socket:",
    "/dev/fd",
    "/tmp/sh-thd",  # noqa: S108 - where bash keeps here-documents: only compared
)
PROGRAM = "program "
"""Before the path of what is lacking: it is a program."""
_FORKS = ("clone", "clone3", "fork", "vfork")
_SHOWN = re.compile(r"\++\x01([^\x01]*)\x01(\d+)\x01")
_MOST = 20_000


class Place(NamedTuple):
    """A line of a script, as it is in the sandbox. Line 0 where none is known."""

    file: str = ""
    line: int = 0


class Done(NamedTuple):
    """One thing that a script did."""

    what: str
    """``start`` a program, ``write``, ``open`` for writing, ``fail`` to open, ``remove``, ``make``, ``kill``,
    ``connect``, ``absent``: start a program that is not there."""
    place: Place
    argv: tuple[str, ...] = ()
    path: str = ""
    data: str = ""
    user: str = ""
    environment: tuple[str, ...] = ()
    background: bool = False
    by: str = ""
    """The program that did it; "" for the shell itself."""
    pid: int = 0


class Trace(NamedTuple):
    """All that one call did."""

    done: tuple[Done, ...]
    lines: frozenset[Place]
    """Each line that ran."""
    commands: tuple[tuple[Place, str], ...]
    """Each command as bash showed it, its variables filled in."""
    code: int | None
    """The exit code; None if it did not end by itself."""
    read: frozenset[str]
    """The files that were opened for reading, also those that are not there."""
    lacking: frozenset[str]
    """The files that could not be written or made."""


class _Process:
    """What is known of one process."""

    def __init__(self, pid: int, parent: "_Process | None" = None) -> None:
        self.pid = pid
        self.place: Place = parent.place if parent else Place()
        self.user: str = parent.user if parent else ""
        self.environment: tuple[str, ...] = parent.environment if parent else ()
        self.background: bool = parent.background if parent else False
        self.program: str = parent.program if parent else ""
        self.stands_in: bool = parent.stands_in if parent else False
        self.started = -1
        self.born = 0
        """How much was done before it was forked: what is in the background comes in its line's place."""


class _Reader:
    """Reads one trace from its first line to its last."""

    def __init__(self) -> None:
        self.done: list[Done | None] = []
        self.lines: set[Place] = set()
        self.commands: list[tuple[Place, str]] = []
        self.read: set[str] = set()
        self.lacking: set[str] = set()
        self.order: list[tuple[int, int]] = []
        """The first start of each process, and what was done when it was forked."""
        self.code: int | None = None
        self._processes: dict[int, _Process] = {}
        self._unfinished: dict[int, str] = {}
        self._forking: list[int] = []
        self._first = 0

    def line(self, text: str) -> None:
        """Read one line."""
        found = _LINE.match(text)
        if not found or len(self.done) > _MOST:
            return
        pid, rest = int(found[1][:9]), found[2]
        self._first = self._first or pid
        process = self._process(pid)
        if rest.startswith("+++ exited with "):
            if pid == self._first and (code := rest.split()[3:4]) and code[0].isascii() and code[0].isdigit():
                self.code = int(code[0][:4])
            return
        if rest.endswith(" <unfinished ...>"):
            self._unfinished[pid] = rest.removesuffix(" <unfinished ...>")
            if rest.partition("(")[0] in _FORKS:
                self._forking.append(pid)
            return
        if rest.startswith("<... ") and " resumed>" in rest:
            rest = self._unfinished.pop(pid, "") + rest.partition(" resumed>")[2]
        call = _CALL.match(rest)
        if call and call[5] != " EEXIST":  # what is there already need not be made
            self._call(process, call[1], call[2], call[3], call[4] or "", bool(call[5]))

    def _process(self, pid: int) -> _Process:
        if pid not in self._processes:
            parent = self._processes.get(self._forking[-1]) if self._forking else None
            self._processes[pid] = _Process(pid, parent)
            self._processes[pid].born = len(self.done)
        return self._processes[pid]

    def _call(self, process: _Process, name: str, arguments: str, result: str, opened: str, failed: bool) -> None:
        texts = [_plain(text) for text in _TEXT.findall(arguments)]
        if name in _FORKS:
            if process.pid in self._forking:
                self._forking.remove(process.pid)
            if result.isdigit() and int(result) not in self._processes:
                self._processes[int(result)] = _Process(int(result), process)
                self._processes[int(result)].born = len(self.done)
        elif name == "execve":
            if not failed and texts:
                self._start(
                    process, [*texts, *(["\0"] if '"...' in arguments else [])]
                )  # cut off: no argument can be that
            elif len(texts) > 1 and texts[0] == texts[1] and texts[0].startswith("/"):  # no search in PATH
                self.lacking.add(f"{PROGRAM}{texts[0]}")
            elif len(texts) > 1 and texts[0].startswith("./"):
                self._add(process, "absent", argv=tuple(texts[1:]))
        elif name == "write":
            self._write(process, arguments, texts, failed)
        elif name in ("openat", "open", "creat"):
            self._open(process, name, arguments, texts, opened, failed)
        elif name == "kill" and not process.stands_in:
            self._add(process, "kill", data=arguments)
        elif name == "connect":
            if not process.stands_in and "/run/nscd" not in arguments:
                self._add(process, "connect", data=arguments)
        elif texts and not process.stands_in:
            what, path = "remove" if name.startswith(("unlink", "rmdir")) else "make", _whole(arguments, texts[-1])
            if failed and what == "make" and path:
                self.lacking.add(path)
            if path and not path.startswith(_OWN):
                self._add(process, what, path=path, data=name)

    def _start(self, process: _Process, texts: list[str]) -> None:
        path, argv = texts[0], texts[1:]
        if path == "/.libhook/standin":
            path, argv = argv[1] if len(argv) > 1 else "", argv[1:]
        place = process.born if process.started < 0 else len(self.done)
        before = self.done[process.started] if process.started >= 0 else None
        if before is not None and process.stands_in and (found := inner(_name(before.argv[0]), list(before.argv[1:]))):
            self.done[process.started] = None
            place = process.born
            process.user = found.user or process.user
            process.environment += tuple(f"{key}={value}" for key, value in found.environment.items())
            process.background = process.background or found.background
        process.program, process.stands_in = _name(path), False
        process.started = -1
        if argv:
            self.order.append((len(self.done), place))
            process.started = len(self.done)
            self._add(process, "start", argv=(path, *argv[1:]), path=path)

    def _write(self, process: _Process, arguments: str, texts: list[str], failed: bool) -> None:
        path = arguments.partition("<")[2].partition(">")[0]
        text = texts[0] if texts else ""
        if path == "/.trace/lines":
            self._shown(process, text)
        elif path == "/.trace/starts":
            at = self.done[process.started] if process.started >= 0 else None
            if at is not None and text.startswith("env\0"):
                _, cwd, *known = text.split("\0")
                self.done[process.started] = at._replace(
                    environment=tuple(dict.fromkeys((*known, *at.environment))), data=cwd
                )
        elif not process.stands_in and not failed and path.startswith("/") and not path.startswith(_OWN):
            self._add(process, "write", path=path, data=text)

    def _shown(self, process: _Process, text: str) -> None:
        """Read commands as bash shows them. What a fork has left in a buffer makes several of one write."""
        parts = _SHOWN.split(text)
        if parts[0] and self.commands:
            place, before = self.commands[-1]
            self.commands[-1] = (place, before + parts[0])
        for file, line, command in zip(parts[1::3], parts[2::3], parts[3::3], strict=True):
            if file.startswith("/.libhook"):
                continue
            if file and file != "environment":
                process.place = Place(file, int(line))
                self.lines.add(process.place)
            self.commands.append((process.place, command.removesuffix("\n")))

    def _open(self, process: _Process, name: str, arguments: str, texts: list[str], opened: str, failed: bool) -> None:
        if not texts:
            return
        if opened.endswith("/standin>"):
            process.stands_in = True
        path = _whole(arguments, texts[0])
        if process.stands_in or path.startswith(_OWN):
            return
        writes = name == "creat" or "O_WRONLY" in arguments or "O_RDWR" in arguments
        if not writes:
            self.read.add(path)
        else:
            if failed:
                self.lacking.add(path)
            self._add(process, "fail" if failed else "open", path=path if failed else opened[1:-1] or path,
                      data="append" if "O_APPEND" in arguments else "")  # fmt: skip

    def _add(self, process: _Process, what: str, *, argv: tuple[str, ...] = (), path: str = "", data: str = "") -> None:
        self.done.append(
            Done(what, process.place, argv, path, data, process.user, process.environment, process.background,
                 "" if _is_shell(process.program) else process.program, process.pid)
        )  # fmt: skip


def read(text: str) -> Trace:
    """Read a trace. Lines that make no sense are passed over."""
    reader = _Reader()
    for line in _lines(text):
        reader.line(line)
    born = dict(reader.order)
    places = sorted(range(len(reader.done)), key=lambda at: (born.get(at, at), at))
    done = tuple(one for at in places if (one := reader.done[at]) is not None)
    return Trace(done, frozenset(reader.lines), tuple(reader.commands), reader.code, frozenset(reader.read),
                 frozenset(reader.lacking))  # fmt: skip


def _lines(text: str) -> Iterator[str]:
    begin = 0
    while (end := text.find("\n", begin)) >= 0:
        yield text[begin:end]
        begin = end + 1


def _plain(text: str) -> str:
    if "\\" not in text:
        return text

    def one(found: re.Match[str]) -> str:
        code = found[1]
        if code[0] in "01234567":
            return chr(int(code, 8) & 0xFF)
        return chr(int(code[1:], 16)) if code[0] == "x" and len(code) == 3 else _SHORT.get(code, code)

    plain = _ESCAPE.sub(one, text)
    return plain.encode("latin-1", "replace").decode("utf-8", "surrogateescape")


def _whole(arguments: str, path: str) -> str:
    """A path with the folder that it is relative to; "" where that is not said."""
    if path.startswith("/"):
        return path
    folder = arguments.partition("<")[2].partition(">")[0]
    return f"{folder.rstrip('/')}/{path}" if folder else ""


def _name(path: str) -> str:
    return path.rpartition("/")[2]


def _is_shell(program: str) -> bool:
    return program in ("bash", "sh", "dash") or "." in program or not program
