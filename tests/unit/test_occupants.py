# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the processes are that have a device open: real ones, and a signal that reaches only the one that was meant."""

import errno
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import hanging
import pytest

from libhook.children.child import Deadline
from libhook.children.tracks import run
from libhook.errors import LibhookError
from libhook.facts.machine import Machine
from libhook.look import cgroups, occupants
from libhook.look.linux import LinuxKernel
from libhook.look.occupants import Occupant

MACHINE = Machine("", LinuxKernel())
NOBODY = 2**22
"""No pid is so high (PID_MAX_LIMIT)."""


@pytest.fixture(name="sleep")
def _sleep() -> Iterator["subprocess.Popen[bytes]"]:
    process = subprocess.Popen(["/bin/sleep", "60"])
    until = time.monotonic() + 200
    while os.readlink(f"/proc/{process.pid}/exe") != os.path.realpath("/bin/sleep"):
        assert time.monotonic() < until
    yield process
    process.kill()
    process.wait()


def _seen(*pids: int, programs: tuple[str, ...] = ("/no/such", "/bin/sleep")) -> dict[int, Occupant]:
    (found,) = run([occupants.of_pids(MACHINE, pids, programs)], Deadline.after(300))
    return {one.pid: one for one in found}


def test_a_real_process_is_what_it_runs(sleep: "subprocess.Popen[bytes]") -> None:
    """Its own file, by whatever path; this process, those above it and PID 1 are spared."""
    found = _seen(sleep.pid, os.getpid(), os.getppid(), 1, NOBODY)
    assert NOBODY not in found
    one = found[sleep.pid]
    assert (one.name, one.program, str(one)) == ("sleep", "/bin/sleep", f"sleep (pid {sleep.pid})")
    assert found[os.getpid()].is_spared
    assert found[os.getppid()].is_spared
    assert (found[1].is_spared, found[1].is_agent) == (True, True)
    assert _seen(sleep.pid, programs=("/bin/cat",))[sleep.pid].program == ""


def test_another_process_with_that_pid_is_not_the_same(sleep: "subprocess.Popen[bytes]") -> None:
    """By the moment it began, and by what it runs."""
    one = _seen(sleep.pid)[sleep.pid]
    assert occupants.is_same(MACHINE, one)
    assert not occupants.is_same(MACHINE, one._replace(start=one.start + 1))
    assert not occupants.is_same(MACHINE, one._replace(program="/bin/cat"))
    assert not occupants.is_same(MACHINE, one._replace(pid=NOBODY))


def test_a_signal_reaches_only_the_process_that_was_meant(sleep: "subprocess.Popen[bytes]") -> None:
    """What is asked for before it is sent decides."""
    before = os.listdir("/proc/self/fd")
    with pytest.raises(ProcessLookupError):
        MACHINE.kernel.signal(sleep.pid, 15, lambda: False)
    assert sleep.poll() is None
    MACHINE.kernel.signal(sleep.pid, 15, lambda: True)
    assert sleep.wait(200) == -15
    assert os.listdir("/proc/self/fd") == before
    with pytest.raises(ProcessLookupError):
        MACHINE.kernel.signal(sleep.pid, 15, lambda: True)


def test_a_look_that_does_not_return(tmp_path: Path) -> None:
    """The child is left, and the start is refused."""
    os.mkfifo(tmp_path / "silent")

    class Silent(LinuxKernel):
        def processes(self) -> AbstractContextManager[str]:
            os.close(os.open(tmp_path / "silent", os.O_RDONLY))
            return super().processes()

    hanging.late_at_a_pipe()
    with pytest.raises(LibhookError, match=r"cannot tell which processes have the device .* \(Connection timed out\)"):
        run([occupants.of_pids(Machine("", Silent()), [1], [])], Deadline.after(60))
    hanging.answer(tmp_path / "silent")


@pytest.mark.parametrize(
    ("text", "group"),
    [
        ("0::/user.slice/x\n", "/user.slice/x"),
        ("12:cpu:/y\n1:name=systemd:/user.slice/x\n0::/z\n", "/user.slice/x"),
        ("0::/a:b\n", "/a:b"),
        ("", ""),
        ("nonsense\n", ""),
    ],
)
def test_the_group_is_the_one_that_systemd_made(tmp_path: Path, text: str, group: str) -> None:
    """On either version of control groups."""
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "cgroup").write_text(text)
    assert cgroups.group_of(str(tmp_path), 7) == group
    assert cgroups.group_of(str(tmp_path), 8) == ""


@pytest.mark.parametrize(
    ("group", "service"),
    [
        ("/system.slice/smartd.service", "smartd.service"),
        ("/system.slice/system-x.slice/x@1.service/y", "x@1.service"),
        ("/system.slice/docker-1.scope/x.service", ""),
        ("/user.slice/user-0.slice/x.service", ""),
        ("/machine.slice/x.service", ""),
        ("", ""),
    ],
)
def test_a_service_is_one_of_the_hosts(tmp_path: Path, group: str, service: str) -> None:
    """In a scope, a user's slice or a machine's, a service is no unit of the host's. Nothing is said too late."""
    (tmp_path / "proc/7").mkdir(parents=True)
    (tmp_path / "proc/7/cgroup").write_text(f"0::{group}\n")

    class Proc(LinuxKernel):
        def processes(self) -> AbstractContextManager[str]:
            return nullcontext(f"{tmp_path}/proc")

    machine = Machine(str(tmp_path), Proc())
    (found,) = run([cgroups.owners(machine, [7, 8], "")], Deadline.after(60))
    assert {pid: owner.service for pid, (owner, _) in found.items()} == {7: service, 8: ""}
    (found,) = run([cgroups.owners(machine, [7, 8], "")], Deadline.after(-1))
    assert found == {}


@pytest.mark.parametrize(
    ("status", "text", "session"),
    [(0, "2\n", "2"), (0, "\n", ""), (0, "../x\n", ""), (1, "2\n", ""), (errno.ETIMEDOUT, "", None)],
)
def test_logind_is_believed_only_where_it_answers(status: int, text: str, session: str | None) -> None:
    """A user may have no graphical session, or be none for logind any more; no answer is not the same."""

    class Logind(LinuxKernel):
        def loginctl(self, arguments: tuple[str, ...], seconds: float) -> tuple[int, str]:
            assert (arguments[0], arguments[-2:]) == ("show-user", ("--", "1000"))
            assert seconds > 0
            return status, text

    machine = Machine("", Logind())
    if session is None:
        with pytest.raises(OSError, match="loginctl show-user"):
            occupants._graphical(machine, "1000")
    else:
        found = occupants._graphical(machine, "1000")
        assert (found.name if found else "") == session
