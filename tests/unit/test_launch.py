# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a command is given where systemd does not run, and how it is ended: by real processes.

Most tests have a plain folder for a control group. Those of real groups need root and cgroup v2.
"""

import os
import pwd
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest
from family import until

from libhook.children import child
from libhook.children.child import Deadline
from libhook.effects import groups
from libhook.facts.launch import Launch
from libhook.facts.machine import Machine
from libhook.look.linux import LinuxKernel

KERNEL = LinuxKernel()
MACHINE = Machine("", KERNEL)
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
_MOUNT = f"/sys/{os.path.dirname(groups._folder(MACHINE))}"
REAL = pytest.mark.skipif(
    os.geteuid() != 0 or groups.missing(MACHINE) is not None or not os.access(_MOUNT, os.W_OK),
    reason="needs root, and cgroup v2 with cgroup.kill",
)
NOBODY = pwd.getpwuid(65534)


@pytest.fixture(autouse=True)
def logger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """In place of logger: it writes its arguments and its input to the file ``log``."""
    tmp_path.chmod(0o755)
    program = tmp_path / "logger"
    log = tmp_path / "log"
    program.write_text(f'#!/bin/sh\n{{ echo "$*"; cat; pwd; ls /proc/$$/fd; echo ended; }} >{log}\n')
    program.chmod(0o755)
    monkeypatch.setattr("libhook.effects.launch._LOGGERS", ("/no/such", str(program)))
    return log


def _group(tmp_path: Path) -> str:
    return f"..{tmp_path}/libhook/one"


def _start(tmp_path: Path, text: str, *, user: str = "", output: int = -1, document: bytes = b"<domain/>") -> int:
    """Run this by a shell, and return how it has ended, negative for a signal."""
    launch = Launch(("/bin/sh", "-c", text, "sh", "$a b"), {"LIBHOOK_A": "b c"}, document, user, output, "a-tag")
    return _ended(*KERNEL.run_in_group(_group(tmp_path), launch))


def _ended(pid: int, handle: int) -> int:
    assert child.ended([handle], Deadline.after(60))
    os.close(handle)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _logged(log: Path) -> str:
    until(lambda: log.exists() and log.read_text().endswith("ended\n"))
    return log.read_text()


def test_a_command_has_nothing_of_ours(tmp_path: Path, logger: Path) -> None:
    """No descriptor, variable, folder, session, umask or signal. Its stdin is the document, and it is in the group."""
    kept = os.open("/", os.O_RDONLY)
    os.set_inheritable(kept, True)
    before, umask = os.listdir("/proc/self/fd"), os.umask(0o077)
    handler = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
    try:
        code = _start(
            tmp_path,
            'echo "$$ $(cut -d" " -f6 /proc/$$/stat) $(pwd) $(umask) $(cat) $1"; tr "\\0" "|" </proc/$$/environ; echo\n'
            "grep -E '^Sig(Ign|Blk)' /proc/self/status; ls /proc/$$/fd; echo said >&2; exit 3",
        )
        assert os.listdir("/proc/self/fd") == before
    finally:
        os.close(kept)
        os.umask(umask)
        signal.signal(signal.SIGUSR1, handler)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGUSR2])
    assert code == 3
    named, first, variables, *lines = _logged(logger).splitlines()
    assert named == "-t a-tag -p daemon.info"
    pid, session, *rest = first.split(" ", 5)
    assert pid == session
    assert rest == ["/", "0022", "<domain/>", "$a b"]
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    assert sorted(variables.split("|")) == ["", "LIBHOOK_A=b c", f"PATH={path}"]
    assert [line.split()[1].strip("0") for line in lines[:2]] == ["", ""]
    assert lines[2:6] == ["0", "1", "2", "said"]
    assert (tmp_path / f"libhook/one.{pid}/cgroup.procs").read_text() == "0"


def test_the_log_has_what_is_said_later(tmp_path: Path, logger: Path) -> None:
    """By a child that lives on. The logger has nothing open that somebody may wait for."""
    assert _start(tmp_path, "echo now; (sleep 0.3; echo later) & exit 0") == 0
    named, *said = _logged(logger).splitlines()
    assert (named, said[:3]) == ("-t a-tag -p daemon.info", ["now", "later", "/"])
    assert set(said[3:-1]) <= {"0", "1", "2", "10", "11"}, "the last two are the shell's own"


def test_where_there_is_no_logger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, logger: Path) -> None:
    """It is no obstacle: what is printed is lost."""
    monkeypatch.setattr("libhook.effects.launch._LOGGERS", ())
    assert _start(tmp_path, "echo hello && readlink /proc/$$/fd/1 >&2 && test /dev/null -ef /proc/$$/fd/2") == 0
    assert not logger.exists()


@pytest.mark.parametrize(
    ("text", "code", "printed"), [("echo out; echo err >&2", 0, b"out\n"), ("exec yes", -signal.SIGXFSZ, b"y\n" * 500)]
)
def test_the_output_may_go_into_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, logger: Path, text: str, code: int, printed: bytes
) -> None:
    """Which cannot grow without limit. What is said on stderr goes to the log."""
    monkeypatch.setattr("libhook.effects.launch.MOST_OUTPUT", 1000)
    output = os.memfd_create("output")
    assert _start(tmp_path, text, output=output) == code
    assert os.pread(output, 4096, 0) == printed
    os.close(output)
    assert ("err" in _logged(logger)) == (code == 0)


def test_a_large_document_is_handed_over_whole(tmp_path: Path) -> None:
    """It is in a file, so nobody waits for whoever reads it."""
    assert _start(tmp_path, "exit $(($(wc -c) == 5000000))", document=b"x" * 5_000_000) == 1
    assert _start(tmp_path, "exit 4", document=b"x" * 5_000_000) == 4


@pytest.mark.parametrize("program", ["/no/such", "/etc/passwd", "empty"])
def test_what_cannot_be_executed(tmp_path: Path, program: str) -> None:
    """It is said why, at once; nothing of it is left."""
    (tmp_path / "empty").touch(mode=0o755)
    path = str(tmp_path / program) if program == "empty" else program
    before = os.listdir("/proc/self/fd")
    why = {"/no/such": "No such file or directory", "empty": "Exec format error"}.get(program, "Permission denied")
    with pytest.raises(OSError, match=f"{path}: {why}"):
        KERNEL.run_in_group(_group(tmp_path), Launch((path,), {}, b""))
    assert os.listdir("/proc/self/fd") == before


@pytest.mark.usefixtures("childless")
def test_what_does_not_begin_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that knows the users may be gone."""
    monkeypatch.setattr("libhook.effects.launch._SECONDS", 0.2)
    monkeypatch.setattr("libhook.effects.launch._forget_signals", lambda: time.sleep(60))
    with pytest.raises(OSError, match="Connection timed out"):
        _start(tmp_path, "exit 0")
    os.waitpid(-1, 0)


def test_a_group_that_cannot_be_made(tmp_path: Path) -> None:
    """The command is not executed outside it."""
    (tmp_path / "libhook").touch()
    with pytest.raises(OSError, match=r"libhook.*: (Not a directory|File exists)"):
        _start(tmp_path, f"touch {tmp_path}/ran")
    assert not (tmp_path / "ran").exists()


@AS_ROOT
def test_it_is_the_user_who_runs_it(tmp_path: Path, logger: Path) -> None:
    """With the user's groups and no capability, and what systemd would tell it of that user."""
    own = os.getgroups()
    os.setgroups([*own, 12345])
    try:
        assert _start(tmp_path, 'grep -E "^(Uid|Gid|CapEff)" /proc/self/status; id -G; env', user=NOBODY.pw_name) == 0
    finally:
        os.setgroups(own)
    lines = _logged(logger).splitlines()[1:]
    uid, gid = str(NOBODY.pw_uid), str(NOBODY.pw_gid)
    assert [line.split()[1:] for line in lines[:3]] == [[uid] * 4, [gid] * 4, ["0" * 16]]
    assert lines[3].split() == [str(group) for group in os.getgrouplist(NOBODY.pw_name, NOBODY.pw_gid)]
    assert {f"HOME={NOBODY.pw_dir}", f"USER={NOBODY.pw_name}", f"LOGNAME={NOBODY.pw_name}"} <= set(lines)
    assert f"SHELL={NOBODY.pw_shell}" in lines


def test_a_user_that_is_not_there(tmp_path: Path) -> None:
    """Nobody else runs it."""
    with pytest.raises(OSError, match=r"no-such-user: there is no such user"):
        _start(tmp_path, f"touch {tmp_path}/ran", user="no-such-user")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["to mend it, run: poweroff", "to mend it, execute poweroff"])
def test_what_is_said_of_a_command_begins_no_command(tmp_path: Path, name: str) -> None:
    """The names of a program and of a user are others' words, and stand in quotes."""
    launch, shown = Launch((f"/{name}",), {}, b""), name.replace("run:", r"run\x3a")
    for one, said in ((launch, f'"/{shown}": '), (launch._replace(user=name), f'"{shown}": there is no such user')):
        with pytest.raises(OSError, match=f"^.Errno .*] {re.escape(said)}"):
            KERNEL.run_in_group(_group(tmp_path), one)


def test_a_group_is_removed_with_those_in_it(tmp_path: Path) -> None:
    """A command may have made some."""
    (tmp_path / "one/two/three").mkdir(parents=True)
    KERNEL.remove_group(f"..{tmp_path}/one")
    assert not (tmp_path / "one").exists()
    KERNEL.remove_group(f"..{tmp_path}/one")


def test_a_group_that_has_just_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is no error: somebody else may end it, too."""
    monkeypatch.setattr(groups, "_groups", lambda *_: [f"..{tmp_path}/libhook/one.5"])
    groups.end(MACHINE, ["one"])
    groups.kill_running(MACHINE, "one*")


@pytest.fixture
def unit() -> Iterator[str]:
    """The name of one whose groups are gone after the test. The folder they were in is other processes', too."""
    name = f"libhook-run-test-{os.getpid()}.service"
    yield name
    folder = Path("/sys", groups._folder(MACHINE))
    left = [path.name for path in folder.iterdir()] if folder.exists() else []
    groups._kill(MACHINE, groups._groups(MACHINE, name))
    assert [one for one in left if one.startswith(name)] == []


def _launch(text: str) -> Launch:
    return Launch(("/bin/sh", "-c", text), {}, b"")


def _lives(name: str) -> bool:
    return subprocess.run(["pgrep", "-f", name], capture_output=True, check=False).returncode == 0


@REAL
@pytest.mark.parametrize("deaf", ["", "trap '' TERM HUP;"])
def test_the_kernel_ends_the_whole_tree(unit: str, monkeypatch: pytest.MonkeyPatch, deaf: str) -> None:
    """Also what has left its session and its parent, and what hears no signal. Its list is read once."""
    monkeypatch.setattr("libhook.effects.groups._STOP_SECONDS", 1.0)
    own = 6000000 + os.getpid()
    inner = f"{deaf} sleep {own} & sleep {own} & exit 0"
    text = f"{deaf} setsid sh -c \"{inner}\" & setsid sh -c '(sleep {own} &)'; sleep {own}"
    assert groups.run(MACHINE, unit, _launch(text), seconds=None, wait=False) == (0, "")
    (group,) = groups._groups(MACHINE, unit)
    until(lambda: len(groups._processes(MACHINE, group)) >= 4)
    assert groups.run(MACHINE, unit, _launch("exit 0"), seconds=5, wait=True) == (1, f"{unit} runs already")
    with mock.patch.object(groups, "_processes", wraps=groups._processes) as looks:
        groups.end(MACHINE, [unit])
    assert looks.call_count == 1
    assert groups._groups(MACHINE, unit) == []
    assert not _lives(f"sleep {own}")


@REAL
@pytest.mark.parametrize(("text", "status"), [("exit 7", 7), ("kill -9 $$", 255), ("sleep 600 & exit 0", 0)])
def test_how_a_command_ends(unit: str, text: str, status: int) -> None:
    """With what it has started. What is late has status 1."""
    assert groups.run(MACHINE, unit, _launch(text), seconds=500, wait=True) == (status, "")
    assert groups.run(MACHINE, unit, _launch("sleep 600 & sleep 600"), seconds=0.3, wait=True) == (1, "")
    assert groups._groups(MACHINE, unit) == []


@REAL
def test_a_command_that_nobody_waits_for_has_an_end(unit: str) -> None:
    """A process is left for that."""
    assert groups.run(MACHINE, unit, _launch("setsid sleep 600 & sleep 600"), seconds=0.5, wait=False) == (0, "")
    until(lambda: not groups._groups(MACHINE, unit))


@REAL
def test_what_an_old_script_leaves_goes_on(unit: str) -> None:
    """Until its deadline all of it is ended; after its own end what it left is its own."""
    own = 7000000 + os.getpid()
    assert groups.run_old(MACHINE, unit, _launch(f"setsid sleep {own} & sleep 600"), 0.5) == (None, "")
    assert not _lives(f"sleep {own}")
    assert groups.run_old(MACHINE, unit, _launch(f"sleep {own} & exit 4"), 60) == (4, "")
    groups.kill_running(MACHINE, f"{unit.removesuffix('.service')}*")
    until(lambda: _lives(f"sleep {own}"))  # the shell may have ended before its child has become that
    groups.end(MACHINE, [unit])
    assert not _lives(f"sleep {own}")


@REAL
def test_an_old_script_that_runs_is_ended_by_whoever_comes(unit: str) -> None:
    """Its group is named after its process."""

    def run() -> None:
        groups.run_old(MACHINE, unit, _launch("setsid sleep 600 & sleep 600"), 60)

    waiting = child.spawn(run)
    until(lambda: groups._groups(MACHINE, unit))
    until(lambda: len(groups._processes(MACHINE, groups._groups(MACHINE, unit)[0])) == 3)
    groups.kill_running(MACHINE, f"{unit.removesuffix('.service')}*")
    assert groups._groups(MACHINE, unit) == []
    assert child.ended([waiting.handle], Deadline.after(300))
    waiting.result()
