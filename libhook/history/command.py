# SPDX-License-Identifier: LGPL-2.1-or-later
"""``libhook history``: reads, pairs, filters, sorts and shows."""

import argparse
import os
import stat
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from datetime import datetime, timedelta
from typing import NamedTuple

from libhook.errors import printable
from libhook.history import reader
from libhook.history.entry import Entry, Silence
from libhook.history.order import Sorted
from libhook.history.overlap import Overlap
from libhook.history.page import Page
from libhook.history.pairing import Pairing
from libhook.history.records import Parser
from libhook.history.shown import Json
from libhook.history.table import Table
from libhook.history.when import moment

_KEY = 14
"""Characters of a line before its text: when it began."""


class Wanted(NamedTuple):
    """Which entries are asked for: all that each filter lets through."""

    devices: frozenset[str]
    guests: frozenset[str]
    uuids: frozenset[str]
    nodes: frozenset[str | None]
    start: int | None
    end: int | None
    success: bool | None

    @property
    def everything(self) -> bool:
        """Whether there is no filter."""
        return not any(self[:4]) and self[4:] == (None, None, None)

    def has(self, entry: Entry) -> bool:
        """Whether the entry is one of them."""
        if self.devices and entry.device not in self.devices and f"{entry.bus} {entry.device}" not in self.devices:
            return False
        if self.guests and entry.vm not in self.guests:
            return False
        if self.uuids and entry.uuid.lower() not in self.uuids:
            return False
        if self.nodes and entry.node not in self.nodes:
            return False
        return self.success in (None, entry.success) and self.has_time(entry.start, entry.end)

    def has_time(self, start: int | None, end: int | None) -> bool:
        """Whether some of that time is asked for."""
        if self.end is not None and start is not None and start > self.end:
            return False
        return self.start is None or end is None or end >= self.start


def run(root: str, options: argparse.Namespace) -> int:
    """The command: 0 also when the trail holds nothing of a host device."""
    wanted = _wanted(options)
    sources = reader.trail(options.input, root)
    if names := reader.left_out(options.input, root):
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        sys.stderr.write(f"not read: {printable(names[0])}{more}: unpack what is packed, and name each with -if\n")
    with ExitStack() as stack:
        stack.callback(reader.close, sources)
        lines = stack.enter_context(Sorted())
        if options.json:
            json = Json()
            _read(sources, wanted, lines, lambda entry: f"{entry.start or 0:014d}{json(entry)}", None)
            _write(line[_KEY:] for line in lines)
        elif options.html:
            page = Page()
            page.seen(_read(sources, wanted, lines, page.row, page.silence))
            texts = page.write(lambda: (line[:-1].decode() for line in lines), round(time.time() * 1000))
            _write_page(options.html, texts)
        else:
            table = Table()
            _read(
                sources,
                wanted,
                lines,
                lambda entry: f"{entry.start or 0:014d}{table.row(entry)}",
                lambda silence: lines.add(f"{silence.start:014d}{table.silence(silence)}\n".encode()),
            )
            rows = (line[_KEY:-1].decode() for line in lines)
            width = os.get_terminal_size(sys.stdout.fileno()).columns if sys.stdout.isatty() else None
            encoding = sys.stdout.encoding  # in UTF-8 the letters of a name would be commands to an 8-bit terminal
            _write(f"{line}\n".encode(encoding, "backslashreplace") for line in table.lines(rows, width))
    return 0


def _wanted(options: argparse.Namespace) -> Wanted:
    now, up = datetime.now().astimezone(), timedelta(seconds=time.clock_gettime(time.CLOCK_BOOTTIME))
    devices = {device.lower() if ":" in device else device for device in options.device} | set(options.device)
    devices |= {f"0000:{device}" for device in devices if device.count(":") == 1}
    return Wanted(
        frozenset(devices),
        frozenset(options.vm),
        frozenset(uuid.lower() for uuid in options.uuid),
        frozenset(options.node),
        moment(options.start, now, up) if options.start else None,
        moment(options.end, now, up, end=True) if options.end else None,
        None if options.result is None else options.result == "success",
    )


def _read(
    sources: list[reader.Source],
    wanted: Wanted,
    lines: Sorted,
    text: Callable[[Entry], str],
    silent: Callable[[Silence], None] | None,
) -> int:
    """All of the trail, each entry as a line; when the trail ends."""
    everything = wanted.everything
    add = lines.add

    def give(entry: Entry) -> None:
        if everything or wanted.has(entry):
            add(f"{text(entry)}\n".encode())

    def give_silence(silence: Silence) -> None:
        here = not wanted.nodes or silence.node in wanted.nodes
        if silent and here and wanted.has_time(silence.start, silence.end):
            silent(silence)

    parser, pairing, read, overlap = Parser(), Pairing(give, give_silence), reader.Read(), Overlap()
    progress = Progress(sum(source.size for source in sources))
    begins = [*(source.begins for source in sources[1:]), 1 << 60]
    for source, following in zip(sources, begins, strict=True):
        overlap.log(following)
        for piece in reader.pieces(source, read, progress.show):
            told = parser.records(piece)
            pairing.add(overlap.new(told) if len(sources) > 1 else told)
    pairing.close()
    progress.clear()
    if overlap.twice and overlap.full:
        sys.stderr.write("the logs have more records in common than can be remembered: some may be told twice\n")
    if bad := parser.unreadable + read.too_long:
        records = "1 record" if bad == 1 else f"{bad} records"
        sys.stderr.write(
            f"{records} could not be read: cut off, or not as auditd writes them (of ausearch, take --raw)\n"
        )
    return pairing.last


class Progress:
    """A bar on a terminal, once it takes longer than a second; nothing elsewhere."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._next = time.monotonic() + 1 if sys.stderr.isatty() else float("inf")
        self._shown = False

    def show(self, done: int) -> None:
        """So many bytes have been read."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next, self._shown = now + 0.1, True
        if self._size:
            part = min(done / self._size, 1)
            bar = "#" * round(part * 30)
            sys.stderr.write(f"\rreading the trail [{bar:<30}] {part:4.0%}")
        else:
            sys.stderr.write(f"\rreading the trail: {done >> 20} MiB")
        sys.stderr.flush()

    def clear(self) -> None:
        """It is read."""
        if self._shown:
            sys.stderr.write("\r\033[K")
            sys.stderr.flush()


def _write(lines: Iterable[bytes]) -> None:
    """To stdout."""
    sys.stdout.flush()
    sys.stdout.buffer.writelines(lines)
    sys.stdout.buffer.flush()


def _write_page(name: str, texts: Iterable[str]) -> None:
    """To a file that only its owner may read, as only root may read the trail; or to stdout for ``-``."""
    if name == "-":
        _write(text.encode() for text in texts)
        return
    descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.fchmod(descriptor, 0o600)  # it may have been there, open to all
        file.writelines(texts)
