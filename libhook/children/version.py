# SPDX-License-Identifier: LGPL-2.1-or-later
"""Keeps the installed version that this process runs from, until the process and its children have ended.

install.sh puts each version into a folder of its own and never changes it; it only removes versions. A process imports
modules for as long as it lives, so each process has a shared lock on its version. install.sh removes a version only if
nobody has it locked. Only root may open the lock's file, because a process that can open it can lock it for ever.
"""

import errno
import fcntl
import os

_FOLDER = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))
_locks: set[int] = set()
"""The descriptor of the lock, once this process has it."""


def hold(folder: str = _FOLDER) -> bool:
    """Lock the version; return whether it is there and stays. Call this first of all.

    A clone has no lock, and nobody removes it.
    """
    path = f"{folder}/lock"
    try:
        lock = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:  # a clone; or we are not root, and do nothing that must not be interrupted
        return os.path.isdir(folder)
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        there = os.path.samestat(os.fstat(lock), os.stat(path))
    except OSError as error:  # EAGAIN: it is being removed; ENOENT: it is gone; else the file system has no locks
        there = error.errno not in (errno.EAGAIN, errno.ENOENT)
    _locks.add(lock)
    return there


def held() -> frozenset[int]:
    """The descriptors that a child must not close."""
    return frozenset(_locks)
