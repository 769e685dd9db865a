# SPDX-License-Identifier: LGPL-2.1-or-later
"""Runs commands of the administrator's own, as transient units of systemd. A child does that.

PID 1 is the parent: the command has a clean environment, none of our descriptors, and a control group of its own, which
is ended whole. Whoever comes after a crash finds it by its unit's name. Without default dependencies a start is ordered
behind nothing, so it may be waited for (systemd-run(1), systemd.service(5)).
"""

from __future__ import annotations

from libhook.light import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from libhook.facts.machine import Machine

MARGIN = 15.0
"""Seconds beside the command's own: systemd's, and for ending what does not end by itself."""
_STOP_SECONDS = 5
_SECONDS = 20.0


def run(
    machine: Machine,
    unit: str,
    argv: Sequence[str],
    environment: Mapping[str, str],
    document: bytes,
    *,
    user: str,
    seconds: float | None,
    wait: bool,
) -> tuple[int, str]:
    """Run a command, for so many ``seconds`` at most. ``wait`` for its end, or only until it has begun.

    Return its exit status and what systemd-run itself says: nothing, if the command was begun. 255 is a signal, and 1
    may be the time limit.
    """
    arguments = (
        f"--unit={unit}",
        *(("--wait",) if wait else ()),
        *(() if seconds is None else (f"--property=RuntimeMaxSec={seconds:.3f}",)),
        *((f"--uid={user}",) if user else ()),
        "--property=DefaultDependencies=no",
        f"--property=TimeoutStopSec={_STOP_SECONDS}",
        *(f"--setenv={name}={value}" for name, value in environment.items()),
        "--",
        # PID 1 puts variables into a service's arguments. Only since systemd 254 can that be switched off.
        *(argument.replace("$", "$$") for argument in argv),
    )
    return machine.kernel.systemd_run(arguments, document, MARGIN + (seconds if seconds and wait else 0.0))


def end(machine: Machine, units: Sequence[str]) -> None:
    """End what is left of these units. It is no error that there is nothing."""
    machine.kernel.systemctl(("stop", "--", *units), _SECONDS)
