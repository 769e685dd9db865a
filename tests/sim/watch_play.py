# SPDX-License-Identifier: LGPL-2.1-or-later
"""`libhook watch` on a simulated host, told by a libvirt that is the test."""

from scenario import Host, reap

from libhook.hotplug.watch import Watcher
from libhook.simulation.guests import Guest

UUID = Guest().uuid


class Watched:
    """A watch, and the one guest that libvirt tells it of."""

    def __init__(self, host: Host) -> None:
        """The guest does not run yet."""
        self._host = host
        self.guest: Guest | None = None
        self.watcher = Watcher(host.machine, lambda _: self._xml())

    def _xml(self) -> bytes | None:
        return self.guest.xml(1, prepared=True) if self.guest else None

    def begin(self, guest: Guest) -> None:
        """The guest starts before the eyes of the watch."""
        self._host.libvirt.start(guest)
        self.tell("began", now=guest)

    def again(self) -> None:
        """This watch ends, the next begins and finds what runs."""
        self.watcher = Watcher(self._host.machine, lambda _: self._xml())
        self.connect()

    def connect(self) -> None:
        """A connection stands, to a new libvirtd perhaps."""
        document = self._xml()
        self.watcher.connected({UUID: document} if document else {})
        assert reap(60)

    def tell(self, what: str, alias: str = "", now: Guest | None = None) -> None:
        """One event, after which the guest has the devices of ``now``."""
        self.guest = now or self.guest
        self.watcher.happened(what, UUID, alias)
        assert reap(60)
