# SPDX-License-Identifier: LGPL-2.1-or-later
"""``libhook history --follow`` in this process: each wait is a step of the test, and time is what the test says."""

import contextlib
import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

from trail_writing import BEGIN, OTHER, Trail

from libhook.command import parsing
from libhook.history import command, follow

Step = Callable[[], None]
NIC, CARD, STICK = "0000:01:00.0", "0000:02:00.0", "001.004"


_MORE = 4
"""How often it looks once the steps are over. After two seconds all is told."""


def nothing() -> None:
    """Only wait."""


class Killed(BaseException):
    """Nothing more runs, and nothing is tidied up that a SIGKILL would leave."""


class Desk:
    """A folder with a log, a cursor and what the follower wrote."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.log, self.out = folder, folder / "audit.log", folder / "out"
        self.cursor = folder / "cursor"
        self.out.touch()
        self.given = ["--json", "--cursor", str(self.cursor)]
        self.clock = 0.0
        """Seconds that the waits have taken."""
        self.effects = 0
        """How often something was written: a line, or the cursor."""
        self.pieces = 0
        """SIGTERM comes after so many pieces of the log; 0 or less: only at a wait."""
        self.synced: list[str] = []
        """What was put on the disk."""

    @property
    def now(self) -> int:
        """In milliseconds since 1970: a day after ``busy`` began, and what was waited since."""
        return BEGIN + 86_400_000 + round(self.clock * 1000)

    def append(self, text: bytes) -> None:
        """auditd writes."""
        with self.log.open("ab") as file:
            file.write(text)

    def rotate(self) -> None:
        """auditd renames its logs, and makes a new one."""
        numbers = sorted((int(path.suffix[1:]) for path in self.folder.glob("audit.log.*")), reverse=True)
        for number in numbers:
            (self.folder / f"audit.log.{number}").rename(self.folder / f"audit.log.{number + 1}")
        if self.log.exists():
            self.log.rename(self.folder / "audit.log.1")
        self.log.touch()

    def follow(self, *steps: Step, kill_at: int | None = None, path: Path | None = None) -> int:
        """Follow: a step at each wait, then as long as it takes to tell all, then SIGTERM. Or be killed before that.

        Return how many steps were taken.
        """
        left = [*steps, *[nothing] * _MORE]

        def ended(seconds: float) -> bool:
            if seconds and left:
                self.clock += 1
                left.pop(0)()
                return False
            self.pieces -= not seconds
            return bool(seconds) or self.pieces == 0

        def synced(descriptor: int) -> None:
            self.synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))

        def counted(do: Callable[..., object]) -> Callable[..., object]:
            def doing(*arguments: object) -> object:
                if self.effects == kill_at:
                    raise Killed
                self.effects += 1
                return do(*arguments)

            return doing

        self.effects = 0
        options = parsing.parser().parse_args(["history", "--follow", "-if", str(path or self.folder), *self.given])
        clocks = SimpleNamespace(time=lambda: self.now / 1000, monotonic=lambda: self.clock)
        with self.out.open("ab") as out, contextlib.ExitStack() as stack:
            fake = SimpleNamespace(fileno=out.fileno, encoding="utf-8", isatty=lambda: False)
            stack.enter_context(mock.patch.object(sys, "stdout", fake))
            stack.enter_context(mock.patch.object(follow, "_ended", ended))
            stack.enter_context(mock.patch.object(follow, "time", clocks))
            stack.enter_context(mock.patch.object(os, "write", counted(os.write)))
            stack.enter_context(mock.patch.object(os, "replace", counted(os.replace)))
            stack.enter_context(mock.patch.object(os, "fsync", synced))  # else the tests take as long as the disk
            stack.enter_context(contextlib.suppress(Killed))
            command.run("", options)
        return min(len(steps), len(steps) + _MORE - len(left))

    @property
    def written(self) -> list[dict[str, Any]]:
        """What was written, without the second of two lines that are the same."""
        return [json.loads(line) for line in dict.fromkeys(self.out.read_text().splitlines())]

    @property
    def left(self) -> list[str]:
        """What the last lines of all entries say, as ``history --json`` has it."""
        last: dict[str, dict[str, Any]] = {}
        for line in self.written:
            last[line["entry"]] = line
        kept = [line for line in last.values() if line["event"] != "withdrawn"]
        return sorted(json.dumps({key: line[key] for key in list(line)[2:]}) for line in kept)

    @property
    def shown(self) -> list[str]:
        """What ``history --json`` has, but for where the trail ends: for one that is followed, that is not yet."""
        options = parsing.parser().parse_args(["history", "--json", "-if", str(self.folder)])
        lines: list[bytes] = []
        with mock.patch.object(command, "_write", lines.extend):
            assert command.run("", options) == 0
        return sorted(
            re.sub(r'(?<="known_until": )"[^"]*"', "null", line.decode().rstrip("\n"))
            for line in lines
            if b'"entry"' in line
        )

    @property
    def events(self) -> list[tuple[str, str]]:
        """Event and device of each line."""
        return [(line["event"], line["device"]) for line in self.written]


def busy(node: str = "") -> Iterator[bytes]:
    """The lines of a log with all that may happen to an entry, from a year that is long over."""
    log = Trail(node)
    log.device("libhook", "stop", device="0000:09:00.0").control("stop")  # from before the trail
    log.device("libvirtd", "start", ids="").control("start").device("libhook", "start", ids="8086:10d3", after=4_000)
    log.device("libvirtd", "attach", bus="usb", device="USB redirdev", after=0)
    log.device("libvirtd", "attach", bus="usb", device="USB redirdev", after=0)
    log.device("libvirtd", "attach", device=CARD).device("libhook", "attach", False, device=CARD)
    log.device("libvirtd", "detach", bus="usb", device="USB redirdev")
    log.device("libhook", "stop", False).device("libhook", "stop", device=CARD).control("stop")
    log.device("libhook", "stop", after=20_000)  # back on the host at last
    log.device("libhook", "start", False, uuid=OTHER, vm="b").device("libvirtd", "start", uuid=OTHER, vm="b")
    log.control("start", False, uuid=OTHER, vm="b")
    log.device("libvirtd", "start", bus="usb", device="000.000", after=60_000)
    log.device("libhook", "start", bus="usb", device=STICK, after=5_000).control("start", after=4_000)
    log.device("libvirtd", "start", uuid=OTHER, vm="b").control("start", uuid=OTHER, vm="b")
    log.device("libvirtd", "start", device=NIC, after=60_000).control("start")  # again, and what the other has
    log.raw("DAEMON_END", "op=terminate").raw("DAEMON_START", "op=start")
    log.device("libhook", "attach", device=CARD, after=700_000).raw("SYSTEM_BOOT", "x", after=60_000)
    log.device("libvirtd", "start", after=60_000).device("libhook", "start", ids="10de:2684").control("start")
    yield from (line + b"\n" for line in log.lines)
