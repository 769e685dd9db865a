# SPDX-License-Identifier: LGPL-2.1-or-later
"""Counts the events of logs in a process of its own, beside the reading of them: it takes nearly as long."""

import json
import os
import signal
from collections.abc import Sequence
from contextlib import suppress
from typing import Self

from libhook.errors import LibhookError
from libhook.history import reader
from libhook.history.numbers import Numbers


class Counting:
    """Counts while the ``with`` block reads. Of a pipe, which can be read once only, it counts what it is given."""

    def __init__(self, sources: Sequence[reader.Source]) -> None:
        self._sources = sources
        self._numbers, self._name = Numbers(), ""
        self._pid = self._answer = -1

    def __enter__(self) -> Self:
        """Begin. Where no process can be had, it counts what it is given, too."""
        if any(source.pipe for source in self._sources):
            return self
        answer, told = os.pipe()
        with suppress(OSError):
            self._pid, self._answer = os.fork(), answer
        if not self._pid:
            _answer(self._sources, told)
        os.close(told)
        if self._pid < 0:
            os.close(answer)
        return self

    def __exit__(self, *_: object) -> None:
        """End it, if nobody has asked for what it found."""
        if self._pid > 0:
            os.kill(self._pid, signal.SIGKILL)
            self._end()

    def log(self, source: reader.Source) -> None:
        """The next log begins."""
        if self._pid < 0:
            self._name = _log(self._numbers, self._name, source.name)

    def take(self, piece: bytes) -> None:
        """Take a piece that was read."""
        if self._pid < 0:
            self._numbers.take(piece)

    def found(self) -> Numbers | None:
        """Wait for what was counted. None if the process was killed."""
        if self._pid < 0:
            return self._numbers
        try:
            return Numbers.restored(json.loads(self._end()))
        except ValueError:
            return None

    def _end(self) -> str:
        with open(self._answer, encoding="ascii") as file:
            text = file.read()
        os.waitpid(self._pid, 0)
        self._pid = -1
        return text


def _answer(sources: Sequence[reader.Source], told: int) -> None:
    try:
        with open(told, "w", encoding="ascii") as file, suppress(OSError, LibhookError):  # who reads them says that
            json.dump(count(sources).saved(), file)
    finally:
        os._exit(0)


def count(sources: Sequence[reader.Source]) -> Numbers:
    """Count the events of files. They are read from their beginning, wherever this process is in them."""
    numbers, name = Numbers(), ""
    for source in sources:
        name = _log(numbers, name, source.name)
        own = os.open(f"/proc/self/fd/{source.descriptor}", os.O_RDONLY | os.O_CLOEXEC)
        for piece in reader.pieces(source._replace(descriptor=own), reader.Read(), lambda _: None):
            numbers.take(piece)
        os.close(own)
    return numbers


def _log(numbers: Numbers, before: str, name: str) -> str:
    """The log of this name begins. What auditd has rotated goes on in the next; else numbers begin anew."""
    if reader.unrotated(before) != reader.unrotated(name):
        numbers.log()
    return name
