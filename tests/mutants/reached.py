# SPDX-License-Identifier: LGPL-2.1-or-later
"""A part of pytest: which lines of libhook each test reaches, or only the tests that were chosen, in their order.

It notes what is reached in the folder that LIBHOOK_REACHED names, and plays what the file LIBHOOK_CHOSEN lists.
"""

import json
import mmap
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

if os.environ.get("LIBHOOK_REACHED"):
    os.environ["LIBHOOK_LINES"] = f"{os.environ['LIBHOOK_REACHED']}/{os.getpid()}.lines"
import lines
from change import LAUNCHER

_FOLDER = os.environ.get("LIBHOOK_REACHED")
_CHOSEN = os.environ.get("LIBHOOK_CHOSEN")
_MEMORY = "/dev/shm"
_failed: set[str] = set()
_launched: set[bool] = set()


_make_folder = tempfile.mkdtemp


def _make_folder_here(suffix: str | None = None, prefix: str | None = None, dir: str | None = None) -> str:  # noqa: A002
    """A simulated host goes with all else in TMPDIR, also when its test is killed."""
    return _make_folder(suffix, prefix, None if dir == _MEMORY else dir)


def _watch(event: str, arguments: tuple[object, ...]) -> None:
    """Whether the launcher, or a copy of it, is run or read."""
    if event == "subprocess.Popen" and any(LAUNCHER in str(word) for word in (arguments[0], *_words(arguments[1]))):
        _launched.add(True)
    if event == "open" and isinstance(arguments[0], str) and arguments[0].endswith(LAUNCHER):
        _launched.add(True)


def _words(command: object) -> tuple[object, ...]:
    return tuple(command) if isinstance(command, list | tuple) else (command,)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Note what one test reaches, and how long it takes."""
    if not _FOLDER:
        return (yield)
    with open(os.environ["LIBHOOK_LINES"], "r+b") as file, mmap.mmap(file.fileno(), 0) as shared:
        shared[:] = bytes(len(shared))
        vars(sys)["monitoring"].restart_events()
        _launched.clear()
        begun = time.monotonic()
        result = yield
        took = time.monotonic() - begun
        content = bytes(shared)
    reached = {}
    for number, name in enumerate(lines._files()):
        at = range(number * lines._ROOM, (number + 1) * lines._ROOM)
        if found := [place - at.start for place in at if content[place]]:
            reached[name.removeprefix(f"{lines._TOP}/")] = found
    if _launched:
        reached[LAUNCHER] = []
    if item.nodeid not in _failed:
        with open(f"{_FOLDER}/{os.getpid()}.jsonl", "a", encoding="utf-8") as notes:
            notes.write(json.dumps({"test": item.nodeid, "seconds": took, "reached": reached}) + "\n")
    return result


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """A test that fails, or is skipped, shows nothing."""
    if not report.passed:
        _failed.add(report.nodeid)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Only those that were chosen."""
    if _CHOSEN:
        chosen = {name: number for number, name in enumerate(Path(_CHOSEN).read_text().splitlines())}
        items[:] = sorted((item for item in items if item.nodeid in chosen), key=lambda item: chosen[item.nodeid])


vars(tempfile)["mkdtemp"] = _make_folder_here
if _FOLDER:
    sys.addaudithook(_watch)
