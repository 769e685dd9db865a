# SPDX-License-Identifier: LGPL-2.1-or-later
"""What ``attach`` and ``detach`` are asked for, what is known of it, and what would come of it."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple, Protocol

from libhook.effects.child import Deadline
from libhook.effects.log import Log
from libhook.errors import Refused, printable
from libhook.facts.domain import Domain, HostDevice
from libhook.facts.event import ATTACH, Event, Operation
from libhook.facts.machine import Machine
from libhook.facts.plan import Plan
from libhook.hotplug import handover
from libhook.hotplug.hypervisor import Found, Gone, NoSuchGuest
from libhook.hotplug.parts import leaving_with
from libhook.look import libvirtd
from libhook.story import foresight
from libhook.story.session import Session
from libhook.story.taking import shown
from libhook.xml import domxml
from libhook.xml.domxml import DeviceXml

LIVE, CONFIG = 1, 2
"""VIR_DOMAIN_AFFECT_LIVE and _CONFIG."""
UNKNOWN = "when libvirtd answers again, libhook recover sees to it"


class Hypervisor(Protocol):
    """What is asked of libvirt (hotplug/hypervisor.py)."""

    def find(self, name: str, deadline: Deadline) -> Found:
        """The guest of this name."""

    def attach(self, uuid: str, document: bytes, flags: int, deadline: Deadline) -> None:
        """Plug it in."""

    def detach(self, uuid: str, document: bytes, alias: str, flags: int, deadline: Deadline) -> Gone:
        """Plug it out, and wait for the guest."""


class Request(NamedTuple):
    """What the command line asks for."""

    guest: str
    """Name, UUID or number."""
    document: bytes
    """The device's XML."""
    live: bool = False
    config: bool = False
    """Neither: the guest as it is now, as virsh does."""
    timeout: float = 30.0
    """Seconds that libvirt, and at detach the guest, have to answer."""
    dry_run: bool = False


class Plugging(NamedTuple):
    """One request, with what is known by now."""

    machine: Machine
    log: Log
    hypervisor: Hypervisor
    request: Request
    wanted: DeviceXml
    found: Found

    @property
    def flags(self) -> int:
        """Whether it is about the guest that runs, its configuration, or both."""
        asked = LIVE * self.request.live | CONFIG * self.request.config
        return asked or (LIVE if self.found.runs else CONFIG)

    def look(self) -> Domain:
        """The guest as it is now. NoSuchGuest when it does not run any more."""
        found = self.hypervisor.find(self.found.uuid, Deadline.after(self.request.timeout))
        if not found.runs:
            raise NoSuchGuest("it does not run any more")
        return domxml.parse(found.document)

    def session(self, guest: Domain, *, strict: bool = False) -> Session:
        """With an event's own time: what libvirt and the guest took is not the kernel's.

        A broken configuration keeps devices from being handed over, where it is ``strict``, and never from coming back.
        """
        session = Session.open(self.machine, self.log, libvirtd.find(self.machine), guest.name, guest.uuid)
        return session.strict() if strict else session

    def ask(self) -> Deadline:
        """The time that one question to libvirt has."""
        return Deadline.after(self.request.timeout)


def begin(machine: Machine, log: Log, hypervisor: Hypervisor, request: Request) -> Plugging:
    """What is asked for, and the guest as it is. Refused where it is nothing for libhook."""
    wanted = domxml.parse_device(request.document)
    if not wanted.devices and wanted.element != "interface":
        if wanted.element == "domain":
            raise Refused("<domain> is a guest, not a device", "name a file with the element of the device alone")
        passed_over = f" ({'; '.join(wanted.warnings)})" if wanted.warnings else ""
        raise Refused(f"<{wanted.element}> names no host device{passed_over}", "virsh plugs in all others")
    found = hypervisor.find(request.guest, Deadline.after(request.timeout))
    if request.live and not found.runs:
        raise Refused(f"the guest {request.guest} does not run", "leave out --live, or start it first")
    return Plugging(machine, log, hypervisor, request._replace(document=wanted.document), wanted, found)


def hints_of(wanted: DeviceXml) -> set[str]:
    """By what libvirt knows the device again that has no address: the MAC, or vendor and product."""
    return {hint for hint in (wanted.mac, *(device.hint for device in wanted.devices)) if hint}


def shown_as(devices: Iterable[HostDevice]) -> str:
    """For whoever asked."""
    return ", ".join(f"{device.kind} {printable(device.address)}" for device in devices)


def show_plan(
    work: Plugging, guest: Domain, operation: Operation, devices: tuple[HostDevice, ...], *, live: bool
) -> Iterator[str]:
    """The dry run: the plan that would be applied."""
    if not work.request.dry_run:
        yield f"dry_run = true in {work.machine.config}: nothing is done but said"
    if not live:
        yield "only its configuration would be changed"
        return
    plan = foresee(work.session(guest, strict=True), guest, operation, devices)
    yield from plan.describe()
    if plan.refusals:
        raise Refused(shown(plan.refusals))


def foresee(session: Session, guest: Domain, operation: Operation, devices: tuple[HostDevice, ...]) -> Plan:
    """What plugging these devices in, or out, would do on the host now."""
    held = session.state.load(guest.uuid)
    happening, wanted = Event(guest.name, operation, "-"), guest._replace(devices=devices)
    if operation == ATTACH:
        refusals = handover.objections(session, held, devices) if held else ()
        return Plan(tuple(refusals)) if refusals else foresight.foresee(session, happening, wanted)
    if held:
        wanted = session.with_extra(wanted, held)
        keys = {device.key for device in devices}
        part = [device for device in held.devices if device.key in keys]
        held = held.part(leaving_with(session, held, part))
    return session.plan(happening, wanted, held)
