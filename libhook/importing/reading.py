# SPDX-License-Identifier: LGPL-2.1-or-later
"""Opens what is to be imported: only plain files below the folders that were given, and none through a link.

Whoever wrote the scripts may have put a link among them, or a path with ``..``. Root reads neither for them.
"""

import os
import stat
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from libhook.errors import BadInput, LibhookError, named

MOST_FILES, _LARGEST, _MOST_BYTES, _DEEPEST = 2000, 1 << 20, 4 << 20, 12
_MOST_NAMES = 20_000


class Raw(NamedTuple):
    """One file as it was read."""

    origin: str
    top: str
    """The folder that was given, or the folder of the file that was."""
    text: str
    executable: bool


class Reader:
    """Reads what is below these paths, and keeps what it did not read."""

    def __init__(self, paths: Sequence[str], hooks: str) -> None:
        """``hooks`` is libvirt's folder: what scripts name there is theirs, wherever they lie."""
        self._tops = [os.path.realpath(path) for path in paths]
        self._hooks = os.path.realpath(hooks)
        self.skipped: list[str] = []
        self.windows = list[str]()
        """Scripts whose first line ends as on Windows."""

    def all(self, paths: Sequence[str]) -> list[Raw]:
        """Read all files. LibhookError where a path cannot be read, or there is too much."""
        found, size = list[Raw](), 0
        for path in paths:
            for one in self._walk(path):
                found.append(one)
                size += len(one.text)
                if len(found) > MOST_FILES or size > _MOST_BYTES:
                    raise BadInput(
                        f"{path}: more than {MOST_FILES} files or 4 MiB", "give the hook scripts' folder alone"
                    )
        return found

    def may_read(self, path: str) -> bool:
        """Whether this path of the host is one of those that were given, or below one, or below libvirt's hooks."""
        return any(path == top or path.startswith(f"{top.rstrip('/')}/") for top in (*self._tops, self._hooks))

    def file(self, path: str) -> tuple[str, bool] | None:
        """Read one file that may be read: its text, and whether it is executable."""
        whole = os.path.realpath(path)
        return self._read(path, whole) if self.may_read(whole) else None

    def _walk(self, path: str) -> Iterator[Raw]:
        top = os.path.abspath(path)
        if os.path.isdir(top):
            for name in self._names(top):
                if one := self._entry(name):
                    yield Raw(name, top, *one)
        elif one := self._entry(top):
            yield Raw(top, os.path.dirname(top), *one)
        else:
            raise LibhookError(
                f"{named(path)}: no file or folder that can be read", "give a hook script, or its folder"
            )

    def _names(self, top: str) -> Iterator[str]:
        number = 0
        for folder, folders, names in os.walk(top, onerror=lambda error: self._skip(str(error.filename), "unreadable")):
            kept = sorted(name for name in folders if name not in (".git", "node_modules"))
            for name in kept:
                if os.path.islink(f"{folder}/{name}"):
                    self._skip(f"{folder}/{name}", "a link to a folder: give that folder itself")
            folders[:] = kept
            if folder.count("/") - top.count("/") >= _DEEPEST and folders:
                self._skip(folder, f"its folders lie deeper than {_DEEPEST}")
                folders.clear()
            number += 1 + len(names)
            if number > _MOST_NAMES:
                raise BadInput(f"{named(top)}: more than {_MOST_NAMES} names", "give the hook scripts' folder alone")
            yield from (f"{folder}/{name}" for name in sorted(names))

    def _entry(self, path: str) -> tuple[str, bool] | None:
        whole = os.path.realpath(path)
        if not self.may_read(whole):
            self._skip(path, "a link that leads out of what was given: give also what it leads to")
            return None
        return self._read(path, whole)

    def _read(self, path: str, whole: str) -> tuple[str, bool] | None:
        try:
            descriptor = _open(whole)
        except OSError as error:
            self._skip(path, str(error.strerror))
            return None
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if status.st_size > _LARGEST:
                self._skip(path, "larger than 1 MiB")
                return None
            data = file.read(_LARGEST)
        if b"\0" in data:
            data = data[:64]  # no script: enough to know that
        if data[:2] == b"#!" and data.partition(b"\n")[0].endswith(b"\r"):
            self.windows.append(path)
        return data.decode("utf-8", "surrogateescape").replace("\r\n", "\n"), bool(status.st_mode & 0o111)

    def _skip(self, path: str, why: str) -> None:
        self.skipped.append(f"{named(path)} is not read: {why}")


def _open(path: str) -> int:
    """Open a plain file for reading. No part of its path may be a link, and no device or fifo is opened at all.

    O_PATH only names a file (open(2)). What it is, is asked before it is opened in earnest, by its entry in /proc.
    """
    flags = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
    at = os.open("/", flags)
    try:
        for part in path.split("/"):
            if part:
                further = os.open(part, flags, dir_fd=at)
                os.close(at)
                at = further
        if not stat.S_ISREG(os.fstat(at).st_mode):
            raise OSError(0, "neither a file nor a folder")
        return os.open(f"/proc/self/fd/{at}", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(at)
