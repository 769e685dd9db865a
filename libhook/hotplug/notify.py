# SPDX-License-Identifier: LGPL-2.1-or-later
"""Tells the service manager how a process that lasts is doing: sd_notify(3), without a library."""

import os
import socket
from collections.abc import Mapping
from contextlib import suppress

_LEAST_BEAT = 1.0
_USUAL_BEAT = 30.0


class ServiceManager:
    """Who has started us, where it was one."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        """``environment`` says where it listens, and how often it wants a sign of life."""
        self._address = environment.get("NOTIFY_SOCKET", "")
        self._allowed = environment.get("WATCHDOG_USEC", "")

    def tell(self, text: str) -> None:
        """Assignments, a line each. Nobody may listen: then nothing is lost."""
        if self._address:
            address = f"\0{self._address[1:]}" if self._address.startswith("@") else self._address
            with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                sender.sendto(os.fsencode(text), address)

    @property
    def beat(self) -> float:
        """Seconds between two signs of life, half of what is allowed."""
        return max(_LEAST_BEAT, int(self._allowed) / 2e6) if self._allowed.isdecimal() else _USUAL_BEAT
