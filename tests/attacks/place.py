# SPDX-License-Identifier: LGPL-2.1-or-later
"""This machine, where somebody may have a device open that nobody else has: a terminal of the test's own."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from libhook.children.child import Deadline
from libhook.facts.machine import Machine
from libhook.look import holders
from libhook.look.descriptors import Descriptors
from libhook.look.linux import LinuxKernel

LONG = 120
"""Seconds that nothing takes."""


class Counting(Descriptors):
    """Leaves a byte in a file for each descriptor that it looks at."""

    def __init__(self, count: Path) -> None:
        super().__init__()
        self.count = os.open(count, os.O_WRONLY | os.O_APPEND)

    def device(self, folder: int, number: str) -> str:
        """Count it."""
        os.write(self.count, b".")
        return super().device(folder, number)


class Kernel(LinuxKernel):
    """This one; its log, and how many descriptors were looked at, are in files."""

    def __init__(self, folder: Path) -> None:
        self.said, self.count = folder / "said", folder / "count"
        self.said.touch()
        self.count.touch()

    def log(self, fields: dict[str, object]) -> None:
        """Into a file."""
        with open(self.said, "a") as file:
            file.write(f"{fields['event']}: {fields['what']}\n")

    def descriptors(self) -> Descriptors:
        """Those that count."""
        return Counting(self.count)


class Place(NamedTuple):
    """This machine. For the right to the device stands a file that its owner alone may open."""

    machine: Machine
    kernel: Kernel
    node: Path
    device: str
    """Its own node, which everybody may open."""

    def who(self) -> list[int]:
        """Has the device open. In a container root may not see what process 1 has open; that is not asked here."""
        number = os.stat(self.device).st_rdev
        names = {f"c {os.major(number)}:{os.minor(number)}": str(self.node)}
        found = holders.of_nodes(self.machine, names, Deadline.after(LONG))
        return [holder.pid for holder in found]


def opens(path: str, flags: int) -> Callable[[Callable[[], None]], None]:
    """What a neighbour does that has this open."""

    def task(ready: Callable[[], None]) -> None:
        os.open(path, flags)
        ready()

    return task


@contextmanager
def here(tmp_path: Path) -> Iterator[Place]:
    """One that nobody has used yet, and nobody else uses meanwhile."""
    node, kernel = tmp_path / "node", Kernel(tmp_path)
    node.touch(0o600)
    if os.geteuid():
        pytest.skip("needs root to see what others have open, and to become somebody else")
    master, terminal = os.openpty()
    device = os.ttyname(terminal)
    os.close(terminal)
    os.chmod(device, 0o666)  # noqa: S103 - as /dev/full is
    yield Place(Machine("", kernel), kernel, node, device)
    os.close(master)
