# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which handlers answer which operation, in order. Nothing is discovered: what runs as root stands here."""

from typing import Literal

from libhook.facts.plan import Plan, Refusal, Warn
from libhook.facts.situation import Handler, Situation
from libhook.handlers import audit, preflight, vfio

HANDLERS: dict[str, tuple[Handler, ...]] = {
    "prepare": (audit.required, preflight.prepare, vfio.prepare),
    "start": (audit.required, vfio.start),
    "started": (vfio.started, audit.started),
    "release": (vfio.release, audit.release),
    "reconnect": (vfio.reconnect, audit.reconnect),
    # Not libvirt's: it calls no hook at hot-plug (hotplug/).
    "attach": (audit.required, preflight.prepare, vfio.prepare, audit.attach),
    "detach": (vfio.release, audit.detach),
}


def plan_for(situation: Situation) -> Plan:
    """What the handlers of the situation's operation want. Where one refuses, only that, and the records of it."""
    handlers = HANDLERS.get(situation.event.operation.name, ())
    plan = Plan(tuple(action for handler in handlers for action in handler(situation)))
    if not plan.refusals:
        return plan
    said = tuple(action for action in plan.actions if isinstance(action, Refusal | Warn))
    keys = (refusal.device for refusal in plan.refusals)
    reason: Literal["start", "attach"] = "attach" if situation.event.operation.name == "attach" else "start"
    return Plan(said + audit.failed(situation.domain, keys, situation.config, reason))
