# SPDX-License-Identifier: LGPL-2.1-or-later
"""Passes libvirt's calls on to what the settings want told of each of them, once libhook is done with the event.

Imported only where the settings want that. What libhook itself cannot do keeps nobody from being told, but a start that
it refuses does.
"""

from __future__ import annotations

from libhook.errors import BadInput
from libhook.facts.domain import Domain
from libhook.facts.event import Event
from libhook.facts.legacy import COUNTS
from libhook.facts.plan import Action, describe
from libhook.kinds import registry as kinds
from libhook.light import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from libhook.story.session import Session


def plan(session: Session, event: Event, domain: Domain) -> list[Action]:
    """What is to be done beside the plan. It follows from the guest's entry as it is before the event."""
    try:
        held = session.state.load(domain.uuid) if domain.uuid else None
    except BadInput:
        held = None
    return kinds.told(session.config, event, held)


def carry_out(session: Session, event: Event, domain: Domain, actions: Sequence[Action]) -> tuple[str, bytes]:
    """Do it. Return why the operation must fail, or "", and what is for libvirt's stdout.

    Where a failure would harm a guest, it is only logged.
    """
    for line in describe(actions):
        session.log.add("info", "plan", line=line)
    outcomes = session.apply(domain.uuid, actions)
    for failure in (outcome.failure for outcome in outcomes if event.operation.name in COUNTS):
        if failure:
            return f"{failure.reason}: {failure.remedy}", b""
    return "", b"".join(outcome.printed for outcome in outcomes)
