# SPDX-License-Identifier: LGPL-2.1-or-later
"""Keeps the installed version that this process runs from, until the process and its children have ended.

install.sh puts each version into a folder of its own and never changes it; all that can happen to it is that it goes.
Modules are imported for as long as a process lives, so each process has a shared lock on its version, and install.sh
removes only those that nobody has. The lock is root's alone: whoever may open a lock can hold it for ever.
"""

import errno
import fcntl
import os

_FOLDER = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))
_locks: set[int] = set()
"""The descriptor of the lock, once this process has it."""


def hold(folder: str = _FOLDER) -> bool:
    """Whether the version is there, and stays: called first of all. A clone has no lock, and is nobody's to remove."""
    path = f"{folder}/lock"
    try:
        lock = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:  # whoever is not root has no right to it, and does nothing that must not be interrupted
        return os.path.isdir(folder)
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        there = os.path.samestat(os.fstat(lock), os.stat(path))
    except OSError as error:  # it is being removed, or is gone; a file system without locks has it all the same
        there = error.errno not in (errno.EAGAIN, errno.ENOENT)
    _locks.add(lock)
    return there


def held() -> frozenset[int]:
    """What a child must not close."""
    return frozenset(_locks)
