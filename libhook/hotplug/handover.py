# SPDX-License-Identifier: LGPL-2.1-or-later
"""Each moment of a device's way to a guest that runs, and back: what ``attach``, ``detach`` and ``watch`` share.

libvirt calls no hook at hot-plug. Whoever works here asks libvirt only while he holds none of our locks: it may be
ending the guest at that moment, and its ``release`` waits for them. So the guest's record is read anew after each such
call, and says who has seen what: a device's success or end is recorded by whoever comes first, once.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import NoReturn

from libhook.errors import LibhookError, Refused
from libhook.facts.domain import Domain, HostDevice
from libhook.facts.entry import Held, HeldDevice, Process
from libhook.facts.event import ATTACH, DETACH, OPERATIONS, Event, Operation
from libhook.facts.host import NOTHING
from libhook.facts.plan import Plan, Record, Refusal
from libhook.facts.situation import Situation
from libhook.handlers import audit
from libhook.hotplug.parts import abandoned, addresses, has_ended, is_left, is_over, leaving_with, record_of
from libhook.light import TYPE_CHECKING
from libhook.look import processes
from libhook.story import taking
from libhook.story.entries import taken_along, with_newcomer
from libhook.story.giveback import part_with, true_records, undo
from libhook.story.session import Session
from libhook.story.taking import journal, shown, try_to_save

if TYPE_CHECKING:
    from libhook.facts.situation import Handler


def take(session: Session, guest: Domain, devices: Sequence[HostDevice], worker: Process) -> None:
    """Hand devices over, so that libvirt can give them to the guest; Refused when nothing was changed, and recorded so.

    ``worker`` is the process that sees to the rest, up to ``given`` or ``not_given``.
    """
    wanted = guest._replace(devices=tuple(devices))
    session.prepare()
    wanted = session.with_extra(wanted, before=True)
    with record_of(session, guest, devices) as held:
        if refusals := objections(session, held, devices):
            _refuse(session, wanted, refusals)
        entry = _EntryWithPart(held, wanted.devices, worker)
        taken = taking.take(session, Event(guest.name, ATTACH, "-"), wanted, held, entry)
        if taken.refusals and taken.begun:
            part = [device for device in taken.held.devices if device.key in entry.keys]
            after, leaving, _, failed = _put_back(session, taken.held, part)
            record_failure(session, wanted)
            part_with(session, after, leaving, failed)
            raise Refused(shown(taken.refusals))
        if taken.refusals:
            for address in set(addresses(taken.held.devices)) - set(addresses(held.devices)):
                session.state.disclaim(address, guest.uuid)
            _refuse(session, wanted, taken.refusals)


class _EntryWithPart:
    """Makes the entry that is journalled before the first write: with the devices, and what of their groups is taken
    along.
    """

    def __init__(self, held: Held, devices: Sequence[HostDevice], worker: Process) -> None:
        self._held = held
        self._own = tuple(
            HeldDevice(one.kind, one.address, began="attach", plugging=worker, extra=one.extra)
            for one in devices
            if one.resolved
        )
        self.keys = {device.key for device in self._own}

    def __call__(self, _session: Session, held: Held | None, _domain: Domain, plan: Plan) -> Held:
        """One that was taken along for another device of the guest keeps the way it came."""
        held = held or self._held
        new = {action.key: action for action in plan.actions if action.is_undone}
        along = taken_along(new.keys() - self.keys)
        self.keys |= {device.key for device in along}
        return held._replace(
            devices=(*(device for device in held.devices if device.key not in self.keys), *self._own, *along),
            actions=(*held.without(new).actions, *new.values()),
            detached=tuple(key for key in held.detached if key not in self.keys),
        )


def objections(session: Session, held: Held, devices: Iterable[HostDevice]) -> list[Refusal]:
    """What speaks against it in the guest's own record."""
    if is_over(held):
        return [Refusal(one.key, "the guest is being started or ended", "try again when it runs") for one in devices]
    own = {device.key: device for device in held.devices if device.audited and not _is_void(session, device)}
    half = {device.key for device in abandoned(session, held)}
    return [
        Refusal(one.key, f"{one.address} has not come back from the guest yet", "libhook recover says what keeps it")
        if one.key in half
        else Refusal(one.key, f"the guest has {one.key} already", "libhook status")
        for one in devices
        if one.key in own
    ]


def _is_void(session: Session, device: HeldDevice) -> bool:
    """Whether nobody knows that the guest has it and nothing is to be given back: who plugged it in was killed."""
    return not device.pci and device.recorded == "nothing" and is_left(session, device)


def given(
    session: Session,
    guest: Domain,
    devices: Sequence[HostDevice],
    worker: Process | None = None,
    taken: Collection[str] = (),
) -> tuple[Record, ...]:
    """The guest has these devices now: record it, unless somebody has.

    ``taken``: the keys of those that ``worker`` took for it; such a one whose end is recorded by now begins no more.
    """
    session.prepare()
    with record_of(session, guest, devices) as held:
        devices = session.with_extra(guest._replace(devices=tuple(devices)), held).devices
        known = {one.key: one if one.audited else one._replace(audited=True, began="attach") for one in held.devices}
        devices = [
            one for one in devices if one.resolved and not one.missing and (one.key in known or one.key not in taken)
        ]
        if not devices or has_ended(session, held):
            return ()
        new = tuple(device for device in devices if not _is_told(known.get(device.key)))
        records = _send(session, audit.attach, ATTACH, guest._replace(devices=new))
        for device in devices:
            if device.key not in known:
                held = with_newcomer(session, held, device)
                known[device.key] = held.devices[-1]._replace(began="attach")
            before = known[device.key]
            tending = before.plugging if _is_anothers(session, before, worker) else None
            known[device.key] = before._replace(recorded="success", plugging=tending)
        has = {device.key for device in devices}
        own = (known[one.key] if one.key in has else one for one in held.devices)
        detached = tuple(key for key in held.detached if key not in has)
        journal_or_log(session, held._replace(devices=tuple(own), detached=detached), devices)
        return records


def _send(session: Session, handler: Handler, operation: Operation, guest: Domain) -> tuple[Record, ...]:
    """What a handler of the trail says of these devices."""
    situation = Situation(Event(guest.name, operation, "-"), guest, NOTHING, None, session.config)
    records = tuple(record for record in handler(situation) if isinstance(record, Record))
    session.send(records)
    return records


def _is_told(device: HeldDevice | None) -> bool:
    return device is not None and device.recorded == "success"


def journal_or_log(session: Session, held: Held, devices: Iterable[HostDevice]) -> None:
    """The guest runs: being unable to write is said, and harms nothing."""
    try:
        journal(session, held, addresses(devices))
    except LibhookError as error:
        session.log.add("error", "journal not written", reason=error.message)


def not_given(
    session: Session, guest: Domain, devices: Sequence[HostDevice], seen: HeldDevice | None = None
) -> str | None:
    """libvirt did not give the guest what was taken for it: back, and recorded as failed; why something is left.

    ``seen``: only if the record still says this of the device.
    """
    keys = {device.key for device in devices}
    with record_of(session, guest, devices) as held:
        devices = session.with_extra(guest._replace(devices=tuple(devices)), held).devices
        part = tuple(one for one in held.devices if one.key in keys and one.recorded in ("nothing", "failed"))
        if (not part and any(device.resolved for device in devices)) or (seen and seen not in part):
            return None  # the guest has ended meanwhile, and its release has seen to it
        told = {device.key for device in part if device.recorded == "failed" or not device.audited}
        session.wait_for_writes(held._replace(devices=part))
        held, leaving, _, failed = _put_back(session, held, part)
        record_failure(session, guest._replace(devices=tuple(one for one in devices if one.key not in told)))
        part_with(session, held, leaving, failed)
        return "; ".join(failed.values()) or None


def ask_back(session: Session, guest: Domain, devices: Sequence[HostDevice], worker: Process) -> None:
    """Note that the guest is being asked for these devices, by whom, so that nobody else records a refusal."""
    session.prepare()
    with record_of(session, guest, devices) as held:
        if has_ended(session, held):
            return
        known = {device.key: device for device in held.devices}
        for device in devices:
            before = known.get(device.key) or HeldDevice(device.kind, device.address, recorded="success")
            known[device.key] = before._replace(plugging=worker, audited=True)
        detached = tuple(key for key in held.detached if key not in {device.key for device in devices})
        journal_or_log(session, held._replace(devices=tuple(known.values()), detached=detached), devices)


def removed(
    session: Session,
    guest: Domain,
    devices: Sequence[HostDevice],
    *,
    has_again: bool = False,
    seen: HeldDevice | None = None,
) -> str | None:
    """The guest has these devices no more: give back what libhook took, and record it unless somebody has.

    Why something did not come back, or None. ``has_again``: it was plugged in again before that could be seen, so
    nothing may be given back. ``seen``: only if the record still says this of the device.
    """
    session.prepare()
    with record_of(session, guest, devices) as held:
        if has_ended(session, held) or (seen and seen not in held.devices):
            return None
        devices = session.with_extra(guest._replace(devices=tuple(devices)), held).devices
        gone = tuple(device for device in devices if device.key not in held.detached)
        keys = {device.key for device in gone}
        part = tuple(device for device in held.devices if device.key in keys and device.audited)
        # Whose attach has not come to say so: it was there, or it could not have gone.
        late = {device.key for device in part if device.recorded == "nothing"}
        _send(session, audit.attach, ATTACH, guest._replace(devices=tuple(one for one in gone if one.key in late)))
        if has_again:  # and that is not recorded yet
            _send(session, audit.detach, DETACH, guest._replace(devices=gone))
            anew = (
                device._replace(recorded="nothing", began="attach") if device.key in keys else device
                for device in held.devices
            )
            try_to_save(session, held._replace(devices=tuple(anew)))
            return None
        session.wait_for_writes(held._replace(devices=part))
        before = held
        held, leaving, plan, failed = _put_back(session, held, part, gone)
        session.send(true_records(plan, before, failed))
        part_with(session, held._replace(detached=(*held.detached, *sorted(keys - failed.keys()))), leaving, failed)
        return "; ".join(failed.values()) or None


def kept(session: Session, guest: Domain, devices: Sequence[HostDevice], worker: Process | None = None) -> bool:
    """The guest does not give these devices up: record it, unless who asked for them still lives and will.

    ``worker`` is who asked, where it is he who says so. False where they are gone by now.
    """
    with record_of(session, guest, devices) as held:
        devices = [device for device in devices if device.key not in held.detached]
        if not devices or has_ended(session, held):
            return False
        own = {device.key: device for device in held.devices}
        devices = session.with_extra(guest._replace(devices=tuple(devices)), held).devices
        devices = [device for device in devices if not _is_anothers(session, own.get(device.key), worker)]
        keys = {device.key for device in devices}
        session.send(audit.failed(guest._replace(devices=tuple(devices)), keys, session.config, "detach"))
        if keys & own.keys():
            left = (device._replace(plugging=None) if device.key in keys else device for device in held.devices)
            try_to_save(session, held._replace(devices=tuple(left)))
        return True


def _is_anothers(session: Session, device: HeldDevice | None, worker: Process | None) -> bool:
    tending = device.plugging if device else None
    return bool(tending and tending != worker and processes.lives(session.machine, tending))


def _put_back(
    session: Session, held: Held, part: Sequence[HeldDevice], gone: Sequence[HostDevice] | None = None
) -> tuple[Held, tuple[HeldDevice, ...], Plan, dict[str, str]]:
    """Give back a part of the record: the record, what of it leaves, the plan, and what did not come back and why.

    ``gone``: what the guest had and has no more. A device whose group must wait becomes one that is taken along.
    """
    leaving = leaving_with(session, held, part)
    waiting = {device.key for device in part if device not in leaving}
    devices = [
        device._replace(audited=False, recorded="nothing", plugging=None) if device.key in waiting else device
        for device in held.devices
        if held.action(device.key) or device.key not in waiting
    ]
    operation = OPERATIONS["release"] if gone is None else DETACH
    plan, failed = undo(session.with_grace(), held.part(leaving), at_its_end=gone or (), operation=operation)
    return held._replace(devices=tuple(devices)), leaving, plan, failed


def _refuse(session: Session, wanted: Domain, refusals: Sequence[Refusal]) -> NoReturn:
    record_failure(session, wanted)
    raise Refused(shown(refusals))


def record_failure(session: Session, wanted: Domain) -> None:
    """None of the devices could be plugged in."""
    wanted = session.with_extra(wanted, before=True)
    session.send(audit.failed(wanted, (device.key for device in wanted.devices), session.config, "attach"))
