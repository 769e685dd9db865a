# SPDX-License-Identifier: LGPL-2.1-or-later
"""Replaces a file whole or not at all: the new one is written beside it, under a name that nobody else has."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress


@contextmanager
def replaced(path: str) -> Iterator[int]:
    """Give the descriptor of a new file, for its owner alone (0600). It takes the place of ``path`` at the end.

    By then it is on the disk, and so is its name. If anything fails, it is removed, and ``path`` is as before. OSError
    names ``path``.
    """
    folder, base = os.path.split(path)
    try:
        descriptor, new = tempfile.mkstemp(".new", f".{base[:200]}.", folder or ".")
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
    within = os.open(folder or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(within)
    finally:
        os.close(within)
