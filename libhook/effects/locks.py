# SPDX-License-Identifier: LGPL-2.1-or-later
"""Locks between processes: flock on files, which are removed when nobody has them. Every wait has a deadline."""

from __future__ import annotations

import errno
import fcntl
import os
import time

from libhook.children.child import Deadline
from libhook.errors import EXHAUSTED, DeadlineExpired
from libhook.light import TYPE_CHECKING, contextmanager, suppress

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

SHARED = ".shared"
"""Suffix of a lock's name. Such a lock is taken shared: several processes may have it at once."""
_PAUSE = 0.01
_NONE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO)
"""No file is there, or a link or a socket: no lock of ours."""
_folders: dict[str, int] = {}
"""Folders that this process has locked instead of lock files, and how many lock files each stands for."""
_inherited: set[int] = set()
"""Descriptors of locks that this process was started with, and has not asked for yet."""


@contextmanager
def inherited(path: str, descriptor: int) -> Iterator[None]:
    """Within this block the process has the lock at ``path``: its parent took the lock and passed on the descriptor.

    The first ``locked`` that asks for the lock gets it, and releases it as usual. If nobody asks, the end of the block
    releases it.
    """
    os.set_inheritable(descriptor, False)
    _inherited.add(descriptor)
    try:
        yield
    finally:
        if descriptor in _inherited:
            _inherited.remove(descriptor)
            if _is_alone(descriptor, path):
                os.unlink(path)
            os.close(descriptor)


@contextmanager
def locked(folder: str, names: Iterable[str], deadline: Deadline) -> Iterator[None]:
    """Hold these locks. They are taken in sorted order, so nobody waits in a circle. DeadlineExpired names the lock.

    If there is no room for a lock's file, or something else is in its place, the folder is locked instead: a full or
    broken /run must not keep a device from being given back.
    """
    taken: list[tuple[int, str]] = []
    try:
        for name in sorted(set(names)):
            path = f"{folder}/{name.removesuffix(SHARED)}"
            taken.append(_lock(path, fcntl.LOCK_SH if name.endswith(SHARED) else fcntl.LOCK_EX, deadline))
        yield
    finally:
        for descriptor, path in taken:
            if path in _folders:
                _folders[path] -= 1
            elif _is_alone(descriptor, path):
                os.unlink(path)
            if descriptor >= 0:
                os.close(descriptor)


@contextmanager
def folder(path: str, deadline: Deadline) -> Iterator[None]:
    """Hold the lock of this folder, which leaves no file. DeadlineExpired if it is not free in time."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not deadline.left:
                    raise _not_free(path) from None
                time.sleep(_PAUSE)
        yield
    finally:
        os.close(descriptor)


def _not_free(path: str) -> DeadlineExpired:
    return DeadlineExpired(
        f"the lock {path} is not free", "another libhook process is at work there: try again in a moment"
    )


def is_locked(path: str) -> bool:
    """Whether some process has this lock exclusively. So it is where nobody can tell, for want of descriptors say."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        return error.errno not in _NONE
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:  # EWOULDBLOCK, or ENOLCK: the kernel has no memory for one
        return True
    finally:
        os.close(descriptor)
    return False


def remove_unused(folder: str) -> None:
    """Remove the lock files that nobody has locked. Killed processes leave them."""
    if os.path.islink(folder) or not os.path.isdir(folder):
        return
    for name in os.listdir(folder):
        with suppress(DeadlineExpired, OSError), locked(folder, [name], Deadline(0.0)):
            pass  # letting go of a lock removes its file


def _lock(path: str, mode: int, deadline: Deadline) -> tuple[int, str]:
    """Return the descriptor and the path of what is locked; -1 if this process already has that folder."""
    while True:
        descriptor, opened = _open(path)
        if _folders.get(opened):
            os.close(descriptor)
            _folders[opened] += 1
            return -1, opened
        try:
            fcntl.flock(descriptor, (mode if opened == path else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            if not deadline.left:
                raise _not_free(path) from None
            time.sleep(_PAUSE)
            continue
        # The process that had the lock before us may have removed the file. A lock on a removed file locks nothing.
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), os.stat(opened)):
                if opened != path:
                    _folders[opened] = 1
                return descriptor, opened
        os.close(descriptor)


def _open(path: str) -> tuple[int, str]:
    for descriptor in _inherited:
        with suppress(OSError):
            if os.path.samestat(os.fstat(descriptor), os.lstat(path)):
                _inherited.remove(descriptor)
                return descriptor, path
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600), path
    except OSError as error:
        if error.errno in EXHAUSTED:  # others may have the file
            raise
        folder = os.path.dirname(path)
        for instead in (folder, os.path.dirname(folder)):
            with suppress(OSError):
                return os.open(instead, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW), instead
        raise


def _is_alone(descriptor: int, path: str) -> bool:
    """Whether nobody else has the lock, so that its file may be removed.

    To find out, we make our lock exclusive. That lets go of a shared lock for an instant, in which another process may
    take the lock and remove the file.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except (BlockingIOError, FileNotFoundError):
        return False
