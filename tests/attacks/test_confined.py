# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a handler by others can do to the host, if it tries: compute, and answer."""

import ctypes
import errno
import os
import signal
from pathlib import Path
from unittest import mock

import hanging
import pytest

from libhook.children import confined
from libhook.children.child import Deadline, spawn
from libhook.children.confined import MOST, Ending
from libhook.errors import LibhookError

pytestmark = [
    pytest.mark.race,
    pytest.mark.usefixtures("childless"),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can put up all walls"),
]
PARENT = os.getpid()


def _tried(expression: str, folder: str, *, seconds: float = 100.0) -> str:
    """What became of an expression in a confined child: its value, or the exception's name."""

    def task() -> bytes:
        try:
            return repr(eval(expression, {"os": os, "signal": signal, "PARENT": PARENT})).encode()  # noqa: S307
        except BaseException as error:  # noqa: BLE001 - all are of interest
            return f"{type(error).__name__} {getattr(error, 'strerror', error)}".encode()

    ending = confined.ask(task, ("socket", "ctypes", "mmap"), folder, Deadline.after(seconds))
    return ending.fault or ending.said.decode()


@pytest.mark.parametrize(
    ("expression", "outcome"),
    [
        ("open('/etc/shadow')", "Too many open files"),
        ("open('/proc/self/mem')", "Too many open files"),
        ("open('x', 'w')", "Too many open files"),
        ("os.mkdir('/x')", "Permission denied"),
        ("os.symlink('a', '/x')", "Permission denied"),
        ("os.mkfifo('x')", "Permission denied"),
        ("os.stat('/etc')", "Permission denied"),
        ("os.stat('../../etc')", "Permission denied"),
        ("os.listdir('/')", "Too many open files"),
        ("os.pipe()", "Too many open files"),
        ("os.memfd_create('x')", "Too many open files"),
        ("os.dup(0)", "Invalid argument"),
        ("__import__('socket').socket()", "Too many open files"),
        ("os.pidfd_open(os.getpid())", "Too many open files"),
        ("os.fork()", "Resource temporarily unavailable"),
        ("__import__('_thread').start_new_thread(print, ())", "RuntimeError can't start new thread"),
        ("os.posix_spawn('/bin/true', ['true'], {})", "Resource temporarily unavailable"),
        ("os.execv('/bin/true', ['true'])", "Permission denied"),
        ("os.kill(PARENT, 0)", "Operation not permitted"),
        ("os.kill(1, 0)", "Operation not permitted"),
        ("os.killpg(os.getpgid(PARENT), 0)", "Operation not permitted"),
        ("os.setuid(0)", "Operation not permitted"),
        ("os.setgroups([0])", "Operation not permitted"),
        ("os.chroot('.')", "Permission denied"),
        ("os.nice(-5)", "Operation not permitted"),
        ("os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))", "Operation not permitted"),
        ("os.unshare(os.CLONE_NEWUSER)", "Operation not permitted"),
        ("__import__('resource').setrlimit(7, (9, 9))", "ValueError not allowed to raise maximum limit"),
        ("__import__('resource').prlimit(PARENT, 7)", "Operation not permitted"),
        ("__import__('ctypes').CDLL(None).ptrace(16, PARENT, 0, 0)", "-1"),
        ("__import__('resource').getrlimit(4)", "(1, 1)"),  # of 0 the kernel would pipe a dump all the same
        ("os.getgroups()", "[]"),
        ("os.environ", "environ({})"),
        ("os.getcwd()", "FileNotFoundError"),
        ("bytearray(1 << 30)", "MemoryError"),
    ],
)
def test_what_it_tries_fails(expression: str, outcome: str, tmp_path: object) -> None:
    """Each in the kernel, with this answer; nothing is left of its folder."""
    said = _tried(expression, str(tmp_path))
    assert outcome in said, said
    assert os.listdir(str(tmp_path)) == []


def test_it_has_a_user_of_its_own(tmp_path: object) -> None:
    """With all of its IDs above those that systemd gives out; two children have two."""
    first, second = (_tried("os.getresuid() + os.getresgid()", str(tmp_path)) for _ in range(2))
    assert first != second
    ids = {int(one) for one in first.strip("()").split(", ")}
    assert len(ids) == 1
    assert all(0x70000000 < one < 1 << 31 for one in ids)


def test_its_parents_descriptors_are_closed(tmp_path: object) -> None:
    """But for the standard streams, which are /dev/null, and the pipe of its answer; the version's lock, too."""
    secret = os.memfd_create("secret")
    secrets = frozenset({secret, os.dup2(secret, 900)})

    def task() -> bytes:
        found = []
        for number in range(1024):
            try:
                found.append(os.fstat(number).st_rdev)
            except OSError:
                continue
        return repr(found).encode()

    try:
        with mock.patch("libhook.children.version.held", return_value=secrets):
            said = confined.ask(task, (), str(tmp_path), Deadline.after(100)).said.decode()
    finally:
        for one in secrets:
            os.close(one)
    null = os.stat("/dev/null").st_rdev
    assert said == repr([null, null, null, 0])


@pytest.mark.parametrize(
    ("code", "fault"),
    [
        ("while True: pass", confined.LATE),
        ("import time; time.sleep(60)", confined.LATE),
        ("signal.signal(15, signal.SIG_IGN)\nwhile True: pass", confined.LATE),
        ("os.closerange(3, 99)\nwhile True: pass", confined.LATE),
        ("os._exit(0)", ""),
        ("os._exit(7)", "it ended by itself, with 7"),
        ("os.abort()", "it was killed by signal 6, as for too much computing or memory"),
        ("os.kill(os.getpid(), 9)", "it was killed by signal 9, as for too much computing or memory"),
    ],
)
def test_it_ends_when_its_parent_says(code: str, fault: str, tmp_path: object) -> None:
    """Whatever it ignores and closes: it is killed, reaped, and a line says how it ended."""

    def task() -> bytes:
        exec(code, {"os": os, "signal": signal})  # noqa: S102
        return b"null"

    if fault == confined.LATE:
        hanging.late_at_a_handler()
    ending = confined.ask(task, (), str(tmp_path), Deadline.after(200))
    assert (ending.fault, ending.said) == (fault, b"")
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_too_long_an_answer_is_read_no_further(tmp_path: object) -> None:
    """Of 100 MB the parent has little more than a pipe holds."""
    ending = confined.ask(lambda: b"x" * 100_000_000, (), str(tmp_path), Deadline.after(200))
    assert ending.fault == "it answers more than 64 KiB"
    assert len(ending.said) <= 2 * MOST
    assert confined.ask(lambda: b"x" * MOST, (), str(tmp_path), Deadline.after(200)) == Ending(b"x" * MOST)


def test_where_a_wall_cannot_be_put_up_nothing_runs(tmp_path: object) -> None:
    """Without the folder, or a module."""
    for modules, folder in (((), f"{tmp_path}/missing"), (("no_such_module",), str(tmp_path))):
        ending = confined.ask(lambda: b"it runs", modules, folder, Deadline.after(200))
        assert ending.said.startswith(b'{"fault": "it cannot be confined (')


def test_without_a_process_or_a_pipe_it_says_so(tmp_path: object) -> None:
    """Nothing is left open."""
    before = os.listdir("/proc/self/fd")
    for name in ("os.pipe2", "libhook.children.confined.spawn"):
        with (
            mock.patch(name, side_effect=OSError(errno.EMFILE, "Too many open files")),
            pytest.raises(LibhookError, match="no child process can be started"),
        ):
            confined.ask(lambda: b"", (), str(tmp_path), Deadline.after(60))
    assert os.listdir("/proc/self/fd") == before


def test_one_that_would_keep_its_capabilities_does_not_run(tmp_path: object) -> None:
    """Where whoever started libvirtd has set that (SECBIT_NO_SETUID_FIXUP), setresuid(2) takes none away."""

    def bound() -> None:
        assert ctypes.CDLL(None).prctl(28, 4) == 0  # PR_SET_SECUREBITS
        said = confined.ask(lambda: b"it runs", (), str(tmp_path), Deadline.after(100)).said
        assert b"this process would keep its capabilities" in said, said

    assert spawn(bound).result() == 0


def test_what_a_killed_child_left_is_no_obstacle(tmp_path: Path) -> None:
    """A later child may have its number."""

    def task() -> None:
        (tmp_path / f"libhook-handler-{os.getpid()}").mkdir()
        confined.confine((), str(tmp_path), 0)

    assert spawn(task).result() == 0
    assert list(tmp_path.iterdir()) == []
