# SPDX-License-Identifier: LGPL-2.1-or-later
"""Runs commands of the administrator's own where systemd does not run: each in a process group. See commands.py.

The child that asks for it waits for the command, and ends the group at the deadline. It lives on if the hook is killed,
under the mark of its work. So whoever comes next waits for that mark, and has nothing to end.
"""

from __future__ import annotations

from libhook.light import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from libhook.facts.launch import Launch
    from libhook.facts.machine import Machine


def run(machine: Machine, unit: str, launch: Launch, *, seconds: float | None, wait: bool) -> tuple[int, str]:
    """See Way. It is waited for in any case: nothing runs in the background here."""
    del wait
    status, said = machine.kernel.run_group(launch._replace(tag=_tag(unit)), seconds or 0.0, whole=True)
    return 1 if status is None else status, said


def run_old(machine: Machine, unit: str, launch: Launch, seconds: float) -> tuple[int | None, str]:
    """See Way."""
    del unit
    return machine.kernel.run_group(launch, seconds, whole=False)


def last_words(_machine: Machine, _unit: str) -> str:
    """See Way. Whatever reads the log, it is not known how to ask it."""
    return ""


def log_of(unit: str = "") -> str:
    """See Way."""
    return f"the system's log for {_tag(unit)}"


def _tag(unit: str) -> str:
    return unit.removesuffix(".service") or "libhook"


def end(_machine: Machine, _units: Sequence[str]) -> None:
    """See Way. The child that waits for a command has ended it."""


def kill_running(_machine: Machine, _pattern: str) -> None:
    """See Way, and ``end``."""
