# SPDX-License-Identifier: LGPL-2.1-or-later
"""Gives up what does not come back, for ``libhook recover --give-up``: it stays as it is, and libhook forgets it.

Nothing is written to the host. The claim goes first, and then what the journal entry says. After a crash in between,
the entry's undo finds no claim, so that it has nothing to do.
"""

from __future__ import annotations

from libhook.errors import BadInput, TooNew
from libhook.facts.address import PciAddress
from libhook.kinds import claimants, claims
from libhook.kinds.resource import Resource
from libhook.look import holders, libvirtd, sysfs
from libhook.story.giveback import facts, true_records
from libhook.story.recovery import sign_of_life
from libhook.story.session import Session

GONE = "another process has given it back, or up, meanwhile"


def give_up(session: Session, uuid: str, key: str, resource: Resource | None) -> str | None:
    """Drop the action or device with this key from a dead guest's entry, and the guest's claim to the ``resource``.

    Return why it stays, or None. A device that did not come back is recorded so, as at ``release``.
    """
    state = session.state
    with session.guest(uuid):
        held = state.load(uuid)
        if held is None or not (key in held.by_key() or key in held.actions_by_key()):
            return GONE
        if reason := sign_of_life(held, facts(session, held)._replace(busy=False)):
            return reason
        device, left = held.by_key().get(key), held.without({key})
        addresses = [device.pci] if device and device.pci else []
        with session.devices(addresses), claims.locked(session.work(uuid), [resource] if resource else []):
            if resource:
                _forget_claims(session, resource, {uuid})
            if device:
                plan = session.with_settings_of(held).plan_release(held.part((device,)))
                session.send(true_records(plan, held, {key}))
                left = left._replace(devices=tuple(one for one in left.devices if one.key != key))
            if left.devices or left.actions:
                state.save(left)
            else:
                state.forget(uuid)
            for address in addresses:
                state.disclaim(address, uuid)
                state.settle_in_flight(address)
    where = stays(session, addresses) or "as it is"
    session.log.add("warning", "given up", guest=held.name, uuid=uuid, action=key, left=where)
    return None


def give_up_orphans(session: Session, key: str, resource: Resource) -> bool:
    """Drop the claims to this thing that no entry names. The others stay. Return whether there was something."""
    with claims.locked(session.work(""), [resource]):
        if session.state.read_shared(resource.file) is None:
            return False
        alive = claimants.in_entries(session.state, key)
        dead = {uuid for uuid in claimants.claimants(session.state, resource) if not alive(uuid)}
        _forget_claims(session, resource, dead)
    session.log.add("warning", "given up", uuid=", ".join(sorted(dead)), action=key, left="as it is")
    return True


def _forget_claims(session: Session, resource: Resource, uuids: set[str]) -> None:
    """Drop these guests' claims. Of a broken file nobody knows what it says, so it is in nobody's way at an end."""
    try:
        claimants.give_up(session.state, resource, uuids)
    except TooNew:
        raise
    except BadInput as error:
        session.log.add("warning", "not forgotten", reason=error.message, hint=error.hint)


def in_the_way(session: Session, uuid: str) -> str | None:
    """Why a broken entry may not be given up: its guest may live, or it is none of ours. None where nothing is.

    LibhookError where nobody can see whether its devices are open.
    """
    if folder := session.state.folder_instead(uuid):
        return f"{folder} is a folder: find out who made it, then remove it"
    running = libvirtd.running(session.machine)
    if uuid in (running or ()) or (running is None and libvirtd.any_lives(session.machine)):
        return "its guest may run"
    opened = holders.of_vfio(session.machine, session.state.claimed_by(uuid), session.deadline, must_see=True)
    return next((f"{address} is open in {who}" for address, who in opened.items()), None)


def give_up_entry(session: Session, uuid: str) -> str | None:
    """Remove a dead guest's broken entry, and its claims to devices. Return why it stays, or None.

    What it claims of what guests share are for ``settle_orphans``: their files say what was there before.
    """
    state = session.state
    with session.guest(uuid):
        try:
            return "it can be read by now" if state.load(uuid) else GONE
        except TooNew as error:
            return f"{error.message}: {error.hint}"
        except BadInput:
            pass
        if reason := in_the_way(session, uuid):
            return reason
        addresses = state.claimed_by(uuid)
        with session.devices(addresses):
            state.forget(uuid)
            for address in addresses:
                state.disclaim(address, uuid)
                state.settle_in_flight(address)
    where = stays(session, addresses)
    session.log.add("warning", "given up", uuid=uuid, action="its broken journal entry", left=where)
    return None


def stays(session: Session, addresses: list[PciAddress]) -> str:
    """Where these devices stay, in words."""
    return ", ".join(f"{one} on {sysfs.driver(session.machine, one) or 'no driver'}" for one in addresses)
