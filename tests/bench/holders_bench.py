# SPDX-License-Identifier: LGPL-2.1-or-later
"""Who has a device open, asked of /proc, alone and beside a crowd of processes of a user without any right. Needs root.

The device is /dev/full, which nobody has open; the file that stands for the right to it is root's.
"""

import argparse
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from libhook.children.child import Deadline
from libhook.facts.machine import Machine
from libhook.look import holders, openfiles
from libhook.look.linux import LinuxKernel

NOBODY = 65534
NUMBER = "c 1:7"


class Quiet(LinuxKernel):
    """Logs nothing."""

    def log(self, fields: dict[str, object]) -> None:
        """Not into this machine's journal."""


@contextmanager
def crowd(processes: int, descriptors: int) -> Iterator[None]:
    """So many processes of nobody's, with so many descriptors together."""
    pids = []
    null = os.open(os.devnull, os.O_RDWR)
    for number in range(100, 100 + descriptors // max(processes, 1)):
        os.dup2(null, number)
    try:
        for _ in range(processes):
            if (pid := os.fork()) == 0:
                try:
                    os.setgroups([])
                    os.setresgid(NOBODY, NOBODY, NOBODY)
                    os.setresuid(NOBODY, NOBODY, NOBODY)
                    signal.pause()
                finally:
                    os._exit(0)
            pids.append(pid)
        os.closerange(100, 100 + descriptors // max(processes, 1))
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        for pid in pids:
            os.waitpid(pid, 0)


def look(node: str) -> float:
    """Milliseconds."""
    begun = time.monotonic()
    found = holders.of_nodes(Machine("", Quiet()), {NUMBER: node}, Deadline.after(600))
    assert not found, f"{NUMBER} is open in {', '.join(map(str, found))}"
    return (time.monotonic() - begun) * 1000


def main() -> None:
    """One line for each crowd."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=10_000)
    parser.add_argument("--descriptors", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    if os.geteuid():
        parser.error("needs root, to become somebody else and to see what others have open")
    budgets = (openfiles.EACH, openfiles.OF_USER, openfiles.OF_ALL, openfiles.BRIEFLY)
    print("processes  descriptors  ms (median)  without a budget")
    with tempfile.NamedTemporaryFile() as node:
        for processes, descriptors in ((0, 0), (options.processes, options.descriptors)):
            with crowd(processes, descriptors):
                times = []
                for each, of_user, of_all, briefly in (budgets, (sys.maxsize,) * 3 + (0,)):
                    openfiles.EACH, openfiles.OF_USER, openfiles.OF_ALL = each, of_user, of_all
                    openfiles.BRIEFLY = briefly
                    times.append(statistics.median(look(node.name) for _ in range(options.runs)))
            print(f"{processes:9,}  {descriptors:11,}  {times[0]:11,.1f}  {times[1]:16,.1f}")


if __name__ == "__main__":
    main()
