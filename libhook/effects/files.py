# SPDX-License-Identifier: LGPL-2.1-or-later
"""Small files that root trusts. Read only if nobody else could have written them; replaced whole or not at all.

No file is written that would be too long to be read.
"""

from __future__ import annotations

import errno
import os
import stat

from libhook.errors import EXHAUSTED, BadInput, LibhookError, pasted, unanswered
from libhook.light import suppress

LONGEST = 1 << 24
"""Bytes of a file that is read, and so of one that is written."""
_ROOM = LONGEST // 2
"""Bytes that a start may make of a file. What comes later finds room."""
REMEDY = "libhook did not make it so: find out who did, then remove it"


def read(path: str, remedy: str = REMEDY) -> str | None:
    """Return a file's text; None when there is no file.

    BadInput for a link, for a file that others could write to, and for one that cannot be read. LibhookError when the
    system has run out of something, such as descriptors.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise BadInput(f"{path} is a symbolic link", "find out who made it, then put a file there") from None
        raise _unreadable(path, error, remedy) from None
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_uid not in (0, os.geteuid()) or status.st_mode & 0o022:
        os.close(descriptor)
        raise BadInput(f"{path} is not a file that only root may write to", remedy)
    try:
        with os.fdopen(descriptor, "rb") as file:
            content = file.read(LONGEST + 1)
    except OSError as error:
        raise _unreadable(path, error, remedy) from None
    if len(content) > LONGEST:
        raise BadInput(f"{path} has more than {LONGEST >> 20} MiB", remedy)
    return content.decode("utf-8", "surrogateescape")


def _unreadable(path: str, error: OSError, remedy: str) -> LibhookError:
    """Return the error to raise. When the system has run out of something, the file must not be taken for broken."""
    if error.errno in EXHAUSTED:
        return unanswered(OSError(error.errno, error.strerror, path))
    return BadInput(f"{path} cannot be read: {error.strerror}", remedy)


def replace(path: str, text: str) -> None:
    """Replace a file whole or not at all: write a new one, fsync it, rename it over the old one, fsync the folder.

    OSError where that fails: EFBIG where the text is too long to be read again.
    """
    content = _content(path, text)
    temporary = f"{path}.new"
    with suppress(FileNotFoundError):
        os.unlink(temporary)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(temporary, flags, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        os.rename(temporary, path)
    except OSError:
        with suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    folder = os.open(os.path.dirname(path), os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def expect_room(text: str, what: str, *, anew: bool = True) -> None:
    """LibhookError if this JSON is too long to be written, or with ``anew`` too long to grow later."""
    most = _ROOM if anew else LONGEST
    if len(text) > most:  # it is ASCII
        raise LibhookError(
            f"{what} would have more than {most >> 20} MiB",
            "give the guest fewer devices, or let its settings ask for less",
        )


def _content(path: str, text: str) -> bytes:
    content = text.encode("utf-8", "surrogateescape")
    if len(content) > LONGEST:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), path)
    return content


def overwrite(path: str, text: str) -> None:
    """Overwrite a file in place, in one write(2), padded with blanks to its old length.

    As long as the text fits into the old length, tmpfs needs no new page. When it needs a page and gets none, the old
    text is put back, and OSError is raised. A text that is too long to be read again also raises OSError.
    """
    new = _content(path, text)
    with os.fdopen(os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW), "r+b", buffering=0) as file:
        before = file.read()
        content = new.ljust(len(before))
        file.seek(0)
        if (taken := file.write(content)) != len(content):  # tmpfs writes only what fits into the pages it has
            file.seek(0)
            file.write(before.ljust(taken))
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
        os.fsync(file.fileno())


def expect_trusted(folder: str, root: str) -> None:
    """BadInput when others could write to this folder, or to one above it up to ``root``: they could take it away.

    A missing folder is fine if nobody else could make it.
    """
    names = folder.removeprefix(root).split("/")
    for path in ("/".join((root, *names[1:end])) or "/" for end in range(1, len(names) + 1)):
        try:
            status = os.lstat(path)
        except FileNotFoundError:
            return
        except OSError as error:
            raise unanswered(error) from None
        if not stat.S_ISDIR(status.st_mode):
            raise BadInput(
                f"{path} is not a folder that only root may write to", "put a real folder there: links are not followed"
            )
        owned, open_to = status.st_uid in (0, os.geteuid()), status.st_mode & 0o022
        if not owned or open_to:
            name = pasted(path)
            remedies = (f"chown root:root {name}" if not owned else "", f"chmod go-w {name}" if open_to else "")
            raise BadInput(
                f"{path} is not a folder that only root may write to",
                f"check what is in it, then run: {'; '.join(filter(None, remedies))}",
            )


def expect_own(folder: str) -> None:
    """LibhookError for a folder that others could write to; OSError when it cannot be looked at."""
    status = os.lstat(folder)
    is_closed = stat.S_ISDIR(status.st_mode) and not status.st_mode & 0o022
    if os.geteuid() not in (0, status.st_uid):  # whoever made it, that is nothing that this user could mend
        raise LibhookError(f"only root may look into {folder}", "run it as root")
    if not is_closed or status.st_uid != os.geteuid():
        raise LibhookError(
            f"{folder} is not a folder that only root may write to", "find out who made it, then remove it"
        )
