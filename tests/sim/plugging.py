# SPDX-License-Identifier: LGPL-2.1-or-later
"""``libhook attach`` and ``detach`` on a simulated host: libvirt's API over its libvirtd, failing where it is told."""

from collections.abc import Callable
from typing import NamedTuple

from cases import NAMESPACE
from scenario import Host, document, guest, reap

from libhook.children.child import Deadline
from libhook.effects.log import Log
from libhook.errors import DeadlineExpired, LibhookError, Refused
from libhook.hotplug import plug, request, unplug
from libhook.hotplug.hypervisor import Found, Gone, NoSuchGuest
from libhook.simulation.guests import Assigned, Guest
from libhook.simulation.hosts import workstation
from libhook.simulation.world import World
from libhook.xml import domxml

_NO_ANSWER = DeadlineExpired("libvirtd did not answer in time", "see whether it runs")


class Hypervisor:
    """What libvirt does, by ``attach`` and ``detach``, when it is asked.

    ``attach``: "" (all goes well), "refuses" (before anything), "monitor" (in device_add), "ends" (the guest, and with
    it the attach), "ends after", "no answer, had it", "no answer, not", "disconnected" (it has it by then).
    ``detach``: "gone", "kept", "silent" (the guest), "late" (it gives up, and the event is lost), "refuses" (libvirt),
    "ends", "no answer, gave it", "no answer, not", "disconnected" (after the guest was asked).
    """

    def __init__(self, host: Host, *, attach: str = "", detach: str = "gone") -> None:
        """Nothing happens yet."""
        self._host = host
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
        assert deadline.left > 0
        if self._lost:
            raise Refused("libvirt: Failed to connect socket to '/run/libvirt/libvirt-sock'")
        for one in self._host.libvirt.guests:
            if name in (one.name, one.uuid):
                return Found(one.uuid, True, one.xml(1, True))
        for one in self.stopped:
            if name in (one.name, one.uuid):
                return Found(one.uuid, False, one.xml())
        raise NoSuchGuest(f"libvirt: Domain not found: no domain with matching name '{name}'")

    def _name(self, uuid: str) -> str:
        found = [one.name for one in [*self._host.libvirt.guests, *self.stopped] if one.uuid == uuid]
        assert found
        return found[0]

    def attach(self, uuid: str, document: bytes, flags: int, deadline: Deadline) -> None:
        """``virsh attach-device``."""
        assert deadline.left > 0
        name = self._name(uuid)
        self.asked.append(("attach", flags))
        self.meanwhile()
        if self._attach == "no answer, not":
            raise _NO_ANSWER
        if self._attach == "refuses":
            raise Refused("libvirt: unsupported configuration: told to fail")
        if flags & request.LIVE:
            fails = "monitor" if self._attach in ("monitor", "ends") else ""
            error = self._host.libvirt.attach(name, assigned(document), fails)
            if self._attach in ("ends", "ends after"):
                self._host.libvirt.stop(name, "crashed")
            if error:
                raise Refused(f"libvirt: {error}")
        if self._attach == "no answer, had it":
            raise _NO_ANSWER
        self._lost = self._attach == "disconnected"

    def detach(self, uuid: str, document: bytes, alias: str, flags: int, deadline: Deadline) -> Gone:
        """``virsh detach-device``, and the guest's answer."""
        assert deadline.left > 0
        name = self._name(uuid)
        self.asked.append(("detach", flags))
        self.meanwhile()
        if self._detach == "no answer, not":
            raise _NO_ANSWER
        if self._detach == "refuses":
            raise Refused("libvirt: operation failed: told to fail")
        if flags & request.LIVE:
            assert alias.startswith("hostdev")
            if self._detach in ("gone", "late", "no answer, gave it"):
                self._host.libvirt.unplug(name, domxml.parse_device(document).devices[0].address)
            if self._detach == "ends":
                self._host.libvirt.stop(name, "shutdown")
        if self._detach == "no answer, gave it":
            raise _NO_ANSWER
        self._lost = self._detach == "disconnected"
        return "kept" if self._detach == "kept" else "gone" if self._detach == "gone" else "silent"


class Scripted(Hypervisor):
    """A guest whose XML, before and after it is asked, is all there is of it: for what is not simulated."""

    def __init__(
        self, host: Host, before: bytes, after: bytes, *, detach: Gone = "gone", has: tuple[Assigned, ...] = ()
    ) -> None:
        """It runs; libvirt, too, says so by the file it has. ``has``: what QEMU has open all the time."""
        super().__init__(host)
        host.libvirt.start(Guest(devices=has))
        self._documents = [before, after]
        self._answer: Gone = detach

    def find(self, name: str, deadline: Deadline) -> Found:
        """The only guest."""
        assert deadline.left > 0
        assert name
        return Found(Guest().uuid, True, self._documents[0])

    def attach(self, uuid: str, document: bytes, flags: int, deadline: Deadline) -> None:
        """It has it."""
        assert (uuid, deadline.left > 0) == (Guest().uuid, True)
        assert document
        self._change("attach", flags)

    def detach(self, uuid: str, document: bytes, alias: str, flags: int, deadline: Deadline) -> Gone:
        """It gives it up, or does not."""
        assert (uuid, deadline.left > 0, alias != "") == (Guest().uuid, True, True)
        assert document
        if self._answer == "gone":
            self._change("detach", flags)
        return self._answer

    def _change(self, what: str, flags: int) -> None:
        self.asked.append((what, flags))
        self._documents.pop(0)


def running(root: str, *devices: str, world: World | None = None, config: str = "") -> Host:
    """A host whose guest win11 runs with these devices."""
    host = Host(root, world or workstation(), config)
    assert host.libvirt.start(guest(*devices)).error == ""
    return host


class Done(NamedTuple):
    """How a command ended: what it printed, and its error's line."""

    lines: list[str]
    error: str


def attach(host: Host, hypervisor: request.Hypervisor, document: bytes, **options: object) -> Done:
    """``libhook attach win11``, with what else of the Request."""
    return _run(host, "attach", hypervisor, document, options)


def detach(host: Host, hypervisor: request.Hypervisor, document: bytes, **options: object) -> Done:
    """``libhook detach win11``."""
    return _run(host, "detach", hypervisor, document, options)


def _run(host: Host, verb: str, hypervisor: request.Hypervisor, document: bytes, options: dict[str, object]) -> Done:
    wanted = request.Request("win11", document)._replace(**options)  # type: ignore[arg-type]
    lines = []
    try:
        with Log(host.machine, operation=verb) as log:
            for line in (plug.attach if verb == "attach" else unplug.detach)(host.machine, log, hypervisor, wanted):
                lines.append(line)
    except LibhookError as error:
        return Done(lines, error.line)
    finally:
        reap(host.patience)
    return Done(lines, "")


def xml(address: str, *, managed: bool = False, source: str = "hostdev") -> bytes:
    """A device's own document."""
    return Assigned(address, managed, source).xml(0).strip().encode()


def assigned(document: bytes) -> Assigned:
    """The device of a document."""
    (device,) = domxml.parse_device(document).devices
    return Assigned(device.address, device.managed, device.source, device.model or "")


def namespaces(*numbers: int) -> Guest:
    """The guest as it runs, with these of DISK's namespaces: libvirt's vda is the first, alias virtio-disk1."""
    disks = (
        namespace(number).decode().replace("</disk>", f"<alias name='virtio-disk{number}'/></disk>")
        for number in numbers
    )
    return Guest(document=document("".join(disks)))


def namespace(number: int) -> bytes:
    """One's own document."""
    return NAMESPACE.format(number, "abc"[number - 1]).encode()
