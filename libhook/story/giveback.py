# SPDX-License-Identifier: LGPL-2.1-or-later
"""Gives back what a guest's journal entry holds: at ``release``, for ``libhook recover``, and before a start.

All three use the same code. It compares the entry with what /sys says now. So it may run twice, and one process may
finish what another began.
"""

from __future__ import annotations

import time

from libhook.children.child import Deadline
from libhook.errors import BadInput, LibhookError, TooNew, unanswered
from libhook.facts.domain import Domain, HostDevice
from libhook.facts.entry import Held, HeldDevice, Recorded
from libhook.facts.event import OPERATIONS, Event, Operation
from libhook.facts.plan import Plan, Record
from libhook.kinds import registry as kinds
from libhook.light import TYPE_CHECKING, suppress
from libhook.look import holders, libvirtd, processes, sysfs
from libhook.story.recovery import Facts, sign_of_life
from libhook.story.session import Session

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

_AFTER_FAILURE: dict[Recorded, Recorded] = {
    "nothing": "failed",
    "failed": "failed",
    "success": "unreturned",
    "unreturned": "unreturned",
}
"""The new state of a device's audit records, after a record said that the device did not come back."""
_LOOK_FOR_WRITES = 0.01
"""Seconds between two looks at whether a killed hook's last write has ended."""


def facts(session: Session, held: Held) -> Facts:
    """Collect what is known of the guest from outside its journal entry."""
    status = libvirtd.has_status_file(session.machine, held.name, held.uuid)
    try:  # what runs is not looked for; the half of the time leaves some for the other guests
        until = Deadline.after(session.deadline.left / 2)
        opened = {} if status else holders.of_vfio(session.machine, held.addresses, until)
        in_use = next((f"{address} is open in {who}" for address, who in opened.items()), "")
    except (LibhookError, OSError) as error:
        in_use = (error if isinstance(error, LibhookError) else unanswered(error)).message
    return Facts(
        busy=session.state.is_busy(held.uuid),
        libvirtd_lives=processes.lives(session.machine, held.libvirtd)
        or (held.libvirtd.pid == libvirtd.NOT_KNOWN and libvirtd.any_lives(session.machine)),
        status_known=status is not None,
        has_status=bool(status),
        in_use=in_use,
    )


def guests_to_settle(session: Session, domain: Domain) -> list[str]:
    """Return the UUIDs of guests whose entries must be settled first, if they are dead.

    These are the guest itself, and the guests that hold something that it needs.
    """
    from libhook.story import survey  # only a start asks

    related = survey.related(session, domain.addresses)
    holders = {claim.uuid for claim in session.state.claims(related).values()}
    near = (address for address in related if not sysfs.is_bridge(session.machine, address))
    holders |= {tenant.claim.uuid for tenants in survey.tenants(session, near).values() for tenant in tenants}
    return sorted({domain.uuid, *holders} & set(session.state.uuids()))


def settle_dead_guests(session: Session, domain: Domain) -> str | None:
    """Before a start, give back what the guest needs and dead guests hold. The guest's own earlier life is over.

    Return what stands in the way of its own, or None.
    """
    left = {
        uuid: settle(session, uuid, starting_anew=uuid == domain.uuid) for uuid in guests_to_settle(session, domain)
    }
    return left.get(domain.uuid)


def settle(session: Session, uuid: str, *, starting_anew: bool = False) -> str | None:
    """Give back what a dead guest's entry holds. Return what stands in the way, or None."""

    def alive(held: Held) -> str | None:
        return sign_of_life(held, facts(session, held)._replace(busy=False), starting_anew)

    try:
        held = session.state.load(uuid)
        return give_back(session.with_settings_of(held) if held else session, uuid, alive)
    except LibhookError as error:
        return error.message
    except OSError as error:  # one device's error must not stop the give-back of the others
        return unanswered(error).message


def way_out(session: Session, uuid: str) -> str:
    """How to be rid of what could not be given back now, for the end of a line; "" where nothing is left."""
    with suppress(LibhookError):
        if (held := session.state.load(uuid)) and held.actions and held.phase == "releasing":
            from libhook.facts import remedy  # rare

            return f": {remedy.give_up(held)}"
    return ""


def try_to_save(session: Session, held: Held) -> None:
    """Write the journal entry. If /run is full or broken, log that and go on."""
    try:
        session.state.save(held)
    except OSError as error:
        session.log.add("error", "journal not written", reason=str(error))


def send_pending(session: Session, held: Held) -> Held:
    """Send the records that the entry says are about to be sent, and journal that they were. Return the new entry.

    The caller holds the guest's lock.
    """
    while held.has_pending:
        from libhook.handlers import audit  # an end mostly has none pending

        session.send(tuple(audit.pending(held, session.config)))
        held = held._replace(devices=tuple(device.after_pending for device in held.devices))
        try_to_save(session, held)
    return held


def give_back(
    session: Session,
    uuid: str,
    unless: Callable[[Held], str | None] = lambda _: None,
    shutoff: str = "-",
    at_its_end: Sequence[HostDevice] = (),
) -> str | None:
    """Undo what a guest's entry holds, send the audit records, and remove the entry. Return why something is left.

    ``unless`` is called under the guest's lock; it returns the reason why nothing may be done, or None. ``shutoff`` is
    libvirt's reason for the guest's end, ``-`` when unknown. ``at_its_end`` has the devices of the guest's last XML.
    What cannot be given back now stays in the entry for the next try. A journal that cannot be written stops nothing.
    """
    state = session.state
    if uuid not in state.uuids():
        return None
    with session.guest(uuid):
        held = state.load(uuid)
        if held is None:
            state.forget(uuid)  # the entry is of another boot, or somebody removed it meanwhile
            return None
        if reason := unless(held):
            return reason
        with session.devices(held.addresses), session.with_crew() as session:
            held = send_pending(session, held)
            try_to_save(session, held._replace(phase="releasing"))
            patient = session.with_grace()
            wait_for_writes(patient, held)
            plan, failed = undo(patient, held, shutoff, at_its_end)
            session.send(true_records(plan, held, failed))
            drop_from_entry(session, held._replace(phase="releasing"), held.devices, failed)
            return "; ".join(failed.values()) or None


def wait_for_writes(session: Session, held: Held) -> None:
    """Wait until no write to the entry's devices is on its way, for ``holder_wait`` at most.

    A killed hook leaves such writes. A device that is known to hang is not waited for.
    """
    patience = Deadline.after(min(session.config.holder_wait, session.deadline.left / 2))
    acting = held.actions_by_key()
    moved = {device.pci for device in held.devices if device.pci and device.key in acting and not device.wedged}
    while session.state.in_flight() & moved and patience.left:
        time.sleep(_LOOK_FOR_WRITES)


def undo(
    session: Session,
    held: Held,
    shutoff: str = "-",
    at_its_end: Sequence[HostDevice] = (),
    operation: Operation = OPERATIONS["release"],
) -> tuple[Plan, dict[str, str]]:
    """Give back what an entry holds. The caller holds the locks of the guest and its devices.

    Return the plan, and by key why something did not come back. A late write that this process began is not waited
    for again.
    """
    plan = session.plan_release(held, shutoff, at_its_end, operation)
    session.log_plan(plan)
    failed = _carried_out(session, held, plan)
    rest = Plan(tuple(kinds.again(session.work(held.uuid), held, failed)))
    session.log_plan(rest)
    return plan, failed | _carried_out(session, held, rest)


def _carried_out(session: Session, held: Held, plan: Plan) -> dict[str, str]:
    """Carry out the actions of such a plan. Return by key why something did not come back."""
    failed = {stays.action.key: stays.reason for stays in plan.stays}
    return failed | {
        action.key: failure.reason
        for action, failure, *_ in session.undo(held.uuid, plan.actions)
        if failure and not _is_gone(session, held, action.key)
    }


def _is_gone(session: Session, held: Held, key: str) -> bool:
    """Whether the key is that of a PCI device that is gone from the host. It cannot be given back."""
    device = held.by_key().get(key)
    return bool(device and device.pci and not sysfs.exists(session.machine, device.pci))


def true_records(plan: Plan, held: Held, failed: Collection[str]) -> list[Record]:
    """Return the plan's records, with ``stop`` as failed for a device that did not come back. That is said once."""
    unreturned = {device.key for device in held.devices if device.recorded == "unreturned"}
    return [
        record._replace(success=record.success and not (record.ends and record.device in failed))
        for record in plan.records
        if not (record.device in failed and record.device in unreturned)
    ]


def drop_from_entry(session: Session, held: Held, part: Collection[HeldDevice], failed: Mapping[str, str]) -> None:
    """Write the entry without what came back of ``part``, or remove the entry if nothing is left. Then remove claims.

    The caller holds the locks of the guest and of the devices.
    """
    state, of_part = session.state, {device.key for device in part}
    returned = of_part - failed.keys()
    hanging = state.in_flight() if failed else frozenset()
    keys, by_key, at_its_end = held.keys_of(part), held.by_key(), held.phase == "releasing"
    # An action on no device leaves at the guest's end.
    leaving = [action for action in held.actions if action.key in keys or (at_its_end and action.key not in by_key)]
    back = [action for action in leaving if action.key not in failed]
    devices = tuple(
        device._replace(recorded=_AFTER_FAILURE[device.recorded], wedged=device.pci in hanging, plugging=None)
        if device.key in of_part
        else device
        for device in held.devices
        if device.key not in of_part or device.key in failed
    )
    free = [device.pci for device in held.devices if device.key in returned and device.pci]
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


def read_entries(session: Session) -> tuple[list[tuple[Held, str | None]], list[str]]:
    """Read every guest's journal entry.

    Return each entry with the reason why it may not be recovered (None for a dead guest), and a line for each broken
    entry.
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
    """Give back what the guest's entry holds. If the XML cannot be read, find the entry by the guest's name."""
    if domain:
        held, broken = load(session, domain)
        domain = domain if held else session.with_along(domain)
        if broken or (held is None and session.state.has_lost(domain.uuid, domain.addresses)):
            _end_without_entry(session, event, domain)
        if broken:
            return
    by_name = [] if domain else [held.uuid for held, _ in read_entries(session)[0] if held.name == event.guest]
    for uuid in [domain.uuid] if domain else by_name:
        if left := give_back(session, uuid, shutoff=event.extra, at_its_end=domain.devices if domain else ()):
            session.log.add(
                "error", "not given back", reason=left, hint="see libhook status, then run: libhook recover"
            )


def load(session: Session, domain: Domain, *, strict: bool = False) -> tuple[Held | None, bool]:
    """Return the guest's journal entry, and whether it is broken.

    A broken entry is logged, because the audit records must be sent all the same; with ``strict`` it raises BadInput.
    An entry of a later version raises TooNew: that version must give back what it holds, and record that.
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


def _end_without_entry(session: Session, event: Event, domain: Domain) -> None:
    """Record the end of a guest whose entry is broken or was removed: nobody knows where its devices were before."""
    plan = session.plan(event, domain, None)
    session.log_plan(plan)
    warn_without_entry(session, None, plan)
    session.send(plan.records)
    state, addresses = session.state, domain.addresses
    with suppress(LibhookError):  # with the claims gone, a second release has nothing to say
        session.prepare()
        with session.devices(addresses):
            for address in addresses:
                state.disclaim(address, domain.uuid)
    from libhook.story import orphans  # rare

    for line, is_wrong in orphans.settle_orphans(session.work(domain.uuid), dry_run=False):
        session.log.add("error" if is_wrong else "info", "settled", reason=line)


def warn_without_entry(session: Session, held: Held | None, plan: Plan) -> None:
    """Log the plan's warnings, if there is no entry that could say them later."""
    if held is not None:
        return
    for warning in plan.warnings:
        session.log.add("error", "not given back", reason=warning.message)
