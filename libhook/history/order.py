# SPDX-License-Identifier: LGPL-2.1-or-later
"""Lines in any order in, sorted out, in bounded memory: what does not fit waits in a temporary file.

An entry is known when it ends, and is shown where it began, before those that began and ended meanwhile: of a guest
that runs for a year, a year later.
"""

import heapq
import tempfile
from collections.abc import Iterator
from typing import IO

_MOST = 50_000
_MOST_BYTES = 1 << 25
"""A line is as long as the names in it."""


class Sorted:
    """Lines, in order of their bytes: each begins with its key, and ends with the only line feed in it."""

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
        """One line."""
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
