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
from libhook.errors import BadInput, LibhookError, named, printable
from libhook.history import colour, follow, reader
from libhook.history.beside import name_saved, replaced
from libhook.history.evidence import Evidence, Made
from libhook.history.names import lookup
from libhook.history.options import clash
from libhook.history.order import Sorted
from libhook.history.page import Page
from libhook.history.reading import Reading
from libhook.history.remembered import Remembered
from libhook.history.shown import Json
from libhook.history.table import Table
from libhook.history.tail import path_of
from libhook.history.telling import AsJson, AsText
from libhook.history.wanted import Selection, Wanted
from libhook.history.when import moment

_KEY = 14
"""The length of the sort key at the start of a line. The key is when the entry began."""


def run(root: str, options: argparse.Namespace, remembered: Callable[[], Remembered | None] = lambda: None) -> int:
    """Run the command. Return 0 if the trail was read, even if it names no host device. LibhookError otherwise.

    ``remembered`` is about this host's own trail, so it is not asked about logs that were given.
    """
    if wrong := clash(options):
        options.usage_error(wrong)
    wanted, name_of = _wanted(options), lookup(root)
    remembered = (lambda: None) if options.input else remembered
    paint = colour.wanted(sys.stdout.isatty(), os.environ)
    if options.follow:
        telling = AsJson(name_of) if options.json else AsText(name_of, paint)
        return follow.run(path_of(options.input, root), wanted, telling, options.cursor, remembered)
    sources = reader.trail(options.input, root)
    selection = Selection(wanted, [source.name for source in sources])
    reading = Reading(sources, selection, remembered())
    if names := reader.left_out(options.input, root):
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        reading.complain(f"not read: {named(names[0])}{more}: unpack what is packed, and give each with -if")
    with ExitStack() as stack:
        stack.callback(reader.close, sources)
        lines = stack.enter_context(Sorted())
        if options.json:
            json = Json(name_of)
            reading.run(
                lambda entry: lines.add(f"{entry.start or 0:014d}{json(entry, reading.until(entry))}\n".encode()),
                lambda silence: lines.add(f"{silence.start:014d}{json.silence(silence)}\n".encode()),
            )
            if selection.said:  # not to stdout, where the JSON goes
                reading.complain(selection.said)
            _write(line[_KEY:] for line in lines)
            _write(f"{json.host(host)}\n".encode() for host in reading.trails())
        elif options.html:
            page = Page(selection, name_of)
            reading.read = read = Evidence()
            reading.run(lambda entry: lines.add(f"{page.row(entry)}\n".encode()), page.silence, page.holds)
            made = Made(round(time.time() * 1000), os.uname().nodename, __version__, tuple(reading.complaints))
            texts = page.write(lambda: (line[:-1].decode() for line in lines), made, read.logs(sources))
            _write_page(options.html, texts)
        else:
            table = Table(name_of)
            reading.run(
                lambda entry: lines.add(f"{entry.start or 0:014d}{table.row(entry)}\n".encode()),
                lambda silence: lines.add(f"{silence.start:014d}{table.silence(silence)}\n".encode()),
            )
            rows = (line[_KEY:-1].decode() for line in lines)
            width = os.get_terminal_size(sys.stdout.fileno()).columns if sys.stdout.isatty() else None
            encoding = sys.stdout.encoding  # an 8-bit terminal could take UTF-8 bytes for commands
            shown = table.lines(rows, width, printable(selection.said), paint, reading.hosts)
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
        raise LibhookError(f"{named(name)}: a link", "name the file itself, or - for stdout")
    replaces = not kind or stat.S_ISREG(kind)
    with ExitStack() as stack:
        if not replaces:
            descriptor = os.open(name, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            stack.callback(os.close, descriptor)
        else:
            descriptor = stack.enter_context(replaced(name))
        with open(descriptor, "w", encoding="utf-8", closefd=False) as file:
            file.writelines(texts)
    if replaces:
        name_saved(name)


def _kind(name: str) -> int:
    """Return what kind of file this is, as in st_mode; 0 if there is none."""
    try:
        return stat.S_IFMT(os.lstat(name).st_mode)
    except FileNotFoundError:
        return 0
