# SPDX-License-Identifier: LGPL-2.1-or-later
"""Writes down for the launcher which guests are served without host devices, or at each operation.

So it need not start Python for others.
"""

from __future__ import annotations

import os

from libhook.effects import files
from libhook.light import TYPE_CHECKING, suppress

if TYPE_CHECKING:
    from libhook.facts.config import Served
    from libhook.facts.machine import Machine

_BACK = 1_000_000_000


def write(machine: Machine, served: Served) -> None:
    """Write the list. If that fails, the launcher asks.

    The launcher believes it while it is newer than the settings. A file's time may lag behind the clock, and some
    shells compare whole seconds. So it is dated a second back.
    """
    path, dated = f"{machine.state}/served", served.read - _BACK
    text = "".join(f"{name}\n" for name in served.names)
    temporary = f"{path}.{os.getpid()}"  # of two processes, neither may put the other's half file in place
    with suppress(OSError):
        with suppress(FileExistsError):
            os.mkdir(machine.state, 0o700)
        files.replace(temporary, text)
        os.utime(temporary, ns=(dated, dated))
        os.rename(temporary, path)
