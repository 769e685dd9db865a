# SPDX-License-Identifier: LGPL-2.1-or-later
"""``libhook attach`` and ``libhook detach``: one device's way to a guest that runs, through libvirt, and back."""

from collections.abc import Iterator
from typing import NamedTuple, Protocol

from libhook import domxml, life
from libhook.config import Config
from libhook.domain import Domain, HostDevice
from libhook.domxml import DeviceXml
from libhook.effects import libvirtd
from libhook.effects.child import Deadline
from libhook.effects.hypervisor import Found, Gone, NoSuchGuest
from libhook.effects.kernel import Machine
from libhook.effects.log import Log
from libhook.effects.state import State
from libhook.errors import DeadlineExpired, LibhookError, Refused, printable
from libhook.event import Event, Operation
from libhook.held import Process
from libhook.hotplug import handover
from libhook.hotplug.halfplugged import make_way
from libhook.hotplug.parts import is_attended, leaving_with
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
        """The guest as it is now. NoSuchGuest when it does not run any more."""
        found = self.hypervisor.find(self.found.uuid, Deadline.after(self.request.timeout))
        if not found.runs:
            raise NoSuchGuest("it does not run any more")
        return domxml.parse(found.document)

    def session(self, guest: Domain, *, strict: bool = False) -> Session:
        """With an event's own time: what libvirt and the guest took is not the kernel's.

        A broken configuration keeps devices from being handed over, where it is ``strict``, and never from coming back.
        """
        try:
            settings = load_config(self.machine, guest.name, guest.uuid)
        except LibhookError as error:
            if strict:
                raise
            self.log.add("error", "configuration ignored", reason=error.message)
            settings = Config()
        deadline = Deadline.after(settings.write_deadline)
        daemon = libvirtd.find(self.machine)
        return Session(self.machine, State(self.machine), self.log, settings, deadline, daemon)

    def ask(self) -> Deadline:
        """The time that one question to libvirt has."""
        return Deadline.after(self.request.timeout)


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
    live = bool(work.flags & LIVE)
    if request.dry_run or work.session(before).config.dry_run:
        yield from _foresee(work, before, handover.ATTACH, devices, live=live)
        return
    if not live:
        hypervisor.attach(before.uuid, request.document, work.flags, work.ask())
        yield f"{name}: added to its configuration"
        return
    worker = State(machine).own_process()
    _take(work, before, worker)
    try:
        hypervisor.attach(before.uuid, request.document, work.flags, work.ask())
    except DeadlineExpired as error:
        raise DeadlineExpired(f"{error.message}, and nobody knows whether {name} has it", _UNKNOWN) from None
    except LibhookError as error:
        if left := handover.not_given(work.session(before), before, devices):
            raise Refused(f"{error.message}; and {left}", "libhook status") from None
        raise
    try:
        after = work.look()
    except NoSuchGuest:
        raise Refused(f"the guest {name} ended meanwhile", "libhook status says what is left of it") from None
    except LibhookError as error:
        raise DeadlineExpired(f"{name} has it, which is not recorded yet: {error.message}", _UNKNOWN) from None
    new = _new(before, after, work.wanted)
    taken = {device.key for device in devices if device.resolved}
    handover.given(work.session(before), after, new, worker, taken)
    yield from (f"{name}: has {device.kind} {printable(device.address)} now" for device in new)
    if not new:
        yield f"{name}: has it now; it is no host device"


_UNKNOWN = "when libvirtd answers again, libhook recover sees to it"


def _take(work: _Plugging, guest: Domain, worker: Process) -> None:
    """Hand over what the XML names; what libvirt chooses is known only after."""
    wanted = guest._replace(devices=work.wanted.devices)
    if not wanted.devices:
        return
    try:
        session = work.session(guest, strict=True)
        make_way(session, wanted)
        handover.take(session, guest, wanted.devices, worker)
    except Refused:
        raise  # and recorded
    except LibhookError:
        handover.record_failure(work.session(guest), wanted)
        raise


def _new(before: Domain, after: Domain, wanted: DeviceXml) -> list[HostDevice]:
    """What was plugged in, with the address that libvirt found where the XML does not say it."""
    if wanted.devices and all(device.resolved for device in wanted.devices):
        found = {device.key: device for device in after.devices}
        return [found.get(device.key, device) for device in wanted.devices]
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
        yield from _gone_already(work, before)
        return
    # What was handed over is given back also where a dry run was asked for meanwhile.
    handed_over = before.uuid in State(machine).uuids()
    if request.dry_run or (work.session(before).config.dry_run and not handed_over):
        yield from _foresee(work, before, handover.DETACH, devices, live=live)
        return
    if not devices:
        hypervisor.detach(before.uuid, request.document, "", work.flags, work.ask())
        yield f"{name}: asked; it is no host device" if live else f"{name}: removed from its configuration"
        return
    worker = State(machine).own_process()
    handover.ask_back(work.session(before), before, devices, worker)
    shown = ", ".join(f"{device.kind} {printable(device.address)}" for device in devices)
    try:
        answer = hypervisor.detach(before.uuid, request.document, devices[0].alias, work.flags, work.ask())
    except DeadlineExpired as error:
        raise DeadlineExpired(f"{error.message}, and nobody knows whether {name} has {shown}", _UNKNOWN) from None
    except LibhookError:
        handover.kept(work.session(before), before, devices, worker)
        raise
    try:
        # An event may be lost; the guest's XML is the truth.
        has = () if answer == "gone" else {device.key for device in work.look().devices}
    except NoSuchGuest:
        yield f"{name}: ended meanwhile, and {shown} with it"
        return
    if any(device.key in has for device in devices) and handover.kept(work.session(before), before, devices, worker):
        reason = "refuses to give up" if answer == "kept" else f"did not answer within {request.timeout:g} s; it keeps"
        raise Refused(f"the guest {name} {reason} {shown}", "is its system up? try again, or shut it down")
    if left := handover.removed(work.session(before), before, devices):
        raise Refused(f"the guest {name} gave up {shown}, but {left}", "libhook status; libhook recover")
    yield f"{name}: gave up {shown}"


def _gone_already(work: _Plugging, guest: Domain) -> Iterator[str]:
    """The guest has no such device: another client may have plugged it out, unseen; libvirt leaves it on vfio then."""
    name, state = printable(guest.name), State(work.machine)
    held = state.load(guest.uuid)
    had = {
        one.key
        for one in (held.devices if held else ())
        if one.recorded in ("success", "unreturned") and not is_attended(state, one)
    }
    left = tuple(device for device in work.wanted.devices if device.key in had)
    if not left:
        raise Refused(f"the guest {name} has no such device", f"virsh dumpxml {name} shows what it has")
    if work.request.dry_run:
        yield from _foresee(work, guest, handover.DETACH, left, live=True)
        return
    shown = ", ".join(f"{device.kind} {printable(device.address)}" for device in left)
    if reason := handover.removed(work.session(guest), guest, left):
        raise Refused(f"the guest {name} had given up {shown}, but {reason}", "libhook status; libhook recover")
    yield f"{name}: had given up {shown} already; the host has it back"


def _of_guest(guest: Domain, wanted: DeviceXml) -> tuple[HostDevice, ...]:
    """The guest's devices that the XML means, by address or else as libvirt finds them."""
    keys, hints = {device.key for device in wanted.devices if device.resolved}, _hints(wanted)
    by_key = tuple(device for device in guest.devices if device.key in keys)
    return by_key or tuple(device for device in guest.devices if device.hint in hints)[:1]


def _foresee(
    work: _Plugging, guest: Domain, operation: Operation, devices: tuple[HostDevice, ...], *, live: bool
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
        raise Refused("nothing would be done", "see above")


def foresee(session: Session, guest: Domain, operation: Operation, devices: tuple[HostDevice, ...]) -> Plan:
    """What plugging these devices in, or out, would do on the host now."""
    held = session.state.load(guest.uuid)
    happening, wanted = Event(guest.name, operation, "-"), guest._replace(devices=devices)
    if operation == handover.ATTACH:
        refusals = handover.objections(session, held, devices) if held else ()
        return Plan(tuple(refusals)) if refusals else life.foresee(session, happening, wanted)
    if held:
        wanted = session.with_extra(wanted, held)
        keys = {device.key for device in devices}
        part = [device for device in held.devices if device.key in keys]
        held = held._replace(devices=leaving_with(session, held, part))
    return session.plan(happening, wanted, held)
