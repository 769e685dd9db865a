# SPDX-License-Identifier: LGPL-2.1-or-later
"""Looks, plans, journals and applies. Also undoes that, and refuses a start."""

from __future__ import annotations

import errno

from libhook.effects import files
from libhook.errors import LibhookError, Refused, harmless, named
from libhook.facts.address import PciAddress
from libhook.facts.domain import Domain, HostDevice
from libhook.facts.entry import Held, what_is_set
from libhook.facts.event import Event
from libhook.facts.plan import Action, Plan, Refusal
from libhook.handlers import record
from libhook.kinds.kind import Outcome
from libhook.light import TYPE_CHECKING, MappingProxyType, NamedTuple, suppress
from libhook.look import libvirtd
from libhook.story import giveback
from libhook.story.entries import after_refusal, expect_readable, with_recorded
from libhook.story.session import Session

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Any, NoReturn

_SHOWN = 3
"""How many causes go into the one line that the user of ``virsh start`` sees. What to do is said of the first."""


MOST = 1024
"""PCI devices of one guest. libvirt has no limit of its own, but nobody has so many.

Each costs its guest's start a few milliseconds, under locks that other guests wait for."""


def too_many(domain: Domain, plugged: Sequence[HostDevice] = ()) -> Refusal | None:
    """Why a guest with these devices, and those to be ``plugged`` in, is refused before any lock or look, or None."""
    count = len(domain._replace(devices=(*domain.devices, *plugged)).addresses)
    if count <= MOST:
        return None
    has = "would have" if plugged else "has"
    return Refusal("", f"the guest {has} {count} PCI devices, and libhook hands over {MOST} at most", "give it fewer")


def expect_few(domain: Domain, plugged: Sequence[HostDevice] = ()) -> None:
    """LibhookError if the guest has too many devices, or would have with those to be ``plugged`` in."""
    if refusal := too_many(domain, plugged):
        raise LibhookError(refusal.reason, refusal.remedy)


def journal(session: Session, held: Held, claims: Iterable[PciAddress] = ()) -> None:
    """Write the claims, then the journal entry. LibhookError if that fails: then nothing may be handed over."""
    try:
        for address in claims:
            session.state.claim(address, held.uuid)
        session.state.save(held)
    except FileNotFoundError as error:
        raise LibhookError(session.state.missing, "start the guest again") from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT) or not error.filename:
            reason = f"the journal in {session.machine.state} cannot be written ({error.strerror})"
            raise LibhookError(reason, "make room there, then start the guest again") from error
        raise LibhookError(
            f"{named(str(error.filename))} cannot be written ({error.strerror})", files.REMEDY
        ) from error


def expect_given_back(session: Session, held: Held | None, domain: Domain, why: str | None) -> None:
    """Refuse the start, and record the failure, if the guest's earlier life still holds something, and ``why``."""
    if held is None or not held.actions:
        return
    from libhook.facts import remedy  # rare

    session.send(record.failed(domain, (device.key for device in domain.devices), session.config))
    still = f"the guest still holds {', '.join(action.subject for action in held.actions)} from its last run"
    if held.phase != "releasing":  # nobody has tried to give it back
        raise Refused(still, "libhook status says what is in the way; then run: libhook recover")
    why = harmless(why or "it does not come back")
    raise Refused(f"{still} ({why})", f"mend that, or {remedy.give_up(held)}")


class Taken(NamedTuple):
    """How far ``take`` came."""

    held: Held
    """The guest's journal entry by now."""
    plan: Plan
    refusals: Sequence[Refusal] = ()
    """Why the guest may not have its devices."""
    begun: bool = False
    """Something may have been done already. If the start is refused, that must be undone."""


if TYPE_CHECKING:
    MakeEntry = Callable[[Session, Held | None, Domain, Plan], Held]


def take(session: Session, happening: Event, domain: Domain, before: Held | None, entry: MakeEntry) -> Taken:
    """Look, plan, journal, apply. Nothing is undone here.

    If the plan has a condition, only the actions that provide the condition's state are carried out. Then this looks
    and plans again, so the same handlers decide the rest from what is there by then.
    """
    begun, held, done = False, before, set[str]()
    while True:
        try:
            plan = session.plan_when_free(happening, domain, held)
        except LibhookError as error:
            if not begun or held is None:
                raise
            return Taken(held, plan, refuse_each(domain, error.message, error.hint), begun)
        session.log_plan(plan)
        held = entry(session, held, domain, plan)
        if plan.refusals or not happening.operation.takes:
            return Taken(held, plan, plan.refusals, begun)
        is_start = held.phase == "preparing"
        gone = refuse_each(domain, "the process that asked for the start is gone", "start the guest again")
        if is_start and libvirtd.caller_is_gone():
            return Taken(held, plan, gone, begun)
        try:
            expect_readable(held, anew=is_start)
        except LibhookError as error:
            return Taken(held, plan, refuse_each(domain, error.message, error.hint), begun)
        stage = plan.stage
        if plan.conditions and done.issuperset(action.key for action in stage):
            # These actions ran already, and the handlers still wait for them: looking again would never end.
            return Taken(held, plan, [condition.refusal for condition in plan.conditions], begun)
        done.update(action.key for action in stage)
        held = held._replace(actions=tuple(one for one in held.actions if one not in plan.actions or one in stage))
        try:
            journal(session, held, held.addresses)
        except LibhookError as error:
            return Taken(held, plan, refuse_each(domain, error.message, error.hint), begun)
        begun = True
        outcomes = session.apply(held.uuid, stage)
        refusals = refusals_from(held, stage, outcomes)
        session = session.with_time()  # each action had its own
        if not (refusals or plan.conditions) and is_start:
            held = held._replace(phase="prepared")
            try:
                journal(session, held)
            except LibhookError as error:  # somebody removed the journal: only this process still knows what to undo
                refusals = refuse_each(domain, error.message, error.hint)
            if not refusals and libvirtd.caller_is_gone():
                refusals = gone
        if refusals or not plan.conditions:
            return Taken(held, plan, refusals, begun)


def add(session: Session, taken: Taken) -> Taken:
    """Carry out the actions of a plan for a guest that has its devices. They are undone at its end, whatever fails.

    Not in a dry run: somebody may have turned that on since ``prepare``.
    """
    actions = taken.plan.actions
    if not actions or session.config.dry_run:
        return taken
    held = taken.held._replace(actions=(*taken.held.actions, *(action for action in actions if action.is_undone)))
    journal(session, held)
    outcomes = session.apply(held.uuid, actions)
    return taken._replace(held=held, refusals=refusals_from(held, actions, outcomes))


def refusals_from(held: Held, actions: Sequence[Action], outcomes: Iterable[Outcome]) -> list[Refusal]:
    """Turn failed actions into refusals: of each device that waits for the failed one, else of that one itself."""
    refusals, devices = list[Refusal](), {device.key for device in held.devices}
    for action, failure, *_ in outcomes:
        if not failure:
            continue
        waiting = [one for one in actions if one.key in devices and one.ours and set(one.needs) & set(action.provides)]
        refusals += [Refusal(one.key, f"{one.subject}: {failure.reason}", failure.remedy) for one in waiting]
        if not waiting:
            refusals.append(Refusal(action.key, *failure))
    return refusals


def refuse_each(domain: Domain, reason: str, remedy: str) -> list[Refusal]:
    """Return one refusal for each device, or one for a guest without any."""
    return [Refusal(key, reason, remedy) for key in [device.key for device in domain.devices] or [""]]


def undo_and_refuse(session: Session, taken: Taken) -> NoReturn:
    """The start failed: give back what was taken for it, record the failure, and refuse."""
    held, left = taken.held, dict[str, str]()
    if taken.begun:
        _, left = giveback.undo(session.with_grace(), held)
    if held.phase in ("preparing", "prepared"):
        held = after_refusal(session, held, left)
    refuse(session, held, taken.refusals)


def refuse(session: Session, held: Held, refusals: Sequence[Refusal]) -> NoReturn:
    """Record the failure for the devices that the refusals name, journal that, and refuse the start."""
    keys = {refusal.device for refusal in refusals}
    if keys - {device.key for device in held.devices}:  # a refusal of no device: then all devices failed
        keys |= {device.key for device in held.devices}
    keys -= session.send(record.failed(held, keys, session.config))
    unrecorded = {device.key for device in held.devices if device.recorded == "nothing"}
    held = with_recorded(held, keys & unrecorded, "failed")
    giveback.try_to_save(session, held)
    kept = held.kept()
    for address in held.addresses:
        if address not in kept:
            session.state.disclaim(address, held.uuid)
    if not held.actions and libvirtd.caller_is_gone():
        session.state.forget(held.uuid)  # release may have come before the entry was there, and it comes only once
    from libhook.facts.remedy import whom  # only where something is refused

    raise refused(refusals, f"libhook plan {whom(held)}", held.settled)


def record_failure(session: Session, domain: Domain) -> None:
    """Record a start that failed before anything was journalled. ``release`` would find nothing to record."""
    held = None
    with suppress(LibhookError):  # release cannot use a broken entry either
        held = session.state.load(domain.uuid)
    if held is None:
        domain = session.with_extra(domain, before=True)
        session.send(record.failed(domain, (device.key for device in domain.devices), session.config))


def refused(
    refusals: Sequence[Refusal],
    each: str,
    settled: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
) -> Refused:
    """Return the error that says the first reasons, and then what to do about the first. So a command ends the line.

    ``each`` is what says what to do about the others; "" where that has been said. The error also names the handlers by
    others that ``settled`` what may be refused there.
    """
    if len(refusals) > 1:
        from libhook.facts.joined import joined  # only where something is refused

        refusals = joined(refusals)
    reasons = [refusal.said for refusal in refusals[:_SHOWN]]
    if (rest := len(refusals) - _SHOWN) > 0:
        reasons.append(f"and {rest} more")
    if settled and not all(refusal.reason.startswith("handler ") for refusal in refusals):  # they name themselves
        reasons[-1] += f" ({what_is_set(settled)})"
    remedy = refusals[0].remedy
    if len(refusals) > 1:
        remedy = f"{each and f'{each} says what to do about each; '}about the first: {remedy}"
    return Refused("; ".join(reasons), remedy)
