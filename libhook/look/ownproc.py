# SPDX-License-Identifier: LGPL-2.1-or-later
"""A procfs of our own, in which no other process can make us wait. Slow to import (ctypes).

A process that lists a folder has that folder's lock. It can make the kernel wait there, by having the names copied into
memory that a FUSE server must provide. If another process then asks for a change in the folder (mkdir), nobody can look
up a name there (fs/readdir.c, fs/namei.c). Any user can do so with /proc/PID/fd of a process of their own. But each
mount of procfs has inodes of its own, and so locks of its own (since 5.8). A mount that is attached nowhere is ours
alone.
"""

from __future__ import annotations

import ctypes
import os

from libhook.light import TYPE_CHECKING, contextmanager

if TYPE_CHECKING:
    from collections.abc import Iterator

_FSOPEN, _FSCONFIG, _FSMOUNT = 430, 431, 432
"""System calls with one number on every architecture (Linux 5.2)."""
_CLOEXEC, _CREATE, _NOSUID_NODEV_NOEXEC = 1, 6, 0xE


@contextmanager
def mounted() -> Iterator[str]:
    """The path of the mount. ``/proc`` when it cannot be made, as without CAP_SYS_ADMIN."""
    call = ctypes.CDLL(None, use_errno=True).syscall
    context = call(_FSOPEN, b"proc", _CLOEXEC)
    mount = -1
    try:
        if context >= 0 and call(_FSCONFIG, context, _CREATE, None, None, 0) == 0:
            mount = call(_FSMOUNT, context, _CLOEXEC, _NOSUID_NODEV_NOEXEC)
        yield f"/proc/self/fd/{mount}" if mount >= 0 else "/proc"
    finally:
        for descriptor in (context, mount):
            if descriptor >= 0:
                os.close(descriptor)
