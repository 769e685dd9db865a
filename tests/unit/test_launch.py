# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a command is given where systemd does not run, and how it is ended: by real processes.

Each has a process group of its own.
"""

import os
import pwd
import signal
import subprocess
import time
from pathlib import Path

import pytest
from family import until

from libhook.facts.launch import Launch
from libhook.look.linux import LinuxKernel

KERNEL = LinuxKernel()
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
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


def _start(text: str, *, user: str = "", output: int = -1, document: bytes = b"<domain/>") -> int | None:
    """Run this by a shell, and return how it has ended, or fail with why it has not begun."""
    launch = Launch(("/bin/sh", "-c", text, "sh", "$a b"), {"LIBHOOK_A": "b c"}, document, user, output, "a-tag")
    status, said = KERNEL.run_group(launch, 60, whole=False)
    assert said == ""
    return status


def _logged(log: Path) -> str:
    until(lambda: log.exists() and log.read_text().endswith("ended\n"))
    return log.read_text()


def test_a_command_has_nothing_of_ours(logger: Path) -> None:
    """No descriptor, variable, folder, session, umask or signal. Its stdin is the document."""
    kept = os.open("/", os.O_RDONLY)
    os.set_inheritable(kept, True)
    before, umask = os.listdir("/proc/self/fd"), os.umask(0o077)
    handler = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
    try:
        code = _start(
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


def test_the_log_has_what_is_said_later(logger: Path) -> None:
    """By a child that lives on. The logger has nothing open that somebody may wait for."""
    assert _start("echo now; (sleep 0.3; echo later) & exit 0") == 0
    named, *said = _logged(logger).splitlines()
    assert (named, said[:3]) == ("-t a-tag -p daemon.info", ["now", "later", "/"])
    assert set(said[3:-1]) <= {"0", "1", "2", "10", "11"}, "the last two are the shell's own"


def test_where_there_is_no_logger(monkeypatch: pytest.MonkeyPatch, logger: Path) -> None:
    """It is no obstacle: what is printed is lost."""
    monkeypatch.setattr("libhook.effects.launch._LOGGERS", ())
    assert _start("echo hello && readlink /proc/$$/fd/1 >&2 && test /dev/null -ef /proc/$$/fd/2") == 0
    assert not logger.exists()


@pytest.mark.parametrize(
    ("text", "code", "printed"), [("echo out; echo err >&2", 0, b"out\n"), ("exec yes", 255, b"y\n" * 500)]
)
def test_the_output_may_go_into_a_file(
    monkeypatch: pytest.MonkeyPatch, logger: Path, text: str, code: int, printed: bytes
) -> None:
    """Which cannot grow without limit. What is said on stderr goes to the log."""
    monkeypatch.setattr("libhook.effects.launch.MOST_OUTPUT", 1000)
    output = os.memfd_create("output")
    assert _start(text, output=output) == code
    assert os.pread(output, 4096, 0) == printed
    os.close(output)
    assert ("err" in _logged(logger)) == (code == 0)


def test_a_large_document_is_handed_over_whole() -> None:
    """It is in a file, so nobody waits for whoever reads it."""
    assert _start("exit $(($(wc -c) == 5000000))", document=b"x" * 5_000_000) == 1
    assert _start("exit 4", document=b"x" * 5_000_000) == 4


@pytest.mark.parametrize("program", ["/no/such", "/etc/passwd", "empty"])
def test_what_cannot_be_executed(tmp_path: Path, program: str) -> None:
    """It is said why, at once; nothing of it is left."""
    (tmp_path / "empty").touch(mode=0o755)
    path = str(tmp_path / program) if program == "empty" else program
    before = os.listdir("/proc/self/fd")
    why = {"/no/such": "No such file or directory", "empty": "Exec format error"}.get(program, "Permission denied")
    status, said = KERNEL.run_group(Launch((path,), {}, b""), 60, whole=True)
    assert (status, said) == (1, f"{path}: {why}")
    assert os.listdir("/proc/self/fd") == before


@pytest.mark.usefixtures("childless")
def test_what_does_not_begin_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that knows the users may be gone."""
    monkeypatch.setattr("libhook.effects.launch._SECONDS", 0.2)
    monkeypatch.setattr("libhook.effects.launch._forget_signals", lambda: time.sleep(60))
    assert KERNEL.run_group(Launch(("/bin/true",), {}, b""), 60, whole=True) == (1, "Connection timed out")
    os.waitpid(-1, 0)


@AS_ROOT
def test_it_is_the_user_who_runs_it(logger: Path) -> None:
    """With the user's groups and no capability, and what systemd would tell it of that user."""
    own = os.getgroups()
    os.setgroups([*own, 12345])
    try:
        assert _start('grep -E "^(Uid|Gid|CapEff)" /proc/self/status; id -G; env', user=NOBODY.pw_name) == 0
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
    launch = Launch(("/usr/bin/touch", f"{tmp_path}/ran"), {}, b"", "no-such-user")
    assert KERNEL.run_group(launch, 60, whole=True) == (1, "no-such-user: there is no such user")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["to mend it, run: poweroff", "to mend it, execute poweroff"])
def test_what_is_said_of_a_command_begins_no_command(name: str) -> None:
    """The names of a program and of a user are others' words, and stand in quotes."""
    launch, shown = Launch((f"/{name}",), {}, b""), name.replace("run:", r"run\x3a")
    for one, said in ((launch, f'"/{shown}": '), (launch._replace(user=name), f'"{shown}": there is no such user')):
        assert KERNEL.run_group(one, 60, whole=True)[1].startswith(said)


def _lives(number: int) -> bool:
    return subprocess.run(["pgrep", "-f", f"sleep {number}"], capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize("deaf", ["", "trap '' TERM; "])
def test_what_is_late_is_ended_with_its_group(monkeypatch: pytest.MonkeyPatch, deaf: str) -> None:
    """Also what hears no SIGTERM."""
    monkeypatch.setattr("libhook.effects.launch._STOP_SECONDS", 0.3)
    own = 6000000 + os.getpid()
    launch = Launch(("/bin/sh", "-c", f"{deaf}sleep {own} & sleep {own}"), {}, b"")
    assert KERNEL.run_group(launch, 0.3, whole=False) == (None, "")
    until(lambda: not _lives(own))


@pytest.mark.parametrize(("text", "status"), [("exit 7", 7), ("kill -9 $$", 255), ("exit 0", 0)])
@pytest.mark.parametrize("whole", [True, False])
def test_how_a_command_ends(text: str, status: int, whole: bool) -> None:
    """What it has left is ended, but for an old script's."""
    own = 7000000 + os.getpid()
    launch = Launch(("/bin/sh", "-c", f"sleep {own} & {text}"), {}, b"")
    assert KERNEL.run_group(launch, 60, whole=whole) == (status, "")
    until(lambda: _lives(own) != whole)
    subprocess.run(["pkill", "-f", f"sleep {own}"], check=False)
