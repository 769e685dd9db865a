# SPDX-License-Identifier: LGPL-2.1-or-later
"""Processes of the simulated host: their /proc, and what they have open."""

import os
import time
from collections.abc import Collection, Iterable
from contextlib import suppress

from libhook.simulation import store

_NAMED = " named"
"""Follows a device's number if the descriptor was opened with O_PATH, so that it only names the device."""


def add(root: str, pid: int, name: str, opened: Iterable[str] = (), parent: int = 1, started: int = 0) -> None:
    """Add a process that has these paths open. ``started`` is field 22 of its stat; 0 stands for its pid."""
    folder = f"{root}/proc/{pid}"
    os.makedirs(f"{folder}/fd", exist_ok=True)
    os.makedirs(f"{root}/simulation/opened/{pid}", exist_ok=True)
    store.create(f"{folder}/comm", f"{name}\n")
    store.create(f"{folder}/cmdline", f"{name}\0")
    fields = ["S", str(parent), *["0"] * 17, str(started or pid), *["0"] * 30]
    store.create(f"{folder}/stat", f"{pid} ({name}) {' '.join(fields)}\n")
    for path in opened:
        open_file(root, pid, path)


def open_file(root: str, pid: int, path: str, *, named_only: bool = False, shown_as: str = "") -> None:
    """Let the process open one more path, or with ``named_only`` only name it (O_PATH).

    ``shown_as`` is the path in the process's own /dev, if it has one.
    """
    folder = f"{root}/proc/{pid}/fd"
    number = 3
    while os.path.lexists(f"{folder}/{number}"):
        number += 1
    try:
        device = store.read(root + path) if path.startswith("/dev/") else ""
    except FileNotFoundError:
        device = ""
    if device:
        store.create(f"{root}/simulation/opened/{pid}/{number}", f"{device}{_NAMED if named_only else ''}")
    os.symlink(shown_as or path, f"{folder}/{number}")


def place(root: str, pid: int, program: str = "", group: str = "") -> None:
    """Say which program a process runs, and in which control group it is."""
    if program:
        os.makedirs(os.path.dirname(root + program), exist_ok=True)
        if not os.path.exists(root + program):
            store.create(root + program, program)
        store.link(root + program, f"{root}/proc/{pid}/exe")
    store.create(f"{root}/proc/{pid}/cgroup", f"0::{group}\n")


class SimulatedDescriptors:
    """Implements effects.kernel.Descriptors."""

    def __init__(self, root: str) -> None:
        """Answer for the processes of this host."""
        self._root = root

    def device(self, folder: int, number: str) -> str:
        """Return the number of the device that the process opened, whatever path its link shows; "" for none."""
        return self._opened(folder, number).removesuffix(_NAMED)

    def holds(self, pid: int, folder: int, number: str, device: str) -> bool:
        """Whether the process has the device open, and does not only name it."""
        del pid  # the folder is that of the process
        return self._opened(folder, number) == device

    def _opened(self, folder: int, number: str) -> str:
        pid = os.path.basename(os.path.dirname(os.readlink(f"/proc/self/fd/{folder}")))
        os.readlink(number, dir_fd=folder)  # OSError if the descriptor was closed
        try:
            return store.read(f"{self._root}/simulation/opened/{pid}/{number}")
        except FileNotFoundError:
            return ""


def have_open(root: str, devices: Collection[str]) -> bool:
    """Whether any process has one of these open. They are numbers such as ``c 226:0``."""
    opened = f"{root}/simulation/opened"
    for pid in os.listdir(opened):
        with suppress(FileNotFoundError):  # the process ends meanwhile
            for number in os.listdir(f"{opened}/{pid}"):
                if store.read(f"{opened}/{pid}/{number}") in devices and os.path.lexists(
                    f"{root}/proc/{pid}/fd/{number}"
                ):
                    return True
    return False


def end(root: str, pid: int) -> None:
    """End the process. It closes everything, and the IOMMU groups that it owned are free."""
    owners = f"{root}/simulation/owners"
    for group in os.listdir(owners):
        with suppress(FileNotFoundError):  # another process closes it meanwhile
            if store.read(f"{owners}/{group}").split()[0] == str(pid):
                os.unlink(f"{owners}/{group}")
    import shutil  # slow to import, and not needed by a hook

    shutil.rmtree(f"{root}/simulation/opened/{pid}", ignore_errors=True)
    shutil.rmtree(f"{root}/proc/{pid}", ignore_errors=True)  # last, since another process may then get this pid


def spawn(root: str, name: str, parent: int = 1) -> int:
    """Add a new process, and return its pid. A process that ended may have had that pid, with another start time."""
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
    """Mark the node as deleted in the links of processes that have it open (fs/d_path.c)."""
    for pid in filter(str.isdigit, os.listdir(f"{root}/proc")):
        folder = f"{root}/proc/{pid}/fd"
        with suppress(FileNotFoundError):  # the process ends meanwhile
            for number in os.listdir(folder):
                if os.readlink(f"{folder}/{number}") == path:
                    store.link(f"{path} (deleted)", f"{folder}/{number}")


def close_file(root: str, pid: int, path: str) -> None:
    """Let the process close a path."""
    folder = f"{root}/proc/{pid}/fd"
    for number in os.listdir(folder):
        if os.readlink(f"{folder}/{number}") == path:
            os.unlink(f"{folder}/{number}")
