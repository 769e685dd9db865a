# SPDX-License-Identifier: LGPL-2.1-or-later
"""Plays tests in a copy of the tree, whatever they do there: for so long at most, and nothing of it is left."""

import ctypes
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import born

_SUBREAPER, _DIES_WITH_PARENT = 36, 1  # of prctl(2)
_WHICH = ("-m", "not rest")
"""Every variant of each test, but for those of `tests/run --all` alone, most of which measure time."""
_MOST = 2000
"""Processes: more of them means that a change starts itself again and again."""
_LARGEST = 2 << 30
"""Bytes that a file may have."""
_LOOK_AGAIN = 1.0
_PATIENCE = 10.0
"""Seconds for what is killed to end."""


class Ended(NamedTuple):
    """How pytest ended."""

    status: int | None
    """None where it was not waited for any longer."""
    said: str

    @property
    def failed(self) -> list[str]:
        """The tests that failed."""
        return re.findall(r"^(?:FAILED|ERROR) (\S.*?)(?: - |$)", self.said, re.MULTILINE)


def play(tree: Path, arguments: list[str], environment: Mapping[str, str], seconds: float) -> Ended:
    """Run pytest with these arguments in the tree."""
    _prctl(_SUBREAPER, 1)  # whatever tests leave behind becomes ours, and is ended
    temporary = tree.with_suffix(".t")
    temporary.mkdir()
    path = ":".join(str(tree / folder) for folder in ("tests", "tests/mutants"))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "reached", "-p", "no:cacheprovider", *_WHICH, *arguments]
    said = tree.with_suffix(".said")
    until = time.monotonic() + seconds
    try:
        with (
            said.open("wb") as output,
            subprocess.Popen(
                command,
                cwd=tree,
                env={
                    **born.environment(kept_all=()),
                    "PYTHONPATH": path,
                    "LIBHOOK_TEST_PROFILE": "all",
                    "TMPDIR": str(temporary),
                    **environment,
                },
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_limit,
            ) as tests,
        ):
            try:
                while time.monotonic() < until and len(_descendants()) < _MOST:
                    with suppress(subprocess.TimeoutExpired):
                        tests.wait(_LOOK_AGAIN)
                        break
                status = tests.poll()
            finally:
                _end_all()
                tests.poll()
        return Ended(status, said.read_text(errors="replace"))
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _limit() -> None:
    _prctl(_DIES_WITH_PARENT, signal.SIGKILL)
    resource.setrlimit(resource.RLIMIT_FSIZE, (_LARGEST, _LARGEST))  # tests/born.py gives all that may be had


def _prctl(option: int, value: int) -> None:
    ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def _descendants() -> list[int]:
    """All processes below this one, or of many some: a change may let each start the next."""
    found, pending = list[int](), [os.getpid()]
    while pending and len(found) < _MOST:
        pid, children = pending.pop(), list[int]()
        with suppress(OSError):
            for task in os.listdir(f"/proc/{pid}/task"):
                children += map(int, Path(f"/proc/{pid}/task/{task}/children").read_text().split())
        found += children
        pending += children
    return found


def _end_all() -> None:
    """Kill each, and bury it; also those that fork meanwhile."""
    until = time.monotonic() + _PATIENCE
    while (left := _descendants()) and time.monotonic() < until:
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        time.sleep(_LOOK_AGAIN / 100)
