# SPDX-License-Identifier: LGPL-2.1-or-later
"""What may never return is done by a child, which the parent can stop waiting for.

A write to ``unbind`` runs the driver's remove() under the device's lock and can sleep in state D for ever; so can
every later write to that device, and a read that takes the lock (driver_override_show, sriov_numvfs_show). No signal
ends it. So a child does one such thing and exits. It has none of our pipes (libvirtd waits for their EOF,
vircommand.c virCommandProcessIO) and none of our locks, but one: an in-flight lock of its device, taken before the
fork, so that there is no moment at which a write is on its way unseen, also when the parent is killed.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import time

from libhook.effects import version
from libhook.errors import LibhookError, remedy_of
from libhook.light import TYPE_CHECKING, NamedTuple, suppress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import NoReturn

_CRASHED = 255
_TRIES = 5
_LOOK_AGAIN = 0.01


class Deadline(NamedTuple):
    """A moment of time.monotonic() after which nobody waits any longer."""

    at: float

    @classmethod
    def after(cls, seconds: float) -> Deadline:
        """So many seconds from now."""
        return cls(time.monotonic() + seconds)

    @property
    def left(self) -> float:
        """Seconds left, 0.0 when it has passed."""
        return max(0.0, self.at - time.monotonic())


class Child(NamedTuple):
    """A child at work."""

    pid: int
    handle: int
    """Its pidfd, readable once it has ended."""

    def result(self) -> int:
        """The errno of what it did, 0 for success, EINTR where it was killed, after it has ended. Reaps it."""
        os.close(self.handle)
        _, status = os.waitpid(self.pid, 0)
        code = os.waitstatus_to_exitcode(status)
        if code < 0:
            return errno.EINTR
        return code if code < _CRASHED else errno.ECHILD

    def abandon(self) -> None:
        """Stop waiting for it. It goes on as an orphan and init reaps it."""
        os.close(self.handle)


def spawn(task: Callable[[], None], in_flight: str | None = None, keep: int = -1, *, unmarked: bool = False) -> Child:
    """Run ``task`` in a child; its OSError's errno, or 0, is the result.

    ``in_flight`` is the path of the lock that says a write is on its way; BlockingIOError when one already is. With
    ``unmarked`` it is done also where that file cannot be had. ``keep`` is one more descriptor that the child needs.
    """
    lock = -1
    if in_flight is not None:
        try:
            lock = os.open(in_flight, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError:
            if not unmarked:
                raise
    if lock >= 0:
        for patience in range(_TRIES, -1, -1):
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not patience:
                    os.close(lock)
                    raise
                time.sleep(0.005)  # somebody may only be looking whether it is taken
    try:
        return _fork(task, {lock, keep})
    finally:
        if lock >= 0:
            os.close(lock)  # where there was no process to be had, nothing is on its way


def _fork(task: Callable[[], None], keep: set[int]) -> Child:
    """The child begins only once it can be waited for: else its write would land behind the back of who undoes."""
    gate, opener = os.pipe2(os.O_CLOEXEC)
    pid, handle = 0, -1
    try:
        pid = os.fork()
        if pid == 0:
            _run(task, keep, gate)
        handle = os.pidfd_open(pid)
        os.write(opener, b"\n")
    finally:
        os.close(gate)
        os.close(opener)
        if pid and handle < 0:
            os.waitpid(pid, 0)  # no descriptor was left: without that word it ends, and has done nothing
    return Child(pid, handle)


def reap(deadline: Deadline | None = None) -> None:
    """Bury children that were left behind and have ended: for a process that lives long, between two of its tasks.

    With a deadline, wait for those that still work: for one that ends, where who runs it kills what it leaves.
    """
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0] or (deadline and deadline.left):
            if deadline:
                time.sleep(_LOOK_AGAIN)


def detach_standard_streams() -> None:
    """Let go of the pipes that somebody may be waiting on."""
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    if null > 2:
        os.close(null)


def close_all_but(keep: set[int]) -> None:
    """Every descriptor but these, the standard streams, and the lock of the version that runs."""
    first = 3
    for descriptor in sorted(keep | version.held()):
        if descriptor >= first:
            os.closerange(first, descriptor)
            first = descriptor + 1
    os.closerange(first, os.sysconf("SC_OPEN_MAX"))


def _run(task: Callable[[], None], keep: set[int], gate: int) -> NoReturn:
    """The child's whole life. It leaves by _exit: no handler, no buffer of the parent's runs twice."""
    code = _CRASHED
    try:
        os.setsid()
        detach_standard_streams()
        close_all_but(keep | {gate})
        for descriptor in keep - {-1}:
            os.set_inheritable(descriptor, True)  # the task may be a program
        begin = os.read(gate, 1)
        os.close(gate)
        if begin:
            task()
            code = 0
    except OSError as error:
        code = error.errno or _CRASHED
    finally:
        os._exit(code)


def ended(children: Iterable[Child], deadline: Deadline) -> set[int]:
    """The handles of children that have ended, as soon as there is one; empty when the deadline passes first."""
    poll = select.poll()
    for child in children:
        poll.register(child.handle, select.POLLIN)
    return {handle for handle, _ in poll.poll(deadline.left * 1000)}


class Speech(NamedTuple):
    """A child at work that has something to say."""

    child: Child
    receiver: int

    def lines(self, deadline: Deadline) -> list[str]:
        """What it has said until it ends or the deadline passes. One that is late is left behind. Once only."""
        received, has_ended = b"", False
        poll = select.poll()
        poll.register(self.receiver, select.POLLIN)
        try:
            while not has_ended and poll.poll(deadline.left * 1000):
                part = os.read(self.receiver, 65536)
                has_ended = not part
                received += part
        except LibhookError:  # a signal's, to whoever waits
            self.leave()
            raise
        if has_ended:
            self.child.result()
            os.close(self.receiver)
        else:
            self.leave()
        return received.decode("utf-8", "surrogateescape").split("\n")[:-1]

    def leave(self) -> None:
        """Listen no more. It goes on."""
        self.child.abandon()
        os.close(self.receiver)


def lines(task: Callable[[Callable[[bytes], None]], None], deadline: Deadline) -> list[str]:
    """What a child says, a line a call of the function that ``task`` is given, until it ends or the deadline passes.

    Whoever asked knows how many there should be. LibhookError where no process or descriptor is to be had.
    """
    return listen(task).lines(deadline)


def listen(task: Callable[[Callable[[bytes], None]], None], mark: str | None = None) -> Speech:
    """Let the child begin; what it says can be heard later.

    ``mark`` is a file that it has locked while it lives, where that can be had.
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
    return LibhookError(f"no child process is to be had ({error.strerror})", remedy_of(error))


class Silent:
    """In place of an attribute's content: it did not answer, somebody hangs with its device's lock."""


SILENT = Silent()


def read_all(paths: list[str], deadline: Deadline, patience: float) -> list[str | Silent | None]:
    """The contents of these attributes; None for one that cannot be read, SILENT for one that does not answer.

    One child reads them all, as long as there is an answer every ``patience`` seconds; after one that is silent a
    new child goes on with the rest.
    """
    contents: list[str | Silent | None] = []
    killed = 0
    while len(contents) < len(paths):
        until = Deadline(min(deadline.at, time.monotonic() + patience))
        contents += (found := _read(paths[len(contents) :], until))
        if len(contents) < len(paths) and not until.left:
            contents.append(SILENT)
        elif not found and (killed := killed + 1) > 1:
            raise LibhookError(f"whoever reads {paths[len(contents)]} is killed", "is memory short? try again")
    return contents


def _read(paths: list[str], deadline: Deadline) -> list[str | None]:
    def read(say: Callable[[bytes], None]) -> None:
        for path in paths:
            try:
                attribute = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                content = os.read(attribute, 4096)
                os.close(attribute)
            except OSError:
                content = b"\0"
            say(content.strip().partition(b"\n")[0])

    return [None if line == "\0" else line for line in lines(read, deadline)]
