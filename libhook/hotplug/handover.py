# SPDX-License-Identifier: LGPL-2.1-or-later
"""Each step of a device's way to a guest that runs, and back. ``attach``, ``detach`` and ``watch`` share it.

libvirt calls no hook at hot-plug. Never call libvirt while you hold one of our locks: libvirt may be ending the guest,
and its ``release`` waits for our locks. So the guest's journal entry is read again after each call to libvirt. It says
what is recorded already. The first process to see a device's success or end records it, once.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import NoReturn

from libhook.errors import LibhookError, named
from libhook.facts.domain import Domain, HostDevice
from libhook.facts.entry import Held, HeldDevice, Process
from libhook.facts.event import ATTACH, DETACH, OPERATIONS, Event
from libhook.facts.plan import Plan, Refusal
from libhook.handlers import record
from libhook.hotplug.parts import (
    abandoned,
    addresses,
    consulted,
    has_ended,
    has_other_worker,
    leaving_with,
    locked_entry,
    lost_its_worker,
    may_run,
    with_known_extra,
)
from libhook.story import taking
from libhook.story.entries import as_on_host, taken_along, with_newcomer
from libhook.story.giveback import drop_from_entry, send_pending, true_records, undo, wait_for_writes
from libhook.story.session import Session
from libhook.story.taking import journal, refused

_EACH = "the same command with --dry-run"


def begin_attach(session: Session, guest: Domain, devices: Sequence[HostDevice], worker: Process) -> None:
    """Hand devices over, so that libvirt can give them to the guest.

    Raises Refused after a failure was recorded. What was changed by then has been undone as far as possible.
    ``worker`` is the process that will call ``finish_attach`` or ``undo_attach``.
    """
    wanted = guest._replace(devices=tuple(devices))
    session.prepare()
    wanted = session.with_extra(wanted, before=True)
    with locked_entry(session, guest, devices) as held:
        if refusals := objections(session, held, devices):
            _refuse(session, wanted, refusals)
        asked = consulted(session, Event(guest.name, ATTACH, "-"), wanted, held)
        session = asked._replace(document=b"")  # at hot-plug a command has an empty stdin
        entry = _EntryWithPart(held, wanted.devices, worker)
        taken = taking.take(session, Event(guest.name, ATTACH, "-"), wanted, held, entry)
        if taken.refusals and taken.begun:
            part = [device for device in taken.held.devices if device.key in entry.keys]
            after, leaving, _, failed = _put_back(session, taken.held, part)
            record_failure(session, wanted)
            drop_from_entry(session, after, leaving, failed)
            raise refused(taken.refusals, _EACH, session.settled)
        if taken.refusals:
            for address in set(addresses(taken.held.devices)) - set(addresses(held.devices)):
                session.state.disclaim(address, guest.uuid)
            _refuse(session, wanted, taken.refusals)


class _EntryWithPart:
    """Makes the journal entry before the first write.

    It adds the devices, and those of their IOMMU groups that are taken along.
    """

    def __init__(self, held: Held, devices: Sequence[HostDevice], worker: Process) -> None:
        self._held = held
        self._own = tuple(
            HeldDevice(one.kind, one.address, began="attach", plugging=worker, extra=one.extra)
            for one in devices
            if one.resolved
        )
        self.keys = {device.key for device in self._own}
        ours = {action.key for action in held.actions} - {key for one in held.devices for key in one.brought}
        self._of_guest = ours
        """The keys of actions that are there for the guest, whichever devices are plugged in and out."""

    def __call__(self, session: Session, held: Held | None, _domain: Domain, plan: Plan) -> Held:
        """Return the entry with the new devices and actions.

        A device that was taken along earlier keeps its old action, since the plan has no new one for it.
        """
        held = held or self._held
        new = {action.key: action for action in plan.actions if action.is_undone}
        along = taken_along(new.keys() - self.keys)
        on_devices = {device.key for device in (*self._own, *along)}
        brought = tuple(key for key in new if key not in on_devices | self._of_guest)
        own = (device._replace(brought=brought) for device in self._own)
        taken = (as_on_host(session, device) for device in (*own, *along))
        self.keys |= {device.key for device in along}
        return held._replace(
            devices=(*(device for device in held.devices if device.key not in self.keys), *taken),
            actions=(*held.without(new).actions, *new.values()),
            detached=tuple(key for key in held.detached if key not in self.keys),
        )


def objections(session: Session, held: Held, devices: Iterable[HostDevice]) -> list[Refusal]:
    """Return the reasons in the guest's own journal entry not to plug these devices in."""
    if not may_run(held):
        return [Refusal(one.key, "the guest is being started or ended", "try again when it runs") for one in devices]
    had = [device for device in held.devices if device.audited or device.named]
    own = {device.key: device for device in had if not _may_ignore(session, device)}
    half = {device.key for device in abandoned(session, held)}
    return [
        Refusal(one.key, f"{named(one.address)} has not come back from the guest yet", "run: libhook recover")
        if one.key in half
        else Refusal(one.key, f"the guest has {one.kind} {named(one.address)} already", "see libhook status")
        for one in devices
        if one.key in own
    ]


def _may_ignore(session: Session, device: HeldDevice) -> bool:
    """Whether the entry's device may be ignored: its ``attach`` was killed, and there is nothing to give back."""
    return not device.pci and device.recorded == "nothing" and lost_its_worker(session, device)


def finish_attach(
    session: Session,
    guest: Domain,
    devices: Sequence[HostDevice],
    worker: Process | None = None,
    taken: Collection[str] = (),
) -> None:
    """The guest has these devices now: record that, unless it is recorded already.

    ``taken`` has the keys of the devices that ``worker`` handed over. If the entry no longer has such a device, its end
    is recorded already, and its beginning is not recorded after that.
    """
    session.prepare()
    with locked_entry(session, guest, devices) as held:
        devices = session.with_extra(guest._replace(devices=tuple(devices)), held).devices
        held = with_known_extra(held, devices)
        known = {one.key: one if one.audited else one._replace(audited=True, began="attach") for one in held.devices}
        devices = [
            one for one in devices if one.resolved and not one.missing and (one.key in known or one.key not in taken)
        ]
        if not devices or has_ended(session, held):
            return
        for device in devices:
            if device.key not in known:
                held = with_newcomer(session, held, device)
                known[device.key] = held.devices[-1]._replace(began="attach")
            before = known[device.key]
            other_worker = before.plugging if has_other_worker(session, before, worker) else None
            known[device.key] = _begun(before)._replace(plugging=other_worker)
        has = {device.key for device in devices}
        own = (known[one.key] if one.key in has else one for one in held.devices)
        detached = tuple(key for key in held.detached if key not in has)
        _journal_and_send(session, held._replace(devices=tuple(own), detached=detached), devices)


def _journal_and_send(session: Session, held: Held, devices: Iterable[HostDevice] = ()) -> Held:
    """Journal what is about to be recorded, and record it. Return the entry by then."""
    journal_or_log(session, held, devices)
    return send_pending(session, held)


def _begun(before: HeldDevice) -> HeldDevice:
    """Return the entry's device that the guest has now. If that is not recorded yet, it is about to be."""
    if before.recorded == "success":
        return before
    began = before.began if before.recorded == "nothing" else "attach"
    return before._replace(recorded="success", began=began, pending="begin")


def journal_or_log(session: Session, held: Held, devices: Iterable[HostDevice]) -> None:
    """Journal. The guest runs, so a failure to write is only logged."""
    try:
        journal(session, held, addresses(devices))
    except LibhookError as error:
        session.log.add("error", "journal not written", reason=error.message)


def undo_attach(
    session: Session, guest: Domain, devices: Sequence[HostDevice], seen: HeldDevice | None = None
) -> str | None:
    """libvirt did not give the guest these devices: give them back, and record the failure.

    Return why something is left, or None. With ``seen``, do this only if the entry still has exactly this device.
    """
    keys = {device.key for device in devices}
    with locked_entry(session, guest, devices) as held:
        devices = session.with_extra(guest._replace(devices=tuple(devices)), held).devices
        part = tuple(one for one in held.devices if one.key in keys and one.recorded in ("nothing", "failed"))
        if (not part and any(device.resolved for device in devices)) or (seen and seen not in part):
            return None  # the guest has ended meanwhile, and its release did all this
        needless = {device.key for device in part if device.recorded == "failed" or not device.audited}
        wait_for_writes(session, held._replace(devices=part))
        held, leaving, _, failed = _put_back(session, held, part)
        record_failure(session, guest._replace(devices=tuple(one for one in devices if one.key not in needless)))
        drop_from_entry(session, held, leaving, failed)
        return "; ".join(failed.values()) or None


def begin_detach(session: Session, guest: Domain, devices: Sequence[HostDevice], worker: Process) -> None:
    """Journal that ``worker`` asks the guest for these devices, so that nobody else records a refusal."""
    session.prepare()
    with locked_entry(session, guest, devices) as held:
        if has_ended(session, held):
            return
        known = {device.key: device for device in held.devices}
        for device in devices:
            before = known.get(device.key) or as_on_host(
                session, HeldDevice(device.kind, device.address, recorded="success")
            )
            known[device.key] = before._replace(plugging=worker, audited=True)
        detached = tuple(key for key in held.detached if key not in {device.key for device in devices})
        journal_or_log(session, held._replace(devices=tuple(known.values()), detached=detached), devices)


def finish_detach(
    session: Session,
    guest: Domain,
    devices: Sequence[HostDevice],
    *,
    has_again: bool = False,
    seen: HeldDevice | None = None,
) -> str | None:
    """The guest no longer has these devices: give back what libhook took, and record that, unless it is recorded.

    Return why something did not come back, or None. ``has_again`` means that the device was plugged in again before we
    saw that it was gone, so nothing may be given back. With ``seen``, do this only if the entry still has exactly this
    device.
    """
    session.prepare()
    with locked_entry(session, guest, devices) as held:
        if has_ended(session, held) or (seen and seen not in held.devices):
            return None
        devices = session.with_extra(guest._replace(devices=tuple(devices)), held).devices
        gone = tuple(device for device in devices if device.key not in held.detached)
        keys = {device.key for device in gone}
        # Nobody has recorded yet that these devices were plugged in. They were, or they could not be gone.
        held = with_known_extra(held, gone)
        late = {device.key for device in gone if device.resolved and not device.missing}
        begun = tuple(
            _begun(one) if one.audited and one.recorded == "nothing" and one.key in late else one
            for one in held.devices
        )
        if begun != held.devices:
            held = _journal_and_send(session, held._replace(devices=begun))
        if has_again:
            known = held.by_key()
            for device in gone:
                if device.key not in known:
                    held = with_newcomer(session, held, device)
            again = (one._replace(audited=True, pending="again") if one.key in keys else one for one in held.devices)
            _journal_and_send(session, held._replace(devices=tuple(again)), gone)
            return None
        part = tuple(device for device in held.devices if device.key in keys and device.audited)
        wait_for_writes(session, held._replace(devices=part))
        before = held
        held, leaving, plan, failed = _put_back(session, held, part, gone)
        session.send(true_records(plan, before, failed))
        drop_from_entry(
            session, held._replace(detached=(*held.detached, *sorted(keys - failed.keys()))), leaving, failed
        )
        return "; ".join(failed.values()) or None


def record_kept(session: Session, guest: Domain, devices: Sequence[HostDevice], worker: Process | None = None) -> bool:
    """The guest keeps these devices: record that, unless the process that asked for them still runs and will do so.

    ``worker`` is that process when it calls this itself. Return False if the devices are gone by now.
    """
    with locked_entry(session, guest, devices) as held:
        devices = [device for device in devices if device.key not in held.detached]
        if not devices or has_ended(session, held):
            return False
        own = {device.key: device for device in held.devices}
        devices = session.with_extra(guest._replace(devices=tuple(devices)), held).devices
        devices = [device for device in devices if not has_other_worker(session, own.get(device.key), worker)]
        keys = {device.key for device in devices}
        for device in devices:
            if device.key not in own:
                held = with_newcomer(session, held, device)
        left = (
            one._replace(plugging=None, pending="kept", recorded=own[one.key].recorded if one.key in own else "success")
            if one.key in keys
            else one
            for one in with_known_extra(held, devices).devices
        )
        _journal_and_send(session, held._replace(devices=tuple(left)), devices)
        return True


def _put_back(
    session: Session, held: Held, part: Sequence[HeldDevice], gone: Sequence[HostDevice] | None = None
) -> tuple[Held, tuple[HeldDevice, ...], Plan, dict[str, str]]:
    """Give back a part of the journal entry.

    Return the new entry, the devices that leave it, the plan, and by key why something did not come back. ``gone`` has
    what the guest had and no longer has. A device that must wait for the rest of its IOMMU group stays in the entry as
    one that is taken along.
    """
    if session.only_devices:  # what they have brought is the guest's from now on
        part = [device._replace(brought=()) for device in part]
        held = held._replace(devices=tuple(device._replace(brought=()) for device in held.devices))
    leaving = leaving_with(session, held, part)
    waiting = {device.key for device in part} - {device.key for device in leaving}
    acting = held.actions_by_key()
    devices = [
        device._replace(audited=False, recorded="nothing", plugging=None) if device.key in waiting else device
        for device in held.devices
        if device.key in acting or device.key not in waiting
    ]
    operation = OPERATIONS["release"] if gone is None else DETACH
    plan, failed = undo(session.with_grace(), held.part(leaving), at_its_end=gone or (), operation=operation)
    return held._replace(devices=tuple(devices)), leaving, plan, failed


def _refuse(session: Session, wanted: Domain, refusals: Sequence[Refusal]) -> NoReturn:
    record_failure(session, wanted)
    raise refused(refusals, _EACH, session.settled)


def record_failure(session: Session, wanted: Domain) -> None:
    """Record that none of the devices could be plugged in."""
    wanted = session.with_extra(wanted, before=True)
    session.send(record.failed(wanted, (device.key for device in wanted.devices), session.config, "attach"))
