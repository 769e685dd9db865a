# SPDX-License-Identifier: LGPL-2.1-or-later
"""Reads attributes that may never answer: a driver that hangs with the lock of its device blocks every reader."""

from __future__ import annotations

import os
import time

from libhook.children import telling
from libhook.children.child import Deadline
from libhook.errors import LibhookError
from libhook.light import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


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


def _read(paths: list[str], deadline: Deadline) -> list[str | None]:
    def read(say: Callable[[bytes], None]) -> None:
        for path in paths:
            try:
                attribute = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                content = os.read(attribute, 4096)
                os.close(attribute)
            except OSError:
                content = b"\0"
            say(content.strip().partition(b"\n")[0])

    return [None if line == "\0" else line for line in telling.lines(read, deadline)]
