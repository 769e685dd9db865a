# SPDX-License-Identifier: LGPL-2.1-or-later
"""Runs commands of the administrator's own as transient units of systemd. See commands.py.

PID 1 is the parent: the command has a clean environment, none of our descriptors, and a control group of its own, which
is ended whole. Whoever comes after a crash finds it by its unit's name. Without default dependencies a start is ordered
behind nothing, so it may be waited for (systemd-run(1), systemd.service(5)).
"""

from __future__ import annotations

import errno
import os
import time

from libhook.effects.commands import MARGIN
from libhook.errors import pasted
from libhook.facts.launch import MOST_OUTPUT
from libhook.light import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from libhook.facts.launch import Launch
    from libhook.facts.machine import Machine

_STOP_SECONDS = 5
_SECONDS = 20.0
_LONGEST = 1000
"""Characters of a script's last line."""
_TO_LOG = ("/usr/bin/systemd-cat", "--identifier=libhook", "--priority=info", "--stderr-priority=warning",
           "--level-prefix=false", "--")  # fmt: skip
"""What a script prints, for ``journalctl -t libhook``. What it says on stderr can be told apart (systemd-cat(1))."""
_TO_FILE = ("/usr/bin/nice", "-n", "0", "--")
"""Changes nothing. PID 1 takes no ``$`` in the path of a program, and a guest's name may have one."""
_AS_UNDER_LIBVIRT = (
    "DefaultDependencies=no",
    f"TimeoutStopSec={_STOP_SECONDS}",
    "KillMode=process",  # what a script leaves running on purpose goes on
    "IgnoreSIGPIPE=no",  # virFork() sets all signals to their defaults
    "IgnoreOnIsolate=yes",  # many scripts isolate multi-user.target, which does not end libvirtd
)


def run(
    machine: Machine,
    unit: str,
    launch: Launch,
    *,
    seconds: float | None,
    wait: bool,
) -> tuple[int, str]:
    """See Way. What systemd-run itself says is why the command was not begun."""
    arguments = (
        f"--unit={unit}",
        *(("--wait",) if wait else ()),
        *(() if seconds is None else (f"--property=RuntimeMaxSec={seconds:.3f}",)),
        *((f"--uid={launch.user}",) if launch.user else ()),
        "--property=DefaultDependencies=no",
        "--property=IgnoreOnIsolate=yes",  # a command that isolates a target would end itself
        f"--property=TimeoutStopSec={_STOP_SECONDS}",
        *(f"--setenv={name}={value}" for name, value in launch.environment.items()),
        "--",
        *map(_escaped, launch.argv),
    )
    return machine.kernel.systemd_run(arguments, launch.document, MARGIN + (seconds if seconds and wait else 0.0))


def _escaped(argument: str) -> str:
    """PID 1 puts variables into a service's arguments. Only since systemd 254 can that be switched off."""
    return argument.replace("$", "$$")


def run_old(machine: Machine, unit: str, launch: Launch, seconds: float) -> tuple[int | None, str]:
    """See Way. Like libvirtd, a unit of systemd has systemd's PATH, / as its folder, and 0022 as its umask.

    The file for its output is opened by PID 1.
    """
    begun, output = time.monotonic(), launch.output
    to_file = (
        f"StandardOutput=file:/proc/{os.getpid()}/fd/{output}",
        f"LimitFSIZE={MOST_OUTPUT}",
        "StandardError=journal",
        "SyslogIdentifier=libhook",
        "SyslogLevel=warning",
        "SyslogLevelPrefix=no",
    )
    arguments = (
        f"--unit={unit}",
        "--wait",
        *(f"--property={one}" for one in (*_AS_UNDER_LIBVIRT, *(to_file if output >= 0 else ()))),
        f"--property=RuntimeMaxSec={seconds + MARGIN:.3f}",  # for when nobody is there to end it
        *(f"--setenv={name}={value}" for name, value in launch.environment.items()),
        "--",
        *(_TO_FILE if output >= 0 else _TO_LOG),
        *map(_escaped, launch.argv),
    )
    status, said = machine.kernel.systemd_run(arguments, launch.document, seconds)
    if status == errno.ETIMEDOUT and time.monotonic() - begun >= seconds:  # it is also an exit status
        _kill(machine, [unit])
        return None, said
    return status, said


def last_words(machine: Machine, unit: str) -> str:
    """See Way."""
    machine.kernel.journalctl(("--sync",), _SECONDS)
    match = ("SYSLOG_IDENTIFIER=libhook", "PRIORITY=4", f"_SYSTEMD_UNIT={unit}")
    _, text = machine.kernel.journalctl(("--quiet", "--output=cat", "--lines=1", *match), _SECONDS)
    return text.strip()[:_LONGEST]


def _kill(machine: Machine, units: Sequence[str]) -> None:
    """End all processes of these units, whatever they started. A unit keeps what was started until it has ended."""
    machine.kernel.systemctl(("kill", "--signal=KILL", "--", *units), _SECONDS)
    end(machine, units)


def kill_running(machine: Machine, pattern: str) -> None:
    """See Way."""
    _, text = machine.kernel.systemctl(("show", "--property=Id,ActiveState", "--", pattern), _SECONDS)
    found = [dict(line.partition("=")[::2] for line in block.splitlines()) for block in text.split("\n\n")]
    running = [one["Id"] for one in found if one.get("ActiveState") not in (None, "inactive", "failed")]
    if running:
        _kill(machine, running)


def end(machine: Machine, units: Sequence[str]) -> None:
    """See Way. Each alone: systemd 262 stops none if one is not there, as mostly the command or its undo is not."""
    for unit in units:
        machine.kernel.systemctl(("stop", "--", unit), _SECONDS)


def log_of(unit: str = "") -> str:
    """See Way."""
    return f"journalctl -u {pasted(unit)}" if unit else "journalctl -t libhook"
