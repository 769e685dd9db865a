# SPDX-License-Identifier: LGPL-2.1-or-later
"""A read-only connection to libvirtd that lasts, libvirt's events, and the service manager's part: for ``watch``."""

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import TYPE_CHECKING, Protocol

from libhook.effects import child
from libhook.effects.hypervisor import MISSING

if TYPE_CHECKING:
    import libvirt

_KEEPALIVE = (5, 3)
_PAUSES = (1, 2, 4, 8, 15, 30)
"""Seconds before each further attempt to connect."""
_LEAST_BEAT = 1.0


class Listener(Protocol):
    """What is told to whoever watches; ``look`` may be asked meanwhile."""

    def connected(self, running: dict[str, bytes]) -> None:
        """A connection stands: the live XML of each guest that runs, by UUID."""

    def happened(self, what: str, uuid: str, alias: str) -> None:
        """libvirt told something."""

    def lost(self, reason: str) -> None:
        """There is no connection; another attempt follows."""


class Connection:
    """Runs until it is told to stop by SIGTERM or SIGINT."""

    def __init__(self, uri: str, tell_systemd: Callable[[str], None]) -> None:
        """Connect to nothing yet. ``tell_systemd`` sends sd_notify(3) text."""
        self._uri = uri
        self._tell = tell_systemd
        self._stopping = False
        self._connection: libvirt.virConnect | None = None
        self._queue: list[tuple[str, str, str]] = []

    def look(self, uuid: str) -> bytes | None:
        """The live XML of a guest; None when it does not run."""
        import libvirt

        with suppress(libvirt.libvirtError):
            if self._connection is not None:
                domain = self._connection.lookupByUUIDString(uuid)
                if domain.isActive():
                    return str(domain.XMLDesc()).encode("utf-8", "surrogateescape")
        return None

    def run(self, listener: Listener) -> None:
        """Connect, tell what happens, connect again when libvirtd is gone; MISSING without python3-libvirt."""
        try:
            import libvirt
        except ImportError:
            raise MISSING from None

        libvirt.registerErrorHandler(lambda *_: None, None)  # it would print each to stderr
        libvirt.virEventRegisterDefaultImpl()
        self._catch_signals()
        attempts = 0
        while not self._stopping:
            try:
                connection = self._connect()
                attempts = 0
                self._serve(connection, listener)
            except libvirt.libvirtError as error:
                listener.lost(error.get_error_message() or str(error))
                self._tell("READY=1\nSTATUS=waiting for libvirtd")
            self._hang_up()
            pause = _PAUSES[min(attempts, len(_PAUSES) - 1)]
            attempts += 1
            self._rest(pause)
        self._tell("STOPPING=1")

    def _connect(self) -> "libvirt.virConnect":
        import libvirt

        connection = self._connection = libvirt.openReadOnly(self._uri)
        connection.setKeepAlive(*_KEEPALIVE)
        connection.domainEventRegisterAny(None, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, self._hear_lifecycle, None)
        for event, what in (
            (libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_ADDED, "added"),
            (libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED, "removed"),
            (libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_REMOVAL_FAILED, "kept"),
        ):
            connection.domainEventRegisterAny(None, event, self._hear_device, what)
        return connection

    def _serve(self, connection: "libvirt.virConnect", listener: Listener) -> None:
        """Until the connection ends, or we do. Events wait in a queue: libvirt must not be asked from within one."""
        import libvirt

        domains = connection.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE)
        running = {domain.UUIDString(): self.look(domain.UUIDString()) for domain in domains}
        listener.connected({uuid: document for uuid, document in running.items() if document})
        self._tell("READY=1\nSTATUS=watching")
        while not self._stopping and connection.isAlive():
            libvirt.virEventRunDefaultImpl()
            while self._queue:
                listener.happened(*self._queue.pop(0))
            child.reap()
        if not self._stopping:
            listener.lost("libvirtd closed the connection")

    def _hang_up(self) -> None:
        import libvirt

        if self._connection is not None:
            with suppress(libvirt.libvirtError):
                self._connection.close()
            self._connection = None

    def _hear_lifecycle(self, _connection: object, domain: "libvirt.virDomain", event: int, *_rest: object) -> None:
        import libvirt

        if event == libvirt.VIR_DOMAIN_EVENT_STARTED:
            self._queue.append(("began", domain.UUIDString(), ""))
        elif event == libvirt.VIR_DOMAIN_EVENT_STOPPED:
            self._queue.append(("ended", domain.UUIDString(), ""))

    def _hear_device(self, _connection: object, domain: "libvirt.virDomain", alias: str, what: str) -> None:
        self._queue.append((what, domain.UUIDString(), alias))

    def _catch_signals(self) -> None:
        """A signal ends the loop's wait at once: libvirt's poll() goes on after EINTR, so it must see a byte."""
        import libvirt

        def stop(_number: int, _frame: FrameType | None) -> None:
            self._stopping = True

        reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(writer)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, stop)
        libvirt.virEventAddHandle(
            reader, libvirt.VIR_EVENT_HANDLE_READABLE, lambda _watch, fd, *_: os.read(fd, 64), None
        )
        beat = _beat()
        libvirt.virEventAddTimeout(int(beat * 1000), lambda *_: self._tell("WATCHDOG=1"), None)

    def _rest(self, seconds: float) -> None:
        import libvirt

        until = time.monotonic() + seconds
        timer = libvirt.virEventAddTimeout(int(seconds * 1000), lambda *_: None, None)
        while not self._stopping and time.monotonic() < until:
            libvirt.virEventRunDefaultImpl()
            child.reap()
        libvirt.virEventRemoveTimeout(timer)


def _beat() -> float:
    """Seconds between two signs of life, half of what the service manager allows."""
    allowed = os.environ.get("WATCHDOG_USEC", "")
    return max(_LEAST_BEAT, int(allowed) / 2e6) if allowed.isdigit() else 30.0
