# SPDX-License-Identifier: LGPL-2.1-or-later
"""Reads the code of handlers by others, if nobody but root could have written it.

Each part of the path is opened from the one before it, and no link is followed. So what is judged is what is read.
"""

from __future__ import annotations

import os
import stat

from libhook.errors import BadInput, pasted
from libhook.facts.ownhandler import FOLDER, Stamp
from libhook.light import TYPE_CHECKING, NamedTuple, contextmanager

if TYPE_CHECKING:
    from collections.abc import Iterator

    from libhook.facts.machine import Machine

_MOST_FILES = 32
_LONGEST = 1 << 18
_FILE = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
_OTHERS_WRITE = 0o022


class File(NamedTuple):
    """A file of a handler."""

    module: str
    """``night``, or ``night.times`` in a package."""
    path: str
    text: bytes
    stamp: Stamp


class Code(NamedTuple):
    """A handler's files. In a package the first is its ``__init__.py``."""

    name: str
    is_package: bool
    files: tuple[File, ...]


def read(machine: Machine, name: str) -> Code:
    """Read a handler's files. BadInput where there is none, or where others could write to it or to a folder above."""
    with _opened(machine) as folder:
        names = (f"{name}.py", name)
        found = [one for one in names if _exists(folder, one)]
        if not found:
            raise BadInput(f"there is no {FOLDER}/{names[0]}", "put the handler there")
        if len(found) > 1:
            raise BadInput(f"there are both {FOLDER}/{names[0]} and {FOLDER}/{name}", "remove one of them")
        if found[0] == names[0]:
            return Code(name, is_package=False, files=(_read(folder, f"{FOLDER}/{names[0]}", name),))
        inner = _open_folder(folder, f"{FOLDER}/{name}")
        try:
            return Code(name, is_package=True, files=_package(inner, f"{FOLDER}/{name}", name))
        finally:
            os.close(inner)


def names(machine: Machine) -> list[str]:
    """The names of what looks like a handler in the folder. BadInput as for ``read``."""
    if not os.path.isdir(f"{machine.root}{FOLDER}"):
        return []
    with _opened(machine) as folder:
        found = os.listdir(folder)
        packages = (one for one in found if one.isidentifier() and _exists(folder, f"{one}/__init__.py"))
        files = (one.removesuffix(".py") for one in found if one.endswith(".py"))
        return sorted(one for one in {*packages, *files} if one.isidentifier() and not one.startswith("_"))


@contextmanager
def _opened(machine: Machine) -> Iterator[int]:
    """The folder of the handlers."""
    path = ""
    folder = _open_folder(-1, machine.root or "/")
    try:
        for part in FOLDER.split("/")[1:]:
            path = f"{path}/{part}"
            inner = _open_folder(folder, path)
            os.close(folder)
            folder = inner
        yield folder
    finally:
        os.close(folder)


def _open_folder(above: int, path: str) -> int:
    """Open a folder below an open one. ``path`` is its whole path."""
    name = path if above < 0 else path.rpartition("/")[2]
    try:
        folder = os.open(name, _FILE | os.O_DIRECTORY, dir_fd=None if above < 0 else above)
    except FileNotFoundError:
        raise BadInput(f"there is no folder {path}", "make it, and put the handler there") from None
    except OSError as error:
        raise BadInput(f"{path} is no folder that can be opened ({error.strerror})", "make it a real folder") from None
    try:
        _expect_roots(os.fstat(folder), path)
    except BadInput:
        os.close(folder)
        raise
    return folder


def _expect_roots(status: os.stat_result, path: str) -> None:
    """BadInput unless root, or we, have it, and nobody else may write to it."""
    if status.st_uid not in (0, os.geteuid()):
        raise BadInput(
            f"{path} does not belong to root", f"check what is in it, then run: chown root:root {pasted(path)}"
        )
    if status.st_mode & _OTHERS_WRITE:
        raise BadInput(f"others may write to {path}", f"check what is in it, then run: chmod go-w {pasted(path)}")


def _exists(folder: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except OSError:
        return False
    return True


def _package(folder: int, path: str, name: str) -> tuple[File, ...]:
    inner = sorted(one for one in os.listdir(folder) if one.endswith(".py") and one.removesuffix(".py").isidentifier())
    if "__init__.py" not in inner:
        raise BadInput(f"there is no {path}/__init__.py", "put the handler's function there")
    if len(inner) > _MOST_FILES:
        raise BadInput(f"{path} has more than {_MOST_FILES} files", "make it smaller")
    inner.remove("__init__.py")
    files = [_read(folder, f"{path}/__init__.py", name)]
    return (*files, *(_read(folder, f"{path}/{one}", f"{name}.{one.removesuffix('.py')}") for one in inner))


def _read(folder: int, path: str, module: str) -> File:
    try:
        descriptor = os.open(path.rpartition("/")[2], _FILE, dir_fd=folder)
    except OSError as error:
        raise BadInput(f"{path} cannot be opened ({error.strerror})", "put a real file there") from None
    try:
        status = os.fstat(descriptor)
        _expect_roots(status, path)
        if not stat.S_ISREG(status.st_mode):
            raise BadInput(f"{path} is no file", "put a real file there")
        with open(descriptor, "rb", closefd=False) as file:
            text = file.read(_LONGEST + 1)
        stamp = _stamp(path, status)
        if _stamp(path, os.fstat(descriptor)) != stamp:  # then the stamp may be of one text, and what was read another
            raise BadInput(f"{path} was written to while it was read", "try again")
    finally:
        os.close(descriptor)
    if len(text) > _LONGEST:
        raise BadInput(f"{path} is longer than {_LONGEST >> 10} KiB", "make it smaller")
    return File(module, path, text, stamp)


def _stamp(path: str, status: os.stat_result) -> Stamp:
    return Stamp(path, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
