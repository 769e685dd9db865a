# SPDX-License-Identifier: LGPL-2.1-or-later
"""A child that does one call after another for its parent, and waits for the parent in between.

A device's hand-over is several calls, each of which may hang. A child for each would cost a fork for each. The parent
decides on every call when it knows what the one before has done. When the parent has given up or was killed, the child
ends after the call that it is at, and does no other. As long as the child lives, it has the in-flight lock of its
device.
"""

from __future__ import annotations

import errno
import os

from libhook import plainjson
from libhook.children.child import CRASHED, ended_with, live, mark_in_flight
from libhook.facts.machine import Machine
from libhook.light import TYPE_CHECKING, suppress

if TYPE_CHECKING:
    from collections.abc import Callable


class Hand:
    """A child for one device. It is started with its first call, and started anew after somebody killed it."""

    def __init__(self, machine: Machine, in_flight: str, *, unmarked: bool = False) -> None:
        """``in_flight`` and ``unmarked`` are as for children.child.spawn."""
        self._machine = machine
        self._in_flight = in_flight
        self._unmarked = unmarked
        self._pid = 0
        self._orders = -1
        self._at_work = False
        self.sheet = -1
        """A file in memory, to which a call may write what it has found (``lines``)."""
        self.handle = -1
        """Becomes readable when a call has ended."""

    @property
    def is_there(self) -> bool:
        """Whether it has a child. If not after a call that failed, no child could be started."""
        return self._pid != 0

    def begin(self, function: Callable[..., None], arguments: tuple[str, ...]) -> None:
        """Make the child call ``function(machine, sheet, *arguments)``. OSError when no child can be started.

        The child finds the function by its name, so it must stand at the top level of a module.
        """
        if self._pid:
            os.ftruncate(self.sheet, 0)
            os.lseek(self.sheet, 0, os.SEEK_SET)
        else:
            self._start()
        order = f"{plainjson.dumps([function.__module__, function.__qualname__, *arguments])}\n".encode()
        try:
            os.write(self._orders, order)
        except BrokenPipeError:  # somebody killed it while it waited
            self._bury()
            self._start()
            os.write(self._orders, order)
        self._at_work = True

    def result(self) -> int:
        """The errno of the call that has ended, as Child.result has it."""
        answer = os.read(self.handle, 1)
        self._at_work = False
        return answer[0] if answer else self._bury()

    def lines(self) -> list[str]:
        """The complete lines that the last call wrote to its sheet."""
        with open(self.sheet, "rb", closefd=False) as file:
            file.seek(0)
            return os.fsdecode(file.read()).split("\n")[:-1]

    def rest(self) -> None:
        """No more calls. If the last one has not ended, because we were interrupted, the device stays in flight."""
        if self._pid:
            if not self._at_work:
                with suppress(OSError):
                    os.unlink(self._in_flight)
            self.abandon()

    def abandon(self) -> None:
        """Leave the child. It ends by itself, after the call that it is at. The device stays in flight till then."""
        for descriptor in (self._orders, self.handle, self.sheet):
            os.close(descriptor)
        self._pid, self._orders, self.handle, self.sheet, self._at_work = 0, -1, -1, -1, False

    def _bury(self) -> int:
        """Reap a child that was killed or has crashed; return the errno for that."""
        pid = self._pid
        self.rest()
        return ended_with(os.waitpid(pid, 0)[1]) or errno.ECHILD

    def _start(self) -> None:
        ours: list[int] = []
        its = [mark_in_flight(self._in_flight, unmarked=self._unmarked)]
        try:
            orders, sender = os.pipe2(os.O_CLOEXEC)
            its, ours = [*its, orders], [sender]
            answers, speaker = os.pipe2(os.O_CLOEXEC)
            its, ours = [*its, speaker], [sender, answers]
            ours.append(sheet := os.memfd_create("sheet"))
            pid = os.fork()
            if pid == 0:
                live(lambda: _serve(self._machine, orders, speaker, sheet), {*its, sheet})
        except OSError:
            with suppress(OSError):
                os.unlink(self._in_flight)
            its += ours
            raise
        else:
            self._pid, self._orders, self.handle, self.sheet = pid, sender, answers, sheet
        finally:
            for descriptor in its:
                if descriptor >= 0:
                    os.close(descriptor)


def _serve(machine: Machine, orders: int, speaker: int, sheet: int) -> None:
    """The child's loop. It ends when nobody can send an order any more."""
    with open(orders, encoding="utf-8") as file:
        for order in file:
            module, name, *arguments = plainjson.loads(order)
            code = 0
            try:
                getattr(__import__(module, fromlist=("*",)), name)(machine, sheet, *arguments)
            except OSError as error:
                code = error.errno or CRASHED
            os.write(speaker, bytes([code]))
