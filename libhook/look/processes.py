# SPDX-License-Identifier: LGPL-2.1-or-later
"""Processes as /proc/PID/stat shows them: which one has a number now, and whether it is still the one that had it."""

from __future__ import annotations

import os

from libhook.effects import locks
from libhook.effects.state import State
from libhook.facts.entry import Process
from libhook.facts.machine import Machine
from libhook.light import NamedTuple


class Stat(NamedTuple):
    """What is used of the file (proc_pid_stat(5))."""

    name: bytes
    """The program's, at most 15 bytes. Any process may call itself so."""
    state: str
    """``R``, ``S``, ``Z`` and so on."""
    parent: int
    start: int
    """In clock ticks since boot."""


def stat(proc: str, pid: int | str) -> Stat | None:
    """Of one process, by the procfs at ``proc``; None where there is none of that number."""
    try:
        with open(f"{proc}/{pid}/stat", "rb") as file:
            # The name stands in parentheses and may hold anything, a parenthesis too.
            before, _, after = file.read().rpartition(b")")
    except OSError:
        return None
    fields = after.split()  # the first is the file's third
    return Stat(before.partition(b"(")[2], fields[0].decode(), int(fields[1]), int(fields[19]))


def process(machine: Machine, pid: int) -> Process:
    """The process that has this number now; its start is 0 when there is none."""
    found = stat(machine.proc, pid)
    return Process(pid, found.start if found else 0)


def own(machine: Machine) -> Process:
    """The process that asks."""
    return process(machine, os.getpid())


def lives(machine: Machine, one: Process) -> bool:
    """Whether it is still that process."""
    return one.start != 0 and process(machine, one.pid) == one


def works(state: State, one: Process) -> bool:
    """Whether it lives, or the child by which it asks libvirt for something.

    That child goes on where its parent was interrupted or has stopped waiting, and what it asks for may still be done;
    but it records nothing.
    """
    return lives(state.machine, one) or locks.is_locked(state.mark_of(one))
