# SPDX-License-Identifier: LGPL-2.1-or-later
"""systemd asked and told; the service libhook-watch as it runs it: asked, changed, and what it has written."""

import ctypes
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from guests import Guest
from host import PATIENCE, wait_for

UNIT = "libhook-watch.service"
DROP_IN = Path("/run/systemd/system") / f"{UNIT}.d" / "lab.conf"
_PIDFD_GETFD = 438


def systemctl(*arguments: str) -> str:
    """What systemctl prints; it must succeed.

    A new unit needs no daemon-reload: systemd reads the file of a unit that it does not know, and forgets a unit that
    has ended. In the lab a daemon-reload takes longer than a guest's start.
    """
    if UNIT in arguments and arguments[0] in ("start", "restart", "enable"):
        # The tests together start it more often in a minute than systemd lets anybody (StartLimitBurst=).
        subprocess.run(["systemctl", "reset-failed", UNIT], check=False, timeout=600)
    done = subprocess.run(["systemctl", *arguments], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, f"systemctl {' '.join(arguments)}: {done.stdout}{done.stderr}"
    return done.stdout.strip()


def shown(name: str) -> str:
    """A property of the service."""
    return systemctl("show", "--value", "--property", name, UNIT)


def answer(question: str) -> str:
    """What systemctl says to is-active or is-enabled, whatever its exit code."""
    return subprocess.run(["systemctl", question, UNIT], capture_output=True, text=True, timeout=600).stdout.strip()


def wait_until_it_watches() -> None:
    """Until it says so to systemd."""
    wait_for("the service to watch", lambda: "watching" in shown("StatusText"))


def journal(after: str = "") -> str:
    """What the service has written since the machine began, or after what is known of it."""
    command = ["journalctl", "--no-pager", "-o", "cat", "-u", UNIT]
    return subprocess.run(command, capture_output=True, text=True, timeout=600, check=True).stdout[len(after) :]


@contextmanager
def logind_runs() -> Iterator[None]:
    """While the block runs."""
    systemctl("start", "dbus.socket", "systemd-logind")
    try:
        yield
    finally:
        systemctl("stop", "systemd-logind")


@contextmanager
def changed(text: str) -> Iterator[None]:
    """While the block runs, the service is this, too."""
    DROP_IN.parent.mkdir(parents=True, exist_ok=True)
    DROP_IN.write_text(f"[Service]\n{text}\n")
    _restart()
    wait_until_it_watches()
    try:
        yield
    finally:
        DROP_IN.unlink()
        _restart()


def _restart() -> None:
    systemctl("daemon-reload")
    systemctl("restart", UNIT)


@contextmanager
def kept_open(guest: Guest, node: str, user: str) -> Iterator[int]:
    """Another process, of another user, has open what the guest's QEMU has, and keeps it: the process's pid."""
    pid = guest.pid()
    assert pid
    number = next(int(link.name) for link in Path(f"/proc/{pid}/fd").iterdir() if os.readlink(link) == node)
    handle = os.pidfd_open(pid)
    taken = ctypes.CDLL(None, use_errno=True).syscall(_PIDFD_GETFD, handle, number, 0)
    assert taken >= 0, os.strerror(ctypes.get_errno())
    os.close(handle)
    process = subprocess.Popen(["sleep", "3600"], pass_fds=[taken], user=user)
    os.close(taken)
    try:
        yield process.pid
    finally:
        process.kill()
        process.wait(PATIENCE)
