# SPDX-License-Identifier: LGPL-2.1-or-later
"""Runs commands of the administrator's own in control groups, where systemd does not run. See commands.py.

A group is a folder of cgroup v2, ``libhook/UNIT.PID``: the name of the unit that systemd would make, and the command's
process. Whoever comes after a crash finds it by that name. ``cgroup.kill`` ends all processes in it, whatever they did
to their sessions and parents, and no process can fork past it (Linux 5.14). A group can be removed once they are gone.
"""

from __future__ import annotations

import errno
import os
import time

from libhook.children import child
from libhook.children.child import Deadline
from libhook.light import TYPE_CHECKING, partial, suppress

if TYPE_CHECKING:
    from collections.abc import Sequence

    from libhook.facts.launch import Launch
    from libhook.facts.machine import Machine

_MOUNTS = ("fs/cgroup", "fs/cgroup/unified")
"""Where cgroup v2 is mounted below /sys: alone, or beside v1."""
_LEAST = (5, 14)
_STOP_SECONDS = 5.0
"""From SIGTERM to SIGKILL."""
_KILL_SECONDS = 15.0
_LOOK_AGAIN = 0.02
_SIGTERM = 15
_BY_SIGNAL = 255
"""What systemd-run answers when a signal has ended the command."""


def missing(machine: Machine) -> tuple[str, str] | None:
    """What this host lacks, and what would help; None if commands can be run here."""
    with open(f"{machine.proc}/sys/kernel/osrelease", encoding="ascii") as file:
        release = file.read().strip()
    numbers = release.replace("-", ".").replace("+", ".").split(".")
    if tuple(map(int, numbers[:2])) < _LEAST:
        return f"Linux {release} has no cgroup.kill", "boot Linux 5.14 or later"
    if not _folder(machine):
        return "cgroup v2 is not mounted at /sys/fs/cgroup or /sys/fs/cgroup/unified", "mount it there"
    return None


def _folder(machine: Machine) -> str:
    """libhook's own, below /sys; "" where there is no cgroup v2."""
    mounted = (one for one in _MOUNTS if os.path.exists(f"{machine.sys}/{one}/cgroup.controllers"))
    return next((f"{one}/libhook" for one in mounted), "")


def run(machine: Machine, unit: str, launch: Launch, *, seconds: float | None, wait: bool) -> tuple[int, str]:
    """See Way. Who waits for the command ends it in time; else a process that is left behind for that does."""
    if any(_processes(machine, group) for group in _groups(machine, unit)):
        return 1, f"{unit} runs already"
    launch = launch._replace(tag=_tag(unit))
    try:
        pid, handle = machine.kernel.run_in_group(f"{_folder(machine)}/{unit}", launch)
    except OSError as error:
        return 1, str(error.strerror)
    status = 0
    if wait:
        found = _status(pid, handle, seconds or 0.0)
        status = 1 if found is None else found
        end(machine, [unit])
    elif seconds is not None:
        child.spawn(partial(_watch, machine, unit, handle, seconds), keep=handle).abandon()
    os.close(handle)
    return status, ""


def _watch(machine: Machine, unit: str, handle: int, seconds: float) -> None:
    child.ended([handle], Deadline.after(seconds))
    end(machine, [unit])


def run_old(machine: Machine, unit: str, launch: Launch, seconds: float) -> tuple[int | None, str]:
    """See Way. What the script leaves goes on in its group, which ``kill_running`` removes later."""
    try:
        pid, handle = machine.kernel.run_in_group(f"{_folder(machine)}/{unit}", launch)
    except OSError as error:
        return 1, str(error.strerror)
    status = _status(pid, handle, seconds)
    os.close(handle)
    groups = _groups(machine, unit)
    if status is None:
        _kill(machine, groups)
    else:
        _removed(machine, groups, 0.0)
    return status, ""


def _status(pid: int, handle: int, seconds: float) -> int | None:
    """The exit status, 255 for a signal, None if it has not ended in time."""
    if not child.ended([handle], Deadline.after(seconds)):
        return None
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return code if code >= 0 else _BY_SIGNAL


def last_words(_machine: Machine, _unit: str) -> str:
    """See Way. Whatever reads the log, it is not known how to ask it."""
    return ""


def log_of(unit: str = "") -> str:
    """See Way."""
    return f"the system's log for {_tag(unit)}"


def _tag(unit: str) -> str:
    return unit.removesuffix(".service") or "libhook"


def end(machine: Machine, units: Sequence[str]) -> None:
    """See Way. As systemd does: tell all to end, and a few seconds later end them."""
    groups = [group for unit in units for group in _groups(machine, unit)]
    for group in groups:
        for pid in _processes(machine, group):
            with suppress(OSError):
                machine.kernel.signal(pid, _SIGTERM, partial(_has, machine, group, pid))
    _kill(machine, _removed(machine, groups, _STOP_SECONDS))


def kill_running(machine: Machine, pattern: str) -> None:
    """See Way. The process that a group is named after is the script itself. A zombie is not listed."""
    left = _removed(machine, _groups(machine, pattern), 0.0)
    _kill(machine, [group for group in left if int(group.rpartition(".")[2]) in _processes(machine, group)])


def _kill(machine: Machine, groups: Sequence[str]) -> None:
    """End all processes of these groups. Those that hang in the kernel are not waited for without limit."""
    deadline = Deadline.after(_KILL_SECONDS)
    while groups and deadline.left:
        for group in groups:
            with suppress(OSError):  # it has just gone
                machine.kernel.write(f"{group}/cgroup.kill", "1")
        groups = _removed(machine, groups, _LOOK_AGAIN)


def _removed(machine: Machine, groups: Sequence[str], seconds: float) -> Sequence[str]:
    """Remove each group as soon as no process is in it, for so long. Return those that are left."""
    deadline = Deadline.after(seconds)
    while True:
        groups = [group for group in groups if not _is_removed(machine, group)]
        if not groups or not deadline.left:
            return groups
        time.sleep(_LOOK_AGAIN)


def _is_removed(machine: Machine, group: str) -> bool:
    try:
        machine.kernel.remove_group(group)
    except OSError as error:
        return error.errno == errno.ENOENT
    return True


def _groups(machine: Machine, pattern: str) -> list[str]:
    """The groups of a unit, or of all whose names begin as the ``pattern`` does before its ``*``."""
    folder = _folder(machine)
    with suppress(FileNotFoundError):
        names = os.listdir(f"{machine.sys}/{folder}") if folder else []
        begin, star, _ = pattern.partition("*")
        units = ((name, name.rpartition(".")[0]) for name in names)
        return [f"{folder}/{name}" for name, unit in units if unit == begin or (star and unit.startswith(begin))]
    return []


def _processes(machine: Machine, group: str) -> list[int]:
    with suppress(OSError), open(f"{machine.sys}/{group}/cgroup.procs", encoding="ascii") as file:
        return list(map(int, file.read().split()))
    return []


def _has(machine: Machine, group: str, pid: int) -> bool:
    """Whether the process is in this group. The group's own list would have to be read for each of its processes."""
    name = group.rpartition("/")[2]
    with suppress(OSError), open(f"{machine.proc}/{pid}/cgroup", encoding="utf-8", errors="replace") as file:
        return any(line.startswith("0::") and line.rstrip("\n").endswith(f"/{name}") for line in file)
    return False
