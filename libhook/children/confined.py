# SPDX-License-Identifier: LGPL-2.1-or-later
"""A child for code that nobody vouches for. It answers once; the kernel keeps it from files, network, other processes.

It has a user ID that nothing else has, so it may neither signal nor trace any other process. It has no capability. Its
root is a folder that was removed: nothing can be made in such a folder. It may open no descriptor, so it has no file,
no socket and no memory file. It may start no process and no thread.

None of that is a wall of Python's own. What the parent had in memory the child can read.
"""

from __future__ import annotations

import errno
import os
import select
import time

from libhook import plainjson
from libhook.children.child import Child, Deadline, ended, spawn
from libhook.errors import LibhookError, fault, remedy_of
from libhook.facts.config import ASKED_FOR
from libhook.light import TYPE_CHECKING, NamedTuple, suppress

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Task = Callable[[], bytes]

MOST = 1 << 16
"""The longest answer, in bytes."""
LATE = "it does not end in time"
_MEMORY = 1 << 27
"""What it may have beside its parent's, in bytes."""
_FIRST_UID = 0x70000000
"""From here on no user IDs are given out (systemd's UIDS-GIDS: 1879048192 to 2147483647 are unused). The child's pid is
added: pids end at 2^22 (PID_MAX_LIMIT), so no two children have the same."""
_SIGKILL = 9
_EVERY = 1 << 30


class Ending(NamedTuple):
    """How the child ended."""

    said: bytes = b""
    fault: str = ""
    """Why there is no answer."""


def ask(task: Task, modules: Sequence[str], folder: str, deadline: Deadline) -> Ending:
    """Run ``task`` in such a child, and return its answer.

    It may import ``modules`` and what was imported before. ``folder`` is one in which root may make another for a
    moment. LibhookError when no child can be started.
    """
    try:
        receiver, sender = os.pipe2(os.O_CLOEXEC)
    except OSError as error:
        raise LibhookError(f"no child process can be started ({error.strerror})", remedy_of(error)) from error

    def live() -> None:
        from _signal import alarm  # type: ignore[import-not-found]  # the module signal takes 0.4 ms to import

        try:
            confine(modules, folder, sender)
            alarm(int(deadline.left) + 2)  # we may be killed, and then nobody ends the child
        except (OSError, ImportError, ValueError) as error:
            said = memoryview(plainjson.dumps({"fault": f"it cannot be confined ({fault(error)})"}).encode())
        else:
            said = memoryview(task())
        while said:
            said = said[os.write(sender, said) :]

    try:
        child = spawn(live, keep=sender)
    except OSError as error:
        os.close(receiver)
        raise LibhookError(f"no child process can be started ({error.strerror})", remedy_of(error)) from error
    finally:
        os.close(sender)
    try:
        return _heard(child, receiver, deadline)
    finally:
        os.close(receiver)


def _heard(child: Child, receiver: int, deadline: Deadline) -> Ending:
    """Listen until the child has ended, says too much, or is late. It does not outlive this."""
    said, fault, has_ended = b"", "", False
    poll = select.poll()
    poll.register(receiver, select.POLLIN)
    try:
        while not (has_ended or fault):
            if not poll.poll(deadline.left * 1000):
                fault = LATE
            else:
                part = os.read(receiver, MOST)
                has_ended = not part
                said += part
                if len(said) > MOST:
                    fault = f"it answers more than {MOST >> 10} KiB"
        if not fault and not ended([child.handle], deadline):  # it may have closed the pipe, and go on
            fault = LATE
    finally:  # also where a signal handler raises
        _kill(child.pid)
        os.close(child.handle)
        status = os.waitpid(child.pid, 0)[1]
    return Ending(said, fault or _how(status))


def _kill(pid: int) -> None:
    """Kill the child, and whatever else is in its session. It is not reaped yet, so its number is nobody else's."""
    os.kill(pid, _SIGKILL)
    with suppress(OSError):  # there is no such group if it was killed before its setsid
        os.killpg(pid, _SIGKILL)


def _how(status: int) -> str:
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        return f"it was killed by signal {-code}, as for too much computing or memory"
    return f"it ended by itself, with {code}" if code else ""


def confine(modules: Sequence[str], folder: str, keep: int) -> None:
    """Put up the walls, from inside. OSError where one cannot be put up."""
    import resource
    import sys

    for name in modules:
        __import__(name)
    time.tzset()  # the file of the time zone cannot be opened later
    os.closerange(3, keep)
    os.closerange(keep + 1, _EVERY)
    sys.stdin = sys.stdout = sys.stderr = None  # then print() does nothing
    sys.path[:], sys.meta_path[:], sys.path_hooks[:] = [], [], []
    os.environ.clear()
    os.umask(0o777)
    memory, is_root = _size() + _MEMORY, os.geteuid() == 0
    if is_root:
        _leave(folder)
    # RLIMIT_NPROC counts this process, too, and binds nobody with capabilities (kernel/fork.c, copy_process): with 0,
    # there is neither a second process nor a thread. execve needs no descriptor, but finds no program. Where
    # core_pattern is a pipe, the kernel ignores RLIMIT_CORE, but for 1: then it dumps nothing (fs/coredump.c).
    for limit, most in (
        (resource.RLIMIT_CPU, int(ASKED_FOR)),
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 1),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_NOFILE, 0),
    ):
        resource.setrlimit(limit, (most, most))
    if is_root:
        _become_nobody()


def _size() -> int:
    """The size of this process in memory, as RLIMIT_AS counts it."""
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")


def _leave(folder: str) -> None:
    """Make a folder the root, and remove it. In a removed folder nothing can be made (fs/namei.c, may_create)."""
    empty = f"{folder}/libhook-handler-{os.getpid()}"
    with suppress(FileExistsError):  # a child was killed between the next lines, and had our number
        os.mkdir(empty, 0o500)
    try:
        os.chdir(empty)
    finally:
        os.rmdir(empty)
    os.chroot(".")


def _become_nobody() -> None:
    """Take a user and a group of our own, and lose all capabilities. OSError where we would keep them."""
    own = _FIRST_UID + os.getpid()
    os.setgroups([])
    os.setresgid(own, own, own)
    os.setresuid(own, own, own)
    with suppress(PermissionError):
        os.setresuid(0, 0, 0)  # possible with SECBIT_NO_SETUID_FIXUP, which whoever started libvirtd may have set
        raise OSError(errno.EINVAL, "this process would keep its capabilities")
