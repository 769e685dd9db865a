# SPDX-License-Identifier: LGPL-2.1-or-later
"""install.sh's part that needs locks: which installed versions are whole, which nobody runs from (effects/version.py).

versions.py alone             let no other install.sh in, by descriptor 9, which install.sh keeps open
versions.py same ONE OTHER    whether two folders hold the same, by their names, rights and content
versions.py clean ALL KEEP... remove the versions in the folder ALL but these, as far as nobody runs from them
"""

import fcntl
import os
import shutil
import stat
import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple


class Entry(NamedTuple):
    """A file or folder; of a link, or of anything else, only that it is one."""

    path: str
    mode: int
    owner: int
    content: bytes


def entries(folder: str, inner: str = "") -> Iterator[Entry]:
    """Everything below it. No link is followed, be it put there while we look."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        for name in sorted(os.listdir(handle)):
            status, content = os.stat(name, dir_fd=handle, follow_symlinks=False), b""
            if stat.S_ISREG(status.st_mode):
                with os.fdopen(os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=handle), "rb") as file:
                    content = file.read()
            yield Entry(f"{inner}{name}", status.st_mode, status.st_uid, content)
            if stat.S_ISDIR(status.st_mode):
                yield from entries(f"{folder}/{name}", f"{inner}{name}/")
    finally:
        os.close(handle)


def same(one: str, other: str) -> bool:
    """Whether what was installed once is still what would be installed now."""
    try:
        return list(entries(one)) == list(entries(other))
    except OSError:
        return False


def clean(versions: str, keep: set[str]) -> None:
    """Each goes by a rename, with its lock: whoever is late for the lock finds that, and runs the version of now."""
    gone = f"{versions}/.gone"
    for name in ["", *os.listdir(versions)]:
        folder = f"{versions}/{name}"
        shutil.rmtree(gone, ignore_errors=True)  # first of all what another left
        if name in ("", ".gone") or folder in keep:
            continue
        with suppress(BlockingIOError):
            lock = locked(f"{folder}/lock")
            os.rename(folder, gone)
            if lock >= 0:
                os.close(lock)
    shutil.rmtree(gone, ignore_errors=True)


def locked(path: str) -> int:
    """The descriptor of the lock, or -1 where there is none; BlockingIOError where somebody has it."""
    try:
        lock = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return -1
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # a file system without locks does not say who runs from it
        os.close(lock)
        raise BlockingIOError from None
    return lock


def main(what: str, *paths: str) -> int:
    """One command."""
    if what == "alone":
        try:
            fcntl.flock(9, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return 1
    elif what == "same":
        return 0 if same(*paths) else 1
    elif what == "clean":
        clean(paths[0], set(paths[1:]))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
