# SPDX-License-Identifier: LGPL-2.1-or-later
"""Reads attributes that may never answer: a driver that hangs with the lock of its device blocks every reader."""

from __future__ import annotations

import os
import time

from libhook.children.child import Deadline, ended
from libhook.children.worker import Worker
from libhook.errors import LibhookError
from libhook.facts.machine import Machine
from libhook.light import TYPE_CHECKING, suppress

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class Silent:
    """Stands for the content of an attribute that did not answer: a process hangs with the lock of its device."""


SILENT = Silent()


def read_all(paths: list[str], deadline: Deadline, patience: float) -> list[str | Silent | None]:
    """Read these attributes; None for one that cannot be read, SILENT for one that does not answer.

    One child reads them all and has ``patience`` seconds. After that the attribute that it waits for is SILENT, and a
    new child goes on with the rest. LibhookError when such children are killed.
    """
    contents: list[str | Silent | None] = []
    killed = 0
    while len(contents) < len(paths):
        until = Deadline(min(deadline.at, time.monotonic() + patience))
        contents += (found := _read(paths[len(contents) :], until))
        if len(contents) < len(paths) and not until.left:
            contents.append(SILENT)
        elif not found and (killed := killed + 1) > 1:
            raise LibhookError(
                f"the process that reads {paths[len(contents)]} was killed", "free some memory, and try again"
            )
    return contents


def ask_each(workers: Mapping[str, Worker], deadline: Deadline, patience: float) -> dict[str, str | Silent | None]:
    """Like ``read_all``, but each of these paths is read by its own worker, all at the same time.

    ``patience`` counts from when all are asked. A path is left out if its worker could not be started, or has died.
    """
    asked: dict[int, str] = {}
    contents: dict[str, str | Silent | None] = {}
    for path, worker in workers.items():
        with suppress(OSError):
            worker.begin(read, (path,), looks=True)
            asked[worker.handle] = path
    until = min(deadline, Deadline.after(patience))
    while asked and (answered := ended(asked, until)):
        for handle in answered:
            path = asked.pop(handle)
            code = workers[path].result()
            if workers[path].is_there:
                contents[path] = None if code else workers[path].lines()[0]
    for path in asked.values():
        workers[path].abandon()
        contents[path] = SILENT
    return contents


def read(_machine: Machine, output: int, path: str) -> None:
    """Read the first line of an attribute. A worker does it (children/worker.py)."""
    os.write(output, _first_line(path) + b"\n")


def _first_line(path: str) -> bytes:
    attribute = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(attribute, 4096).strip().partition(b"\n")[0]
    finally:
        os.close(attribute)


def _read(paths: list[str], deadline: Deadline) -> list[str | None]:
    from libhook.children import telling  # where each device has its worker, nothing is left to read

    def read_each(say: Callable[[bytes], None]) -> None:
        for path in paths:
            try:
                say(_first_line(path))
            except OSError:
                say(b"\0")

    return [None if line == "\0" else line for line in telling.lines(read_each, deadline)]
