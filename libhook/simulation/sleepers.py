# SPDX-License-Identifier: LGPL-2.1-or-later
"""Makes reads sleep while a driver hangs: driver_override_show() and sriov_numvfs_show() take the device's lock.

Meanwhile the two files are FIFOs, so a reader waits as in the kernel (drivers/pci).
"""

import os
import stat
from types import TracebackType

from libhook.simulation import store

_LOCKED = ("driver_override", "sriov_numvfs")


class SleepingReads:
    """Lets no read of the two files return inside its ``with``. Enter it only under the device's lock."""

    def __init__(self, root: str, home: str) -> None:
        """Remember the device. ``home`` is its folder below /sys."""
        self._root = root
        self._folder = f"{root}/sys/{home}"
        self._asleep: list[tuple[int, str, str]] = []

    def __enter__(self) -> None:
        """Put a FIFO in place of each file. This process keeps it open, so readers wait and get no end of file."""
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
        """Put the files back, and wake the readers."""
        for end, path, text in self._asleep:
            if os.path.lexists(path):
                store.replace(self._root, path, text)
            os.write(end, text.encode())
            os.close(end)
        self._asleep.clear()


def answers(path: str) -> bool:
    """Whether reading this attribute returns."""
    return not stat.S_ISFIFO(os.stat(path).st_mode)
