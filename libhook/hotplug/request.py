# SPDX-License-Identifier: LGPL-2.1-or-later
"""A request to ``attach`` or ``detach``: what was asked, what is known of the guest, and what would be done."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple, Protocol

from libhook.children.child import Deadline
from libhook.effects.log import Log
from libhook.errors import Refused, named
from libhook.facts.domain import Domain, HostDevice
from libhook.facts.event import ATTACH, Event, Operation
from libhook.facts.machine import Machine
from libhook.facts.plan import Plan
from libhook.hotplug import handover
from libhook.hotplug.hypervisor import Found, Gone, NoSuchGuest
from libhook.hotplug.parts import consulted, leaving_with
from libhook.look import libvirtd
from libhook.story import foresight
from libhook.story.session import Session
from libhook.story.taking import refused, too_many
from libhook.xml import domxml
from libhook.xml.domxml import DeviceXml

LIVE, CONFIG = 1, 2
"""VIR_DOMAIN_AFFECT_LIVE and _CONFIG."""
UNKNOWN = "when libvirtd answers again, run: libhook recover"


class Hypervisor(Protocol):
    """What libvirt is asked to do (hotplug/hypervisor.py)."""

    def find(self, name: str, deadline: Deadline) -> Found:
        """Return the guest of this name, UUID or number."""

    def attach(self, uuid: str, document: bytes, flags: int, deadline: Deadline) -> None:
        """Plug the device in."""

    def detach(self, uuid: str, document: bytes, alias: str, flags: int, deadline: Deadline) -> Gone:
        """Plug the device out, and wait for the guest's answer."""


class Request(NamedTuple):
    """What the command line asks for."""

    guest: str
    """Name, UUID or number."""
    document: bytes
    """The device's XML."""
    live: bool = False
    config: bool = False
    """Without ``live`` and ``config`` it is the guest as it is now, as virsh does."""
    timeout: float = 30.0
    """Seconds that libvirt has to answer, and at detach the guest."""
    dry_run: bool = False


class Plugging(NamedTuple):
    """One request, and what is known of its guest and device."""

    machine: Machine
    log: Log
    hypervisor: Hypervisor
    request: Request
    wanted: DeviceXml
    found: Found

    @property
    def flags(self) -> int:
        """Whether to change the guest that runs, its configuration, or both: LIVE, CONFIG or their sum."""
        asked = LIVE * self.request.live | CONFIG * self.request.config
        return asked or (LIVE if self.found.runs else CONFIG)

    def look(self) -> Domain:
        """Return the guest as it is now. NoSuchGuest if it no longer runs."""
        found = self.hypervisor.find(self.found.uuid, Deadline.after(self.request.timeout))
        if not found.runs:
            raise NoSuchGuest("the guest does not run any more")
        return domxml.parse(found.document)

    def session(self, guest: Domain, *, strict: bool = False) -> Session:
        """Open a session with a new deadline. The time that libvirt and the guest took does not count.

        The settings are those of the guest with the device that is plugged in or out. Of those that ask for actions
        only the sections for that device count: the others did at the guest's start. With ``strict`` a broken
        configuration raises LibhookError. Use it to hand over, never to give back.
        """
        with_wanted = guest._replace(devices=(*guest.devices, *self.wanted.devices))
        plugged = [device.pci for device in self.wanted.devices if device.pci]
        session = Session.open(self.machine, self.log, libvirtd.find(self.machine), with_wanted, plugged)
        return session.strict() if strict else session

    def ask(self) -> Deadline:
        """Return the deadline for one question to libvirt."""
        return Deadline.after(self.request.timeout)


def begin(machine: Machine, log: Log, hypervisor: Hypervisor, request: Request) -> Plugging:
    """Read the device and look up the guest.

    Refused if the XML can be no host device, or if ``live`` is asked for and the guest does not run.
    """
    wanted = domxml.parse_device(request.document)
    if not wanted.devices and wanted.element != "interface":
        if wanted.element == "domain":
            raise Refused("<domain> is a guest, not a device", "give a file that holds only the device's element")
        passed_over = f" ({'; '.join(wanted.warnings)})" if wanted.warnings else ""
        raise Refused(f"<{wanted.element}> names no host device{passed_over}", "use virsh for it")
    found = hypervisor.find(request.guest, Deadline.after(request.timeout))
    if request.live and not found.runs:
        raise Refused(f"the guest {named(request.guest)} does not run", "leave out --live, or start it first")
    return Plugging(machine, log, hypervisor, request._replace(document=wanted.document), wanted, found)


def hints_of(wanted: DeviceXml) -> set[str]:
    """Return how libvirt recognizes a device without an address: by its MAC, or by vendor and product."""
    return {hint for hint in (wanted.mac, *(device.hint for device in wanted.devices)) if hint}


def shown_as(devices: Iterable[HostDevice]) -> str:
    """Return the devices as text for the user."""
    return ", ".join(f"{device.kind} {named(device.address)}" for device in devices)


def show_plan(
    work: Plugging, guest: Domain, operation: Operation, devices: tuple[HostDevice, ...], *, live: bool
) -> Iterator[str]:
    """Give the lines of the dry run: the plan that would be applied. Refused if the plan refuses."""
    if not work.request.dry_run:
        yield "dry_run = true in the settings: this is only printed, not done"
    if not live:
        yield "only its configuration would be changed"
        return
    session = work.session(guest, strict=True)._replace(document=work.found.document)
    plan = foresee(session, guest, operation, devices)
    yield from plan.describe()
    if plan.refusals:
        raise refused(plan.refusals, "")


def foresee(session: Session, guest: Domain, operation: Operation, devices: tuple[HostDevice, ...]) -> Plan:
    """Plan what it would do on the host now to plug these devices in or out."""
    held = session.state.load(guest.uuid)
    happening, wanted = Event(guest.name, operation, "-"), guest._replace(devices=devices)
    if operation == ATTACH:
        many = too_many(guest, devices)
        if refusals := [many] if many else handover.objections(session, held, devices) if held else []:
            return Plan(tuple(refusals))
        return foresight.foresee(consulted(session, happening, wanted, held), happening, wanted)
    if held:
        wanted = session.with_extra(wanted, held)
        keys = {device.key for device in devices}
        part = [device for device in held.devices if device.key in keys]
        held = held.part(leaving_with(session, held, part))
    return session.plan(happening, wanted, held)
