# SPDX-License-Identifier: LGPL-2.1-or-later
"""Locks between processes: flock on files that go when nobody has them any more. Every wait has a deadline."""

from __future__ import annotations

import fcntl
import os
import time

from libhook.effects.child import Deadline
from libhook.errors import DeadlineExpired
from libhook.light import TYPE_CHECKING, contextmanager, suppress

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

SHARED = ".shared"
"""At the end of a lock's name: taken together with others who take it so."""
_PAUSE = 0.01
_folders: dict[str, int] = {}
"""Folders that this process has locked in the stead of files, and how many of these."""
_inherited: set[int] = set()
"""Descriptors of locks that this process was started with, and has not asked for yet."""


@contextmanager
def inherited(path: str, descriptor: int) -> Iterator[None]:
    """Within, this process has a lock already: whoever started it has taken that, and left the descriptor to it.

    ``locked`` finds it when it is first asked for, and lets go of it as of any; where nobody asks, it goes at the end.
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
    """Hold these locks, taken in sorted order so that nobody waits in a circle. DeadlineExpired names the lock.

    Where there is no room for a lock's file, or something else is in its place, the folder is locked in its stead: a
    full or broken /run must not keep a device from being given back.
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


def is_locked(path: str) -> bool:
    """Whether some process has this lock exclusively. What is no file of ours locks nothing."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def remove_unused(folder: str) -> None:
    """Remove the files of locks that nobody has, as killed processes leave them."""
    if os.path.islink(folder) or not os.path.isdir(folder):
        return
    for name in os.listdir(folder):
        with suppress(DeadlineExpired), locked(folder, [name], Deadline(0.0)):
            pass  # whoever lets go of a lock removes its file


def _lock(path: str, mode: int, deadline: Deadline) -> tuple[int, str]:
    """Give the descriptor and the path of what is locked; no descriptor where this process has that folder already."""
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
                raise DeadlineExpired(f"the lock {path} is not free", "another libhook is at work there") from None
            time.sleep(_PAUSE)
            continue
        # Whoever had it before us removed the file: a lock on a file that is gone locks nothing.
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
    except OSError:
        folder = os.path.dirname(path)
        for instead in (folder, os.path.dirname(folder)):
            with suppress(OSError):
                return os.open(instead, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW), instead
        raise


def _is_alone(descriptor: int, path: str) -> bool:
    """Whether the file may be removed: nobody else has the lock.

    To find out, one that is shared is let go for an instant, in which others may have had it and removed the file.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except (BlockingIOError, FileNotFoundError):
        return False
