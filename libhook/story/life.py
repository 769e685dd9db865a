# SPDX-License-Identifier: LGPL-2.1-or-later
"""What each operation does, from ``prepare`` to ``reconnect``: plan, journal, apply, record. ``release`` is giveback's.

Each returns nothing, and raises Refused where the guest's start is to be vetoed.
"""

import errno
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from typing import NoReturn

from libhook.effects import files
from libhook.errors import LibhookError, Refused
from libhook.facts.address import PciAddress
from libhook.facts.domain import NO_DRIVER, Domain, HostDevice
from libhook.facts.entry import Held, HeldDevice
from libhook.facts.event import Event
from libhook.facts.host import Binding
from libhook.facts.plan import Move, Plan, Refusal
from libhook.handlers import audit
from libhook.look import libvirtd, processes, sysfs
from libhook.story.giveback import load, say_what_is_lost, settle, try_to_save, undo
from libhook.story.session import Session

_SHOWN = 3
"""Refusals shown in the one line that the caller of ``virsh start`` sees."""


def prepare(session: Session, event: Event, domain: Domain) -> None:
    """Hand the devices over, or leave everything as it was and say why."""
    state = session.state
    session.prepare()
    addresses = [device.pci for device in domain.pci if device.pci]
    for uuid in former(session, domain):
        settle(session, uuid, starting_anew=uuid == domain.uuid)
    domain = session.with_extra(domain, before=True)
    with state.locked([f"domain-{domain.uuid}"], session.deadline):
        if (held := state.load(domain.uuid)) is not None and held.moves:
            session.send(audit.failed(domain, (device.key for device in domain.devices), session.config))
            devices = ", ".join(str(move.device) for move in held.moves)
            raise Refused(f"the guest still holds {devices} from an earlier life", "libhook status says why")
        with state.locked(sysfs.names_of_locks(session.machine, addresses), session.deadline):
            plan = session.plan_when_free(event, domain)
            session.log_plan(plan)
            held = _new(session, domain, plan)
            if plan.refusals:
                _refuse(session, _let_go(session, held), plan.refusals)
            _take(session, domain, held, plan)


def former(session: Session, domain: Domain) -> list[str]:
    """Who has a record that must be settled first, if it is dead: the guest itself, and who holds what it needs."""
    addresses = [device.pci for device in domain.pci if device.pci]
    related = session.related(addresses)
    holders = {claim.uuid for claim in session.state.claims(related).values()}
    near = (address for address in related if not sysfs.is_bridge(session.machine, address))
    holders |= {tenant.claim.uuid for tenants in session.tenants(near).values() for tenant in tenants}
    return sorted({domain.uuid, *holders} & set(session.state.uuids()))


def _new(session: Session, domain: Domain, plan: Plan) -> Held:
    """The journal entry: every device, and for those that change hands how they stood before."""
    moves = {str(move.device): move for move in plan.moves}
    devices = [_held_device(device, moves.pop(device.address, None)) for device in domain.devices]
    along = [HeldDevice("pci", address, move, audited=False) for address, move in moves.items()]
    devices, along = _with_ids(session, devices), _with_ids(session, along)
    daemon = processes.process(session.machine, session.libvirtd)
    trail = session.trail()
    return Held(
        domain.uuid,
        domain.name,
        domain.virt,
        "preparing",
        session.state.boot(),
        daemon,
        (*devices, *along),
        trail.lost if trail else 0,
    )


def _with_ids(session: Session, devices: list[HeldDevice]) -> list[HeldDevice]:
    return [device._replace(ids=sysfs.ids(session.machine, device.pci)) if device.pci else device for device in devices]


def _held_device(device: HostDevice, move: Move | None = None) -> HeldDevice:
    return HeldDevice(device.kind, device.address, move if device.kind == "pci" else None, extra=device.extra)


def _take(session: Session, domain: Domain, held: Held, plan: Plan) -> None:
    """Journal, claim, apply; on any failure undo and refuse."""
    gone = [
        Refusal(device.key, "whoever asked for the start is gone", "start the guest again") for device in domain.devices
    ]
    if libvirtd.caller_is_gone():
        _refuse(session, _let_go(session, held), gone)
    try:
        journal(session, held, (device.pci for device in held.devices if device.pci))
    except LibhookError as error:
        refusals = [Refusal(device.key, error.message, error.hint) for device in domain.devices]
        _refuse(session, _let_go(session, held), refusals)
    missing = session.load(plan.loads)
    refusals = [
        Refusal(f"pci {move.device}", f"{move.device}: {failure.reason}", failure.remedy)
        for move in plan.moves
        if move.by == "libhook" and (failure := missing.get(move.want.driver or ""))
    ]
    if not refusals:
        refusals = [
            Refusal(f"pci {move.device}", *failure[:2]) for move, failure, _ in session.apply(plan.moves) if failure
        ]
    if not refusals:
        try:
            journal(session, held._replace(phase="prepared"))
        except LibhookError as error:  # somebody removed it meanwhile: only this process still knows the way back
            refusals = [Refusal(device.key, error.message, error.hint) for device in domain.devices]
    if not refusals and libvirtd.caller_is_gone():
        refusals = gone
    if refusals:
        _, left = undo(session.with_grace(), held)
        _refuse(session, _let_go(session, held, left), refusals)


def journal(session: Session, held: Held, claims: Iterable[PciAddress] = ()) -> None:
    """Write the claims, then the record that they lead to. Where that cannot be done nothing may be handed over."""
    try:
        for address in claims:
            session.state.claim(address, held.uuid)
        session.state.save(held)
    except FileNotFoundError as error:
        raise LibhookError(session.state.missing, "start the guest again") from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT) or not error.filename:
            reason = f"the journal in {session.machine.state} cannot be written ({error.strerror})"
            raise LibhookError(reason, "make room there") from error
        raise LibhookError(f"{error.filename} cannot be written ({error.strerror})", files.REMEDY) from error


def record_failure(session: Session, domain: Domain) -> None:
    """The start fails before anything could be remembered of it, so ``release`` will find nothing to record."""
    held = None
    with suppress(LibhookError):  # one that is broken tells release nothing either
        held = session.state.load(domain.uuid)
    if held is None:
        domain = session.with_extra(domain, before=True)
        session.send(audit.failed(domain, (device.key for device in domain.devices), session.config))


def _let_go(session: Session, held: Held, left: Collection[str] = ()) -> Held:
    """The record of a start that is refused: only what did not come back is still held."""
    hanging = session.state.in_flight() if left else frozenset()
    devices = (
        device._replace(wedged=device.pci in hanging) if device.address in left else device._replace(move=None)
        for device in held.devices
    )
    return held._replace(phase="releasing" if left else "refused", devices=tuple(devices))


def _refuse(session: Session, held: Held, refusals: Sequence[Refusal]) -> NoReturn:
    """Record the failure of the devices it is about, remember that, and veto."""
    keys = {refusal.device for refusal in refusals}
    keys -= session.send(audit.failed(held, keys, session.config))
    devices = (
        device._replace(recorded="failed") if device.key in keys and device.recorded == "nothing" else device
        for device in held.devices
    )
    held = held._replace(devices=tuple(devices))
    try_to_save(session, held)
    for address in (device.pci for device in held.devices):
        if address and not held.holds(address):
            session.state.disclaim(address, held.uuid)
    if not held.moves and libvirtd.caller_is_gone():
        session.state.forget(held.uuid)  # release may have been there before the record, and comes but once
    raise Refused(shown(refusals))


def shown(refusals: Sequence[Refusal]) -> str:
    """The first of them as one line."""
    lines = "; ".join(dict.fromkeys(refusal.line for refusal in refusals[:_SHOWN]))
    rest = len(refusals) - _SHOWN
    return f"{lines}; and {rest} more" if rest > 0 else lines


def start(session: Session, event: Event, domain: Domain) -> None:
    """Check that every device is where it must be, whoever had to bind it; remember what is only known now.

    A VF out of a network pool is chosen after ``prepare``, and a USB device named by vendor and product found.
    """
    state = session.state
    session.prepare()
    with state.locked([f"domain-{domain.uuid}"], session.deadline):
        before = state.load(domain.uuid)
        held = before or _new(session, domain._replace(devices=()), Plan(()))
        domain = session.with_extra(domain, held)
        addresses = [device.pci for device in domain.pci if device.pci]
        with state.locked(sysfs.names_of_locks(session.machine, addresses), session.deadline):
            plan = session.plan(event, domain, before)
            session.log_plan(plan)
            known = {device.key: device for device in held.devices}
            present = [device for device in domain.devices if not device.missing]
            own = [known.get(device.key) or newcomer(session, device) for device in present]
            gone = [device for key, device in known.items() if key not in {device.key for device in present}]
            along = [device for device in gone if device.move or not device.audited]
            held = held._replace(phase="starting", devices=(*own, *along))
            if plan.refusals:
                _refuse(session, held, plan.refusals)
            journal(session, held, addresses)


def newcomer(session: Session, device: HostDevice) -> HeldDevice:
    """A device that ``prepare`` did not know: libvirt has bound it by now, and may not give it back (State.home)."""
    daemon = processes.process(session.machine, session.libvirtd)
    home = session.state.home(device.pci, daemon) if device.pci else None
    driver = sysfs.driver(session.machine, device.pci) if device.pci else None
    if device.pci is None or home is None or driver is None:
        return _held_device(device)
    move = Move(
        device.pci, home, Binding(driver, driver), f"{device.source} out of a pool, libvirt bound it", "libvirt"
    )
    told = device.extra._replace(driver=home.driver or NO_DRIVER) if device.extra else None
    return _held_device(device._replace(extra=told), move)


def started(session: Session, event: Event, domain: Domain) -> None:
    """The guest has its devices: record it. Also after libvirtd was restarted before that could be done."""
    state = session.state
    session.prepare()
    with state.locked([f"domain-{domain.uuid}"], session.deadline):
        held, broken = load(session, domain)
        domain = session.with_extra(domain, held)
        plan = session.plan(event, domain, held)
        session.log_plan(plan)
        if held is None and event.operation.name == "reconnect":
            return  # it was started before libhook was installed: how is not known
        if held is None:
            say_what_is_lost(session, plan)
        done = {record.device for record in plan.records} - session.send(plan.records)
        if broken:
            return  # whoever mends it shall find it as it is
        held = held or _new(session, domain, Plan(()))
        devices = (device._replace(recorded="success") if device.key in done else device for device in held.devices)
        daemon = processes.process(session.machine, session.libvirtd)
        try_to_save(session, held._replace(phase="started", libvirtd=daemon, devices=tuple(devices)))
