# SPDX-License-Identifier: LGPL-2.1-or-later
"""Sends structured events to the system's log, by a child that nobody waits for.

Importing structlog takes several times as long as a bare start of Python. The child imports it, so no guest's start
pays for it. Audit records, which must not be lost, do not go this way.
"""

from __future__ import annotations

import os
import time

from libhook import plainjson
from libhook.children.worker import Worker
from libhook.errors import harmless, named, printable
from libhook.facts.machine import Machine
from libhook.light import TYPE_CHECKING, Literal, suppress

if TYPE_CHECKING:
    from collections.abc import MutableMapping
    from types import TracebackType
    from typing import Any, NoReturn, Self

Level = Literal["info", "warning", "error"]
Field = str | float
_NAMES = ("guest", "alias")
"""Fields with a name that others chose. In the log it stands alone, in a line between others."""


class Log:
    """Collects the log entries of one event, and sends them when the ``with`` block ends."""

    def __init__(self, machine: Machine, is_sent: bool = True, /, **context: Field) -> None:
        """``context`` is part of every entry. Unless ``is_sent``, the entries are for ``lines`` alone."""
        self._machine = machine
        self._is_sent = is_sent
        self._context = context
        self._entries: list[tuple[Level, str, float, dict[str, Field]]] = []
        self._worker: Worker | None = None
        self._is_open = False

    def __enter__(self) -> Self:
        """Start collecting."""
        self._is_open = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Hand all entries to a child. A failure to log fails nothing else."""
        worker = self._worker or Worker(self._machine)
        if self._entries and self._is_sent:
            entries = [plainjson.dumps(entry) for entry in self._entries]
            try:
                worker.begin(write, tuple(entries), looks=True)
            except OSError:  # no child could be started: log from here, since somebody should read that
                with suppress(OSError):
                    write(self._machine, -1, *entries)
        worker.abandon()
        self._entries, self._worker, self._is_open = [], None, False

    def lend(self, worker: Worker) -> None:
        """Take a worker that is idle, and use it for the entries. That saves a fork."""
        if self._worker or not self._is_open:
            worker.abandon()
        else:
            self._worker = worker

    def bind(self, **context: Field) -> None:
        """Add fields to every later entry."""
        self._context.update(context)

    def add(self, level: Level, event: str, **fields: Field) -> None:
        """Add one entry. What is no number becomes printable text here, wherever it comes from.

        A guest's name begins no command: the line is read beside those that tell what to run.
        """
        every = {**self._context, **fields}
        if isinstance(guest := every.get("guest"), str):
            every["guest"] = harmless(guest)
        shown = {n: value if isinstance(value, int | float) else printable(str(value)) for n, value in every.items()}
        self._entries.append((level, event, time.time(), shown))

    def lines(self) -> list[str]:
        """The entries as the journal shows them, for a terminal."""
        return [
            " ".join(
                (event, *(f"{name}={named(str(value)) if name in _NAMES else value}" for name, value in fields.items()))
            )
            for _level, event, _when, fields in self._entries
        ]


def write(machine: Machine, _output: int, *entries: str) -> None:
    """Write these entries, each in JSON. A worker does it."""
    os.nice(10)  # the guest's start comes first
    try:
        import structlog
    except ImportError:  # not packaged everywhere; the log must not depend on it
        for level, event, when, fields in map(plainjson.loads, entries):
            machine.kernel.log({"level": level, "event": event, "time": when, **fields})
        return

    def hand_over(_logger: object, _method: str, fields: MutableMapping[str, Any]) -> NoReturn:
        """The last processor: the journal gets fields, not a line of text."""
        machine.kernel.log(dict(fields))
        raise structlog.DropEvent

    logger = structlog.wrap_logger(None, processors=[structlog.processors.add_log_level, hand_over])
    for level, event, when, fields in map(plainjson.loads, entries):
        getattr(logger, level)(event, time=when, **fields)
