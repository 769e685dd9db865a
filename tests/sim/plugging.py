# SPDX-License-Identifier: LGPL-2.1-or-later
"""``libhook attach`` and ``detach`` on a simulated host: libvirt's API over its libvirtd, failing where it is told."""

from typing import NamedTuple

from cases import NAMESPACE
from scenario import Host, document, guest

from libhook.children.child import Deadline
from libhook.effects.log import Log
from libhook.errors import DeadlineExpired, LibhookError
from libhook.hotplug import plug, request, unplug
from libhook.hotplug.hypervisor import Found, Gone
from libhook.simulation.guests import Assigned, Guest
from libhook.simulation.hosts import workstation
from libhook.simulation.hypervisor import Hypervisor
from libhook.simulation.world import World

_NO_ANSWER = DeadlineExpired("libvirtd did not answer in time", "see whether it runs")


class Scripted(Hypervisor):
    """A guest whose XML, before and after it is asked, is all there is of it: for what is not simulated."""

    def __init__(
        self, host: Host, before: bytes, after: bytes, *, detach: Gone = "gone", has: tuple[Assigned, ...] = ()
    ) -> None:
        """It runs; libvirt, too, says so by the file it has. ``has``: what QEMU has open all the time."""
        super().__init__(host.libvirt)
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
        host.settle()
    return Done(lines, "")


def xml(address: str, *, managed: bool = False, source: str = "hostdev") -> bytes:
    """A device's own document."""
    return Assigned(address, managed, source).xml(0).strip().encode()


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
