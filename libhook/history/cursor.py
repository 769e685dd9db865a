# SPDX-License-Identifier: LGPL-2.1-or-later
"""A file that says how far a log was followed, and what was known then. Only one follower may have it."""

import errno
import fcntl
import json
import os
import stat
from contextlib import ExitStack, suppress
from typing import Any

from libhook.errors import LibhookError

_VERSION = 1


class Cursor:
    """The file, locked. It is replaced as a whole, and is on the disk before anybody relies on it."""

    def __init__(self, path: str) -> None:
        """Open and lock it, or make an empty one. LibhookError if another follower has it, or if it cannot be used."""
        self._path = path
        try:
            self._descriptor = self._locked()
        except BlockingIOError:
            raise LibhookError(f"{path}: another libhook follows with it", "give each its own file") from None
        except OSError as error:
            raise LibhookError(f"{path}: {error.strerror}", "give a file in a folder of root's alone") from None

    def _locked(self) -> int:
        while True:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                status = os.fstat(descriptor)
                if not stat.S_ISREG(status.st_mode):
                    raise OSError(errno.EINVAL, "Not a regular file")
                if status.st_uid not in (0, os.geteuid()) or status.st_mode & 0o022:
                    raise OSError(errno.EPERM, "Others may write to it")
                if os.path.exists(self._path) and os.path.samestat(status, os.stat(self._path)):
                    return descriptor
            except OSError:
                os.close(descriptor)
                raise
            os.close(descriptor)  # whoever had it has just replaced it

    def load(self) -> dict[str, Any]:
        """Return what was saved; {} if nothing was. LibhookError if this is no cursor."""
        with open(self._descriptor, "rb", closefd=False) as file:
            content = file.read()
        if not content:
            return {}
        with suppress(ValueError):
            state = json.loads(content)
            if isinstance(state, dict) and state.get("version") == _VERSION:
                return state
        raise self.unusable()

    def unusable(self) -> LibhookError:
        """Return the error for a file that holds something else."""
        remedy = "remove it: then the whole trail is told again"
        return LibhookError(f"{self._path}: not a cursor of this libhook", remedy)

    def save(self, state: dict[str, Any]) -> None:
        """Replace what is saved. OSError if that fails; then the file is as before."""
        new = f"{self._path}.new"
        with suppress(FileNotFoundError):
            os.unlink(new)
        descriptor = os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with ExitStack() as failing:
            failing.callback(os.close, descriptor)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with open(descriptor, "wb", closefd=False) as file:
                file.write(json.dumps({"version": _VERSION, **state}).encode())
            os.fsync(descriptor)
            os.replace(new, self._path)
            failing.pop_all()
        os.close(self._descriptor)
        self._descriptor = descriptor
        folder = os.open(os.path.dirname(self._path) or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def close(self) -> None:
        """Let others have it."""
        os.close(self._descriptor)
