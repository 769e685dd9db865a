# SPDX-License-Identifier: LGPL-2.1-or-later
"""What another has done with the guest or its device between two looks of attach, detach or recover."""

import pytest
from cases import NIC
from plugging import Hypervisor, attach, detach, running, xml
from scenario import Host, guest

from libhook.config import Config
from libhook.effects.child import Deadline
from libhook.effects.hypervisor import Found
from libhook.effects.log import Log
from libhook.halfplugged import settle_abandoned
from libhook.held import Process
from libhook.session import Session
from libhook.simulation.guests import Guest

UUID = Guest().uuid


class EndsAfterTheLook(Hypervisor):
    """The guest ends just after it was looked at for the second time."""

    looks = 0

    def find(self, name: str, deadline: Deadline) -> Found:
        """The truth, which is none by the time it arrives."""
        found = super().find(name, deadline)
        self.looks += 1
        if self.looks == 2:
            self._host.libvirt.stop("win11", "shutdown")
        return found


def test_the_guest_ends_after_it_was_seen_to_have_the_card(root: str) -> None:
    """Its release has recorded both ends; attach adds none and begins no record of a guest that is gone."""
    host = running(root)
    attach(host, EndsAfterTheLook(host), xml(NIC))
    assert host.trail == [f"attach {NIC} success", f"stop {NIC} success"]
    assert (host.changed, host.leftovers) == ([], [])


@pytest.mark.parametrize("answer", ["silent", "late"])
def test_the_guest_ends_after_it_was_looked_at_by_detach(root: str, answer: str) -> None:
    """Its release has recorded its end, and no second one follows, nor a refusal."""
    host = running(root, NIC)
    detach(host, EndsAfterTheLook(host, detach=answer), xml(NIC))
    assert host.trail == [f"start {NIC} success", f"stop {NIC} success"]
    assert (host.changed, host.leftovers) == ([], [])


def test_a_guest_that_is_defined_ends_while_it_is_given_a_card(root: str) -> None:
    """Its configuration is no guest that runs: said so, and nothing more is recorded."""
    host = running(root)
    hypervisor = Hypervisor(host, attach="ends after")
    hypervisor.stopped.append(guest())
    assert "the guest win11 ended meanwhile" in attach(host, hypervisor, xml(NIC)).error
    assert host.trail == [f"attach {NIC} success", f"stop {NIC} success"]
    assert (host.changed, host.leftovers) == ([], [])


@pytest.mark.parametrize("recorded", ["nothing", "success"])
def test_who_comes_late_settles_nothing_a_second_time(root: str, recorded: str) -> None:
    """Another has settled it and plugged the card in again since the record was read: it stays with the guest."""
    host = running(root, *([NIC] if recorded == "success" else []))
    if recorded == "nothing":
        attach(host, Hypervisor(host, attach="no answer, not"), xml(NIC))
    else:
        detach(host, Hypervisor(host, detach="no answer, gave it"), xml(NIC))
    _abandon(host)
    stale = host.state.load(UUID)
    assert stale
    attach(host, Hypervisor(host, attach="no answer, not"), xml(NIC))  # which settles it, and is under way
    before = host.state.load(UUID)
    trail = host.trail
    with Log(host.machine, operation="recover") as log:
        session = Session(host.machine, host.state, log, Config(), Deadline.after(30), host.libvirt.pid)
        settle_abandoned(session, stale)
    assert host.driver(NIC) == "vfio-pci"
    assert host.state.load(UUID) == before
    assert host.trail == trail


def _abandon(host: Host) -> None:
    held = host.state.load(UUID)
    assert held
    dead = Process(host.libvirt.pid, 1)
    host.state.save(held._replace(devices=tuple(one._replace(plugging=dead) for one in held.devices)))
