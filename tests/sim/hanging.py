# SPDX-License-Identifier: LGPL-2.1-or-later
"""What hangs on a simulated host until the test lets it go. As soon as it hangs, every deadline has passed."""

import os
from contextlib import suppress
from pathlib import Path

import overdue
from family import children, sleeps_in, until

from libhook.simulation import faults

HANG: tuple[faults.Deed, ...] = (("create", "begun"), ("wait", "go"))
"""What a fault does: it hangs before the call, or after it."""


def late(root: str) -> None:
    """Let every deadline pass once something hangs by HANG, or in ``hang``, and nothing else is at work."""
    asleep = overdue.all_asleep()
    overdue.when(lambda: Path(root, "begun").exists() and asleep())


def hang(root: str) -> None:
    """Hang here, while there is a host."""
    Path(root, "begun").touch()
    until(lambda: Path(root, "go").exists() or not Path(root).exists())


def let_go(root: str) -> None:
    """Whatever hangs goes on, and nothing hangs from now on."""
    Path(root, "go").touch()


def answer(path: str | Path) -> None:
    """Let a child go on that reads this pipe, as soon as it does."""

    def is_answered() -> bool:
        # ENXIO as long as nobody reads it. Without O_NONBLOCK we would wait for ever for a child that never comes.
        with suppress(OSError):
            os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))
            return True
        return False

    until(is_answered)


def late_at_a_pipe(waiting: int = 1, seconds: float = 3600) -> None:
    """Let so many seconds pass once so many children wait for a named pipe's other end, and nothing is at work."""
    asleep = overdue.all_asleep()
    overdue.when(lambda: at_a_pipe() >= waiting and asleep(), seconds)


def at_a_pipe() -> int:
    """Return how many children wait for a named pipe's other end."""
    return sum("wait_for_partner" in sleeps_in(pid) for pid in children())


def late_at(path: Path, seconds: float = 3600) -> None:
    """Let so many seconds pass once another child has this pipe open, and nothing else is at work."""
    asleep, known = overdue.all_asleep(), set(children())
    overdue.when(lambda: any(_has_open(pid, path) for pid in children() if pid not in known) and asleep(), seconds)


def _has_open(pid: int, path: Path) -> bool:
    with suppress(OSError):
        return any(link.readlink() == path.resolve() for link in Path(f"/proc/{pid}/fd").iterdir())
    return False


def late_at_a_handler() -> None:
    """Let every deadline pass once a handler by others is at work, which has a user of its own (confined.py)."""
    overdue.when(lambda: any(map(is_a_handler, children())))


def is_a_handler(pid: int) -> bool:
    """Whether the process is a handler by others."""
    with suppress(OSError):
        return int(Path(f"/proc/{pid}/status").read_text().partition("Uid:")[2].split()[0]) >= 0x70000000
    return False


def hold(root: str, address: str) -> None:
    """Let the device's driver hang in its remove, until faults.let_go; every deadline passes then."""
    faults.hold(root, address)
    asleep = overdue.all_asleep()
    overdue.when(lambda: Path(root, f"sys/bus/pci/devices/{address}/driver_override").is_fifo() and asleep())
