# SPDX-License-Identifier: LGPL-2.1-or-later
"""Stops and starts units of systemd. Both may take long, so a child does it.

Stops may be waited for, starts not.
"""

from __future__ import annotations

import errno
import os
import time

from libhook.light import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from libhook.facts.machine import Machine

STOP_SECONDS = 100.0
"""That a unit may take to stop. systemd itself kills what is left after 90 s, unless the unit says otherwise."""
_SECONDS = 20.0


def runs(machine: Machine) -> bool:
    """Whether systemd runs on this host (sd_booted(3))."""
    return os.path.isdir(f"{machine.root}/run/systemd/system")


def stop(machine: Machine, names: Sequence[str]) -> None:
    """Stop these units, and wait until systemd has done that. Whether they really stopped must be looked at.

    A stop job is "done" even if the unit failed to stop. A job that is late is cancelled: it would end later, when
    nobody expects that.

    With a mount, systemd stops exactly these: else local-fs.target would stop, too, and starting that again mounts all
    of fstab. Automounts come after all else. They detach what is still mounted there, busy or not (automount_stop()).
    """
    if not any(name.endswith(".mount") for name in names):
        _stop(machine, (), names)
        return
    later = [name for name in names if name.endswith(".automount")]
    ordered = sorted(set(names).difference(later), key=lambda name: (name.endswith(".mount"), -name.count("-"), name))
    for some in filter(None, (ordered, later)):
        _stop(machine, ("--job-mode=ignore-requirements",), some)


def _stop(machine: Machine, how: Sequence[str], names: Sequence[str]) -> None:
    status = _ask(machine, ("stop", *how), names, STOP_SECONDS)
    if status == errno.ETIMEDOUT:
        _, text = machine.kernel.systemctl(("show", "--property=Job", "--value", "--", *names), _SECONDS)
        if jobs := [job for job in text.split() if job.isdecimal() and job != "0"]:
            machine.kernel.systemctl(("cancel", "--", *jobs), _SECONDS)
        raise OSError(status, os.strerror(status))
    if status:
        raise OSError(errno.EIO, os.strerror(errno.EIO))


def start(machine: Machine, names: Sequence[str]) -> None:
    """Have systemd start these units, and do not wait: a start may be ordered behind the unit that waits for this hook.

    Services come last: a socket does not start while its service runs (socket_start() in systemd's core/socket.c).
    """
    ordered = sorted(names, key=lambda name: (name.endswith(".service"), name))
    if _ask(machine, ("start", "--no-block"), ordered, _SECONDS):
        raise OSError(errno.EIO, os.strerror(errno.EIO))


def _ask(machine: Machine, words: Sequence[str], names: Sequence[str], seconds: float) -> int:
    """Ask systemd for the same of each of these units. Return the exit status of systemctl.

    systemd 262 does all or nothing (EnqueueUnitJobMany): a unit that is gone by now would keep the others as they are.
    """
    until = time.monotonic() + seconds
    status, _ = machine.kernel.systemctl((*words, "--", *names), seconds)
    if status in (0, errno.ETIMEDOUT) or len(names) == 1:
        return status
    return max(machine.kernel.systemctl((*words, "--", name), max(until - time.monotonic(), 0.0))[0] for name in names)
