# SPDX-License-Identifier: LGPL-2.1-or-later
"""Reads a log as it grows, and goes on in the next one when auditd rotates it."""

import hashlib
import os
from collections.abc import Callable, Iterator
from typing import NamedTuple

from libhook.errors import LibhookError, named
from libhook.history import reader
from libhook.history.reader import Lines, Source

_PIECE = 1 << 18
_HEAD = 1 << 16


class Position(NamedTuple):
    """A place in the trail. The number of a file's inode would not do: a new log may get that of an old one."""

    first: str
    """The SHA-256 of the first line of the log; "" before any log."""
    begins: int
    """When that log begins, in milliseconds since 1970."""
    offset: int


BEFORE = Position("", 0, 0)


class _File:
    """A log that is read."""

    def __init__(self, source: Source, offset: int, head: bytes) -> None:
        self.source = source
        self.read = offset
        """How many bytes were read."""
        self.head = head
        """The first line; b"" as long as it is not whole."""
        self.lines = Lines()
        os.lseek(source.descriptor, offset, os.SEEK_SET)


class Tail:
    """All logs from a position on, oldest first; then the newest, as it grows."""

    def __init__(self, path: str, position: Position, warn: Callable[[str], None], *, older: bool) -> None:
        """``path`` is that of the newest log. ``older`` says whether to begin in the oldest if there is no position."""
        self._path, self.position, self._warn, self._older = path, position, warn, older
        self._files: list[_File] = []
        self._start: bytes | None = b""
        """What was read while there was no audit record in it; None once there was one."""
        self.too_long = 0

    def read(self) -> Iterator[bytes]:
        """Give what is there and was not read yet, in pieces of whole lines. ``position`` is after the piece.

        LibhookError if the log may not be read, or is none.
        """
        while True:
            if not self._files:
                self._files = self._located()
            if not self._files:
                return
            file = self._files[0]
            yield from self._drained(file)
            if len(self._files) == 1:
                if self._is_newest(file):
                    if self._start is not None and b"\n" in self._start[1:]:
                        raise reader.no_record(named(file.source.name), self._start)
                    return
                yield from self._drained(file)  # auditd may have written to it until it renamed it
                self._files += self._after(file)
            yield from self._finished(file)

    def close(self) -> None:
        """Close the logs."""
        reader.close([file.source for file in self._files])
        self._files = []

    def _drained(self, file: _File) -> Iterator[bytes]:
        while data := os.read(file.source.descriptor, _PIECE):
            file.read += len(data)
            long = file.lines.too_long
            piece = file.lines.take(data)
            self.too_long += file.lines.too_long - long
            file.head = file.head or _head(file.source.descriptor)
            if file.head:
                self.position = Position(_hash(file.head), _begins(file), file.read - max(len(file.lines.rest) - 1, 0))
            if self._start is not None:
                start = self._start + piece
                self._start = None if reader.STAMP.search(start) else start[:_HEAD]
            if piece:
                yield piece

    def _finished(self, file: _File) -> Iterator[bytes]:
        """Give the last line of a log to which nothing is added any more, and leave it."""
        last = file.lines.end()
        self._files.remove(file)
        reader.close([file.source])
        if file.head:
            self.position = self.position._replace(offset=file.read)
        if last:
            yield last

    def _is_newest(self, file: _File) -> bool:
        """Whether the log is still the one at the path, and nobody has cut it off."""
        try:
            now = os.stat(self._path)
        except FileNotFoundError:
            return True  # auditd has renamed it, and makes the new one now
        if (now.st_dev, now.st_ino) != file.source.identity or now.st_size < file.read:
            return False
        return os.pread(file.source.descriptor, len(file.head), 0) == file.head

    def _after(self, file: _File) -> list[_File]:
        """Return the logs to read after this one."""
        found = self._located()
        if found and found[0].source.identity == file.source.identity and found[0].read and found[0].head == file.head:
            reader.close([found.pop(0).source])
        elif found and found[0].read:  # a copy of it: what is only begun here is whole there
            file.read, file.lines = found[0].read, Lines()
        return found

    def _located(self) -> list[_File]:
        """Open all logs from the position on, oldest first. [] if there is none yet."""
        try:
            sources = reader.rotated(self._path)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise reader.unreadable(error, given=True) from None
        heads = [_head(source.descriptor) for source in sources]
        at, offset = self._place(sources, heads)
        reader.close(sources[:at])
        return [
            _File(source, 0 if number else offset, head)
            for number, (source, head) in enumerate(zip(sources[at:], heads[at:], strict=True))
        ]

    def _place(self, sources: list[Source], heads: list[bytes]) -> tuple[int, int]:
        """Return which log to begin with, and where in it."""
        first, begins, offset = self.position
        if not first:
            return (0 if self._older else len(sources) - 1), 0
        for at in reversed(range(len(sources))):
            size = os.fstat(sources[at].descriptor).st_size
            if heads[at] and size >= offset and _hash(heads[at]) == first:
                return at, offset
        self._warn(f"{self._path}: the log that was read last is gone, or was cut off: records may be missing")
        younger = (at for at, source in enumerate(sources) if source.begins > begins)
        return next(younger, len(sources) - 1), 0


def path_of(given: list[str], root: str) -> tuple[str, bool]:
    """Return the path of the log to follow, and whether the older ones beside it are part of the trail.

    LibhookError if nobody can write more to it.
    """
    if not given:
        return reader.configured(root), True
    name = given[0]
    if os.path.isdir(name):
        return os.path.join(name, "audit.log"), True
    if name == "-" or (os.path.exists(name) and not os.path.isfile(name)):
        raise LibhookError(f"{named(name)}: it cannot be followed", "give a log, or a folder with audit.log")
    return name, False


def _head(descriptor: int) -> bytes:
    """Return the first line; b"" as long as it is not whole."""
    start = os.pread(descriptor, _HEAD, 0)
    end = start.find(b"\n") + 1
    return start[:end] or (start if len(start) == _HEAD else b"")


def _begins(file: _File) -> int:
    found = reader.STAMP.search(file.head)
    return int(found[1] + found[2]) if found else 0


def _hash(head: bytes) -> str:
    return hashlib.sha256(head).hexdigest()
