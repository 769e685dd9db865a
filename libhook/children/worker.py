# SPDX-License-Identifier: LGPL-2.1-or-later
"""A child that does one call after another for its parent, and waits for the parent in between.

A device's hand-over is several calls, each of which may hang. A child for each would cost a fork for each. The parent
decides on every call when it knows what the one before has done. When the parent has given up or was killed, the child
ends after the call that it is at, and does no other.

Parent and child have the in-flight lock of the device open together (flock(2): the lock belongs to the open file). The
parent takes the lock before each call and gives it up after the answer. If the parent is killed meanwhile, the child
still has it. So the lock is held exactly while a call is on its way.
"""

from __future__ import annotations

import errno
import fcntl
import os

from libhook import plainjson
from libhook.children.child import CRASHED, ended_with, lines_of, live, lock_mark, open_mark
from libhook.facts.machine import Machine
from libhook.light import TYPE_CHECKING, suppress

if TYPE_CHECKING:
    from collections.abc import Callable


class Worker:
    """A child for one device. It is started with its first call, and started anew after somebody killed it."""

    def __init__(self, machine: Machine, in_flight: str, *, unmarked: bool = False) -> None:
        """``in_flight`` and ``unmarked`` are as for children.child.spawn."""
        self._machine = machine
        self._in_flight = in_flight
        self._unmarked = unmarked
        self._pid = 0
        self._orders = self._lock = self._output = -1
        self._at_work = False
        self.handle = -1
        """Becomes readable when a call has ended."""

    @property
    def is_there(self) -> bool:
        """Whether it has a child. If not after a call that failed, the child could not be started, or has died."""
        return self._pid != 0

    def begin(self, function: Callable[..., None], arguments: tuple[str, ...], *, looks: bool = False) -> None:
        """Make the child call ``function(machine, output, *arguments)``. OSError when it cannot be begun.

        The child finds the function by its name, so it must stand at the top level of a module. ``output`` is the
        descriptor of a file in memory (``lines``). A call that only ``looks`` needs no lock.
        """
        if not self._pid:
            self._start()
        if not looks:
            self._mark()
        self._at_work = True  # from here on, whatever interrupts us
        order = f"{plainjson.dumps([function.__module__, function.__qualname__, *arguments])}\n".encode()
        os.ftruncate(self._output, 0)
        os.lseek(self._output, 0, os.SEEK_SET)
        try:
            os.write(self._orders, order)
        except BrokenPipeError:  # somebody killed it while it waited
            self._at_work = False
            self._reap()
            self.begin(function, arguments, looks=looks)

    def result(self) -> int:
        """The errno of the call that has ended, as Child.result has it."""
        answer = os.read(self.handle, 1)
        self._at_work = False
        if not answer:
            return self._reap()
        if self._lock >= 0:
            fcntl.flock(self._lock, fcntl.LOCK_UN)
        return answer[0] if answer[0] < CRASHED else errno.ECHILD

    def lines(self) -> list[str]:
        """The complete lines that the last call wrote to its output."""
        return lines_of(self._output)

    def finish(self) -> None:
        """No more calls. If the last one has not ended, because we were interrupted, the device stays in flight."""
        if self._has_file() and not self._at_work:
            with suppress(OSError):  # another process may have it locked, which is not our file to remove
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.unlink(self._in_flight)
        self.abandon()

    def abandon(self) -> None:
        """Leave the child. It ends by itself, after the call that it is at. The device stays in flight till then."""
        for descriptor in (self._orders, self.handle, self._output, self._lock):
            if descriptor >= 0:
                os.close(descriptor)
        self._pid, self._at_work = 0, False
        self._orders = self.handle = self._output = self._lock = -1

    def _mark(self) -> None:
        """Take the in-flight lock. OSError where another has it, or where nobody would see it: its file is gone."""
        if self._lock >= 0:
            lock_mark(self._lock)
        if not (self._unmarked or self._has_file()):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), self._in_flight)

    def _has_file(self) -> bool:
        """Whether the file that is open is the one that others see. Somebody may have removed it, and made another."""
        if self._lock >= 0:
            with suppress(OSError):
                return os.path.samestat(os.fstat(self._lock), os.lstat(self._in_flight))
        return False

    def _reap(self) -> int:
        """Reap a child that was killed or has crashed; return the errno for that."""
        pid = self._pid
        self.finish()
        return ended_with(os.waitpid(pid, 0)[1]) or errno.ECHILD

    def _start(self) -> None:
        """Start the child. OSError where that is not possible; then nothing is left open."""
        theirs: list[int] = []
        try:
            self._lock = open_mark(self._in_flight, unmarked=self._unmarked)
            orders, self._orders = os.pipe2(os.O_CLOEXEC)
            theirs = [orders]
            self.handle, answers = os.pipe2(os.O_CLOEXEC)
            theirs = [orders, answers]
            self._output = os.memfd_create("output")
            pid = os.fork()
            if pid == 0:
                live(lambda: _serve(self._machine, orders, answers, self._output), {*theirs, self._lock, self._output})
            self._pid = pid
        finally:
            for descriptor in theirs:
                os.close(descriptor)
            if not self._pid:
                self.finish()


def _serve(machine: Machine, orders: int, answers: int, output: int) -> None:
    """The child's loop. It ends when nobody can send an order any more."""
    with open(orders, encoding="utf-8") as file:  # JSON escapes all else
        for order in file:
            module, name, *arguments = plainjson.loads(order)
            code = 0
            try:
                getattr(__import__(module, fromlist=("*",)), name)(machine, output, *arguments)
            except OSError as error:
                code = min(error.errno or CRASHED, CRASHED)  # drivers also answer ENOTSUPP, which is 524
            os.write(answers, bytes([code]))
