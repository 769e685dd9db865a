# SPDX-License-Identifier: LGPL-2.1-or-later
"""Looks from outside at what a sandbox takes, where no limit of the kernel's is for all of it. Only looks."""

import contextlib
import os
import resource
from collections.abc import Iterator, Sequence

_MOST_MEMORY, _MOST_FILES = 1 << 30, 100_000


def takes_too_much(pid: int, folders: Sequence[str]) -> bool:
    """Whether a process and its children have too much in memory, or too many files in these folders of theirs."""
    family = list(_family(pid))
    return _memory(family) > _MOST_MEMORY or _files(family, folders) > _MOST_FILES


def tasks(user: int) -> int:
    """How many processes and threads this user has: the limit counts them all (RLIMIT_NPROC, getrlimit(2))."""
    number = 0
    for name in os.listdir("/proc"):
        with contextlib.suppress(OSError):  # it has ended
            if name.isdigit() and os.stat(f"/proc/{name}").st_uid == user:
                number += len(os.listdir(f"/proc/{name}/task"))
    return number


def _family(pid: int) -> Iterator[int]:
    pending = [pid]
    while pending:
        one = pending.pop()
        yield one
        with contextlib.suppress(OSError), open(f"/proc/{one}/task/{one}/children", encoding="ascii") as file:
            pending += map(int, file.read().split())


def _memory(family: Sequence[int]) -> int:
    """How many bytes they have in memory. What has ended meanwhile has none."""
    pages = 0
    for pid in family:
        with contextlib.suppress(OSError, IndexError), open(f"/proc/{pid}/statm", encoding="ascii") as file:
            pages += int(file.read().split()[1])
    return pages * resource.getpagesize()


def _files(family: Sequence[int], folders: Sequence[str]) -> int:
    """How many files are in these mounts, as the first process sees them that is within.

    bubblewrap gives a tmpfs a size, and no number of inodes (bubblewrap.c, SETUP_MOUNT_TMPFS). Then the kernel lets it
    have one for each second page of the host's memory (mm/shmem.c, shmem_default_max_inodes()): empty files would fill
    the memory.
    """
    for pid in family:
        with contextlib.suppress(OSError):  # it has ended, or is not yet within
            seen = [os.statvfs(f"/proc/{pid}/root{folder}") for folder in folders]
            return sum(one.f_files - one.f_ffree for one in seen)
    return 0
