# SPDX-License-Identifier: LGPL-2.1-or-later
"""Gives back what a guest's record holds: at ``release``, for ``libhook recover``, before a start that needs it.

One way for all of them, from the record and from what /sys says now; so it may be repeated, and begun by one process
and ended by another.
"""

from __future__ import annotations

from libhook.errors import BadInput, LibhookError, Refused, TooNew, unanswered
from libhook.facts.domain import Domain, HostDevice
from libhook.facts.entry import Held, HeldDevice, Recorded
from libhook.facts.event import OPERATIONS, Event, Operation
from libhook.facts.plan import Plan, Record
from libhook.handlers import audit
from libhook.kinds import registry as kinds
from libhook.light import TYPE_CHECKING, suppress
from libhook.look import holders, libvirtd, processes, sysfs
from libhook.story.entries import let_go
from libhook.story.recovery import Facts, sign_of_life
from libhook.story.session import Session
from libhook.story.taking import Taken, refuse, try_to_save

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from typing import NoReturn

_TOLD: dict[Recorded, Recorded] = {
    "nothing": "failed",
    "failed": "failed",
    "success": "unreturned",
    "unreturned": "unreturned",
}
"""What is recorded of a device once it is recorded that it did not come back."""


def facts(session: Session, held: Held) -> Facts:
    """What is known of the guest from outside its record."""
    status = libvirtd.has_status_file(session.machine, held.name, held.uuid)
    open_nodes = holders.of_vfio(session.machine, held.addresses, session.deadline)
    return Facts(
        busy=session.state.is_busy(held.uuid),
        libvirtd_lives=processes.lives(session.machine, held.libvirtd)
        or (held.libvirtd.pid == libvirtd.NOT_KNOWN and libvirtd.any_lives(session.machine)),
        status_known=status is not None,
        has_status=bool(status),
        in_use=next(iter(open_nodes.values()), ""),
    )


def former(session: Session, domain: Domain) -> list[str]:
    """Who has an entry that must be settled first, if it is dead: the guest itself, and who holds what it needs."""
    related = session.related(domain.addresses)
    holders = {claim.uuid for claim in session.state.claims(related).values()}
    near = (address for address in related if not sysfs.is_bridge(session.machine, address))
    holders |= {tenant.claim.uuid for tenants in session.tenants(near).values() for tenant in tenants}
    return sorted({domain.uuid, *holders} & set(session.state.uuids()))


def settle_former(session: Session, domain: Domain) -> None:
    """Before a start: give back what the dead hold of what the guest needs. Its own earlier life is over."""
    for uuid in former(session, domain):
        settle(session, uuid, starting_anew=uuid == domain.uuid)


def expect_given_back(session: Session, held: Held | None, domain: Domain) -> None:
    """Refused, and recorded, where the guest's earlier life still holds something."""
    if held is None or not held.actions:
        return
    session.send(audit.failed(domain, (device.key for device in domain.devices), session.config))
    what = ", ".join(action.subject for action in held.actions)
    raise Refused(f"the guest still holds {what} from an earlier life", "libhook status says why")


def undo_and_refuse(session: Session, taken: Taken) -> NoReturn:
    """A start that failed: give back what was taken for it, record the failure, veto."""
    held, left = taken.held, dict[str, str]()
    if taken.begun:
        _, left = undo(session.with_grace(), held)
    refuse(session, let_go(session, held, left) if held.phase in ("preparing", "prepared") else held, taken.refusals)


def settle(session: Session, uuid: str, *, starting_anew: bool = False) -> str | None:
    """Give back what a dead record holds; what is in the way otherwise, or None."""

    def alive(held: Held) -> str | None:
        return sign_of_life(held, facts(session, held)._replace(busy=False), starting_anew)

    try:
        held = session.state.load(uuid)
        return give_back(session.for_record(held) if held else session, uuid, alive)
    except LibhookError as error:
        return error.message
    except OSError as error:  # of one guest's device; it keeps no other guest's from coming back
        return unanswered(error).message


def give_back(
    session: Session,
    uuid: str,
    unless: Callable[[Held], str | None] = lambda _: None,
    shutoff: str = "-",
    at_its_end: Sequence[HostDevice] = (),
) -> str | None:
    """Undo, record and forget all of a guest's record; why something is left, or None.

    ``unless`` says, under the guest's lock, why nothing may be done. ``shutoff`` is libvirt's reason, ``-`` when it is
    not known; ``at_its_end`` are the devices of the guest's last XML. What cannot be given back now stays in the
    record, for the next who comes. Being unable to write the journal holds nothing back.
    """
    state = session.state
    if uuid not in state.uuids():
        return None
    with session.guest(uuid):
        held = state.load(uuid)
        if held is None:
            state.forget(uuid)  # of another boot, or gone meanwhile
            return None
        if reason := unless(held):
            return reason
        with session.devices(held.addresses):
            try_to_save(session, held._replace(phase="releasing"))
            patient = session.with_grace()
            patient.wait_for_writes(held)
            plan, failed = undo(patient, held, shutoff, at_its_end)
            session.send(true_records(plan, held, failed))
            part_with(session, held._replace(phase="releasing"), held.devices, failed)
            return "; ".join(failed.values()) or None


def undo(
    session: Session,
    held: Held,
    shutoff: str = "-",
    at_its_end: Sequence[HostDevice] = (),
    operation: Operation = OPERATIONS["release"],
) -> tuple[Plan, dict[str, str]]:
    """Give back what an entry holds, under its locks: the plan, and by key why something did not come back.

    A write of this very process that is late has been waited for enough.
    """
    plan = session.plan_release(held, shutoff, at_its_end, operation)
    session.log_plan(plan)
    failed = {stays.action.key: stays.reason for stays in plan.stays}
    failed |= {
        action.key: failure.reason
        for action, failure, _, _ in session.undo(held.uuid, plan.actions)
        if failure and not _is_gone(session, held, action.key)
    }
    return plan, failed


def _is_gone(session: Session, held: Held, key: str) -> bool:
    """Whether it is a device that is gone from the host, and so cannot be given back."""
    device = held.device(key)
    return bool(device and device.pci and not sysfs.exists(session.machine, device.pci))


def true_records(plan: Plan, held: Held, failed: Collection[str]) -> list[Record]:
    """A device that did not come back has not been given up successfully; that is said once."""
    told = {device.key for device in held.devices if device.recorded == "unreturned"}
    return [
        record._replace(success=record.success and not (record.ends and record.device in failed))
        for record in plan.records
        if not (record.device in failed and record.device in told)
    ]


def part_with(session: Session, held: Held, part: Collection[HeldDevice], failed: Mapping[str, str]) -> None:
    """Write the record without what came back of ``part``, or remove it when its guest is over, then the claims.

    Under the guest's lock and those of the devices.
    """
    state = session.state
    keys = {device.key for device in part}
    back = [action for action in held.actions if action.key not in failed and _is_parted(held, keys, action.key)]
    devices = tuple(
        device._replace(recorded=_TOLD[device.recorded], wedged=device.pci in state.in_flight(), plugging=None)
        if device in part
        else device
        for device in held.devices
        if device not in part or device.key in failed
    )
    free = [device.pci for device in held.devices if device in part and device.pci and device.key not in failed]
    for action in back:
        kinds.is_back(session.work(held.uuid), action, held)
    held = held.without({action.key for action in back})._replace(devices=devices)
    if devices or held.actions or (held.detached and held.phase == "started"):
        try_to_save(session, held)
    else:
        state.forget(held.uuid)
    for address in free:
        state.disclaim(address, held.uuid)
        state.settle_in_flight(address)


def _is_parted(held: Held, keys: Collection[str], key: str) -> bool:
    """Whether an action goes with these devices. What is on no device goes when the guest does."""
    return key in keys or (held.phase == "releasing" and held.device(key) is None)


def records(session: Session) -> tuple[list[tuple[Held, str | None]], list[str]]:
    """Every guest's record, each with what keeps it from being recovered, None for a dead one.

    And what is wrong with those that are broken: one of them keeps nobody from the others.
    """
    found, broken = [], []
    for uuid in session.state.uuids():
        try:
            held = session.state.load(uuid)
        except LibhookError as error:
            broken.append(error.line)
        else:
            if held is not None:
                found.append((held, sign_of_life(held, facts(session, held))))
    return found, broken


def release(session: Session, event: Event, domain: Domain | None) -> None:
    """Give back what the record says; where the XML cannot be read, that of the guest of this name."""
    if domain:
        held, broken = load(session, domain)
        if broken or (held is None and session.state.has_lost(domain.uuid, domain.addresses)):
            _end_without_record(session, event, domain)
        if broken:
            return
    for uuid in [domain.uuid] if domain else [held.uuid for held, _ in records(session)[0] if held.name == event.guest]:
        if left := give_back(session, uuid, shutoff=event.extra, at_its_end=domain.devices if domain else ()):
            session.log.add("error", "not given back", reason=left, hint="libhook status, libhook recover")


def load(session: Session, domain: Domain, *, strict: bool = False) -> tuple[Held | None, bool]:
    """The guest's record, and whether it is broken: a guest that runs, or has run, has its records all the same.

    One of a later version is left alone: that version gives back what it holds, and records it. ``strict``: so is one
    that is broken, by BadInput.
    """
    try:
        return session.state.load(domain.uuid), False
    except TooNew:
        raise
    except BadInput as error:
        if strict:
            raise
        session.log.add("error", "not given back", reason=error.message, hint=error.hint)
        return None, True


def _end_without_record(session: Session, event: Event, domain: Domain) -> None:
    """Somebody removed it, or the guest is older than libhook: nobody knows where its devices were before."""
    plan = session.plan(event, domain, None)
    session.log_plan(plan)
    say_what_is_lost(session, None, plan)
    session.send(plan.records)
    state, addresses = session.state, domain.addresses
    with suppress(LibhookError):  # from now on nothing is lost: a second release finds nothing to say
        session.prepare()
        with session.devices(addresses):
            for address in addresses:
                state.disclaim(address, domain.uuid)


def say_what_is_lost(session: Session, held: Held | None, plan: Plan) -> None:
    """The plan's warnings, where there is no entry that could say it later."""
    if held is not None:
        return
    for warning in plan.warnings:
        session.log.add("error", "not given back", reason=warning.message)
