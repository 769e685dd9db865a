# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where the trail is, and its bytes in pieces of whole lines: auditd's log with what was rotated, files, stdin."""

import os
import re
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import NamedTuple

from libhook.errors import LibhookError

_PIECE = 1 << 18
_LONGEST = 1 << 16
"""Of a line: the kernel's longest record is 8970 bytes (MAX_AUDIT_MESSAGE_LENGTH)."""
_CONFIGURATION = "/etc/audit/auditd.conf"
_LOG = "/var/log/audit/audit.log"
_GZIP = b"\x1f\x8b"
_STAMP = re.compile(rb"type=\w+ msg=audit\((\d{1,11})\.(\d{3}):")


class Source(NamedTuple):
    """An open log."""

    descriptor: int
    name: str
    size: int
    """0 where it has none: a pipe."""
    identity: tuple[int, int]
    first: bytes
    """How it begins: when, and whether it is what a person reads rather than what auditd writes."""


class Read:
    """What was read, for who shows the progress; and what could not be."""

    def __init__(self) -> None:
        self.bytes = 0
        self.too_long = 0


def trail(given: Sequence[str], root: str = "") -> list[Source]:
    """Everything to be read, oldest first, opened before any of it is read: a log may be rotated meanwhile."""
    sources: list[Source] = []
    try:
        if given:
            for name in given:
                sources += _rotated(name) if name != "-" and os.path.isdir(name) else [_open(name)]
            sources.sort(key=_begins)
        else:
            sources = _rotated(_configured(root))
    except OSError as error:
        for source in sources:
            _close(source)
        raise _unreadable(error, bool(given)) from None
    return sources


def close(sources: Sequence[Source]) -> None:
    """Let go of them."""
    for source in sources:
        _close(source)


def pieces(source: Source, read: Read, progress: Callable[[int], None]) -> Iterator[bytes]:
    """The log in pieces that end where a line ends; each of its lines begins with the line feed before it.

    A line that is longer than any record is passed over, and so is what is not there in whole. LibhookError where the
    file holds something, and no audit record.
    """
    start, known = b"", False
    for piece in _pieces(source, read, progress):
        start = start or piece
        known = known or _STAMP.search(piece) is not None
        yield piece
    if start.strip() and not known:
        packed, hint = start[1:3] == _GZIP, "name a log as auditd writes it (of ausearch, take --raw)"
        raise LibhookError(
            f"{source.name}: no audit record in it", "unpack it: zcat FILE | libhook history -if -" if packed else hint
        )


def _pieces(source: Source, read: Read, progress: Callable[[int], None]) -> Iterator[bytes]:
    rest = b"\n"
    passing = False
    while data := os.read(source.descriptor, _PIECE):
        read.bytes += len(data)
        progress(read.bytes)
        end = data.rfind(b"\n")
        if passing:
            start = data.find(b"\n")
            if start < 0:
                continue
            data, end, passing = data[start:], end - start, False
            rest = b""
        if end >= 0:
            yield rest + data[:end]
            rest = data[end:]
        else:
            rest += data
        if len(rest) > _LONGEST:
            read.too_long += 1
            rest, passing = b"", True
    if len(rest) > 1:
        yield rest


def _configured(root: str) -> str:
    """Where auditd.conf says that the log is."""
    with suppress(OSError), open(root + _CONFIGURATION, encoding="utf-8", errors="replace") as file:
        for line in file:
            if found := re.match(r"\s*log_file\s*=\s*(/\S+)", line):
                return root + found[1]
    return root + _LOG


def _rotated(path: str) -> list[Source]:
    """A log and what was rotated away, oldest first. Opened from the newest on: nothing can slip past, and what is
    rotated meanwhile is met twice.
    """
    if os.path.isdir(path):
        path = os.path.join(path, "audit.log")
    sources = [_open(path)]
    number = 1
    with suppress(FileNotFoundError):
        while True:
            sources.append(_open(f"{path}.{number}"))
            number += 1
    found: dict[tuple[int, int], Source] = {}
    for source in sources:
        if source.identity in found:
            _close(source)
        else:
            found[source.identity] = source
    return list(found.values())[::-1]


def _open(name: str) -> Source:
    if name == "-":
        descriptor, name = os.dup(sys.stdin.fileno()), "stdin"
    else:
        descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC)
    status = os.fstat(descriptor)
    if stat.S_ISDIR(status.st_mode):
        os.close(descriptor)
        raise IsADirectoryError(21, "Is a directory", name)
    regular = stat.S_ISREG(status.st_mode)
    first = os.pread(descriptor, 4096, 0) if regular else b""
    return Source(descriptor, name, status.st_size if regular else 0, (status.st_dev, status.st_ino), first)


def _close(source: Source) -> None:
    with suppress(OSError):
        os.close(source.descriptor)


def _begins(source: Source) -> tuple[int, int]:
    """When its first record was written: a host's files are read in that order, however they are named."""
    found = _STAMP.search(source.first)
    return (int(found[1]), int(found[2])) if found else (1 << 60, 0)


def _unreadable(error: OSError, given: bool) -> LibhookError:
    name = error.filename or "the log"
    if isinstance(error, PermissionError):
        return LibhookError(f"{name}: {error.strerror}", "run it as root, or name a copy of the log with -if")
    if isinstance(error, FileNotFoundError) and not given:
        return LibhookError(f"{name}: {error.strerror}", "is auditd installed? Or name a log with -if FILE")
    return LibhookError(f"{name}: {error.strerror}", "name an audit log, a folder with one, or - for stdin")
