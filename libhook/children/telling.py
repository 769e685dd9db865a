# SPDX-License-Identifier: LGPL-2.1-or-later
"""A child that sends lines to its parent."""

from __future__ import annotations

import os
import select

from libhook.children.child import Child, Deadline, spawn
from libhook.errors import LibhookError, remedy_of
from libhook.light import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable


class Speech(NamedTuple):
    """A child at work that sends lines."""

    child: Child
    receiver: int

    def lines(self, deadline: Deadline) -> list[str]:
        """Return the lines that the child sends, until it ends or the deadline passes. Call this only once.

        A child that is late is left behind.
        """
        received, has_ended = b"", False
        poll = select.poll()
        poll.register(self.receiver, select.POLLIN)
        try:
            while not has_ended and poll.poll(deadline.left * 1000):
                part = os.read(self.receiver, 65536)
                has_ended = not part
                received += part
        except LibhookError:  # a signal handler raised it while we waited
            self.leave()
            raise
        if has_ended:
            self.child.result()
            os.close(self.receiver)
        else:
            self.leave()
        return received.decode("utf-8", "surrogateescape").split("\n")[:-1]

    def leave(self) -> None:
        """Stop listening. The child goes on."""
        self.child.abandon()
        os.close(self.receiver)


def lines(task: Callable[[Callable[[bytes], None]], None], deadline: Deadline) -> list[str]:
    """Run ``task`` in a child; return the lines it sends, until it ends or the deadline passes.

    ``task`` is given a function that sends one line. The caller knows how many lines to expect. LibhookError when no
    process or descriptor is left.
    """
    return listen(task).lines(deadline)


def listen(task: Callable[[Callable[[bytes], None]], None], mark: str | None = None) -> Speech:
    """Start ``task`` in a child; its lines can be read later.

    ``mark`` is a file that the child keeps locked while it lives, if that file can be opened.
    """
    try:
        receiver, sender = os.pipe2(os.O_CLOEXEC)
    except OSError as error:
        raise _exhausted(error) from error

    def say(line: bytes) -> None:
        os.write(sender, line + b"\n")

    try:
        return Speech(spawn(lambda: task(say), mark, keep=sender, unmarked=True), receiver)
    except OSError as error:
        os.close(receiver)
        raise _exhausted(error) from error
    finally:
        os.close(sender)


def _exhausted(error: OSError) -> LibhookError:
    return LibhookError(f"no child process can be started ({error.strerror})", remedy_of(error))
