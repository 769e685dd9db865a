# SPDX-License-Identifier: LGPL-2.1-or-later
"""Gives back what a guest's record holds: at ``release``, for ``libhook recover``, before a start that needs it.

One way for all of them, from the record and from what /sys says now; so it may be repeated, and begun by one process
and ended by another.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress

from libhook.errors import BadInput, LibhookError, TooNew, unanswered
from libhook.facts.address import PciAddress
from libhook.facts.domain import Domain, HostDevice
from libhook.facts.entry import Held, HeldDevice, Recorded
from libhook.facts.event import OPERATIONS, Event, Operation
from libhook.facts.plan import Plan, Record, Warn
from libhook.handlers.registry import plan_for
from libhook.look import holders, libvirtd, processes, sysfs
from libhook.story.recovery import Facts, sign_of_life
from libhook.story.session import Session

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
    addresses = [address for device in held.devices if (address := device.pci)]
    open_nodes = holders.of_vfio(session.machine, addresses, session.deadline)
    return Facts(
        busy=session.state.is_busy(held.uuid),
        libvirtd_lives=processes.lives(session.machine, held.libvirtd)
        or (held.libvirtd.pid == libvirtd.NOT_KNOWN and libvirtd.any_lives(session.machine)),
        status_known=status is not None,
        has_status=bool(status),
        in_use=next(iter(open_nodes.values()), ""),
    )


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
    with state.locked([f"domain-{uuid}"], session.deadline):
        held = state.load(uuid)
        if held is None:
            state.forget(uuid)  # of another boot, or gone meanwhile
            return None
        if reason := unless(held):
            return reason
        addresses = [address for device in held.devices if (address := device.pci)]
        with state.locked(sysfs.names_of_locks(session.machine, addresses), session.deadline):
            try_to_save(session, held._replace(phase="releasing"))
            patient = session.with_grace()
            patient.wait_for_writes(held)
            plan, failed = undo(patient, held, shutoff, at_its_end)
            session.send(_true_records(plan, held, failed))
            part_with(session, held._replace(phase="releasing"), held.devices, failed)
            return "; ".join(failed.values()) or None


def undo(
    session: Session,
    held: Held,
    shutoff: str = "-",
    at_its_end: Sequence[HostDevice] = (),
    operation: Operation = OPERATIONS["release"],
) -> tuple[Plan, dict[str, str]]:
    """Give back what a record holds, under its locks: the plan, and for each device that did not come back why.

    A write of this very process that is late has been waited for enough.
    """
    situation = session.to_release(held, shutoff, at_its_end, operation)
    plan = plan_for(situation)
    session.log_plan(plan)
    hanging = situation.host.in_flight & {move.device for move in held.moves}
    failed = {str(address): f"{address} hangs in a kernel write" for address in hanging}
    failed |= {str(address): reason for address, reason in situation.host.unknown.items()}
    failed |= {
        str(move.device): failure.reason
        for move, failure, _ in session.apply(plan.moves)
        if failure and sysfs.exists(session.machine, move.device)  # what is gone from the host cannot be given back
    }
    return plan, failed


def _true_records(plan: Plan, held: Held, failed: dict[str, str]) -> list[Record]:
    """A device that did not come back has not been given up successfully; that is said once."""
    bad = {f"pci {address}" for address in failed}
    told = {device.key for device in held.devices if device.recorded == "unreturned"}
    return [
        record._replace(success=record.success and not (record.ends and record.device in bad))
        for record in plan.records
        if record.device not in bad & told
    ]


def part_with(session: Session, held: Held, part: Collection[HeldDevice], failed: Mapping[str, str]) -> None:
    """Write the record without what came back of ``part``, or remove it when its guest is over, then the claims.

    Under the guest's lock and those of the devices.
    """
    state = session.state
    left: list[HeldDevice] = []
    free: list[PciAddress] = []
    for device in held.devices:
        address = device.pci
        if device not in part:
            left.append(device)
        elif device.address in failed and address:
            wedged = address in state.in_flight()
            left.append(device._replace(recorded=_TOLD[device.recorded], wedged=wedged, plugging=None))
        elif address:
            free.append(address)
            if device.move and device.move.by == "libhook":
                state.remember_home(address, device.move.now, held.libvirtd)
    if left or (held.detached and held.phase == "started"):
        try_to_save(session, held._replace(devices=tuple(left)))
    else:
        state.forget(held.uuid)
    for address in free:
        state.disclaim(address, held.uuid)
        state.settle_in_flight(address)


def try_to_save(session: Session, held: Held) -> None:
    """Journal where a full or broken /run may hold nothing back."""
    try:
        session.state.save(held)
    except OSError as error:
        session.log.add("error", "journal not written", reason=str(error))


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
        if broken or (held is None and session.state.has_lost(domain.uuid, (one.pci for one in domain.pci if one.pci))):
            _end_without_record(session, event, domain)
        if broken:
            return
    for uuid in [domain.uuid] if domain else [held.uuid for held, _ in records(session)[0] if held.name == event.guest]:
        if left := give_back(session, uuid, shutoff=event.extra, at_its_end=domain.devices if domain else ()):
            session.log.add("error", "not given back", reason=left, hint="libhook status, libhook recover")


def load(session: Session, domain: Domain) -> tuple[Held | None, bool]:
    """The guest's record, and whether it is broken: a guest that runs, or has run, has its records all the same.

    One of a later version is left alone: that version gives back what it holds, and records it.
    """
    try:
        return session.state.load(domain.uuid), False
    except TooNew:
        raise
    except BadInput as error:
        session.log.add("error", "not given back", reason=error.message, hint=error.hint)
        return None, True


def _end_without_record(session: Session, event: Event, domain: Domain) -> None:
    """Somebody removed it, or the guest is older than libhook: nobody knows where its devices were before."""
    plan = session.plan(event, domain, None)
    session.log_plan(plan)
    say_what_is_lost(session, plan)
    session.send(plan.records)
    state, addresses = session.state, [device.pci for device in domain.pci if device.pci]
    with suppress(LibhookError):  # from now on nothing is lost: a second release finds nothing to say
        session.prepare()
        with state.locked(sysfs.names_of_locks(session.machine, addresses), session.deadline):
            for address in addresses:
                state.disclaim(address, domain.uuid)


def say_what_is_lost(session: Session, plan: Plan) -> None:
    """The plan's warnings, where no record is left that could say it later."""
    for action in plan.actions:
        if isinstance(action, Warn):
            session.log.add("error", "not given back", reason=action.message)
