# SPDX-License-Identifier: LGPL-2.1-or-later
"""Reads that sleep: driver_override_show() and sriov_numvfs_show() take the device's lock (drivers/pci).

While a driver hangs the two files are FIFOs, so that whoever opens one for reading waits like in the kernel.
"""

import os
import stat
from types import TracebackType

from libhook.simulation import store

_LOCKED = ("driver_override", "sriov_numvfs")


class SleepingReads:
    """For as long as the block lasts, reading what the device's lock guards does not return. Under that lock."""

    def __init__(self, root: str, home: str) -> None:
        """``home`` is the device's folder, below /sys."""
        self._root = root
        self._folder = f"{root}/sys/{home}"
        self._asleep: list[tuple[int, str, str]] = []

    def __enter__(self) -> None:
        """Put a FIFO in place of each file, with an end open here, so that readers find nobody to end it."""
        for name in _LOCKED:
            path = f"{self._folder}/{name}"
            if not os.path.exists(path):
                continue
            text = store.read(path)
            fifo = f"{self._root}/simulation/tmp/{os.getpid()}-fifo"
            os.mkfifo(fifo)
            self._asleep.append((os.open(fifo, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC), path, text))
            os.rename(fifo, path)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Put the files back and wake whoever waits."""
        for end, path, text in self._asleep:
            if os.path.lexists(path):
                store.replace(self._root, path, text)
            os.write(end, text.encode())
            os.close(end)
        self._asleep.clear()


def answers(path: str) -> bool:
    """Whether reading this attribute returns."""
    return not stat.S_ISFIFO(os.stat(path).st_mode)
