# SPDX-License-Identifier: LGPL-2.1-or-later
"""The example of docs/handlers.md, which quotes it word for word: a handler, and how it is tested."""

import os
from collections.abc import Iterator

import pytest

from libhook import domxml, registry
from libhook.address import PciAddress
from libhook.config import Config
from libhook.effects.child import Deadline
from libhook.effects.kernel import Machine
from libhook.effects.log import Log
from libhook.effects.state import State
from libhook.event import OPERATIONS, Event
from libhook.host import NOTHING
from libhook.plan import Action, Plan, Refusal
from libhook.session import Session
from libhook.simulation.build import build
from libhook.simulation.guests import Assigned, Guest
from libhook.simulation.hosts import workstation
from libhook.simulation.kernel import SimulatedKernel
from libhook.situation import Situation

# [example
OWNERS = {PciAddress.parse("0000:01:00.0"): "c7a5fdbd-edaf-9455-926a-d65c16db1809"}


def reserved(situation: Situation) -> Iterator[Action]:
    """A device that is kept for one guest is refused to every other."""
    for device in situation.domain.pci:
        owner = OWNERS.get(device.pci) if device.pci else None
        if owner not in (None, situation.domain.uuid):
            yield Refusal(device.key, f"{device.address} is kept for the guest {owner}", "give this guest another")


# example]
OWNER = Guest("win11", (Assigned("0000:01:00.0"),), "c7a5fdbd-edaf-9455-926a-d65c16db1809")
OTHER = Guest("other", (Assigned("0000:03:00.0"), Assigned("0000:01:00.0")), "1c15a1a0-a802-4b8e-8f5c-2a6d8a7c1f0e")


# [test
@pytest.mark.parametrize(("guest", "refused"), [(OWNER, []), (OTHER, ["pci 0000:01:00.0"])])
def test_a_reserved_device_goes_to_its_owner_only(guest: Guest, refused: list[str]) -> None:
    """The other guest is refused on the account of that device alone; no host is needed to know it."""
    event = Event(guest.name, OPERATIONS["prepare"], "-")
    situation = Situation(event, domxml.parse(guest.xml()), NOTHING, held=None, config=Config())
    assert [action.device for action in reserved(situation) if isinstance(action, Refusal)] == refused


# test]
@pytest.fixture
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the handler where docs/handlers.md says."""
    monkeypatch.setitem(registry.HANDLERS, "prepare", (reserved, *registry.HANDLERS["prepare"]))


def _plan(root: str, guest: Guest) -> Plan:
    build(root, workstation())
    machine = Machine(root, SimulatedKernel(root))
    session = Session(machine, State(machine), Log(machine), Config(), Deadline.after(30), os.getpid())
    return session.plan(Event(guest.name, OPERATIONS["prepare"], "-"), domxml.parse(guest.xml()), None)


@pytest.mark.usefixtures("_registered")
def test_once_registered_its_refusal_leaves_nothing_else_of_the_plan_but_the_failed_record(root: str) -> None:
    """The plan of a guest that is refused moves no device, and says for the record that it did not get it."""
    plan = _plan(root, OTHER)
    assert plan.refusals[0].line == f"0000:01:00.0 is kept for the guest {OWNER.uuid}: give this guest another"
    assert plan.moves == ()
    assert ("pci 0000:01:00.0", False) in [(record.device, record.success) for record in plan.records]


@pytest.mark.usefixtures("_registered")
def test_once_registered_it_leaves_the_owner_alone(root: str) -> None:
    """The guest for which the device is kept gets it."""
    plan = _plan(root, OWNER)
    assert plan.refusals == ()
    assert [str(move.device) for move in plan.moves] == ["0000:01:00.0"]
