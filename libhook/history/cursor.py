# SPDX-License-Identifier: LGPL-2.1-or-later
"""A file that says how far a log was followed, and what was known then. Only one follower may have it."""

import errno
import fcntl
import hashlib
import json
import os
import stat
from contextlib import ExitStack
from typing import Any

from libhook.errors import LibhookError, named
from libhook.history.beside import name_saved, replaced

_VERSION = 1


class Cursor:
    """The file, locked. It is replaced as a whole, and is on the disk before anybody relies on it."""

    def __init__(self, path: str) -> None:
        """Open and lock it, or make an empty one. LibhookError if another follower has it, or if it cannot be used."""
        self._path = path
        try:
            self._descriptor = self._locked()
        except BlockingIOError:
            raise LibhookError(f"{named(path)}: another libhook follows with it", "give each its own file") from None
        except OSError as error:
            raise LibhookError(f"{named(path)}: {error.strerror}", "give a file in a folder of root's alone") from None

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
        """Return what was saved; {} if nothing was. LibhookError if this is no cursor, or not as it was saved."""
        with open(self._descriptor, "rb", closefd=False) as file:
            content = file.read()
        if not content:
            return {}
        head, _, body = content.partition(b"\n")
        if head != _head(body):
            raise self.unusable()
        state: dict[str, Any] = json.loads(body)
        return state

    def unusable(self) -> LibhookError:
        """Return the error for a file that holds something else."""
        remedy = "remove it: then the whole trail is told again"
        return LibhookError(f"{named(self._path)}: not a cursor of this libhook, or not as it was saved", remedy)

    def save(self, state: dict[str, Any]) -> None:
        """Replace what is saved, and keep the lock that the new file comes with.

        OSError if that fails. Then the file is as before; or it is the new one, of which the disk may not know.
        """
        body = json.dumps(state).encode()
        with ExitStack() as failing:
            with replaced(self._path) as new:
                with open(new, "wb", closefd=False) as file:
                    file.write(_head(body) + b"\n" + body)
                held = os.dup(new)
                failing.callback(os.close, held)
            failing.pop_all()
        os.close(self._descriptor)
        self._descriptor = held
        name_saved(self._path)

    def close(self) -> None:
        """Let others have it."""
        os.close(self._descriptor)


def _head(body: bytes) -> bytes:
    """Return the first line. It says what only we would have written: nothing else in the file needs to be checked."""
    return json.dumps({"version": _VERSION, "sha256": hashlib.sha256(body).hexdigest()}).encode()
