# SPDX-License-Identifier: LGPL-2.1-or-later
"""Plans what ``prepare`` would do, for the dry run, ``libhook plan`` and ``attach --dry-run``."""

from __future__ import annotations

from libhook.errors import BadInput, LibhookError, named
from libhook.facts.domain import NO_DRIVER, Domain
from libhook.facts.entry import Held
from libhook.facts.event import OPERATIONS, Event
from libhook.facts.plan import Plan, Refusal, Verdict, Warn, is_action
from libhook.facts.situation import Situation
from libhook.handlers.registry import plan_for, with_limits
from libhook.kinds import registry as kinds
from libhook.light import TYPE_CHECKING, suppress
from libhook.look import libvirtd
from libhook.story import entries
from libhook.story.giveback import facts, guests_to_settle
from libhook.story.recovery import sign_of_life
from libhook.story.session import Session
from libhook.xml import domxml

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator


def foresee(session: Session, event: Event, domain: Domain) -> Plan:
    """Plan the give-back of what dead guests left, then the hand-over of the guest's devices after that.

    For a guest that runs, plan its next start, as if the guest had ended and its devices were back.
    """
    first: list[Verdict] = []
    situation = session.situation(event, domain, None)
    for uuid in guests_to_settle(session, domain):
        held = session.state.load(uuid)
        if held is None or sign_of_life(held, facts(session, held), starting_anew=uuid == domain.uuid):
            continue
        plan = session.plan_release(held)
        first += [
            Warn(f"first gives back what the guest {named(held.name)} left, which no longer runs"),
            *plan.verdicts,
        ]
        situation = _given_back(situation, held, plan)
    if event.operation.name == "prepare":
        held = session.state.load(domain.uuid)
        if (has := of_running(session, domain, held)) is not None:
            first.append(Warn(f"the guest {named(domain.name)} runs: this is the plan for its next start"))
            situation = _given_back(situation, held, session.plan_release(held)) if held else situation
            along = (one.key for one in held.devices if one.named) if held else ()
            situation = _closed(situation, [*has, *along])
    plan = plan_for(situation, session.said)
    whole = Plan((*first, *plan.verdicts))
    if plan.refusals:
        return whole
    if event.operation.name == "prepare":
        try:
            entries.expect_readable(entries.prepared(session, None, situation.domain, plan), anew=True)
        except LibhookError as error:
            return whole._replace(verdicts=(*whole.verdicts, Refusal("", error.message, error.hint)))
    whole = with_limits(whole, situation)
    return whole._replace(verdicts=(*whole.verdicts, *_later(situation)))


def _later(situation: Situation) -> Iterator[Verdict]:
    """What the settings ask for at the next steps of the guest's start. It has its own time there."""
    if situation.event.operation.name == "prepare":
        for operation in (one for one in OPERATIONS.values() if one.adds):
            then = situation._replace(event=situation.event._replace(operation=operation))
            for kind in kinds.in_settings(situation.config, operation.name):
                yield from filter(is_action, kind.wanted(then))


def _given_back(situation: Situation, held: Held, plan: Plan) -> Situation:
    """Return the situation as it will be after ``plan`` has given back what ``held`` holds."""
    before = situation.host.devices
    host, uuid = kinds.after(situation.host, plan.actions), held.uuid
    driven = {
        device.key: host.devices[device.pci].binding.driver or NO_DRIVER
        for device in situation.domain.devices
        if device.pci in host.devices and device.pci and host.devices[device.pci] != before[device.pci]
    }
    devices = (
        device._replace(extra=device.extra._replace(driver=driven[device.key]))
        if device.extra and device.key in driven
        else device
        for device in situation.domain.devices
    )
    claims = {address: claim for address, claim in host.claims.items() if claim.uuid != uuid}
    tenants = {address: tuple(one for one in all_ if one.claim.uuid != uuid) for address, all_ in host.tenants.items()}
    return situation._replace(
        domain=situation.domain._replace(devices=tuple(devices)), host=host._replace(claims=claims, tenants=tenants)
    )


def of_running(session: Session, domain: Domain, held: Held | None) -> list[str] | None:
    """Return the keys of the devices that the guest has; None when it does not run.

    They come from libvirt's status file, else from the journal entry.
    """
    journalled = [device.key for device in held.devices if device.audited] if held else []
    if document := libvirtd.live(session.machine, domain.name, domain.uuid):
        with suppress(BadInput):
            return [device.key for device in domxml.parse(document).devices]
        return journalled
    runs = held is not None and held.phase == "started" and sign_of_life(held, facts(session, held))
    return journalled if runs else None


def _closed(situation: Situation, keys: Collection[str]) -> Situation:
    """Return the situation after the guest's QEMU has ended: its devices, and their IOMMU groups, are not open."""
    host = situation.host
    own = {address for address in host.devices if f"pci {address}" in keys}
    groups = [members for members in host.groups.values() if not own.isdisjoint(members)]
    free = own.union(*groups)
    in_use = {address: using for address, using in host.in_use.items() if address not in free}
    return situation._replace(host=host._replace(in_use=in_use))
