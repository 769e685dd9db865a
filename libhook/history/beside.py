# SPDX-License-Identifier: LGPL-2.1-or-later
"""Replaces a file whole or not at all: the new one is written beside it, under a name that nobody else has.

Its writer has it locked. So what a writer has left that was killed is known, and the next one removes it.
"""

import fcntl
import os
import re
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_MOST = 200
"""Bytes of the old name in the new one. A name has 255 at most (NAME_MAX)."""
_REST = re.compile(r"[a-z0-9_]{8}\.new")
"""What follows these: eight characters of tempfile's."""


@contextmanager
def replaced(path: str) -> Iterator[int]:
    """Give the descriptor of a new file, for its owner alone (0600). It takes the place of ``path`` at the end.

    By then it is on the disk, but its name may not be: see ``name_saved``. If anything fails, it is removed, and
    ``path`` is as before. OSError names ``path`` if there can be no file beside it.
    """
    folder, base = os.path.split(path)
    head = f".{os.fsencode(base)[:_MOST].decode(sys.getfilesystemencoding(), 'ignore')}."
    _remove_left(folder or ".", head)
    try:
        descriptor, new = _new(folder or ".", head)
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from None
    try:
        yield descriptor
        os.fsync(descriptor)
        os.replace(new, path)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(new)
        raise
    finally:
        os.close(descriptor)


def name_saved(path: str) -> None:
    """Put on the disk that ``path`` was replaced. OSError if that fails. The new file is in its place all the same."""
    within = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(within)
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from None
    finally:
        os.close(within)


def _new(folder: str, head: str) -> tuple[int, str]:
    """Make a file and lock it. Return its descriptor and its path."""
    while True:
        descriptor, new = tempfile.mkstemp(".new", head, folder)
        with suppress(OSError):  # a file system without locks: then nobody takes it for one that was left, either
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.path.lexists(new):
            return descriptor, new
        os.close(descriptor)  # it was taken for one that was left before it was locked


def _remove_left(folder: str, head: str) -> None:
    """Remove the new files that nobody writes any more, because whoever wrote them was killed."""
    with suppress(OSError):  # a folder that may not be read
        for name in os.listdir(folder):
            if name.startswith(head) and _REST.fullmatch(name, len(head)):
                with suppress(OSError):
                    _remove_unlocked(os.path.join(folder, name))


def _remove_unlocked(path: str) -> None:
    """Remove a file of ours. OSError if somebody has locked it, or if it is gone."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        status = os.fstat(descriptor)
        if stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid():
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.unlink(path)
    finally:
        os.close(descriptor)
