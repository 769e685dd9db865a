# SPDX-License-Identifier: LGPL-2.1-or-later
"""Runs commands of the administrator's own: by systemd where it runs, and elsewhere in process groups.

Both give a command a clean environment and none of our descriptors, and end it at its deadline.
"""

from __future__ import annotations

from libhook.effects import systemd
from libhook.light import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from libhook.facts.launch import Launch
    from libhook.facts.machine import Machine

MARGIN = 15.0
"""Seconds beside the command's own: for beginning it, and for ending what does not end by itself."""


class Way(Protocol):
    """One of the two: transient.py and group.py. All this may block: a child does it."""

    def run(self, machine: Machine, unit: str, launch: Launch, *, seconds: float | None, wait: bool) -> tuple[int, str]:
        """Run a command, for so many ``seconds`` at most. ``wait`` for its end, or only until it has begun.

        Return its exit status and why it was not begun, or "". 255 is a signal, and 1 may be the time limit.
        """

    def run_old(self, machine: Machine, unit: str, launch: Launch, seconds: float) -> tuple[int | None, str]:
        """Run an old hook script as libvirt does, but with a deadline. What it prints goes to the log.

        Return the same as ``run``. The status is None if the script was late. Then all of it is ended.
        """

    def last_words(self, machine: Machine, unit: str) -> str:
        """The last line that a script said on stderr, "" if it said nothing or nobody knows."""

    def kill_running(self, machine: Machine, pattern: str) -> None:
        """End all processes of the units that match and still run. What a script that has ended has left goes on."""

    def end(self, machine: Machine, units: Sequence[str]) -> None:
        """End what is left of these units. It is no error that there is nothing."""

    def log_of(self, unit: str = "") -> str:
        """Where to read what a command has printed. Old scripts have no ``unit`` there."""


def way(machine: Machine) -> Way:
    """How commands are run on this host."""
    if systemd.runs(machine):
        from libhook.effects import transient

        return transient
    from libhook.effects import group  # few hosts need it

    return group
