# SPDX-License-Identifier: LGPL-2.1-or-later
"""A child that does one call after another for its parent, and waits for the parent in between.

A device's hand-over is several calls, each of which may hang. A child for each would cost a fork for each. The parent
decides on every call when it knows what the one before has done. When the parent has given up or was killed, the child
ends after the call that it is at, and does no other.

Parent and child have the in-flight lock of the device open together (flock(2): the lock belongs to the open file). The
parent takes the lock before each call and gives it up after the answer. If the parent is killed meanwhile, the child
still has it. So the lock is held exactly while a call is on its way. A call that only looks needs no lock.
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
    from typing import Self


class Worker:
    """One such child. It is started with its first call, and started anew after somebody killed it."""

    def __init__(self, machine: Machine, in_flight: str | None = None, *, unmarked: bool = False) -> None:
        """``in_flight`` and ``unmarked`` are as for children.child.spawn. Without ``in_flight`` it may only look."""
        self._machine = machine
        self._in_flight = in_flight
        self._unmarked = unmarked
        self._pid = 0
        self._orders = self._lock = self._paper = -1
        self._has_call = self._in_danger = False
        self.handle = -1
        """Becomes readable when a call has ended."""

    @property
    def is_there(self) -> bool:
        """Whether it has a child. If not after a call that failed, the child could not be started, or has died."""
        return self._pid != 0

    @property
    def is_idle(self) -> bool:
        """Whether it has a child that waits for its next call."""
        return self.is_there and not self._has_call

    def begin(self, function: Callable[..., None], arguments: tuple[str, ...], *, looks: bool = False) -> None:
        """Make the child call ``function(machine, output, *arguments)``. OSError when it cannot be begun.

        The child finds the function by its name, so it must stand at the top level of a module. ``output`` is the
        descriptor of a file in memory (``lines``).
        """
        if not self._pid:
            self._start()
        if not looks:
            self._mark()
        self._has_call, self._in_danger = True, not looks  # from here on, whatever interrupts us
        order = plainjson.dumps([function.__module__, function.__qualname__, *arguments]).encode()
        os.ftruncate(self._paper, 0)
        os.lseek(self._paper, 0, os.SEEK_SET)
        try:
            os.pwrite(self._paper, order, 0)  # a pipe might be full, and we would wait
            os.write(self._orders, b"\n")
        except BrokenPipeError:  # somebody killed it while it waited
            self._reap()
            self.begin(function, arguments, looks=looks)

    def result(self) -> int:
        """The errno of the call that has ended, as Child.result has it."""
        answer = os.read(self.handle, 1)
        if not answer:
            return self._reap()
        self._has_call = self._in_danger = False
        if self._lock >= 0:
            fcntl.flock(self._lock, fcntl.LOCK_UN)
        return answer[0] if answer[0] < CRASHED else errno.ECHILD

    def lines(self) -> list[str]:
        """The complete lines that the last call has written to its output by now."""
        return lines_of(self._paper) if self.is_there else []

    def abandon(self) -> None:
        """No more calls. The child ends, after the call that it is at. If that may write, the device stays in flight
        till then.
        """
        self._remove_mark()
        for descriptor in (self._orders, self.handle, self._paper):
            if descriptor >= 0:
                os.close(descriptor)
        self._pid, self._has_call, self._in_danger = 0, False, False
        self._orders = self.handle = self._paper = -1

    def retire(self) -> None:
        """The device is done with. From now on the worker may only look."""
        self._remove_mark()
        self._in_flight, self._unmarked = None, False

    def _remove_mark(self) -> None:
        """Remove the file of the mark, unless a call that may write is on its way."""
        if self._in_flight and self._has_file() and not self._in_danger:
            with suppress(OSError):  # another process may have it locked, which is not our file to remove
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.unlink(self._in_flight)
        if self._lock >= 0:
            if not self._in_danger:
                fcntl.flock(self._lock, fcntl.LOCK_UN)  # the child has the file open, too
            os.close(self._lock)
        self._lock = -1

    def _mark(self) -> None:
        """Take the in-flight lock. OSError where another has it, or where nobody would see it: its file is gone."""
        if self._lock >= 0:
            lock_mark(self._lock)
        if not (self._unmarked or self._has_file()):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), self._in_flight)

    def _has_file(self) -> bool:
        """Whether the file that is open is the one that others see. Somebody may have removed it, and made another."""
        if self._in_flight and self._lock >= 0:
            with suppress(OSError):
                return os.path.samestat(os.fstat(self._lock), os.lstat(self._in_flight))
        return False

    def _reap(self) -> int:
        """Reap a child that was killed or has crashed; return the errno for that."""
        pid = self._pid
        self._in_danger = False
        self.abandon()
        return ended_with(os.waitpid(pid, 0)[1]) or errno.ECHILD

    def _start(self) -> None:
        """Start the child. OSError where that is not possible; then nothing is left open."""
        theirs: list[int] = []
        try:
            if self._in_flight:
                self._lock = open_mark(self._in_flight, unmarked=self._unmarked)
            orders, self._orders = os.pipe2(os.O_CLOEXEC)
            theirs = [orders]
            self.handle, answers = os.pipe2(os.O_CLOEXEC)
            theirs = [orders, answers]
            self._paper = os.memfd_create("paper")
            pid = os.fork()
            if pid == 0:
                live(lambda: _serve(self._machine, orders, answers, self._paper), {*theirs, self._lock, self._paper})
            self._pid = pid
        finally:
            for descriptor in theirs:
                os.close(descriptor)
            if not self._pid:
                self.abandon()


class Crew:
    """The workers of one event, one for each device that changes hands. The end of the ``with`` block ends them."""

    def __init__(self, machine: Machine, in_flight: Callable[[str], str]) -> None:
        """``in_flight`` gives the path of a device's in-flight lock."""
        self._machine = machine
        self._in_flight = in_flight
        self._workers: dict[str, Worker] = {}

    def __enter__(self) -> Self:
        """Nothing: a worker is started with its first call."""
        return self

    def __exit__(self, *_: object) -> None:
        """End them."""
        for worker in self._workers.values():
            worker.abandon()

    def worker(self, device: str, *, unmarked: bool) -> Worker:
        """The worker of this device. ``unmarked`` is as for children.child.spawn."""
        if device not in self._workers:
            self._workers[device] = Worker(self._machine, self._in_flight(device), unmarked=unmarked)
        return self._workers[device]

    def spare(self) -> Worker:
        """A worker for looks alone, which the caller must abandon.

        If one of ours is idle, it is taken, since its device is done with. That saves a fork.
        """
        for device, worker in self._workers.items():
            if worker.is_idle:
                worker.retire()
                return self._workers.pop(device)
        return Worker(self._machine)


def _serve(machine: Machine, orders: int, answers: int, paper: int) -> None:
    """The child's loop. It ends when nobody can send an order any more."""
    while os.read(orders, 1):
        module, name, *arguments = plainjson.loads(os.pread(paper, os.fstat(paper).st_size, 0).decode())
        os.ftruncate(paper, 0)
        code = 0
        try:
            getattr(__import__(module, fromlist=("*",)), name)(machine, paper, *arguments)
        except OSError as error:
            code = min(error.errno or CRASHED, CRASHED)  # drivers also answer ENOTSUPP, which is 524
        os.write(answers, bytes([code]))
