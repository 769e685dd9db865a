# SPDX-License-Identifier: LGPL-2.1-or-later
"""Ends a plugging that was begun and not ended, because its process was killed or a driver hung.

Whether QEMU has the device open shows how it went.
"""

from functools import partial
from typing import Literal

from libhook.errors import LibhookError, named
from libhook.facts.domain import Domain, HostDevice
from libhook.facts.entry import Held, HeldDevice
from libhook.facts.plan import describe
from libhook.hotplug.handover import finish_attach, finish_detach, undo_attach
from libhook.hotplug.parts import abandoned, addresses, leaving_with, with_pending_sent
from libhook.look import holders, sysfs
from libhook.story.giveback import guests_to_settle, settle
from libhook.story.session import Session

_SHARED = "the guest has another device of the same IOMMU group; the guest's end will show whether it has this one"


def make_way(session: Session, wanted: Domain) -> None:
    """Settle what keeps these devices from the guest: what dead guests hold, and what is half plugged in this one."""
    session.prepare()
    for uuid in guests_to_settle(session, wanted):
        if uuid != wanted.uuid:
            settle(session, uuid)
        elif held := session.state.load(uuid):
            settle_abandoned(session, held)


def settle_abandoned(session: Session, held: Held) -> str | None:
    """End what was begun. Return why something is left, or None."""
    guest = Domain(held.name, held.uuid, held.virt, ())
    reasons = list[str | None]()
    try:
        held = with_pending_sent(session, guest) or held
    except LibhookError as error:  # somebody else has the guest's lock
        return error.message
    for device in abandoned(session, held):
        it = HostDevice(device.kind, "hostdev", False, device.address, device.pci)
        match _fate(session, held, device):
            case "given":
                finish_attach(session, guest, [it])
            case "not given":
                reasons.append(undo_attach(session, guest, [it], seen=device))
            case "removed":
                reasons.append(finish_detach(session, guest, [it], seen=device))
            case "not known":
                reasons.append(f"{device.address}: {_SHARED}")
    return "; ".join(reason for reason in reasons if reason) or None


def preview_pending(held: Held) -> list[str]:
    """Say what a process that was killed was about to record, line by line."""
    return [f"{named(device.address)}: its record would be sent again" for device in held.devices if device.pending]


def preview_settling(session: Session, held: Held) -> list[str]:
    """Say what ``settle_abandoned`` would do, line by line."""
    lines = preview_pending(held)
    for device in abandoned(session, held):
        match _fate(session, held, device):
            case "given":
                lines.append(f"{named(device.address)}: the guest has it; this would be recorded")
            case "not known":
                lines.append(f"{device.address}: {_SHARED}")
            case _:
                lines.append(f"{named(device.address)}: would be given back")
                plan = session.plan_release(held.part(leaving_with(session, held, [device])))
                lines += [f"  {line}" for line in describe(plan.actions)]
    return lines


def _fate(session: Session, held: Held, device: HeldDevice) -> Literal["given", "not given", "removed", "not known"]:
    """Decide what became of the device. One that failed to come back no longer belongs to the guest."""
    if device.recorded in ("nothing", "success") and holders.of_vfio(
        session.machine, addresses([device]), session.deadline
    ):
        lock = partial(sysfs.name_of_lock, session.machine)
        others = addresses(other for other in held.devices if other != device and (other.audited or other.named))
        shares = {*map(lock, addresses([device]))} & {*map(lock, others)}
        return "not known" if shares and device.recorded == "nothing" else "given"
    return "not given" if device.recorded in ("nothing", "failed") else "removed"
