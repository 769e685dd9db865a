# SPDX-License-Identifier: LGPL-2.1-or-later
"""Processes of the simulated host: what /proc shows of them, and what they have open."""

import os
import shutil
import time
from collections.abc import Iterable
from contextlib import suppress

from libhook.simulation import store


def add(root: str, pid: int, name: str, opened: Iterable[str] = (), parent: int = 1, started: int = 0) -> None:
    """A process that has these paths open; ``started`` is field 22 of its stat, its pid when 0."""
    folder = f"{root}/proc/{pid}"
    os.makedirs(f"{folder}/fd", exist_ok=True)
    store.create(f"{folder}/comm", f"{name}\n")
    store.create(f"{folder}/cmdline", f"{name}\0")
    fields = ["S", str(parent), *["0"] * 17, str(started or pid), *["0"] * 30]
    store.create(f"{folder}/stat", f"{pid} ({name}) {' '.join(fields)}\n")
    for path in opened:
        open_file(root, pid, path)


def open_file(root: str, pid: int, path: str) -> None:
    """The process opens one more."""
    folder = f"{root}/proc/{pid}/fd"
    number = 3
    while os.path.lexists(f"{folder}/{number}"):
        number += 1
    os.symlink(path, f"{folder}/{number}")


def end(root: str, pid: int) -> None:
    """The process ends: it has nothing open any more, and IOMMU groups it owned are free."""
    owners = f"{root}/simulation/owners"
    for group in os.listdir(owners):
        with suppress(FileNotFoundError):  # another process closes it meanwhile
            if store.read(f"{owners}/{group}").split()[0] == str(pid):
                os.unlink(f"{owners}/{group}")
    shutil.rmtree(f"{root}/proc/{pid}", ignore_errors=True)


def spawn(root: str, name: str, parent: int = 1) -> int:
    """A new process; its pid, which one that ended may have had: when it began tells them apart."""
    pid = 2000
    while True:
        try:
            os.mkdir(f"{root}/proc/{pid}")
            break
        except FileExistsError:
            pid += 1
    add(root, pid, name, parent=parent, started=time.monotonic_ns())
    return pid


def node_removed(root: str, path: str) -> None:
    """Whoever has it open is shown so from now on (fs/d_path.c)."""
    for pid in filter(str.isdigit, os.listdir(f"{root}/proc")):
        folder = f"{root}/proc/{pid}/fd"
        with suppress(FileNotFoundError):  # the process ends meanwhile
            for number in os.listdir(folder):
                if os.readlink(f"{folder}/{number}") == path:
                    store.link(f"{path} (deleted)", f"{folder}/{number}")


def close_file(root: str, pid: int, path: str) -> None:
    """The process closes it."""
    folder = f"{root}/proc/{pid}/fd"
    for number in os.listdir(folder):
        if os.readlink(f"{folder}/{number}") == path:
            os.unlink(f"{folder}/{number}")
