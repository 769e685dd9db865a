# SPDX-License-Identifier: LGPL-2.1-or-later
"""systemctl as a user: by a program in its place, which does what a user may do to it."""

import errno
import os
import pwd
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from libhook.effects import users
from libhook.look.linux import LinuxKernel

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
USER = pwd.getpwuid(65534)


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """In place of systemctl, and a runtime folder of the user's with a manager's socket."""
    folder = Path(f"/run/libhook-test-{os.getpid()}")
    own = folder / f"run/{USER.pw_uid}/systemd"
    own.mkdir(parents=True)
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(own / "private"))
    (own / "private").chmod(0o777)
    listening.listen()
    monkeypatch.setattr("libhook.effects.users._SYSTEMCTL", str(folder / "systemctl"))
    monkeypatch.setattr("libhook.effects.users._RUNTIME", str(folder / "run"))
    with listening:
        yield folder / "systemctl"
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    folder.rmdir()


def _write(program: Path, text: str) -> None:
    program.write_text(f"#!/bin/sh\n{text}\n")
    program.chmod(0o755)


def test_it_is_the_user_who_runs_it(program: Path) -> None:
    """With no group, capability, descriptor or folder of ours, and the user's manager in the environment."""
    _write(
        program,
        'echo "$(id -u) $(id -g) $(id -G)"; grep -E "^(CapEff|CapPrm|Groups)" /proc/self/status; pwd; ls /proc/$$/fd\n'
        'printf "%s|" "$@" "$XDG_RUNTIME_DIR" "$HOME"; exit 3',
    )
    kept = os.open("/", os.O_RDONLY)
    os.set_inheritable(kept, True)
    before = os.listdir("/proc/self/fd")
    status, text = LinuxKernel().user_systemctl(USER.pw_name, ("show", "--", "$(id) ;a"), 30)
    assert os.listdir("/proc/self/fd") == before
    os.close(kept)
    lines = text.splitlines()
    assert status == 3
    assert lines[0] == f"{USER.pw_uid} {USER.pw_gid} {USER.pw_gid}"
    none = "0000000000000000"
    assert [line.split() for line in lines[1:4]] == [["Groups:"], ["CapPrm:", none], ["CapEff:", none]]
    assert lines[4] == "/"
    assert set(lines[5:-1]) <= {"0", "1", "2", "10"}, "10 is the shell's own script"
    runtime = f"{program.parent}/run/{USER.pw_uid}"
    assert lines[-1] == f"--user|--no-ask-password|--no-pager|show|--|$(id) ;a|{runtime}||"


def test_there_is_an_end_to_its_time(program: Path) -> None:
    """Also where the user has stopped it."""
    _write(program, "echo begun; kill -STOP $$; sleep 3600")
    status, text = users.systemctl(USER.pw_name, ("show",), 1)
    assert status == errno.ETIMEDOUT
    assert text in ("", "begun\n"), "a second may be too short to begin"


def test_there_is_an_end_to_its_output(program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file does not grow, whoever writes to it, and however."""
    monkeypatch.setattr("libhook.effects.users._MOST_OUTPUT", 4096)
    _write(
        program,
        "head -c 100000 /dev/zero | tr '\\0' x; dd if=/dev/zero of=/proc/self/fd/1 bs=1 seek=1M count=1; exit 0",
    )
    status, text = users.systemctl(USER.pw_name, ("show",), 30)
    assert len(text) <= 4096
    assert set(text) <= {"x"}
    assert status in (0, 1)


@pytest.mark.parametrize("left", [False, True])
def test_who_has_no_manager(program: Path, left: bool) -> None:
    """It is not run at all, also where the socket of one that has ended is left; nor for root, or for nobody."""
    _write(program, "echo run")
    private = program.parent / f"run/{USER.pw_uid}/systemd/private"
    private.unlink()
    if left:
        with socket.socket(socket.AF_UNIX) as ended:
            ended.bind(str(private))
        private.chmod(0o777)
    for user, code in ((USER.pw_name, errno.ESRCH), ("no-such-user", errno.ENXIO), ("root", errno.EPERM)):
        with pytest.raises(OSError, match=user) as raised:
            users.systemctl(user, ("show",), 30)
        assert raised.value.errno == code


def test_a_users_first_name_is_that_of_the_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second name has the same one. A number that has no name is no user."""
    assert LinuxKernel().first_name(USER.pw_name) == USER.pw_name
    monkeypatch.setattr("pwd.getpwnam", lambda _: USER)
    assert users.first_name("NoBody") == USER.pw_name
    monkeypatch.setattr("pwd.getpwnam", lambda _: pwd.struct_passwd(("x", "x", 4_000_000_001, 1, "", "/", "")))
    with pytest.raises(OSError, match="4000000001") as raised:
        users.first_name("4000000001")
    assert raised.value.errno == errno.ENXIO


def test_what_cannot_be_run_is_no_answer(program: Path) -> None:
    """There is no systemctl; nor does anything else of ours run on in its place."""
    before = os.getpid()
    assert users.systemctl(USER.pw_name, ("show",), 30) == (errno.ENOENT, "")
    assert os.getpid() == before
    _write(program, "kill $$")
    assert users.systemctl(USER.pw_name, ("show",), 30) == (errno.EINTR, "")
