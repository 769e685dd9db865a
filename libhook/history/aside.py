# SPDX-License-Identifier: LGPL-2.1-or-later
"""Counts the events of logs in a process of its own, beside the reading of them: it takes about as long."""

import json
import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Self

from libhook.history import reader
from libhook.history.numbers import Numbers

_PIECE = 1 << 16


class Counting:
    """Counts while the ``with`` block reads. Of a pipe, which can be read once only, it counts what it is given."""

    def __init__(self, sources: Sequence[reader.Source]) -> None:
        self._sources = sources
        self._numbers = Numbers()
        self._pid = self._answer = -1

    def __enter__(self) -> Self:
        """Begin. Where no process can be had, it counts what it is given, too."""
        if any(source.pipe for source in self._sources):
            return self
        begins = [os.lseek(source.descriptor, 0, os.SEEK_CUR) for source in self._sources]
        answer, told = os.pipe()
        pid = -1
        with suppress(OSError):
            pid = os.fork()
        if not pid:
            _tell(self._sources, begins, told)
        os.close(told)
        if pid < 0:
            os.close(answer)
        else:
            self._pid, self._answer = pid, answer
        return self

    def __exit__(self, *_: object) -> None:
        """End it, if nobody has asked for what it found."""
        if self._pid > 0:
            os.kill(self._pid, signal.SIGKILL)
            self._end()

    def log(self, source: reader.Source) -> None:
        """The next log begins."""
        self._numbers.log(source.log)

    def take(self, piece: bytes) -> None:
        """Take a piece that was read."""
        if self._pid < 0:
            self._numbers.take(piece)

    def found(self) -> Numbers | None:
        """Wait for what was counted. None if the process could not do it, or was killed."""
        if self._pid < 0:
            return self._numbers
        try:
            return Numbers.restored(json.loads(self._end()))
        except ValueError:
            return None

    def _end(self) -> str:
        """Read to the end. If something comes in between, as Ctrl-C does, there is no process afterwards either."""
        pid, self._pid = self._pid, -1
        try:
            with open(self._answer, encoding="ascii") as file:
                return file.read()
        finally:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def _tell(sources: Sequence[reader.Source], begins: Sequence[int], told: int) -> None:
    """Write the answer, and end this process. It shares the files' positions with its parent, so it moves none."""
    try:
        with open(told, "w", encoding="ascii") as file, suppress(OSError):
            json.dump(count(sources, begins).saved(), file)
    finally:
        os._exit(0)


def count(sources: Sequence[reader.Source], begins: Sequence[int]) -> Numbers:
    """Count the events of files from these positions on."""
    numbers = Numbers()
    for source, begin in zip(sources, begins, strict=True):
        numbers.log(source.log)
        for piece in _pieces(source.descriptor, begin):
            numbers.take(piece)
    return numbers


def _pieces(descriptor: int, at: int) -> Iterator[bytes]:
    lines = reader.Lines()
    while data := os.pread(descriptor, _PIECE, at):
        at += len(data)
        if piece := lines.take(data):
            yield piece
    if last := lines.end():
        yield last
