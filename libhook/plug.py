# SPDX-License-Identifier: LGPL-2.1-or-later
"""``libhook attach`` and ``libhook detach``: one device's way to a guest that runs, through libvirt, and back."""

from collections.abc import Iterator
from typing import NamedTuple, Protocol

from libhook import domxml, hotplug
from libhook.domain import Domain, HostDevice
from libhook.domxml import DeviceXml
from libhook.effects import libvirtd
from libhook.effects.child import Deadline
from libhook.effects.hypervisor import Found, Gone
from libhook.effects.kernel import Machine
from libhook.effects.log import Log
from libhook.effects.state import State
from libhook.errors import DeadlineExpired, LibhookError, Refused, printable
from libhook.event import Event, Operation
from libhook.plan import Plan
from libhook.session import Session, load_config

LIVE, CONFIG = 1, 2
"""VIR_DOMAIN_AFFECT_LIVE and _CONFIG."""


class Hypervisor(Protocol):
    """What is asked of libvirt (effects/hypervisor.py)."""

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


class _Plugging(NamedTuple):
    """One request, with what is known by now."""

    machine: Machine
    log: Log
    hypervisor: Hypervisor
    request: Request
    wanted: DeviceXml
    found: Found

    @property
    def flags(self) -> int:
        asked = LIVE * self.request.live | CONFIG * self.request.config
        return asked or (LIVE if self.found.runs else CONFIG)

    def look(self) -> Domain:
        """The guest as it is now."""
        found = self.hypervisor.find(self.found.uuid, Deadline.after(self.request.timeout))
        return domxml.parse(found.document)

    def session(self, guest: Domain) -> Session:
        """With an event's own time: what libvirt and the guest took is not the kernel's."""
        settings = load_config(self.machine, guest.name, guest.uuid)
        deadline = Deadline.after(settings.write_deadline)
        daemon = libvirtd.find(self.machine)
        return Session(self.machine, State(self.machine), self.log, settings, deadline, daemon)


def _begin(machine: Machine, log: Log, hypervisor: Hypervisor, request: Request) -> _Plugging:
    wanted = domxml.parse_device(request.document)
    if not wanted.devices and wanted.element != "interface":
        passed_over = f" ({'; '.join(wanted.warnings)})" if wanted.warnings else ""
        raise Refused(f"<{wanted.element}> names no host device{passed_over}", "virsh plugs in all others")
    found = hypervisor.find(request.guest, Deadline.after(request.timeout))
    if request.live and not found.runs:
        raise Refused(f"the guest {request.guest} does not run", "leave out --live, or start it first")
    return _Plugging(machine, log, hypervisor, request, wanted, found)


def attach(machine: Machine, log: Log, hypervisor: Hypervisor, request: Request) -> Iterator[str]:
    """Plug it in; what is to be said, line by line. LibhookError when the guest does not have it."""
    work = _begin(machine, log, hypervisor, request)
    before = domxml.parse(work.found.document)
    name = printable(before.name)
    devices = work.wanted.devices
    log.bind(guest=before.name, uuid=before.uuid)
    if request.dry_run:
        yield from _foresee(work, before, hotplug.ATTACH, devices)
        return
    if not work.flags & LIVE:
        hypervisor.attach(before.uuid, request.document, work.flags, Deadline.after(request.timeout))
        yield f"{name}: added to its configuration"
        return
    worker = State(machine).own_process()
    hotplug.take(work.session(before), before, devices, worker)
    try:
        hypervisor.attach(before.uuid, request.document, work.flags, Deadline.after(request.timeout))
        after = work.look()
    except DeadlineExpired:
        raise  # nobody knows whether the guest has it: the record stays, and who can see it settles it
    except LibhookError as error:
        if left := hotplug.not_given(work.session(before), before, devices):
            raise Refused(f"{error.message}; and {left}", "libhook status") from None
        raise
    new = _new(before, after, work.wanted)
    hotplug.given(work.session(before), after, new)
    yield from (f"{name}: has {device.kind} {printable(device.address)} now" for device in new)
    if not new:
        yield f"{name}: has it now; it is no host device"


def _new(before: Domain, after: Domain, wanted: DeviceXml) -> list[HostDevice]:
    """What was plugged in, with the address that libvirt found where the XML does not say it."""
    keys = {device.key for device in wanted.devices if device.resolved}
    if len(keys) == len(wanted.devices) > 0:
        return [device for device in after.devices if device.key in keys]
    had, hints = {device.key for device in before.devices}, _hints(wanted)
    return [device for device in after.devices if device.key not in had and (not hints or device.hint in hints)]


def _hints(wanted: DeviceXml) -> set[str]:
    """By what libvirt knows the device again that has no address: the MAC, or vendor and product."""
    return {hint for hint in (wanted.mac, *(device.hint for device in wanted.devices)) if hint}


def detach(machine: Machine, log: Log, hypervisor: Hypervisor, request: Request) -> Iterator[str]:
    """Plug it out; what is to be said, line by line. LibhookError when the guest keeps it, or it did not come back."""
    work = _begin(machine, log, hypervisor, request)
    before = domxml.parse(work.found.document)
    name = printable(before.name)
    log.bind(guest=before.name, uuid=before.uuid)
    live = bool(work.flags & LIVE)
    devices = _of_guest(before, work.wanted) if live else ()
    if live and work.wanted.devices and not devices:
        raise Refused(f"the guest {name} has no such device", f"virsh dumpxml {name} shows what it has")
    if request.dry_run:
        yield from _foresee(work, before, hotplug.DETACH, devices)
        return
    if not devices:
        hypervisor.detach(before.uuid, request.document, "", work.flags, Deadline.after(request.timeout))
        yield f"{name}: removed from its configuration" if not live else f"{name}: asked; it is no host device"
        return
    worker = State(machine).own_process()
    hotplug.ask_back(work.session(before), before, devices, worker)
    shown = ", ".join(f"{device.kind} {printable(device.address)}" for device in devices)
    deadline = Deadline.after(request.timeout)
    try:
        answer = hypervisor.detach(before.uuid, request.document, devices[0].alias, work.flags, deadline)
        gone = answer == "gone" or _is_gone(work, devices)
    except DeadlineExpired:
        raise
    except LibhookError:
        hotplug.kept(work.session(before), before, devices, worker)
        raise
    if not gone:
        hotplug.kept(work.session(before), before, devices, worker)
        reason = "refuses to give up" if answer == "kept" else f"did not answer within {request.timeout:g} s; it keeps"
        raise Refused(f"the guest {name} {reason} {shown}", "is its system up? try again, or shut it down")
    if left := hotplug.removed(work.session(before), before, devices):
        raise Refused(f"the guest {name} gave up {shown}, but {left}", "libhook status; libhook recover")
    yield f"{name}: gave up {shown}"


def _is_gone(work: _Plugging, devices: tuple[HostDevice, ...]) -> bool:
    """An event may be lost; the guest's XML is the truth. A guest that ended meanwhile has nothing."""
    try:
        return not {device.key for device in work.look().devices} & {device.key for device in devices}
    except Refused:
        return True


def _of_guest(guest: Domain, wanted: DeviceXml) -> tuple[HostDevice, ...]:
    """The guest's devices that the XML means, by address or else as libvirt finds them."""
    keys, hints = {device.key for device in wanted.devices if device.resolved}, _hints(wanted)
    by_key = tuple(device for device in guest.devices if device.key in keys)
    return by_key or tuple(device for device in guest.devices if device.hint in hints)[:1]


def _foresee(work: _Plugging, guest: Domain, operation: Operation, devices: tuple[HostDevice, ...]) -> Iterator[str]:
    """The dry run: the plan that would be applied."""
    plan = foresee(work.session(guest), guest, operation, devices)
    yield from plan.describe()
    if plan.refusals:
        raise Refused("nothing would be done", "see above")


def foresee(session: Session, guest: Domain, operation: Operation, devices: tuple[HostDevice, ...]) -> Plan:
    """What plugging these devices in, or out, would do on the host now."""
    held = session.state.load(guest.uuid)
    if held and operation == hotplug.DETACH:
        keys = {device.key for device in devices}
        held = held._replace(devices=tuple(device for device in held.devices if device.key in keys))
    return session.plan(Event(guest.name, operation, "-"), guest._replace(devices=devices), held)
