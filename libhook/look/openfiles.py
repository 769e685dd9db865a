# SPDX-License-Identifier: LGPL-2.1-or-later
"""Searches what every process has open for certain devices, by number. A child does that.

A process may have as many descriptors as it likes, and can make them fast (dup). Each look costs 5 us. So there is a
budget for a process that has no right to open the device itself, and can only have been handed it. All processes of its
user share a budget too. Beyond the budget only the lowest numbers of a process are tried: what it was handed early has
a low number.
"""

from __future__ import annotations

import errno
import os
import time

from libhook.children import child
from libhook.facts.machine import Descriptors, Machine
from libhook.light import TYPE_CHECKING, NamedTuple, partial
from libhook.look.rights import Rights

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

EACH = 4096
"""So many descriptors are looked at of a process without a right to the device, the lowest first."""
OF_USER, OF_ALL = 20_000, 100_000
"""The same for all processes of a user, and for all users: half a second's worth."""
LOWEST, BRIEFLY = 32, 0.2
"""So many descriptors of each process beyond the budget are still tried, for so many seconds in all."""
_GONE = (errno.ENOENT, errno.ESRCH)


class Found(NamedTuple):
    """What the child has reported by now."""

    holders: tuple[tuple[int, str], ...]
    """Pids, and the number of a device that each has open."""
    hidden: tuple[tuple[int, int], ...]
    """Pids of processes whose descriptors cannot be seen, and the errno that says why."""


def scan(machine: Machine, wanted: Mapping[str, str], report: int) -> None:
    """Write to the descriptor ``report`` which processes have these devices open. ``wanted`` has paths by number."""
    with machine.kernel.processes() as proc:
        search = _Search(machine, proc, wanted, report)
        for pid in filter(str.isdigit, os.listdir(proc)):
            search.look_at(pid)
        search.look_briefly()
    if passed := search.passed_over():
        fields: dict[str, object] = {
            "level": "warning",
            "event": "not looked at",
            "what": f"{len(passed)} processes that may not open {', '.join(sorted(wanted.values()))}",
            "why": "they, or all of their user together, have too many files open",
            "pids": ", ".join(passed[:10]),
        }
        child.spawn(partial(machine.kernel.log, fields)).abandon()  # in a child, since the log may not answer


def heard(lines: Collection[str]) -> Found:
    """What the lines from ``scan`` say.

    The last answer may be missing: the child hangs in the driver of an open file. Then that process has it open.
    """
    holders: list[tuple[int, str]] = []
    hidden: list[tuple[int, int]] = []
    for line in lines:
        match line.split(" ", 2):
            case ["perhaps", pid, device]:
                holders.append((int(pid), device))
            case ["no"]:
                holders.pop()
            case ["hidden", pid, code]:
                hidden.append((int(pid), int(code)))
    return Found(tuple(dict.fromkeys(holders)), tuple(hidden))


class _Search:
    """One pass over all processes, and what it has spent of the budget."""

    def __init__(self, machine: Machine, proc: str, wanted: Mapping[str, str], report: int) -> None:
        self._proc, self._wanted, self._report = proc, wanted, report
        self._descriptors = machine.kernel.descriptors()
        self._rights = Rights(machine, proc, wanted.values())
        self._spent: dict[int, int] = {}
        self._total = 0
        self._cut: list[str] = []
        self._beyond: list[str] = []

    def look_at(self, pid: str) -> None:
        """Look at all that the process has open, within its budget."""
        try:
            user = self._rights.user_of(pid, exactly=self._spent.get(0, 0) >= OF_USER)
        except OSError:
            return  # the process has ended
        if self._budget(user) or self._rights.has(pid, user):
            self._look(pid, partial(self._within_budget, pid, user))
        else:
            self._beyond.append(pid)

    def look_briefly(self) -> None:
        """Try the lowest descriptors of the processes beyond the budget."""
        until = time.monotonic() + BRIEFLY
        for pid in self._beyond:
            if time.monotonic() > until:
                break
            self._look(pid, lambda _: map(str, range(LOWEST)))

    def passed_over(self) -> list[str]:
        """The processes that were not looked at in full."""
        return self._cut + self._beyond

    def _budget(self, user: int) -> int:
        return max(0, min(EACH, OF_USER - self._spent.get(user, 0), OF_ALL - self._total))

    def _within_budget(self, pid: str, user: int, folder: int) -> Iterator[str]:
        """The numbers of the process's descriptors. Only as many are read as are asked for."""
        budget = self._budget(user)
        with os.scandir(folder) as entries:
            for count, entry in enumerate(entries):
                if count == budget and not self._rights.has(pid, user):
                    self._cut.append(pid)
                    break
                self._spent[user] = self._spent.get(user, 0) + 1
                self._total += 1
                yield entry.name

    def _look(self, pid: str, numbers: Callable[[int], Iterable[str]]) -> None:
        try:
            folder = os.open(f"{self._proc}/{pid}/fd", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                for number in numbers(folder):
                    device = _device(self._descriptors, folder, number)
                    if device in self._wanted:
                        self._say("perhaps", pid, device)
                        self._say("yes" if _holds(self._descriptors, int(pid), folder, number, device) else "no")
            finally:
                os.close(folder)
        except OSError as error:
            # A process that ends at that very moment is refused too (fs/proc/base.c, proc_fd_access_allowed).
            if error.errno not in _GONE and os.path.exists(f"{self._proc}/{pid}"):
                self._say("hidden", pid, error.errno)

    def _say(self, *words: object) -> None:
        os.write(self._report, f"{' '.join(map(str, words))}\n".encode())


def _device(descriptors: Descriptors, folder: int, number: str) -> str:
    """The device that the descriptor is on; "" for none. PermissionError when the process may not be looked at.

    Root without CAP_SYS_PTRACE can list a process's descriptors, but not see what they are open on.
    """
    try:
        return descriptors.device(folder, number)
    except PermissionError:
        try:
            os.readlink(number, dir_fd=folder)
        except PermissionError:
            raise
        except OSError:
            pass  # closed meanwhile
        return ""  # the path is shown, so a FUSE file system refuses (fs/fuse/dir.c, fuse_getattr)
    except OSError:
        return ""  # closed meanwhile, or its file system does not answer: not a device


def _holds(descriptors: Descriptors, pid: int, folder: int, number: str, device: str) -> bool:
    try:
        return descriptors.holds(pid, folder, number, device)
    except OSError as error:
        return error.errno not in _GONE  # closed meanwhile; any other error counts as open
