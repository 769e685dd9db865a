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

from libhook import __version__
from libhook.errors import BadInput, LibhookError, printable
from libhook.history import colour, follow, reader
from libhook.history.beside import replaced
from libhook.history.entry import Entry, Silence
from libhook.history.evidence import Evidence, Made
from libhook.history.names import lookup
from libhook.history.options import clash
from libhook.history.order import Sorted
from libhook.history.overlap import Overlap
from libhook.history.page import Page
from libhook.history.pairing import Pairing
from libhook.history.records import Parser
from libhook.history.remembered import Remembered
from libhook.history.shown import Json
from libhook.history.table import Table
from libhook.history.tail import path_of
from libhook.history.telling import AsJson, AsText
from libhook.history.wanted import Selection, Wanted
from libhook.history.when import moment

_KEY = 14
"""The length of the sort key at the start of a line. The key is when the entry began."""


def run(root: str, options: argparse.Namespace, remembered: Remembered | None = None) -> int:
    """Run the command. Return 0, even if the trail names no host device. ``remembered`` is about this host's trail."""
    if wrong := clash(options):
        options.usage_error(wrong)
    wanted, name_of = _wanted(options), lookup(root)
    paint = colour.wanted(sys.stdout.isatty(), os.environ)
    if options.follow:
        telling = AsJson(name_of) if options.json else AsText(name_of, paint)
        return follow.run(path_of(options.input, root), wanted, telling, options.cursor)
    sources = reader.trail(options.input, root)
    if names := reader.left_out(options.input, root):
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        sys.stderr.write(f"not read: {printable(names[0])}{more}: unpack what is packed, and give each with -if\n")
    selection = Selection(wanted, [source.name for source in sources])
    complete = remembered.complete if remembered and not options.input else None
    with ExitStack() as stack:
        stack.callback(reader.close, sources)
        lines = stack.enter_context(Sorted())
        if options.json:
            json = Json(name_of)
            _read(sources, selection, lines, lambda entry: f"{entry.start or 0:014d}{json(entry)}", complete)
            if selection.said:  # not to stdout, where the JSON goes
                sys.stderr.write(f"{printable(selection.said)}\n")
            _write(line[_KEY:] for line in lines)
        elif options.html:
            page, read = Page(selection, name_of), Evidence()
            page.seen(_read(sources, selection, lines, page.row, complete, page.silence, page.holds, read))
            made = Made(round(time.time() * 1000), os.uname().nodename, __version__)
            texts = page.write(lambda: (line[:-1].decode() for line in lines), made, read.logs(sources))
            _write_page(options.html, texts)
        else:
            table = Table(name_of)
            _read(
                sources,
                selection,
                lines,
                lambda entry: f"{entry.start or 0:014d}{table.row(entry)}",
                complete,
                lambda silence: lines.add(f"{silence.start:014d}{table.silence(silence)}\n".encode()),
            )
            rows = (line[_KEY:-1].decode() for line in lines)
            width = os.get_terminal_size(sys.stdout.fileno()).columns if sys.stdout.isatty() else None
            encoding = sys.stdout.encoding  # an 8-bit terminal could take UTF-8 bytes for commands
            shown = table.lines(rows, width, printable(selection.said), paint)
            _write(f"{line}\n".encode(encoding, "backslashreplace") for line in shown)
    return 0


def _wanted(options: argparse.Namespace) -> Wanted:
    return Wanted(
        frozenset(options.device),
        frozenset(options.vm),
        frozenset(options.uuid),
        frozenset(options.node),
        *_between(options),
        None if options.result is None else options.result == "success",
    )


def _between(options: argparse.Namespace) -> tuple[int | None, int | None]:
    """Return the times of -ts and -te. What is no time is a usage error; so are times the wrong way round."""
    now, up = datetime.now().astimezone(), timedelta(seconds=time.clock_gettime(time.CLOCK_BOOTTIME))
    times: list[int | None] = []
    for option, words in (("-ts/--start", options.start), ("-te/--end", options.end)):
        try:
            times.append(moment(words, now, up, end=option == "-te/--end") if words else None)
        except BadInput as error:
            options.usage_error(f"argument {option}: {error.line}")
    start, end = times
    if start is not None and end is not None and start > end:
        options.usage_error("argument -te/--end: it is before -ts, so nothing can lie between them")
    return start, end


def _read(
    sources: list[reader.Source],
    selection: Selection,
    lines: Sorted,
    text: Callable[[Entry], str],
    complete: Callable[[Entry], Entry] | None,
    silent: Callable[[Silence], None] | None = None,
    holds: Callable[[Entry], None] | None = None,
    read: reader.Read | None = None,
) -> int:
    """Read the whole trail and add a line for each selected entry. Return when the trail ends.

    ``complete`` adds to an entry what is known from elsewhere. ``holds`` gets every entry of a device that is still
    held, selected or not.
    """
    wanted = selection.wanted
    everything = wanted.everything
    add = lines.add

    def give(entry: Entry) -> None:
        entry = complete(entry) if complete else entry
        if everything or selection.has(entry):
            add(f"{text(entry)}\n".encode())
        if holds and entry.end is None:
            holds(entry)

    def give_silence(silence: Silence) -> None:
        here = not wanted.nodes or silence.node in wanted.nodes
        if silent and here and wanted.has_time(silence.start, silence.end):
            silent(silence)

    parser, pairing, overlap = Parser(), Pairing(give, give_silence), Overlap()
    read = reader.Read() if read is None else read
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
        sys.stderr.write("the logs overlap too much: some records may be shown twice\n")
    if bad := parser.unreadable + read.too_long:
        records = "1 record" if bad == 1 else f"{bad} records"
        sys.stderr.write(
            f"{records} could not be read: cut off, or not as auditd writes them (from ausearch, use --raw)\n"
        )
    return pairing.last


class Progress:
    """A progress bar. It appears after a second, and only on a terminal."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._next = time.monotonic() + 1 if sys.stderr.isatty() else float("inf")
        self._shown = False

    def show(self, done: int) -> None:
        """Show that so many bytes have been read."""
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
        """Remove the bar."""
        if self._shown:
            sys.stderr.write("\r\033[K")
            sys.stderr.flush()


def _write(lines: Iterable[bytes]) -> None:
    """Write lines to stdout."""
    sys.stdout.flush()
    sys.stdout.buffer.writelines(lines)
    sys.stdout.buffer.flush()


def _write_page(name: str, texts: Iterable[str]) -> None:
    """Write the page to stdout for ``-``, else to a file that only its owner may read, as with the trail itself.

    An old page is replaced whole or not at all. A device or a named pipe is written to. A link is refused: who set it
    would choose the file.
    """
    if name == "-":
        _write(text.encode() for text in texts)
        return
    kind = _kind(name)
    if stat.S_ISLNK(kind):
        raise LibhookError(f"{name}: a link", "name the file itself, or - for stdout")
    with ExitStack() as stack:
        if kind and not stat.S_ISREG(kind):
            descriptor = os.open(name, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            stack.callback(os.close, descriptor)
        else:
            descriptor = stack.enter_context(replaced(name))
        with open(descriptor, "w", encoding="utf-8", closefd=False) as file:
            file.writelines(texts)


def _kind(name: str) -> int:
    """Return what kind of file this is, as in st_mode; 0 if there is none."""
    try:
        return stat.S_IFMT(os.lstat(name).st_mode)
    except FileNotFoundError:
        return 0
