# SPDX-License-Identifier: LGPL-2.1-or-later
"""Keeps a read-only connection to libvirtd and receives its events, for ``watch``."""

import os
import signal
import time
from contextlib import suppress
from types import FrameType
from typing import TYPE_CHECKING, Protocol

from libhook.children import child
from libhook.children.child import Deadline
from libhook.errors import harmless, printable
from libhook.hotplug.hypervisor import MISSING
from libhook.hotplug.notify import ServiceManager

if TYPE_CHECKING:
    import libvirt

_KEEPALIVE = (5, 3)
_PAUSES = (1, 2, 4, 8, 15, 30)
"""Seconds to wait before each further attempt to connect. The last one repeats."""
_LAST_WORDS = 5.0
"""Seconds to wait at the end for children that still write the log. systemd kills those that are left."""


class Listener(Protocol):
    """Gets the events. It may call ``Connection.look`` meanwhile."""

    def connected(self, running: dict[str, bytes]) -> None:
        """We are connected. ``running`` has the live XML of each guest that runs, by UUID."""

    def happened(self, what: str, uuid: str, alias: str) -> None:
        """libvirt sent an event. ``alias`` is "" for an event of the guest itself."""

    def awake(self) -> None:
        """Some seconds have passed, or something has happened."""

    def lost(self, reason: str) -> None:
        """The connection is lost or could not be made. Another attempt follows."""


class Connection:
    """The connection. It runs until SIGTERM or SIGINT."""

    def __init__(self, uri: str, manager: ServiceManager) -> None:
        """Remember the URI. ``run`` connects."""
        self._uri = uri
        self._manager = manager
        self._stopping = False
        self._connection: libvirt.virConnect | None = None
        self._queue: list[tuple[str, str, str]] = []

    def look(self, uuid: str) -> bytes | None:
        """Return the live XML of a guest; None if it does not run, or libvirtd does not say."""
        import libvirt

        with suppress(libvirt.libvirtError):
            if self._connection is not None:
                domain = self._connection.lookupByUUIDString(uuid)
                if domain.isActive():
                    return str(domain.XMLDesc()).encode("utf-8", "surrogateescape")
        return None

    def run(self, listener: Listener) -> None:
        """Connect, pass events on, and connect again when libvirtd is gone. MISSING without python3-libvirt."""
        try:
            import libvirt
        except ImportError:
            raise MISSING from None

        libvirt.registerErrorHandler(lambda *_: None, None)  # otherwise libvirt prints each error to stderr
        libvirt.virEventRegisterDefaultImpl()
        self._catch_signals()
        attempts = 0
        while not self._stopping:
            try:
                connection = self._connect()
                attempts = 0
                self._serve(connection, listener)
            except libvirt.libvirtError as error:
                self._lost(listener, error.get_error_message() or str(error))
            self._hang_up()
            pause = _PAUSES[min(attempts, len(_PAUSES) - 1)]
            attempts += 1
            self._rest(pause)
        self._manager.tell("STOPPING=1\nSTATUS=")
        child.reap(Deadline.after(_LAST_WORDS))

    def alive(self, *_: object) -> None:
        """Give systemd a sign of life during long work. Each step of that work has its own deadline."""
        self._manager.tell("WATCHDOG=1")

    def _lost(self, listener: Listener, reason: str) -> None:
        self._manager.tell(f"READY=1\nSTATUS=waiting for libvirtd: {printable(harmless(reason))}")
        listener.lost(reason)

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
        """Pass events on until the connection ends or we stop. A queue holds them: a callback may not call libvirt."""
        import libvirt

        domains = connection.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE)
        running = {domain.UUIDString(): self.look(domain.UUIDString()) for domain in domains}
        listener.connected({uuid: document for uuid, document in running.items() if document})
        self._manager.tell(f"READY=1\nSTATUS=watching {printable(self._uri)}")
        while not self._stopping and connection.isAlive():
            libvirt.virEventRunDefaultImpl()
            while self._queue:
                listener.happened(*self._queue.pop(0))
                self.alive()
            listener.awake()
            child.reap()
        if not self._stopping:
            self._lost(listener, "libvirtd closed the connection")

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
        """Make a signal end the loop's wait at once. libvirt's poll() goes on after EINTR, so a byte must wake it."""
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
        libvirt.virEventAddTimeout(int(self._manager.beat * 1000), self.alive, None)

    def _rest(self, seconds: float) -> None:
        import libvirt

        until = time.monotonic() + seconds
        timer = libvirt.virEventAddTimeout(int(seconds * 1000), lambda *_: None, None)
        while not self._stopping and time.monotonic() < until:
            libvirt.virEventRunDefaultImpl()
            child.reap()
        libvirt.virEventRemoveTimeout(timer)
