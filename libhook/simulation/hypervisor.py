# SPDX-License-Identifier: LGPL-2.1-or-later
"""Plays libvirt's API for ``libhook attach`` and ``libhook detach``: plugs devices into the guests of a Libvirt."""

from collections.abc import Callable

from libhook.children.child import Deadline
from libhook.errors import DeadlineExpired, Refused
from libhook.hotplug import request
from libhook.hotplug.hypervisor import Found, Gone, NoSuchGuest
from libhook.simulation.guests import Assigned, Guest
from libhook.simulation.libvirt import Libvirt
from libhook.xml import domxml

_NO_ANSWER = DeadlineExpired("libvirtd did not answer in time", "see whether it runs")


class Hypervisor:
    """What libvirt does, by ``attach`` and ``detach``, when it is asked.

    ``attach``: "" (all goes well), "refuses" (before anything), "monitor" (in device_add), "ends" (the guest, and with
    it the attach), "ends after", "no answer, had it", "no answer, not", "disconnected" (it has it by then).
    ``detach``: "gone", "kept", "silent" (the guest), "late" (it gives up, and the event is lost), "refuses" (libvirt),
    "ends", "no answer, gave it", "no answer, not", "disconnected" (after the guest was asked).
    """

    def __init__(self, daemon: Libvirt, *, attach: str = "", detach: str = "gone") -> None:
        """Nothing happens yet."""
        self._daemon = daemon
        self._attach = attach
        self._detach = detach
        self._lost = False
        self.meanwhile: Callable[[], object] = lambda: None
        """Happens while libvirt is asked to plug."""
        self.stopped: list[Guest] = []
        """Guests that are defined and do not run."""
        self.asked: list[tuple[str, int]] = []
        """What it was asked to do, with which flags."""

    def find(self, name: str, deadline: Deadline) -> Found:
        """By name or UUID."""
        _expect_time(deadline)
        if self._lost:
            raise Refused("libvirt: Failed to connect socket to '/run/libvirt/libvirt-sock'")
        for one in self._daemon.guests:
            if name in (one.name, one.uuid):
                return Found(one.uuid, True, one.xml(1, True))
        for one in self.stopped:
            if name in (one.name, one.uuid):
                return Found(one.uuid, False, one.xml())
        raise NoSuchGuest(f"libvirt: Domain not found: no domain with matching name '{name}'")

    def _name(self, uuid: str) -> str:
        return next(one.name for one in [*self._daemon.guests, *self.stopped] if one.uuid == uuid)

    def attach(self, uuid: str, document: bytes, flags: int, deadline: Deadline) -> None:
        """``virsh attach-device``."""
        _expect_time(deadline)
        name = self._name(uuid)
        self.asked.append(("attach", flags))
        self.meanwhile()
        if self._attach == "no answer, not":
            raise _NO_ANSWER
        if self._attach == "refuses":
            raise Refused("libvirt: unsupported configuration: told to fail")
        if flags & request.LIVE:
            fails = "monitor" if self._attach in ("monitor", "ends") else ""
            error = self._daemon.attach(name, assigned(document), fails)
            if self._attach in ("ends", "ends after"):
                self._daemon.stop(name, "crashed")
            if error:
                raise Refused(f"libvirt: {error}")
        if self._attach == "no answer, had it":
            raise _NO_ANSWER
        self._lost = self._attach == "disconnected"

    def detach(self, uuid: str, document: bytes, alias: str, flags: int, deadline: Deadline) -> Gone:
        """``virsh detach-device``, and the guest's answer."""
        _expect_time(deadline)
        name = self._name(uuid)
        self.asked.append(("detach", flags))
        self.meanwhile()
        if self._detach == "no answer, not":
            raise _NO_ANSWER
        if self._detach == "refuses":
            raise Refused("libvirt: operation failed: told to fail")
        if flags & request.LIVE:
            if not alias.startswith("hostdev"):
                raise Refused(f"libvirt: device not found: no device with the alias {alias!r}")
            if self._detach in ("gone", "late", "no answer, gave it"):
                self._daemon.unplug(name, domxml.parse_device(document).devices[0].address)
            if self._detach == "ends":
                self._daemon.stop(name, "shutdown")
        if self._detach == "no answer, gave it":
            raise _NO_ANSWER
        self._lost = self._detach == "disconnected"
        return "kept" if self._detach == "kept" else "gone" if self._detach == "gone" else "silent"


def assigned(document: bytes) -> Assigned:
    """The device of a document."""
    (device,) = domxml.parse_device(document).devices
    return Assigned(device.address, device.managed, device.source, device.model or "")


def _expect_time(deadline: Deadline) -> None:
    if deadline.left <= 0:
        raise AssertionError("libvirt is asked after the deadline")
