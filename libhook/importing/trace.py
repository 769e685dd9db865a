# SPDX-License-Identifier: LGPL-2.1-or-later
"""Reads what strace wrote: which programs were started, what was written, and from which line of which script. Pure.

bash writes each command to a file of its own before it runs it (inside/tracing.sh), so strace has both in their order.
"""

import contextlib
import re
from collections.abc import Mapping

from libhook.importing import strace
from libhook.importing.done import Done, Place, Trace
from libhook.importing.inside.wrapping import inner

_LINE = re.compile(r"([0-9]{1,9})\s+(.*)")
_CALL = re.compile(r"(\w+)\((.*)\)\s+= (-?[0-9]{1,18}|\?)(<[^>]*>)?( E\w+)?")
PROGRAM = "program "
"""Before the path of what is lacking: it is a program."""
_CODES = {str(code): code for code in range(256)}
_FORKS = ("clone", "clone3", "fork", "vfork")
_SHOWN = re.compile(r"(?<!\+)\++\x01([^\x01]*)\x01([0-9]{1,9})\x01")
_MOST, _MOST_COMMANDS, _LONGEST_COMMAND, _MOST_VARIABLES = 20_000, 50_000, 4000, 64
_SHELLS = ("bash", "sh", "dash")


class _Process:
    """What is known of one process."""

    def __init__(self, pid: int, parent: "_Process | None", born: tuple[float, int]) -> None:
        self.pid = pid
        self.place: Place = parent.place if parent else Place()
        self.user: str = parent.user if parent else ""
        self.environment: tuple[str, ...] = parent.environment if parent else ()
        self.background: bool = parent.background if parent else False
        self.program: str = parent.program if parent else ""
        self.shown: str = parent.shown if parent else ""
        self.head: Place = parent.head if parent else Place()
        self.has_shown = self.has_forked = self.is_script = False
        self.stands_in: bool = parent.stands_in if parent else False
        self.foreign: str = parent.foreign if parent else ""
        self.started = -1
        self.born = born
        """Where what it starts belongs: behind what was done when it was forked, in the order of the forks. What is in
        the background comes in its line's place."""


class _Reader:
    """Reads one trace from its first line to its last."""

    def __init__(self, known: Mapping[str, bool]) -> None:
        self._known = {strace.in_path(place): is_shell for place, is_shell in known.items()}
        self._names = {_name(place): is_shell for place, is_shell in known.items()}
        self.done: list[Done | None] = []
        self.lines: set[Place] = set()
        self.commands: list[tuple[Place, str]] = []
        self.read: set[str] = set()
        self.lacking: set[str] = set()
        self.failed: list[tuple[Place, int]] = []
        self.order: list[tuple[int, tuple[float, int]]] = []
        """The first start of each process, and what was done when it was forked."""
        self.code: int | None = None
        self._given: dict[str, str] = {}
        """Files of a class, such as a card, and the paths by which they were opened: where the links lead to is only
        so here."""
        self._processes: dict[int, _Process] = {}
        self._unfinished: dict[int, str] = {}
        self._forking: dict[int, None] = {}
        """Who is being forked, the last one last."""
        self._first = 0

    def line(self, text: str) -> None:
        """Read one line."""
        found = _LINE.match(text)
        if not found or len(self.done) > _MOST:
            return
        pid, rest = int(found[1]), found[2]
        self._first = self._first or pid
        process = self._process(pid)
        if rest.startswith("+++ exited with "):
            code = _CODES.get((rest.split()[3:4] or [""])[0])
            if pid == self._first and code is not None:
                self.code = code
            elif code and process.is_script and len(self.failed) < _MOST_VARIABLES:
                self.failed.append((process.place, code))
            return
        if rest.endswith(" <unfinished ...>"):
            self._unfinished[pid] = rest.removesuffix(" <unfinished ...>")
            if rest.partition("(")[0] in _FORKS:
                self._forking[pid] = None
            return
        if rest.startswith("<... ") and " resumed>" in rest:
            rest = self._unfinished.pop(pid, "") + rest.partition(" resumed>")[2]
        call = _CALL.match(rest)
        if call and call[5] != " EEXIST":  # what is there already need not be made
            self._call(process, call[1], call[2], call[3], call[4] or "", bool(call[5]))

    def _process(self, pid: int) -> _Process:
        if pid not in self._processes:
            parent = self._processes.get(next(reversed(self._forking))) if self._forking else None
            self._processes[pid] = _Process(pid, parent, self._behind())
        return self._processes[pid]

    def _behind(self) -> tuple[float, int]:
        return len(self.done) - 0.5, len(self._processes) + 1

    def _call(self, process: _Process, name: str, arguments: str, result: str, opened: str, failed: bool) -> None:
        texts = strace.texts(arguments)
        if name in _FORKS:
            process.has_forked = True
            self._forking.pop(process.pid, None)
            if result.isdigit() and int(result) not in self._processes:
                self._processes[int(result)] = _Process(int(result), process, self._behind())
        elif name == "execve":
            if not failed and texts:
                self._start(
                    process, [*texts, *(["\0"] if '"...' in arguments else [])]
                )  # cut off: no argument can be that
            elif len(texts) > 1 and self._is_known(texts[0]) is False:  # nothing here can run it
                self._add(process, "absent", argv=tuple(texts[1:]), data="given")
            elif len(texts) > 1 and texts[0] == texts[1] and texts[0].startswith("/"):  # no search in PATH
                self._lack(f"{PROGRAM}{texts[0]}")
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
            what, path = "remove" if name[:2] in ("un", "rm") else "make", strace.whole(arguments, texts[-1])
            if failed and what == "make" and path:
                self._lack(path)
            if path and not strace.is_own(path):
                self._add(process, what, path=path, data=name)

    def _start(self, process: _Process, texts: list[str]) -> None:
        path, argv = texts[0], texts[1:]
        if path == "/.libhook/standin":
            path, argv = argv[1] if len(argv) > 1 else "", argv[1:]
        fresh = process.started < 0 and not process.has_forked
        place = process.born if fresh else (float(len(self.done)), 0)
        before = self.done[process.started] if process.started >= 0 else None
        if before is not None and process.stands_in and (found := inner(_name(before.argv[0]), list(before.argv[1:]))):
            if _name(before.argv[0]) != "systemd-inhibit":  # which does something itself, too
                self.done[process.started] = None
            place = process.born
            process.user = found.user or process.user
            known = (*process.environment, *(f"{key}={value}" for key, value in found.environment.items()))
            process.environment = tuple(dict.fromkeys(known))[:_MOST_VARIABLES]
            process.background = process.background or found.background
        process.program, process.stands_in, process.is_script = self._program(path), False, bool(self._is_known(path))
        process.started = -1
        words = (path, *argv[1:3]) if _name(path).startswith(("python", "perl", "ruby", "node")) else (path,)
        process.foreign = process.foreign or next((word for word in words if self._is_known(word) is False), "")
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
            if at is not None and at.what == "start" and text.startswith("env\0"):
                _, cwd, *known = text.split("\0")
                self.done[process.started] = at._replace(
                    environment=tuple(dict.fromkeys((*known, *at.environment))), data=cwd
                )
        elif not process.stands_in and not failed and path.startswith("/") and not strace.is_own(path):
            self._add(process, "write", path=self._given.get(path, path), data=text)

    def _shown(self, process: _Process, text: str) -> None:
        """Read commands as bash shows them. What a fork has left in a buffer makes several of one write."""
        parts = _SHOWN.split(text)
        if parts[0] and self.commands:
            place, before = self.commands[-1]
            self.commands[-1] = (place, (before + parts[0])[:_LONGEST_COMMAND])
        for file, line, command in zip(parts[1::3], parts[2::3], parts[3::3], strict=True):
            if file.startswith("/.libhook"):
                continue
            if file and file != "environment":
                process.place = Place(file, int(line))
                if len(self.lines) < _MOST_COMMANDS:
                    self.lines.add(process.place)
            if not process.has_shown:  # the last one, since a fork may have left others in the buffer
                process.head = process.place
            process.shown = command.removesuffix("\n")
            if len(self.commands) < _MOST_COMMANDS:
                self.commands.append((process.place, process.shown))
        process.has_shown = True

    def _open(self, process: _Process, name: str, arguments: str, texts: list[str], opened: str, failed: bool) -> None:
        if not texts:
            return
        if opened.endswith("/standin>"):
            process.stands_in = True
            at = self.done[process.started] if process.started >= 0 else None
            if at is not None and self._is_known(at.path) is False:  # its interpreter is not here
                self.done[process.started] = at._replace(what="absent", data="given")
        path = strace.whole(arguments, texts[0])
        if process.stands_in or strace.is_own(path) or strace.is_own(opened[1:-1]):
            return
        writes = name == "creat" or "O_WRONLY" in arguments or "O_RDWR" in arguments
        if not writes and len(self.read) < _MOST:
            self.read.add(path)
        elif writes:
            if failed:
                self._lack(path)
            whole = path if failed else opened[1:-1] or path
            if whole != path and path.startswith(("/sys/class/", "/sys/block/")) and ".." not in path.split("/"):
                self._given[whole] = path
            else:
                self._given.pop(whole, None)
            self._add(process, "fail" if failed else "open", path=self._given.get(whole, whole),
                      data="append" if "O_APPEND" in arguments else "")  # fmt: skip

    def _add(self, process: _Process, what: str, *, argv: tuple[str, ...] = (), path: str = "", data: str = "") -> None:
        self.done.append(
            Done(what, process.place, argv, path, data, process.user, process.environment, process.background,
                 process.program, process.pid, process.shown, process.head, process.foreign)
        )  # fmt: skip

    def _lack(self, path: str) -> None:
        if len(self.lacking) < _MOST:
            self.lacking.add(path)

    def _is_known(self, path: str) -> bool | None:
        """Whether a file that was given is one of bash's; None for another. The folder of ``./x`` is unknown."""
        return self._known.get(strace.in_path(path)) if path.startswith("/") else self._names.get(_name(path))

    def _program(self, path: str) -> str:
        """The program's name; "" for a shell, and for what was given: what that does is in the trace."""
        return "" if _name(path) in _SHELLS or self._is_known(path) is not None else _name(path)


def read(text: str, known: Mapping[str, bool]) -> Trace:
    """Read a trace. Lines that make no sense are passed over: a script may write into it.

    ``known`` are the places of the files that were given, and whether bash can run each.
    """
    reader = _Reader(known)
    for line in strace.lines(text):
        with contextlib.suppress(ValueError, IndexError):
            reader.line(line)
    born = dict(reader.order)
    places = sorted(range(len(reader.done)), key=lambda at: (born.get(at, (at, 0)), at))
    done = tuple(one for at in places if (one := reader.done[at]) is not None)
    return Trace(done, frozenset(reader.lines), tuple(reader.commands), reader.code, frozenset(reader.read),
                 frozenset(reader.lacking), tuple(reader.failed))  # fmt: skip


def _name(path: str) -> str:
    return path.rpartition("/")[2]
