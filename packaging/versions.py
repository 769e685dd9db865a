# SPDX-License-Identifier: LGPL-2.1-or-later
"""install.sh's part that needs locks: which installed versions are whole, which nobody runs from (children/version.py).

versions.py alone             let no other install.sh in, by descriptor 9, which install.sh keeps open
versions.py same ONE OTHER    whether two folders hold the same, by their names, rights and content
versions.py clean ALL KEEP... remove the versions in the folder ALL but these, as far as nobody runs from them
versions.py held STATE        whether a guest has something, by the entries there (libhook/facts/entry.py), and which
versions.py retire ALL STATE SECONDS
                              wait for whoever is at work, look again, and move all away if no guest has anything
"""

import errno
import fcntl
import json
import os
import shutil
import signal
import stat
import sys
import time
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
        if name in ("", ".gone") or name in keep:
            continue
        with suppress(BlockingIOError):
            lock = locked(f"{folder}/lock")
            os.rename(folder, gone)
            if lock >= 0:
                os.close(lock)
    shutil.rmtree(gone, ignore_errors=True)


def locked(path: str) -> int:
    """The descriptor of the lock, or -1 where there is none; BlockingIOError where somebody has it, or may have it."""
    try:
        lock = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO):  # none, or a link or a socket
            return -1
        raise BlockingIOError from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # a file system without locks does not say who runs from it
        os.close(lock)
        raise BlockingIOError from None
    return lock


def held(state: str) -> list[str]:
    """The guests' names, as a terminal and a reader take them for names; of a broken entry the file's."""
    found = set()
    with suppress(FileNotFoundError):
        for name in os.listdir(f"{state}/domains"):
            try:
                with open(f"{state}/domains/{name}", encoding="utf-8", errors="replace") as file:
                    entry = json.load(file)
                over = entry["phase"] in ("refused", "releasing")
                holds = entry.get("actions") or any(device.get("move") for device in entry["devices"])
                if not holds and (over or not entry["devices"]):
                    continue
                name = str(entry["name"])
            except (OSError, ValueError, TypeError, KeyError, RecursionError):
                pass
            found.add(named("".join(filter(str.isprintable, name))))
    return sorted(found)


def named(name: str) -> str:
    """As in libhook/errors.py: an uninstallation imports nothing of what it removes. A test compares the two."""
    of_a_word = dict.fromkeys(map(ord, "._-:/@+"), "a")
    letters = name.replace("\\x", "x").translate(of_a_word)
    if name[-1:] not in ("", ":") and name.isascii() and letters.isalnum() and "run:" not in name:
        return name
    return '"' + name.replace("run:", "run\\x3a").replace('"', "\\x22") + '"'


def retire(versions: str, state: str, seconds: float) -> list[str]:
    """What is in the way, or nothing, and then no version is left.

    From the last look on nobody can begin: every version is locked until it is gone.
    """
    until = time.monotonic() + seconds
    paths = []
    for folder, prefix in ((f"{state}/locks", "domain-"), (versions, "")):
        with suppress(FileNotFoundError):
            paths += [f"{folder}/{name}" for name in os.listdir(folder) if name.startswith(prefix)]
    for path in paths:
        lock = f"{path}/lock" if path.startswith(versions) else path
        while True:
            try:
                locked(lock)
                break
            except BlockingIOError:
                if time.monotonic() > until:
                    return [f"{lock} is held by {_who(lock)}: wait until it ends, or end it, then try again"]
            time.sleep(0.05)
    if guests := held(state):
        return [in_the_way(guests)]
    with suppress(FileNotFoundError):
        shutil.rmtree(f"{versions}.gone", ignore_errors=True)
        os.rename(versions, f"{versions}.gone")
    return []


def in_the_way(guests: list[str]) -> str:
    """Why nothing is uninstalled."""
    return f"a guest still has its devices through libhook: {', '.join(guests)}; shut it down, or run libhook recover"


def _who(path: str) -> str:
    """By the kernel's list; the number is of who took the lock, and a child of his may be left that has it still."""
    inode = os.stat(path).st_ino
    with open("/proc/locks", encoding="ascii") as file:
        fields = [line.split() for line in file]
    pids = sorted({one[4] for one in fields if one[5].endswith(f":{inode}")})
    return f"process {' '.join(pids)}, or a child that it left" if pids else "somebody"


def main(what: str, *paths: str) -> int:
    """One command; Ctrl-C ends it without a word."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if what == "alone":
        try:
            fcntl.flock(9, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return 1
    elif what == "same":
        return 0 if same(*paths) else 1
    elif what == "clean":
        clean(paths[0], set(paths[1:]))
    elif reasons := held(paths[0]) if what == "held" else retire(paths[0], paths[1], float(paths[2])):
        sys.stdout.write(in_the_way(reasons) if what == "held" else reasons[0])
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
