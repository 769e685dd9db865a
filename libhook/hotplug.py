# SPDX-License-Identifier: LGPL-2.1-or-later
"""Devices that come to a guest that runs, and go: what ``attach``, ``detach`` and ``watch`` share.

libvirt calls no hook at hot-plug. Whoever works here asks libvirt only while he holds none of our locks: it may be
ending the guest at that moment, and its ``release`` waits for them. So the guest's record is read anew after each such
call, and says who has seen what: a device's success or end is recorded by whoever comes first, once.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import NoReturn

from libhook.address import PciAddress
from libhook.domain import Domain, HostDevice
from libhook.effects import holders
from libhook.errors import LibhookError, Refused
from libhook.event import Event, Operation
from libhook.giveback import part_with, settle, try_to_save, undo
from libhook.handlers import audit
from libhook.held import Held, HeldDevice, Process
from libhook.life import former, journal, newcomer, shown
from libhook.plan import Plan, Record, Refusal
from libhook.session import Session

ATTACH = Operation("attach", may_veto=True)
DETACH = Operation("detach", may_veto=True)


def take(session: Session, guest: Domain, devices: Sequence[HostDevice], worker: Process) -> None:
    """Hand devices over, so that libvirt can give them to the guest; Refused when nothing was changed, and recorded so.

    ``worker`` is the process that sees to the rest, up to ``given`` or ``not_given``.
    """
    wanted = guest._replace(devices=tuple(devices))
    addresses = [device.pci for device in devices if device.pci]
    session.state.prepare()
    for uuid in former(session, wanted):
        if uuid != guest.uuid:
            settle(session, uuid)
        elif held := session.state.load(uuid):
            settle_abandoned(session, held)
    wanted = session.with_extra(wanted, before=True)
    with _record_of(session, guest, addresses) as held:
        keys = {device.key for device in devices}
        if held.phase != "started":
            _refuse(session, wanted, keys, "the guest is being started or ended", "try again when it runs")
        if again := keys & {device.key for device in held.devices}:
            _refuse(session, wanted, again, f"the guest has {', '.join(sorted(again))} already", "libhook status")
        plan = session.plan_when_free(Event(guest.name, ATTACH, "-"), wanted, held)
        session.log_plan(plan)
        if plan.refusals:
            _refuse_for(session, wanted, plan.refusals)
        part = _part(wanted.devices, plan, worker)
        try:
            journal(session, held._replace(devices=(*held.devices, *part)), addresses)
        except LibhookError as error:
            _refuse(session, wanted, keys, error.message, error.hint)
        refusals = [Refusal(key, *failure[:2]) for failure in session.load(plan.loads) for key in keys]
        refusals += [
            Refusal(f"pci {move.device}", *failure[:2])
            for move, failure, _ in (session.apply(plan.moves) if not refusals else ())
            if failure
        ]
        if refusals:
            held = held._replace(devices=(*held.devices, *part))
            part, failed = _put_back(session, held, part)
            _record_failure(session, wanted, {refusal.device for refusal in refusals})
            part_with(session, held, part, failed)
            raise Refused(shown(refusals))


def _part(devices: Iterable[HostDevice], plan: Plan, worker: Process) -> tuple[HeldDevice, ...]:
    """What is journalled before the first write: the devices, and what of their groups is taken along."""
    moves = {str(move.device): move for move in plan.moves}
    own = [
        HeldDevice(
            device.kind, device.address, moves.pop(device.address, None) if device.pci else None, began="attach",
            plugging=worker, extra=device.extra,
        )
        for device in devices
        if device.resolved
    ]  # fmt: skip
    along = [HeldDevice("pci", address, move, audited=False) for address, move in moves.items()]
    return (*own, *along)


def given(session: Session, guest: Domain, devices: Sequence[HostDevice]) -> tuple[Record, ...]:
    """The guest has these devices now: record it, unless somebody has."""
    session.state.prepare()
    with _record_of(session, guest, [device.pci for device in devices if device.pci]) as held:
        devices = session.with_extra(guest._replace(devices=tuple(devices)), held).devices
        known = {device.key: device for device in held.devices}
        new = [
            device
            for device in devices
            if device.resolved and not device.missing and not _is_told(known.get(device.key))
        ]
        situation = session.situation(Event(guest.name, ATTACH, "-"), guest._replace(devices=tuple(new)), held)
        records = tuple(record for record in audit.attach(situation) if isinstance(record, Record))
        session.send(records)
        for device in devices:
            if device.resolved:
                before = known.get(device.key) or newcomer(session, device)._replace(began="attach")
                known[device.key] = before._replace(recorded="success", plugging=None)
        keys = {device.key for device in devices}
        detached = tuple(key for key in held.detached if key not in keys)
        journal_or_log(session, held._replace(devices=tuple(known.values()), detached=detached), devices)
        return records


def _is_told(device: HeldDevice | None) -> bool:
    return device is not None and device.recorded == "success"


def journal_or_log(session: Session, held: Held, devices: Iterable[HostDevice]) -> None:
    """The guest runs: being unable to write is said, and harms nothing."""
    try:
        journal(session, held, (device.pci for device in devices if device.pci))
    except LibhookError as error:
        session.log.add("error", "journal not written", reason=error.message)


def not_given(session: Session, guest: Domain, devices: Sequence[HostDevice]) -> str | None:
    """libvirt did not give the guest what was taken for it: back, and recorded as failed; why something is left."""
    keys = {device.key for device in devices}
    with _record_of(session, guest, [device.pci for device in devices if device.pci]) as held:
        devices = session.with_extra(guest._replace(devices=tuple(devices)), held).devices
        part = tuple(device for device in held.devices if device.key in keys and device.recorded == "nothing")
        if not part and any(device.resolved for device in devices):
            return None  # the guest has ended meanwhile, and its release has seen to it
        part, failed = _put_back(session, held, part)
        _record_failure(session, guest._replace(devices=tuple(devices)), keys)
        part_with(session, held, part, failed)
        return "; ".join(failed.values()) or None


def ask_back(session: Session, guest: Domain, devices: Sequence[HostDevice], worker: Process) -> None:
    """Note that the guest is being asked for these devices, by whom, so that nobody else records a refusal."""
    session.state.prepare()
    with _record_of(session, guest, [device.pci for device in devices if device.pci]) as held:
        known = {device.key: device for device in held.devices}
        for device in devices:
            before = known.get(device.key) or HeldDevice(device.kind, device.address, recorded="success")
            known[device.key] = before._replace(plugging=worker)
        detached = tuple(key for key in held.detached if key not in {device.key for device in devices})
        try_to_save(session, held._replace(devices=tuple(known.values()), detached=detached))


def removed(session: Session, guest: Domain, devices: Sequence[HostDevice], *, has_again: bool = False) -> str | None:
    """The guest has these devices no more: give back what libhook took, and record it unless somebody has.

    Why something did not come back, or None. ``has_again``: it was plugged in again before that could be seen, so
    nothing may be given back.
    """
    session.state.prepare()
    with _record_of(session, guest, [device.pci for device in devices if device.pci]) as held:
        devices = session.with_extra(guest._replace(devices=tuple(devices)), held).devices
        keys = {device.key for device in devices} - {*held.detached}
        part = tuple(device for device in held.devices if device.key in keys)
        told = {device.key for device in part if device.recorded == "unreturned"}
        part, failed = ((), {}) if has_again else _put_back(session, held, part)
        bad = {f"pci {address}" for address in failed}
        gone = guest._replace(devices=tuple(device for device in devices if device.key in keys - (bad & told)))
        situation = session.situation(Event(guest.name, DETACH, "-"), gone, None)
        records = [record for record in audit.detach(situation) if isinstance(record, Record)]
        session.send([record._replace(success=record.device not in bad) for record in records])
        if has_again:  # and that is not recorded yet
            anew = (
                device._replace(recorded="nothing", began="attach") if device.key in keys else device
                for device in held.devices
            )
            try_to_save(session, held._replace(devices=tuple(anew)))
            return None
        part_with(session, held._replace(detached=(*held.detached, *sorted(keys - bad))), part, failed)
        return "; ".join(failed.values()) or None


def kept(session: Session, guest: Domain, devices: Sequence[HostDevice], worker: Process | None = None) -> None:
    """The guest does not give these devices up: record it, unless who asked for them still lives and will.

    ``worker`` is who asked, where it is he who says so.
    """
    with _record_of(session, guest, [device.pci for device in devices if device.pci]) as held:
        own = {device.key: device for device in held.devices}
        devices = session.with_extra(guest._replace(devices=tuple(devices)), held).devices
        devices = [device for device in devices if not _is_anothers(session, own.get(device.key), worker)]
        keys = {device.key for device in devices}
        session.send(audit.failed(guest._replace(devices=tuple(devices)), keys, session.config, "detach"))
        if keys & own.keys():
            left = (device._replace(plugging=None) if device.key in keys else device for device in held.devices)
            try_to_save(session, held._replace(devices=tuple(left)))


def _is_anothers(session: Session, device: HeldDevice | None, worker: Process | None) -> bool:
    return bool(device and device.plugging and device.plugging != worker and session.state.lives(device.plugging))


def abandoned(session: Session, held: Held) -> list[HeldDevice]:
    """The PCI devices of a guest that runs which nobody sees to: whoever did was killed, or they did not come back."""
    return [
        device
        for device in held.devices
        if held.phase == "started"
        and device.pci
        and (
            device.recorded == "unreturned"
            or (device.plugging is not None and not session.state.lives(device.plugging))
        )
    ]


def settle_abandoned(session: Session, held: Held) -> str | None:
    """End what was begun with them: QEMU has a device open, or has it not. Why something is left, or None."""
    guest = Domain(held.name, held.uuid, held.virt, ())
    reasons = []
    for device in abandoned(session, held):
        if address := device.pci:
            it = HostDevice(device.kind, "hostdev", False, device.address, address)
            if holders.of_vfio(session.machine, [address]):
                given(session, guest, [it])
            elif device.recorded == "nothing":
                reasons.append(not_given(session, guest, [it]))
            else:
                reasons.append(removed(session, guest, [it]))
    return "; ".join(reason for reason in reasons if reason) or None


def _put_back(
    session: Session, held: Held, part: Sequence[HeldDevice]
) -> tuple[tuple[HeldDevice, ...], dict[str, str]]:
    """Give back a part of the record, and what was taken along for it: that part, and what did not come back and why.

    Another device of a group, taken along, goes back when the guest has none of that group left.
    """
    rest = [device for device in held.devices if device not in part and device.audited]
    lock = session.state.name_of_lock
    staying = {lock(device.pci) for device in rest if device.pci}
    going = {lock(device.pci) for device in part if device.pci} - staying
    along = [
        device
        for device in held.devices
        if not device.audited and device not in part and device.pci and lock(device.pci) in going
    ]
    _, failed = undo(session.with_grace(), held._replace(devices=(*part, *along)))
    return (*part, *along), failed


def _refuse(session: Session, wanted: Domain, keys: Iterable[str], reason: str, remedy: str) -> NoReturn:
    _refuse_for(session, wanted, [Refusal(key, reason, remedy) for key in keys])


def _refuse_for(session: Session, wanted: Domain, refusals: Sequence[Refusal]) -> NoReturn:
    _record_failure(session, wanted, {refusal.device for refusal in refusals})
    raise Refused(shown(refusals))


def _record_failure(session: Session, wanted: Domain, keys: Collection[str]) -> None:
    session.send(audit.failed(wanted, keys, session.config, "attach"))


@contextmanager
def _record_of(session: Session, guest: Domain, addresses: Sequence[PciAddress]) -> Iterator[Held]:
    """The guest's record, or the beginning of one, under its lock and those of the devices."""
    state = session.state
    with (
        state.locked([f"domain-{guest.uuid}"], session.deadline),
        state.locked(state.names_of_locks(addresses), session.deadline),
    ):
        held = state.load(guest.uuid)
        if held is None:
            daemon = state.process(session.libvirtd)
            held = Held(guest.uuid, guest.name, guest.virt, "started", state.boot(), daemon)
        yield held
