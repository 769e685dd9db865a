# SPDX-License-Identifier: LGPL-2.1-or-later
"""Makes reads sleep, as while a driver hangs with the lock of its device. Meanwhile the files are FIFOs."""

import os
import stat
from types import TracebackType

from libhook.simulation import store

_LOCKED = ("driver_override", "sriov_numvfs", "uevent")
"""The files of a PCI function whose reader waits for its lock: sriov_numvfs_show() (drivers/pci/iov.c), and on 6.1
among others driver_override_show() and uevent_show()."""


class SleepingReads:
    """Lets no read of these files return inside its ``with``."""

    def __init__(self, root: str, *paths: str) -> None:
        """``paths`` are whole. A file that is not there is passed over."""
        self._root = root
        self._paths = paths
        self._asleep: list[tuple[int, str, str]] = []

    def __enter__(self) -> None:
        """Put a FIFO in place of each file. This process keeps it open, so readers wait and get no end of file."""
        for path in filter(os.path.exists, self._paths):
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
            os.write(end, text.encode("utf-8", "surrogateescape"))
            os.close(end)
        self._asleep.clear()


def locked(root: str, home: str) -> SleepingReads:
    """The lock of a PCI function is held inside this ``with``. ``home`` is the function's folder below /sys."""
    return SleepingReads(root, *(f"{root}/sys/{home}/{name}" for name in _LOCKED))


def answers(path: str) -> bool:
    """Whether reading this attribute returns."""
    return not stat.S_ISFIFO(os.stat(path).st_mode)
