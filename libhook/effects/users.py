# SPDX-License-Identifier: LGPL-2.1-or-later
"""Runs systemctl as a user, for the user's own manager.

Nothing of a user's is trusted. The user may trace or stop such a process, and so have it say anything, or nothing. So
it gets a file that cannot grow, none of our descriptors, and an end.
"""

from __future__ import annotations

import _socket  # the module socket takes long to import
import errno
import fcntl
import os

from libhook.children import child
from libhook.children.child import Deadline
from libhook.light import TYPE_CHECKING, partial

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pwd import struct_passwd

_SYSTEMCTL = "/usr/bin/systemctl"
_RUNTIME = "/run/user"
_MOST_OUTPUT = 1 << 20
_NO_MANAGER = errno.ENOTCONN
"""No exit status of systemctl's own."""


def systemctl(user: str, arguments: Sequence[str], seconds: float) -> tuple[int, str]:
    """Return the exit status, ETIMEDOUT if it was late, and what it prints on stdout. Only for a child: it may block.

    ESRCH where the user has no manager, ENXIO where there is no such user, EPERM for root.
    """
    entry = _entry(user)
    output = os.memfd_create("output", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(output, _MOST_OUTPUT)
        fcntl.fcntl(output, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL)
        status = _status_of(entry.pw_uid, entry.pw_gid, arguments, output, seconds)
        text = os.pread(output, _MOST_OUTPUT, 0).partition(b"\0")[0]
    finally:
        os.close(output)
    if status == _NO_MANAGER:
        raise OSError(errno.ESRCH, os.strerror(errno.ESRCH), user)
    return status, text.decode("utf-8", "replace")


def first_name(user: str) -> str:
    """The name that the user's number has: a user may have more. Errors as above, and as that only for a child."""
    return _entry(user, first=True).pw_name


def _entry(user: str, *, first: bool = False) -> struct_passwd:
    import pwd  # may ask a server

    try:
        entry = pwd.getpwnam(user)
        entry = pwd.getpwuid(entry.pw_uid) if first else entry
    except KeyError:
        raise OSError(errno.ENXIO, os.strerror(errno.ENXIO), user) from None
    if entry.pw_uid == 0:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM), user)
    return entry


def _status_of(uid: int, gid: int, arguments: Sequence[str], output: int, seconds: float) -> int:
    process = child.spawn(partial(_become, uid, gid, arguments, output), keep=output)
    in_time = child.ended([process.handle], Deadline.after(seconds))
    if not in_time:
        os.kill(process.pid, 9)  # SIGKILL also ends a process that its user has stopped
    status = process.result()
    return status if in_time else errno.ETIMEDOUT


def _become(uid: int, gid: int, arguments: Sequence[str], output: int) -> None:
    """In the new process. Until it is systemctl, the kernel lets nobody trace it, since its user has changed."""
    os.dup2(output, 1)
    os.close(output)
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    os.chdir("/")
    folder = f"{_RUNTIME}/{uid}"
    try:
        _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM).connect(f"{folder}/systemd/private")
    except (FileNotFoundError, ConnectionRefusedError):  # of a manager that has ended the socket may be left
        raise OSError(_NO_MANAGER, os.strerror(_NO_MANAGER)) from None
    environment = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "SYSTEMD_COLORS": "0", "XDG_RUNTIME_DIR": folder}
    argv = ("systemctl", "--user", "--no-ask-password", "--no-pager", *arguments)
    os.execve(_SYSTEMCTL, argv, environment)
