# SPDX-License-Identifier: LGPL-2.1-or-later
"""Look, plan, journal, apply; and the refusal of a start, which leaves everything as it was."""

from __future__ import annotations

import errno

from libhook.effects import files
from libhook.errors import LibhookError, Refused
from libhook.facts.address import PciAddress
from libhook.facts.domain import Domain
from libhook.facts.entry import Held
from libhook.facts.event import Event
from libhook.facts.plan import Action, Plan, Refusal
from libhook.handlers import audit
from libhook.kinds.kind import Outcome
from libhook.light import TYPE_CHECKING, NamedTuple, suppress
from libhook.look import libvirtd
from libhook.story.entries import with_recorded
from libhook.story.session import Session

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import NoReturn

_SHOWN = 3
"""Refusals shown in the one line that the caller of ``virsh start`` sees."""


def journal(session: Session, held: Held, claims: Iterable[PciAddress] = ()) -> None:
    """Write the claims, then the entry that they lead to. Where that cannot be done nothing may be handed over."""
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


def try_to_save(session: Session, held: Held) -> None:
    """Journal where a full or broken /run may hold nothing back."""
    try:
        session.state.save(held)
    except OSError as error:
        session.log.add("error", "journal not written", reason=str(error))


class Taken(NamedTuple):
    """How far it came."""

    held: Held
    """The guest's entry by now."""
    plan: Plan
    refusals: Sequence[Refusal] = ()
    """Why the guest may not have its devices."""
    begun: bool = False
    """Something may have been done already, and is to be undone where it is refused."""


if TYPE_CHECKING:
    MakeEntry = Callable[[Session, Held | None, Domain, Plan], Held]


def take(session: Session, happening: Event, domain: Domain, before: Held | None, entry: MakeEntry) -> Taken:
    """Look, plan, journal, apply. Nothing is undone here.

    Where the plan has a condition, only what provides its state is done; then it is looked, and planned, again: all
    that is decided later is decided by the same handlers, from what is there by then.
    """
    begun, held = False, before
    while True:
        plan = session.plan_in_time(happening, domain, held)
        session.log_plan(plan)
        held = entry(session, held, domain, plan)
        if plan.refusals or not happening.operation.takes:
            return Taken(held, plan, plan.refusals, begun)
        is_start = held.phase == "preparing"
        gone = of_all(domain, "whoever asked for the start is gone", "start the guest again")
        if is_start and libvirtd.caller_is_gone():
            return Taken(held, plan, gone, begun)
        stage = plan.stage
        held = held._replace(actions=tuple(one for one in held.actions if one not in plan.actions or one in stage))
        try:
            journal(session, held, held.addresses)
        except LibhookError as error:
            return Taken(held, plan, of_all(domain, error.message, error.hint), begun)
        begun = True
        refusals = why_not(stage, session.apply(held.uuid, stage))
        if not (refusals or plan.conditions) and is_start:
            held = held._replace(phase="prepared")
            try:
                journal(session, held)
            except LibhookError as error:  # somebody removed it meanwhile: only this process still knows the way back
                refusals = of_all(domain, error.message, error.hint)
            if not refusals and libvirtd.caller_is_gone():
                refusals = gone
        if refusals or not plan.conditions:
            return Taken(held, plan, refusals, begun)


def why_not(actions: Sequence[Action], outcomes: Iterable[Outcome]) -> list[Refusal]:
    """The refusals that follow from what failed: of who needs it, or else of what was acted on itself."""
    refusals = []
    for action, failure, _, _ in outcomes:
        if not failure:
            continue
        waiting = [one for one in actions if one.ours and set(one.needs) & set(action.provides)]
        refusals += [Refusal(one.key, f"{one.subject}: {failure.reason}", failure.remedy) for one in waiting]
        if not waiting:
            refusals.append(Refusal(action.key, *failure))
    return refusals


def of_all(domain: Domain, reason: str, remedy: str) -> list[Refusal]:
    """A refusal on account of each device."""
    return [Refusal(device.key, reason, remedy) for device in domain.devices]


def refuse(session: Session, held: Held, refusals: Sequence[Refusal]) -> NoReturn:
    """Record the failure of the devices it is about, remember that, and veto."""
    keys = {refusal.device for refusal in refusals}
    if keys - {device.key for device in held.devices}:  # something that is no device: then none is handed over
        keys |= {device.key for device in held.devices}
    keys -= session.send(audit.failed(held, keys, session.config))
    untold = {device.key for device in held.devices if device.recorded == "nothing"}
    held = with_recorded(held, keys & untold, "failed")
    try_to_save(session, held)
    for address in held.addresses:
        if not held.holds(address):
            session.state.disclaim(address, held.uuid)
    if not held.actions and libvirtd.caller_is_gone():
        session.state.forget(held.uuid)  # release may have been there before the entry, and comes but once
    raise Refused(shown(refusals))


def record_failure(session: Session, domain: Domain) -> None:
    """The start fails before anything could be remembered of it, so ``release`` will find nothing to record."""
    held = None
    with suppress(LibhookError):  # one that is broken tells release nothing either
        held = session.state.load(domain.uuid)
    if held is None:
        domain = session.with_extra(domain, before=True)
        session.send(audit.failed(domain, (device.key for device in domain.devices), session.config))


def shown(refusals: Sequence[Refusal]) -> str:
    """The first of them as one line."""
    lines = "; ".join(dict.fromkeys(refusal.line for refusal in refusals[:_SHOWN]))
    rest = len(refusals) - _SHOWN
    return f"{lines}; and {rest} more" if rest > 0 else lines
