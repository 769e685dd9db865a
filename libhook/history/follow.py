# SPDX-License-Identifier: LGPL-2.1-or-later
"""``libhook history --follow``: tells what becomes of entries as it happens, and keeps a cursor.

Before lines are written, the cursor holds them with the state that follows from them. After they are written it is
saved without them. So a follower that was killed in between writes the same lines again, and no others.
"""

import os
import select
import signal
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from libhook.errors import printable
from libhook.history import memory, tail
from libhook.history.cursor import Cursor
from libhook.history.entry import Entry
from libhook.history.events import Event, Events
from libhook.history.pairing import Pairing
from libhook.history.records import Parser
from libhook.history.remembered import Remembered
from libhook.history.telling import Telling
from libhook.history.wanted import Wanted

_EVERY = 1.0
"""Seconds between two looks at the log."""
_SOON = 0.1
"""Seconds until it tries again to write where there was no room after all."""
_AT_LEAST = 60.0
"""Seconds after which the cursor is saved if the log has grown, though there was nothing to tell."""
_MANY = 1000
"""So many entries are told together where a long trail is read. The cursor may be large, and is saved for each time."""
Remembering = Callable[[], Remembered | None]
_ENDS = (signal.SIGINT, signal.SIGTERM)


class Follower:
    """Reads a log as it grows and writes lines, with or without a cursor."""

    def __init__(
        self, log: tail.Tail, wanted: Wanted, telling: Telling, cursor: Cursor | None, remembered: Remembering
    ) -> None:
        self._log, self._cursor, self._line, self._remembered = log, cursor, telling.line, remembered
        self._events = Events(wanted.has, telling.look)
        self._final: list[Entry] = []
        self._parser, self._pairing = Parser(), Pairing(self._final.append, lambda _: None)
        self._saved, self._saved_at = log.position, time.monotonic()
        self._written = False
        """Whether lines were written since the cursor was saved."""
        self._unwritten: list[str] = []
        """What nobody took before the end came. The first may be the rest of a line."""
        self._ended = self._over = False
        """Whether the end has come, and whether nothing more is to be written."""
        self._bad = 0

    def restore(self, state: dict[str, Any]) -> None:
        """Take up what a cursor has, and write again what may not have been written.

        KeyError, TypeError, ValueError or AttributeError if it has something else.
        """
        lines = [str(line) for line in state["lines"]]
        self._log.position = self._saved = tail.Position(*state["position"])
        self._pairing.nodes = memory.restored(state["nodes"])
        self._events.restore(state["told"])
        self._write(lines)

    def run(self) -> None:
        """Follow until a signal ends it."""
        new, ended = True, False
        while not ended:
            for piece in self._log.read():
                new = self._pairing.add(self._parser.records(piece)) > 0 or new
                if len(self._final) >= _MANY:
                    self._tell(self._settled())
                if ended := self._over or _ended(0):
                    self._ended = True
                    self._tell(self._settled())
                    break
            else:
                settled = self._settled()
                if new or self._events.waits:
                    now = round(time.time() * 1000)
                    complete = self._complete()
                    known = ((heard, complete(entry)) for heard, entry in self._pairing.known())
                    settled += self._events.now(known, now, time.monotonic())
                self._tell(settled)
                new = False
                self._complain()
                self._save_in_time()
                ended = self._over or _ended(_EVERY)
                _hear_of_reader()
        self._save(self._unwritten)

    def _settled(self) -> list[Event]:
        """Return what is to be told of the entries that the pairing has done with."""
        events = self._events.final(map(self._complete(), self._final)) if self._final else []
        self._final.clear()
        return events

    def _complete(self) -> Callable[[Entry], Entry]:
        """Return what adds to entries, as of now: guests that start meanwhile are noted meanwhile."""
        remembered = self._remembered()
        return remembered.complete if remembered else lambda entry: entry

    def _tell(self, events: list[Event]) -> None:
        if events:
            lines = [*self._unwritten, *(f"{self._line(event)}\n" for event in events)]
            self._save(lines)
            self._write(lines)

    def _write(self, lines: list[str]) -> None:
        self._unwritten = []
        encoding = sys.stdout.encoding
        for number, line in enumerate(lines):
            left = line.encode(encoding, "backslashreplace")
            while left:
                if self._over or not _has_room(waits=not self._ended):
                    rest = left.decode(encoding, "backslashreplace")
                    self._over, self._unwritten = True, [rest, *lines[number + 1 :]]
                    return
                try:
                    left = left[os.write(sys.stdout.fileno(), _at_once(left, encoding)) :]
                except BlockingIOError:  # whoever started us made it so, and another has taken the room
                    self._over = self._ended or _ended(_SOON)
                else:
                    self._written = True

    def _save_in_time(self) -> None:
        moved = self._log.position != self._saved
        late = time.monotonic() - self._saved_at >= _AT_LEAST or self._log.position.first != self._saved.first
        if self._written or (moved and late):
            self._save(self._unwritten)

    def _save(self, lines: list[str]) -> None:
        self._saved, self._saved_at, self._written = self._log.position, time.monotonic(), False
        if self._cursor:
            nodes = memory.saved(self._pairing.nodes)
            self._cursor.save({"lines": lines, "position": self._saved, "told": self._events.saved(), "nodes": nodes})

    def _complain(self) -> None:
        bad = self._parser.unreadable + self._log.too_long
        if bad != self._bad:
            self._bad = bad
            _warn(f"records that could not be read so far: {bad}")


def run(log: tuple[str, bool], wanted: Wanted, telling: Telling, cursor: str | None, remembered: Remembering) -> int:
    """Follow a log. Return 0 once SIGINT or SIGTERM ends it. LibhookError if it is no log, or the cursor is bad.

    ``log`` is from ``tail.path_of``. Without a cursor, and without a time to begin at, it begins now. ``remembered`` is
    asked anew whenever there is something to tell.
    """
    path, older = log
    if cursor is None and wanted.start is None:
        wanted = wanted._replace(start=round(time.time() * 1000))
    with ExitStack() as stack:
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDS)
        stack.callback(signal.pthread_sigmask, signal.SIG_SETMASK, before)
        reading = tail.Tail(path, tail.BEFORE, _warn, older=older)
        stack.callback(reading.close)
        file = Cursor(cursor) if cursor is not None else None
        follower = Follower(reading, wanted, telling, file, remembered)
        if file:
            stack.callback(file.close)
            if state := file.load():
                try:
                    follower.restore(state)
                except (KeyError, TypeError, ValueError, AttributeError):
                    raise file.unusable() from None
        there, terminal = os.path.exists(path), sys.stderr.isatty()
        if terminal or not there:  # what waits for a log is told to a service's journal, too
            _warn(f"{'following' if there else 'waiting for'} {path}{'; Ctrl-C ends it' if terminal else ''}")
        follower.run()
    return 0


def _ended(seconds: float) -> bool:
    """Wait for the end, and return whether it has come. The signals are blocked, so they interrupt nothing else."""
    return signal.sigtimedwait(_ENDS, seconds) is not None


def _hear_of_reader() -> None:
    """BrokenPipeError if nobody reads what we write any more: with nothing to write, we should not notice."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    if any(happened & (select.POLLERR | select.POLLHUP) for _, happened in poll.poll(0)):
        raise BrokenPipeError


def _at_once(left: bytes, encoding: str) -> bytes:
    """Return what a pipe that has room takes as a whole, without waiting (pipe(7)). It ends with a whole character."""
    return left if len(left) <= select.PIPE_BUF else left[: select.PIPE_BUF].decode(encoding, "ignore").encode(encoding)


def _has_room(*, waits: bool) -> bool:
    """Wait until what we write to takes more, or nobody reads it any more. False if the end comes first.

    Without ``waits``, return at once: once the end has come, no other signal does.
    """
    poll = select.poll()
    poll.register(sys.stdout.fileno(), select.POLLOUT)
    while not poll.poll(1000 if waits else 0):
        if not waits or _ended(0):
            return False
    return True


def _warn(text: str) -> None:
    sys.stderr.write(f"{printable(text)}\n")
    sys.stderr.flush()
