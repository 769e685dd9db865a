# SPDX-License-Identifier: LGPL-2.1-or-later
"""Finds the trail and reads it in pieces of whole lines: auditd's log and its rotated files, other files, or stdin."""

import os
import re
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import NamedTuple

from libhook.errors import LibhookError, named

_PIECE = 1 << 16
_LONGEST = 1 << 16
"""The longest line in bytes. The kernel's longest record has 8970 (MAX_AUDIT_MESSAGE_LENGTH)."""
_CONFIGURATION = "/etc/audit/auditd.conf"
_LOG = "/var/log/audit/audit.log"
_PROGRAMS = ("/usr/sbin/auditd", "/sbin/auditd", "/usr/bin/auditd")
_GZIP = b"\x1f\x8b"
_NUMBER = re.compile(r"(?:\.(\d{1,3}))?")
"""What auditd appends to the name of a rotated log: 1 to 999 (num_logs in auditd.conf)."""
STAMP = re.compile(rb"type=\w+ msg=audit\((\d{1,11})\.(\d{3}):")


class Source(NamedTuple):
    """An open log."""

    descriptor: int
    name: str
    size: int
    """In bytes; 0 for a pipe."""
    identity: tuple[int, int]
    pipe: bool
    first: bytes
    """The first bytes. From a pipe they have been read already, so they must not be read again."""
    log: str = ""
    """The name of the log that it was rotated from, or is."""

    @property
    def begins(self) -> int:
        """When its first record was written, in milliseconds since 1970. Files are read in this order."""
        found = STAMP.search(self.first)
        return _time(found) if found else 1 << 60


class Read:
    """Counts the bytes that were read, and the lines that were too long; knows which time the logs are about."""

    def __init__(self) -> None:
        self.bytes = 0
        self.too_long = 0
        self.times: dict[tuple[int, int], tuple[int, int]] = {}
        """When the first record of each log was written, and the last, by the log's identity."""

    @property
    def covered(self) -> tuple[int, int] | None:
        """From when to when there are records, of any type, in milliseconds since 1970. None without a record."""
        times = [time for each in self.times.values() for time in each]
        return (min(times), max(times)) if times else None

    def took(self, source: Source, data: bytes) -> None:  # noqa: ARG002 - of which log is for those who hash it
        """Count bytes that were read of this log."""
        self.bytes += len(data)


def trail(given: Sequence[str], root: str = "") -> list[Source]:
    """Open all logs, oldest first, before any is read, because auditd may rotate them meanwhile.

    LibhookError if one cannot be opened.
    """
    sources: list[Source] = []
    try:
        if given:
            for name in given:
                sources += rotated(name) if name != "-" and os.path.isdir(name) else [_open(name)]
            sources = [source._replace(first=_first(source)) if source.pipe else source for source in _once(sources)]
            sources.sort(key=lambda source: source.begins)
        else:
            sources = rotated(configured(root))
    except OSError as error:
        for source in sources:
            _close(source)
        raise unreadable(error, bool(given), root) from None
    return sources


def close(sources: Sequence[Source]) -> None:
    """Close the logs."""
    for source in sources:
        _close(source)


def pieces(source: Source, read: Read, progress: Callable[[int], None]) -> Iterator[bytes]:
    """Give the log in pieces that end at the end of a line. Each line begins with the line feed before it.

    A line that is longer than any record is passed over. LibhookError if the file is not empty and has no audit record.
    """
    start, first, last = b"", 1 << 60, 0
    for piece in _pieces(source, read, progress):
        start = start or piece
        if found := STAMP.search(piece):
            first = min(first, _time(found))
            last = max(last, _time(_last(piece) or found))
        yield piece
    if last:
        read.times[source.identity] = first, last
    elif start.strip():
        raise no_record(named(source.name), start)


def _last(piece: bytes) -> re.Match[bytes] | None:
    """Find the stamp of the last record in a piece. Lines after it may be none."""
    start = len(piece)
    while (at := piece.rfind(b" msg=audit(", 0, start)) >= 0:
        start, end = piece.rfind(b"\n", 0, at) + 1, piece.find(b"\n", at)
        if found := STAMP.search(piece, start, end if end >= 0 else len(piece)):
            return found
    return None


def _time(stamp: re.Match[bytes]) -> int:
    return int(stamp[1] + stamp[2])


def no_record(name: str, start: bytes) -> LibhookError:
    """Return the error for a file that is no audit log. ``start`` is how it begins; b"" if it is empty."""
    if not start:
        return LibhookError(f"{name}: empty", "give a log as auditd writes it; ausearch may have found nothing")
    packed, hint = start.lstrip(b"\n")[:2] == _GZIP, "give a log as auditd writes it (from ausearch, use --raw)"
    remedy = "unpack it: zcat FILE | libhook history -if -" if packed else hint
    return LibhookError(f"{name}: no audit record in it", remedy)


def _pieces(source: Source, read: Read, progress: Callable[[int], None]) -> Iterator[bytes]:
    lines = Lines()
    for data in _chunks(source):
        read.took(source, data)
        progress(read.bytes)
        if piece := lines.take(data):
            yield piece
    read.too_long += lines.too_long
    if last := lines.end():
        yield last


class Lines:
    """Cuts what is read of a log into pieces of whole lines, and passes over lines that are too long."""

    def __init__(self) -> None:
        self.rest = b"\n"
        """The beginning of a line whose end has not come yet, with the line feed before it. b"" within a long line."""
        self.too_long = 0
        self._passing = False

    def take(self, data: bytes) -> bytes:
        """Return the lines that end in the next part of the log."""
        end = data.rfind(b"\n")
        if self._passing:
            start = data.find(b"\n")
            if start < 0:
                return b""
            data, end, self._passing = data[start:], end - start, False
        piece = b""
        if end >= 0:
            piece, self.rest = self.rest + data[:end], data[end:]
        else:
            self.rest += data
        if len(self.rest) > _LONGEST:
            self.too_long += 1
            self.rest, self._passing = b"", True
        return piece

    def end(self) -> bytes:
        """Return the last line of a log that does not end with a line feed."""
        return self.rest if len(self.rest) > 1 else b""


def _chunks(source: Source) -> Iterator[bytes]:
    if source.pipe:
        yield source.first
    while data := os.read(source.descriptor, _PIECE):
        yield data


def _first(source: Source) -> bytes:
    """Read from a pipe until it is known when its first record was written."""
    first = b""
    while len(first) <= _LONGEST and not STAMP.search(first) and (data := os.read(source.descriptor, _PIECE)):
        first += data
    return first


def left_out(given: Sequence[str], root: str = "") -> list[str]:
    """Return the files beside a log that a program other than auditd has rotated. They are not read."""
    folders = [os.path.join(name, "audit.log") for name in given if name != "-" and os.path.isdir(name)]
    found: list[str] = []
    for log in folders if given else [configured(root)]:
        folder, base = os.path.split(log)
        with suppress(OSError):
            names = [name for name in os.listdir(folder) if name.startswith(base)]
            found += sorted(os.path.join(folder, name) for name in names if not _NUMBER.fullmatch(name, len(base)))
    return [name for name in found if name not in given]


def configured(root: str) -> str:
    """Return the log's path from auditd.conf, or the default."""
    with suppress(OSError), open(root + _CONFIGURATION, encoding="utf-8", errors="replace") as file:
        for line in file:
            if found := re.match(r"\s*log_file\s*=\s*(/\S+)", line):
                return root + found[1]
    return root + _LOG


def rotated(path: str) -> list[Source]:
    """Open a log and its rotated files. Return them oldest first.

    The newest is opened first. So no file is missed, and one that is rotated meanwhile is found twice.
    """
    if os.path.isdir(path):
        path = os.path.join(path, "audit.log")
    sources = [_open(path)]
    folder, base = os.path.split(path)
    numbers = (_NUMBER.fullmatch(name, len(base)) for name in os.listdir(folder or ".") if name.startswith(base))
    last = max((int(found[1] or 0) for found in numbers if found), default=0)
    number = 0
    while True:
        number += 1
        try:
            sources.append(_open(f"{path}.{number}"))
        except FileNotFoundError:
            if number >= last:  # somebody may have removed one in between
                break
    return [source._replace(log=path) for source in _once(sources)[::-1]]


def _once(sources: Sequence[Source]) -> list[Source]:
    """Keep each file once, however often it is named."""
    found: dict[tuple[int, int], Source] = {}
    for source in sources:
        if found.setdefault(source.identity, source) is not source:
            _close(source)
    return list(found.values())


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
    return Source(descriptor, name, status.st_size, (status.st_dev, status.st_ino), not regular, first, name)


def _close(source: Source) -> None:
    with suppress(OSError):
        os.close(source.descriptor)


def unreadable(error: OSError, given: bool, root: str = "") -> LibhookError:
    """Return the error for a log that could not be opened. ``given`` says whether the user named it."""
    name = named(error.filename) if error.filename else "the log"
    if isinstance(error, PermissionError):
        return LibhookError(f"{name}: {error.strerror}", "run it as root, or give a copy of the log with -if")
    if isinstance(error, FileNotFoundError) and not given:
        return LibhookError(f"{name}: {error.strerror}", f"{_why_none(root)}, or give a log with -if FILE")
    return LibhookError(f"{name}: {error.strerror}", "give an audit log, a folder with one, or - for stdin")


def _why_none(root: str) -> str:
    """Say where to look if auditd's log is not where it should be."""
    try:
        os.close(os.open(root + _CONFIGURATION, os.O_RDONLY | os.O_CLOEXEC))
    except PermissionError:
        return f"run it as root, since {_CONFIGURATION} may name another"
    except OSError:
        if any(os.path.exists(root + program) for program in _PROGRAMS):
            return f"see with which folder auditd runs (-c), since there is no {_CONFIGURATION}"
        return "install auditd"
    return f"see whether auditd runs, and write_logs in {_CONFIGURATION}"
