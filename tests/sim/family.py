# SPDX-License-Identifier: LGPL-2.1-or-later
"""Real processes of this machine: whose children they are, one that is ours alone, and waiting for what they do."""

import json
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

_PATIENCE = 300


def until(holds: Callable[[], object]) -> None:
    """Wait for it; a test fails that waits for ever."""
    last = time.monotonic() + _PATIENCE
    while not holds():
        assert time.monotonic() < last
        time.sleep(0.005)


def state(pid: int) -> str:
    """``S`` where it sleeps, ``R`` where it runs, as proc(5) has it; "" when it has ended."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return ""


def rest(pid: int) -> tuple[str, ...]:
    """Its state, and how often it has stopped running, by itself and not, as proc(5) counts; () when it has ended.

    One that looks for something again and again is at rest as long as it sleeps meanwhile.
    """
    with suppress(OSError):
        if "nanosleep" in sleeps_in(pid):
            return ("S",)
        found = dict(re.findall(r"(\w+):\s+(\w+)", Path(f"/proc/{pid}/status").read_text()))
        return tuple(found[name] for name in ("State", "voluntary_ctxt_switches", "nonvoluntary_ctxt_switches"))
    return ()


def sleeps_in(pid: int) -> str:
    """The function of the kernel in which it sleeps; "0" where it does not, "" when it has ended."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/wchan").read_text()
    return ""


def children(pid: int | str = "self") -> list[int]:
    """Of this process, or of another that may have ended."""
    with suppress(FileNotFoundError, ProcessLookupError):
        by_thread = [path.read_text().split() for path in Path(f"/proc/{pid}/task").glob("*/children")]
        return [int(child) for found in by_thread for child in found]
    return []


def descendants(pid: int) -> Iterator[int]:
    """Those, and theirs; parents first."""
    for child in children(pid):
        yield child
        yield from descendants(child)


def program(pid: int) -> str:
    """What a process runs, by its file; "" where it has ended."""
    with suppress(OSError):
        return os.path.basename(os.readlink(f"/proc/{pid}/exe"))
    return ""


def apart(task: Callable[[], object]) -> Callable[[], Any]:
    """Do it in a process of its own. What is given here waits for its answer, which JSON must know; None: it died."""
    receiver, sender = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(sender, json.dumps(task()).encode())
        finally:
            os._exit(0)
    os.close(sender)

    def answer() -> Any:  # noqa: ANN401 - whatever it is
        with os.fdopen(receiver) as pipe:
            text = pipe.read()
        with suppress(ChildProcessError):
            os.waitpid(pid, 0)
        return json.loads(text) if text else None

    return answer


def environment(root: str) -> dict[str, str]:
    """What libvirtd gives its hook, and whose host it is."""
    return {"LC_ALL": "C", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LIBHOOK_ROOT": root}


class Begun(subprocess.Popen[bytes]):
    """A program that has begun, and is given the rest of its input when it is told to go on."""

    def __init__(self, command: Sequence[str | Path], environment: Mapping[str, str], **more: Any) -> None:  # noqa: ANN401 - as Popen
        """It stands at its input soon."""
        pipe = subprocess.PIPE
        super().__init__(command, env=environment, stdin=pipe, stdout=pipe, stderr=pipe, **more)

    def begin_with(self, text: bytes) -> None:
        """All of its input."""
        assert self.stdin
        self.stdin.write(text)
        self.stdin.close()
        self.stdin = None

    def go_on(self, rest: bytes = b"") -> tuple[int, bytes, bytes]:
        """How it ended, and what it said."""
        out, error = self.communicate(rest, timeout=_PATIENCE)
        return self.returncode, out, error
