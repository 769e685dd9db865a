# SPDX-License-Identifier: LGPL-2.1-or-later
"""``libhook detach``: gets a device back from a guest that runs. The guest may refuse, or not answer."""

from collections.abc import Iterator, Sequence

from libhook.effects.log import Log
from libhook.errors import DeadlineExpired, LibhookError, Refused, fault, named
from libhook.facts.config import HANDLERS
from libhook.facts.domain import Domain, HostDevice
from libhook.facts.event import DETACH, Event
from libhook.facts.machine import Machine
from libhook.facts.plan import Plan
from libhook.hotplug import handover
from libhook.hotplug.hypervisor import NoSuchGuest
from libhook.hotplug.parts import consulted, has_worker, with_pending_sent
from libhook.hotplug.request import LIVE, UNKNOWN, Hypervisor, Plugging, Request, begin, hints_of, show_plan, shown_as
from libhook.look import processes
from libhook.story.session import state_of
from libhook.xml import domxml
from libhook.xml.domxml import DeviceXml


def detach(machine: Machine, log: Log, hypervisor: Hypervisor, request: Request) -> Iterator[str]:
    """Plug the device out. Give the lines to print. LibhookError if the guest keeps it, or it did not come back."""
    work = begin(machine, log, hypervisor, request)
    before = domxml.parse(work.found.document)
    name = named(before.name)
    log.bind(guest=before.name, uuid=before.uuid)
    live = bool(work.flags & LIVE)
    meant = _of_guest(before, work.wanted) if live else ()
    if live and work.wanted.devices and not meant:
        yield from _gone_already(work, before)
        return
    alias, staying = _disk(meant, work.wanted)
    devices = tuple(device for device in meant if device not in staying)
    # Somebody may turn dry_run on while a guest runs. What was handed over is still given back.
    handed_over = before.uuid in state_of(machine).uuids()
    config = work.session(before).config
    if request.dry_run or (config.dry_run and not handed_over):
        yield from show_plan(work, before, DETACH, devices, live=live)
        yield from _keeps(before, staying)
        return
    if staying and not devices:
        yield from _detach_disk(work, before, staying, alias)
        return
    if not devices:
        hypervisor.detach(before.uuid, work.request.document, "", work.flags, work.ask())
        yield f"{name}: asked for it; it is not a host device" if live else f"{name}: removed from its configuration"
        return
    worker = processes.own(machine)
    handover.begin_detach(work.session(before), before, devices, worker)
    shown = shown_as(devices)
    try:
        answer = hypervisor.detach(before.uuid, work.request.document, alias, work.flags, work.ask())
    except DeadlineExpired as error:
        raise DeadlineExpired(f"{error.message}; it is not known whether {name} has {shown}", UNKNOWN) from None
    except LibhookError:
        handover.record_kept(work.session(before), before, devices, worker)
        raise
    try:
        # An event may get lost, so the guest's XML decides.
        has = () if answer == "gone" else {device.key for device in work.look().devices}
    except NoSuchGuest:
        yield f"{name}: ended meanwhile, so it no longer has {shown}"
        return
    keeps = any(device.key in has for device in devices)
    if keeps and handover.record_kept(work.session(before), before, devices, worker):
        reason = "refuses to give up" if answer == "kept" else f"did not answer within {request.timeout:g} s; it keeps"
        raise Refused(
            f"the guest {name} {reason} {shown}", "make sure that its system is up and try again, or shut it down"
        )
    if left := handover.finish_detach(work.session(before), before, devices):
        raise Refused(f"the guest {name} gave up {shown}, but {left}", "see libhook status, then run: libhook recover")
    yield f"{name}: gave up {shown}"
    yield from _keeps(before, staying)
    if HANDLERS in config.actions:
        _tell_handlers(work, before, devices)


def _tell_handlers(work: Plugging, guest: Domain, devices: tuple[HostDevice, ...]) -> None:
    """Ask handlers by others. The device is back, whatever fails here."""
    try:
        session = work.session(guest)._replace(document=work.found.document)
        asked = consulted(session, Event(guest.name, DETACH, "-"), guest._replace(devices=devices), None)
        session.log_plan(Plan(asked.said))
    except Exception as error:  # noqa: BLE001 - the detach is done
        work.log.add("error", "handlers not asked", reason=fault(error))


def _disk(meant: Sequence[HostDevice], wanted: DeviceXml) -> tuple[str, tuple[HostDevice, ...]]:
    """Return the alias of what goes, and the NVMe controllers of which the guest keeps other namespaces.

    libvirt finds a disk by its target alone, whatever else the XML says (qemuDomainDetachPrepDisk()).
    """
    targets = {disk.target for device in wanted.devices for disk in device.disks}
    going = [disk.alias for device in meant for disk in device.disks if disk.target in targets]
    if not going:
        return meant[0].alias if meant else "", ()
    return going[0], tuple(device for device in meant if any(disk.target not in targets for disk in device.disks))


def _detach_disk(work: Plugging, guest: Domain, staying: tuple[HostDevice, ...], alias: str) -> Iterator[str]:
    """Detach one disk while the guest keeps its NVMe controller.

    Nothing is recorded, unless the controller's other namespaces go meanwhile.
    """
    name = named(guest.name)
    work.hypervisor.detach(guest.uuid, work.request.document, alias, work.flags, work.ask())
    try:
        after = work.look()
    except NoSuchGuest:
        yield f"{name}: ended meanwhile, so it no longer has the disk"
        return
    if any(alias in device.aliases for device in after.devices):
        reason = f"the guest {name} keeps the disk {named(alias)}"
        raise Refused(reason, "make sure that its system is up, then try again")
    has = {device.key for device in after.devices}
    gone = [device for device in staying if device.key not in has]
    if gone and (left := handover.finish_detach(work.session(guest), guest, gone)):
        raise Refused(
            f"the guest {name} gave up {shown_as(gone)}, but {left}", "see libhook status, then run: libhook recover"
        )
    yield f"{name}: gave up {shown_as(gone) or f'the disk {named(alias)}'}"
    yield from _keeps(guest, [device for device in staying if device.key in has])


def _keeps(guest: Domain, staying: Sequence[HostDevice]) -> Iterator[str]:
    if staying:
        yield f"{named(guest.name)}: keeps {shown_as(staying)}, because it has other disks on it"


def _gone_already(work: Plugging, guest: Domain) -> Iterator[str]:
    """The guest has no such device. If another client plugged it out unseen, it is still on vfio: give it back.

    Refused if the journal entry does not say that the guest had it.
    """
    name, state = named(guest.name), state_of(work.machine)
    held = state.load(guest.uuid) if work.request.dry_run else with_pending_sent(work.session(guest), guest)
    had = {
        one.key
        for one in (held.devices if held else ())
        if one.recorded in ("success", "unreturned") and not has_worker(state, one)
    }
    left = tuple(device for device in work.wanted.devices if device.key in had)
    if not left:
        raise Refused(f"the guest {name} has no such device", f"virsh dumpxml {guest.uuid} shows what it has")
    if work.request.dry_run:
        yield from show_plan(work, guest, DETACH, left, live=True)
        return
    shown = shown_as(left)
    if reason := handover.finish_detach(work.session(guest), guest, left):
        raise Refused(
            f"the guest {name} had given up {shown}, but {reason}", "see libhook status, then run: libhook recover"
        )
    yield f"{name}: had given up {shown} already; the host has it back"


def _of_guest(guest: Domain, wanted: DeviceXml) -> tuple[HostDevice, ...]:
    """Return the guest's devices that the XML means: by address, else the one that libvirt would find."""
    keys, hints = {device.key for device in wanted.devices if device.resolved}, hints_of(wanted)
    by_key = tuple(device for device in guest.devices if device.key in keys)
    return by_key or tuple(device for device in guest.devices if device.hint in hints)[:1]
