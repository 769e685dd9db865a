# SPDX-License-Identifier: LGPL-2.1-or-later
"""Processes as /proc/PID/stat shows them: which process has a pid now, and whether it is still the same process."""

from __future__ import annotations

import os

from libhook.effects import locks
from libhook.effects.state import State
from libhook.facts.entry import Process
from libhook.facts.machine import Machine
from libhook.light import NamedTuple


class Stat(NamedTuple):
    """The fields that are used (proc_pid_stat(5))."""

    name: bytes
    """The program's name, at most 15 bytes. Any process may change its own."""
    state: str
    """``R``, ``S``, ``Z`` and so on."""
    parent: int
    start: int
    """In clock ticks since boot."""


def stat(proc: str, pid: int | str) -> Stat | None:
    """One process, from the procfs at ``proc``; None when there is no process of that number."""
    try:
        with open(f"{proc}/{pid}/stat", "rb") as file:
            # The name is in parentheses and may hold anything, even a parenthesis.
            before, _, after = file.read().rpartition(b")")
    except OSError:
        return None
    fields = after.split()  # fields[0] is the third field of the file
    return Stat(before.partition(b"(")[2], fields[0].decode(), int(fields[1]), int(fields[19]))


def process(machine: Machine, pid: int) -> Process:
    """The process that has this pid now; its start is 0 when there is none."""
    found = stat(machine.proc, pid)
    return Process(pid, found.start if found else 0)


def own(machine: Machine) -> Process:
    """This process."""
    return process(machine, os.getpid())


def lives(machine: Machine, one: Process) -> bool:
    """Whether that process is still there."""
    return one.start != 0 and process(machine, one.pid) == one


def works(state: State, one: Process) -> bool:
    """Whether that process is still there, or the child by which it asks libvirt for something.

    That child goes on when its parent is interrupted or stops waiting. What it asks for may still be done, but it sends
    no audit record.
    """
    return lives(state.machine, one) or locks.is_locked(state.mark_of(one))
