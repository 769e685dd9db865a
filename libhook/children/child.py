# SPDX-License-Identifier: LGPL-2.1-or-later
"""Runs calls that may never return in a child, so that the parent can stop waiting for them.

A write to ``unbind`` runs the driver's remove() under the device's lock, and can sleep in state D for ever. Then every
later write to that device can sleep too, and so can a read that takes the lock (driver_override_show,
sriov_numvfs_show). No signal ends that sleep.

So a child does such work and exits. It has none of the pipes that libvirtd gave us, because libvirtd waits for their
EOF (vircommand.c, virCommandProcessIO). It keeps at most two locks: that of the installed version
(children/version.py), and the in-flight lock of its device. The parent takes the in-flight lock before the fork. So a
write on its way can always be seen, even if the parent is killed.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import time

from libhook.children import version
from libhook.light import TYPE_CHECKING, NamedTuple, suppress

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable
    from typing import NoReturn

CRASHED = 255
"""The exit status of a child that raised anything but an OSError with an errno."""
_TRIES = 60
_LOOK_AGAIN = 0.01


class Deadline(NamedTuple):
    """A moment on the clock of time.monotonic(). Nobody waits beyond it."""

    at: float

    @classmethod
    def after(cls, seconds: float) -> Deadline:
        """The deadline that is so many seconds from now."""
        return cls(time.monotonic() + seconds)

    @property
    def left(self) -> float:
        """Seconds left; 0.0 when the deadline has passed."""
        return max(0.0, self.at - time.monotonic())


class Child(NamedTuple):
    """A child process at work."""

    pid: int
    handle: int
    """Its pidfd, which becomes readable when the child ends."""

    def result(self) -> int:
        """Reap a child that has ended; return its errno.

        0 means success, EINTR that the child was killed, ECHILD that it crashed.
        """
        os.close(self.handle)
        return ended_with(os.waitpid(self.pid, 0)[1])

    def abandon(self) -> None:
        """Stop waiting for the child. It goes on; ``reap`` or init reaps it."""
        os.close(self.handle)


def ended_with(status: int) -> int:
    """The errno that a child's status from waitpid(2) stands for, as in Child.result."""
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        return errno.EINTR
    return code if code < CRASHED else errno.ECHILD


def spawn(
    task: Callable[[], None],
    in_flight: str | None = None,
    keep: int = -1,
    *,
    unmarked: bool = False,
    also: Collection[int] = (),
) -> Child:
    """Start ``task`` in a child. The child's result is 0, or the errno of the OSError that ``task`` raises.

    ``in_flight`` is the path of the lock that says that a write is on its way. BlockingIOError when another process has
    it. With ``unmarked`` the child starts even if that file cannot be opened. ``keep`` is one more descriptor that the
    child needs, and ``also`` has others. OSError when no child can be started.
    """
    lock = -1 if in_flight is None else open_mark(in_flight, unmarked=unmarked)
    try:
        if lock >= 0:
            lock_mark(lock)
        return _fork(task, {lock, keep, *also})
    finally:
        if lock >= 0:
            os.close(lock)  # if no child was started, no write is on its way


def open_mark(path: str, *, unmarked: bool = False) -> int:
    """Open the file that is ``in_flight`` for ``spawn``; return its descriptor, or -1 for none."""
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError:
        if not unmarked:
            raise
        return -1


def lock_mark(lock: int) -> None:
    """Lock it. BlockingIOError when another process has it locked for longer than a look at it takes.

    A process that looks whether the lock is taken has it for a moment (locks.is_locked), and may be put to sleep there.
    """
    for patience in range(_TRIES, -1, -1):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if not patience:
                raise
            time.sleep(0.005)


def _fork(task: Callable[[], None], keep: set[int]) -> Child:
    """Fork a child, and let it begin only when we have its pidfd.

    Without a pidfd nobody could wait for the child, and its write could land while we undo things.
    """
    gate, opener = os.pipe2(os.O_CLOEXEC)
    pid, handle = 0, -1
    try:
        pid = os.fork()
        if pid == 0:
            live(task, keep, gate)
        handle = os.pidfd_open(pid)
        os.write(opener, b"\n")
    finally:
        os.close(gate)
        os.close(opener)
        if pid and handle < 0:
            os.waitpid(pid, 0)  # there is no pidfd: the child reads nothing from the gate, does nothing, and ends
    return Child(pid, handle)


def reap(deadline: Deadline | None = None) -> None:
    """Reap abandoned children that have ended: for a process that lives long, between two of its tasks.

    With a deadline, also wait for those still at work: for a process that ends, when its caller kills what it leaves.
    """
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0] or (deadline and deadline.left):
            if deadline:
                time.sleep(_LOOK_AGAIN)


def detach_standard_streams() -> None:
    """Replace the standard streams by /dev/null, since somebody may wait for our pipes to close."""
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    if null > 2:
        os.close(null)


def close_all_but(keep: set[int]) -> None:
    """Close every descriptor but these, the standard streams, and the lock of the version that runs."""
    first = 3
    for descriptor in sorted(keep | version.held()):
        if descriptor >= first:
            os.closerange(first, descriptor)
            first = descriptor + 1
    os.closerange(first, os.sysconf("SC_OPEN_MAX"))


def lines_of(descriptor: int) -> list[str]:
    """The complete lines that a child has written to this file."""
    written = os.pread(descriptor, os.fstat(descriptor).st_size, 0)  # the child may write on at its own place
    return os.fsdecode(written).split("\n")[:-1]


def live(task: Callable[[], None], keep: set[int], gate: int = -1) -> NoReturn:
    """The child's whole life. It ends by _exit, so that no exit handler and no buffer of the parent runs twice.

    With a ``gate``, the child does nothing until something comes through it, and nothing at all when it is closed.
    """
    code = CRASHED
    try:
        os.setsid()
        close_all_but(keep | {gate})  # first of all: there may be no descriptor left
        detach_standard_streams()
        for descriptor in keep - {-1}:
            os.set_inheritable(descriptor, True)  # the task may exec a program
        begin = gate < 0 or os.read(gate, 1)
        if gate >= 0:
            os.close(gate)
        if begin:
            task()
            code = 0
    except OSError as error:
        code = error.errno or CRASHED
    finally:
        os._exit(code)


def ended(handles: Iterable[int], deadline: Deadline) -> set[int]:
    """Wait until a child, or a call of a Worker, has ended; return the handles of all that have. Empty when late."""
    poll = select.poll()
    for handle in handles:
        poll.register(handle, select.POLLIN)
    return {handle for handle, _ in poll.poll(deadline.left * 1000)}
