# SPDX-License-Identifier: LGPL-2.1-or-later
"""Tells systemd how a service is doing, as sd_notify(3) does, but without a library."""

import os
import socket
from collections.abc import Mapping
from contextlib import suppress

_LEAST_BEAT = 1.0
_USUAL_BEAT = 30.0


class ServiceManager:
    """The service manager that started us, if one did."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        """Read from ``environment`` where it listens, and how often it wants a sign of life."""
        self._address = environment.get("NOTIFY_SOCKET", "")
        self._allowed = environment.get("WATCHDOG_USEC", "")

    def tell(self, text: str) -> None:
        """Send assignments, one per line. If nobody listens, nothing happens."""
        if self._address:
            address = f"\0{self._address[1:]}" if self._address.startswith("@") else self._address
            with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                sender.sendto(os.fsencode(text), address)

    @property
    def beat(self) -> float:
        """Seconds between two signs of life: half of what is allowed, but at least 1; 30 if nothing is asked for."""
        return max(_LEAST_BEAT, int(self._allowed) / 2e6) if self._allowed.isdecimal() else _USUAL_BEAT
