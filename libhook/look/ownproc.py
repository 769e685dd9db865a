# SPDX-License-Identifier: LGPL-2.1-or-later
"""A procfs of our own, in which no other process can keep us waiting. Slow to import (ctypes).

Whoever lists a folder has its lock, and can let the kernel wait while it copies the names into memory that a FUSE
server is to provide. One who then asks for a change there (mkdir) keeps all others from looking a name up
(fs/readdir.c, fs/namei.c). Any user can do so with the /proc/PID/fd of his own process. But each mount of procfs has
inodes, and so locks, of its own (since 5.8), and a mount that is attached nowhere is nobody else's.
"""

from __future__ import annotations

import ctypes
import os

from libhook.light import TYPE_CHECKING, contextmanager

if TYPE_CHECKING:
    from collections.abc import Iterator

_FSOPEN, _FSCONFIG, _FSMOUNT = 430, 431, 432
"""System calls that have one number on every architecture (Linux 5.2)."""
_CLOEXEC, _CREATE, _NOSUID_NODEV_NOEXEC = 1, 6, 0xE


@contextmanager
def mounted() -> Iterator[str]:
    """Its path. Where it cannot be had, as without CAP_SYS_ADMIN, that of everybody's."""
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
