# SPDX-License-Identifier: LGPL-2.1-or-later
"""Serves one event of a guest, before its end.

    serve   locks -> look -> handlers -> plan -> journal -> apply -> records; on failure undo, record, refuse

``take`` (story/taking.py) is the middle of it. story/entries.py says what is journalled at each step.
"""

from __future__ import annotations

from libhook.errors import BadInput, Refused
from libhook.facts.config import HANDLERS
from libhook.facts.domain import Domain
from libhook.facts.entry import Held
from libhook.facts.event import Event
from libhook.facts.plan import Plan
from libhook.kinds import registry as kinds
from libhook.story import entries, giveback, taking
from libhook.story.session import Session
from libhook.story.taking import Taken


def serve(session: Session, happening: Event, domain: Domain) -> None:
    """Handle one event other than ``release``: look, plan, journal, apply, record. On failure undo, and refuse."""
    operation, why = happening.operation, None
    domain = session.with_along(domain) if operation.takes else domain
    if operation.may_veto:
        taking.expect_few(domain)
    session.prepare()
    if operation.takes:
        from libhook.story import survey  # only prepare looks at everything

        why = giveback.settle_dead_guests(session, domain)
        session = session._replace(changed=survey.changed(session, domain))
    with session.guest(domain.uuid):
        before, broken = giveback.load(session, domain, strict=operation.may_veto)
        if operation.takes:
            taking.expect_given_back(session, before, domain, why)
            before = None
        if before and not broken:
            before = giveback.send_pending(session, before)
        if before and before.phase == "preparing" and not any(device.audited for device in before.devices):
            # The launcher may let a guest without devices in its XML go on where the hook is killed.
            raise Refused("the hook was ended before it was done with prepare", "start the guest again")
        domain = session.with_extra(session.with_along(domain, before), before, before=operation.takes)
        if operation.may_veto:
            session = consulted(session, happening, domain, before)
        elif before and before.settled:
            session = as_settled(session, before)
        with session.devices(domain.addresses if operation.may_veto else ()):
            taken = taking.take(session, happening, domain, before, entries.MAKE[operation.name])
            if taken.refusals:
                taking.undo_and_refuse(session, taken)
            if not operation.may_veto:
                taken = _record(session, happening, before, taken, broken=broken)
                if not broken:
                    taking.add(session, taken)
            elif not operation.takes:  # what was taken is journalled already
                taking.journal(session, taken.held, domain.addresses)
                taken = taking.add(session, taken)
                if taken.refusals:
                    taking.undo_and_refuse(session, taken)  # release undoes it
                waits = session.config.audit_required or session.config.dry_run or kinds.are_told(session.config)
                if not waits:
                    session.state.unwait(domain.uuid)
    if operation.name == "started":
        from libhook.story import identities

        identities.note_start(session, taken.held)  # with no lock of the guest: /var may hang
    if not operation.may_veto:  # nobody waits for them with a lock, or with an audit record to send
        session.log_plan(Plan(consulted(session, happening, domain, before).said))


def _record(session: Session, happening: Event, before: Held | None, taken: Taken, *, broken: bool) -> Taken:
    """The guest has its devices: send the audit records, and journal which were sent."""
    if before is None and happening.operation.name == "reconnect":
        return taken  # the guest started before libhook was installed, so nobody knows what it started with
    giveback.warn_without_entry(session, before, taken.plan)
    keys = {record.device for record in taken.plan.records}
    if keys and not broken:
        giveback.try_to_save(session, entries.with_pending_begin(taken.held, keys))
    done = keys - session.send(taken.plan.records)
    held = entries.with_recorded(taken.held, done, "success")
    if happening.operation.name == "reconnect":  # whoever comes next tries again; they are the guest's
        held = entries.with_pending_begin(held, keys - done)
    taken = taken._replace(held=held)
    if not broken:  # leave a broken entry as it is for the person who repairs it
        giveback.try_to_save(session, taken.held)
    return taken


def consulted(session: Session, happening: Event, domain: Domain, held: Held | None) -> Session:
    """The session with what handlers by others say and set, where the settings want some."""
    if HANDLERS not in session.config.actions and not (held and held.settled):
        return session
    from libhook.story import consult  # few settings do

    return consult.ask(session, happening, domain, held)


def as_settled(session: Session, held: Held) -> Session:
    """The session with what such handlers set at ``prepare``. A broken entry is in the way of no audit record."""
    from libhook.story import consult

    try:
        return consult.as_settled(session, held)
    except BadInput as error:
        session.log.add("error", "what handlers set is not known", reason=error.message)
        return session
