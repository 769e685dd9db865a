# SPDX-License-Identifier: LGPL-2.1-or-later
"""Tells whether a program may be run as root: nobody else may be able to change it, or what is found by its path."""

from __future__ import annotations

import os
import stat

from libhook.errors import pasted
from libhook.light import TYPE_CHECKING

if TYPE_CHECKING:
    from libhook.facts.machine import Machine

_MOST_LINKS = 40
"""As in the kernel (MAXSYMLINKS)."""
_ELSEWHERE = "put the program where only root may write, such as /usr/local/sbin, and correct the path in the settings"


def user_id(name: str) -> int | None:
    """The number of this user; None where there is none. May ask a server."""
    import pwd

    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        return None


def complaint(machine: Machine, program: str) -> tuple[str, str] | None:
    """Why this program may not be run as root, and what would help; None if it may. ``program`` is absolute."""
    pending, done, links = program.split("/")[1:], "", 0
    while pending:
        part = pending.pop(0)
        if part in ("", "."):
            continue
        path = done.rpartition("/")[0] if part == ".." else f"{done}/{part}"
        try:
            status = os.lstat(f"{machine.root}{path}" or "/")
        except OSError as error:
            return f"{program} cannot be run ({path}: {error.strerror})", "correct the path in the settings"
        is_own = not pending and stat.S_ISREG(status.st_mode)  # a folder may be somebody's home, or /tmp
        if status.st_uid not in (0, os.geteuid()):
            own = f"check what is in it, then run: chown root:root {pasted(path)}"
            return f"{path} does not belong to root, and root is to run {program}", own if is_own else _ELSEWHERE
        if stat.S_ISLNK(status.st_mode):
            links += 1
            if links > _MOST_LINKS:
                return f"{program} leads through too many links", "give the program's own path"
            target = os.readlink(f"{machine.root}{path}")
            pending = [*target.split("/"), *pending]
            done = "" if target.startswith("/") else done
            continue
        if status.st_mode & 0o022:
            own = f"check what is in it, then run: chmod go-w {pasted(path)}"
            return f"others may write to {path}, and root is to run {program}", own if is_own else _ELSEWHERE
        done = path
    status = os.lstat(f"{machine.root}{done}" or "/")
    if not (stat.S_ISREG(status.st_mode) and status.st_mode & 0o111):
        return f"{program} is not a program", f"if it is one, run: chmod 755 {pasted(program)}"
    return None
