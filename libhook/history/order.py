# SPDX-License-Identifier: LGPL-2.1-or-later
"""Sorts lines in bounded memory. What does not fit goes into temporary files.

An entry is complete only when it ends, but is shown where it began. For a guest that runs for a year, that is a year
of other entries later.
"""

import heapq
import tempfile
from collections.abc import Iterator
from typing import IO

_MOST = 50_000
_MOST_BYTES = 1 << 25
"""A second limit, since names can make a line long."""


class Sorted:
    """Lines in the order of their bytes. Each begins with its sort key, and has one line feed, at its end."""

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
        self._lines: list[bytes] = []
        self._bytes = 0
        self._runs: list[IO[bytes]] = []

    def __enter__(self) -> "Sorted":
        return self

    def __exit__(self, *_: object) -> None:
        for run in self._runs:
            run.close()

    def add(self, line: bytes) -> None:
        """Add one line."""
        self._lines.append(line)
        self._bytes += len(line)
        if len(self._lines) >= self._most or self._bytes >= _MOST_BYTES:
            self._spill()

    def __iter__(self) -> Iterator[bytes]:
        self._lines.sort()
        if not self._runs:
            return iter(self._lines)
        for run in self._runs:
            run.seek(0)
        return iter(heapq.merge(*self._runs, self._lines))

    def _spill(self) -> None:
        self._lines.sort()
        run = tempfile.TemporaryFile()  # noqa: SIM115 - closed by __exit__
        self._runs.append(run)
        run.writelines(self._lines)
        self._lines.clear()
        self._bytes = 0
