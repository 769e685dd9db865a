# SPDX-License-Identifier: LGPL-2.1-or-later
"""What was read, so that somebody else can check it: each log's size, lines and SHA-256. Pure."""

import hashlib
from typing import NamedTuple

from libhook.history.reader import Read, Source


class Log(NamedTuple):
    """A log, as far as it was read."""

    name: str
    bytes: int
    lines: int
    """The number of records: auditd writes each on a line."""
    sha256: str
    """Of these bytes, in hexadecimal."""
    times: tuple[int, int] | None
    """When its first record was written, and its last, in milliseconds since 1970. None without a record."""


class Made(NamedTuple):
    """Who made the page, and when."""

    time: int
    """In milliseconds since 1970."""
    host: str
    version: str
    missing: tuple[str, ...] = ()
    """What is not on the page, because it could not be read."""


class Evidence(Read):
    """Counts what is read, and hashes it on the way: a pipe cannot be read again, and a log grows."""

    def __init__(self) -> None:
        super().__init__()
        self._logs: list[tuple[Source, hashlib._Hash, list[int]]] = []

    def took(self, source: Source, data: bytes) -> None:
        """Count bytes of this log, and add them to its hash."""
        super().took(source, data)
        if not self._logs or self._logs[-1][0] is not source:
            self._logs.append((source, hashlib.sha256(), [0, 0, 0]))
        _, digest, counts = self._logs[-1]
        digest.update(data)
        counts[0] += len(data)
        counts[1] += data.count(b"\n")
        if data:
            counts[2] = not data.endswith(b"\n")  # the last line, as long as no line feed follows

    def logs(self, sources: list[Source]) -> list[Log]:
        """Describe all logs, in the order in which they were read, the empty ones too."""
        found = {id(source): (digest, counts) for source, digest, counts in self._logs}
        described = []
        for source in sources:
            digest, counts = found.get(id(source), (hashlib.sha256(), [0, 0, 0]))
            lines, times = counts[1] + counts[2], self.times.get(source.identity)
            described.append(Log(source.name, counts[0], lines, digest.hexdigest(), times))
        return described
