# SPDX-License-Identifier: LGPL-2.1-or-later
"""``libhook attach``: plugs a device into a guest that runs, through libvirt."""

from collections.abc import Iterator

from libhook.effects.log import Log
from libhook.errors import DeadlineExpired, LibhookError, Refused, named
from libhook.facts.domain import Domain, HostDevice
from libhook.facts.entry import Process
from libhook.facts.event import ATTACH
from libhook.facts.machine import Machine
from libhook.handlers.host import not_at_hotplug
from libhook.hotplug import handover
from libhook.hotplug.halfplugged import make_way
from libhook.hotplug.hypervisor import NoSuchGuest
from libhook.hotplug.request import LIVE, UNKNOWN, Hypervisor, Plugging, Request, begin, hints_of, show_plan
from libhook.look import processes
from libhook.story.taking import expect_few
from libhook.xml import domxml
from libhook.xml.domxml import DeviceXml


def attach(machine: Machine, log: Log, hypervisor: Hypervisor, request: Request) -> Iterator[str]:
    """Plug the device in. Give the lines to print.

    LibhookError if the guest does not have the device; DeadlineExpired if nobody knows, or it could not be recorded.
    """
    work = begin(machine, log, hypervisor, request)
    before = domxml.parse(work.found.document)
    name = named(before.name)
    devices = work.wanted.devices
    log.bind(guest=before.name, uuid=before.uuid)
    live = bool(work.flags & LIVE)
    if request.dry_run or work.session(before).config.dry_run:
        yield from show_plan(work, before, ATTACH, devices, live=live)
        return
    if not live:
        hypervisor.attach(before.uuid, work.request.document, work.flags, work.ask())
        yield f"{name}: added to its configuration"
        return
    worker = processes.own(machine)
    _take(work, before, worker)
    try:
        hypervisor.attach(before.uuid, work.request.document, work.flags, work.ask())
    except DeadlineExpired as error:
        raise DeadlineExpired(f"{error.message}; it is not known whether {name} has it", UNKNOWN) from None
    except LibhookError as error:
        if left := handover.undo_attach(work.session(before), before, devices):
            raise Refused(f"{error.message}; and {left}", "see libhook status") from None
        raise
    try:
        after = work.look()
    except NoSuchGuest:
        raise Refused(f"the guest {name} ended meanwhile", "libhook status shows what is left") from None
    except LibhookError as error:
        raise DeadlineExpired(f"{name} has it, but this is not recorded yet: {error.message}", UNKNOWN) from None
    new = _new(before, after, work.wanted)
    taken = {device.key for device in devices if device.resolved}
    handover.finish_attach(work.session(before), after, new, worker, taken)
    yield from (f"{name}: has {device.kind} {named(device.address)} now" for device in new)
    if not new:
        yield f"{name}: has it now; it is not a host device"
    if note := not_at_hotplug(work.session(before).config):
        yield f"{name}: {note}"


def _take(work: Plugging, guest: Domain, worker: Process) -> None:
    """Hand over the devices that the XML names. What libvirt itself chooses is known only later."""
    wanted = guest._replace(devices=work.wanted.devices)
    if not wanted.devices:
        return
    try:
        session = work.session(guest, strict=True)
        expect_few(guest, wanted.devices)
        make_way(session, wanted)
        session = session._replace(document=work.found.document)
        handover.begin_attach(session, guest, wanted.devices, worker)
    except Refused:
        raise  # the failure is recorded already
    except LibhookError:
        handover.record_failure(work.session(guest), wanted)
        raise


def _new(before: Domain, after: Domain, wanted: DeviceXml) -> list[HostDevice]:
    """Return what was plugged in, with the address that libvirt found if the XML has none."""
    if wanted.devices and all(device.resolved for device in wanted.devices):
        found = {device.key: device for device in after.devices}
        return [found.get(device.key, device) for device in wanted.devices]
    had, hints = {device.key for device in before.devices}, hints_of(wanted)
    return [device for device in after.devices if device.key not in had and (not hints or device.hint in hints)]
