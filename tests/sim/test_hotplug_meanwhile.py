# SPDX-License-Identifier: LGPL-2.1-or-later
"""What another has done with the guest or its device between two looks of attach, detach or recover."""

import pytest
from cases import NIC, triple
from command import libhook
from plugging import attach, detach, running, xml
from scenario import Host, guest

from libhook.children.child import Deadline
from libhook.effects.log import Log
from libhook.facts.config import Config
from libhook.facts.entry import Process
from libhook.hotplug.halfplugged import settle_abandoned
from libhook.hotplug.hypervisor import Found
from libhook.simulation.guests import Guest
from libhook.simulation.hypervisor import Hypervisor
from libhook.story.session import Session

UUID = Guest().uuid


class EndsAfterTheLook(Hypervisor):
    """The guest ends just after it was looked at for the second time."""

    looks = 0

    def find(self, name: str, deadline: Deadline) -> Found:
        """The truth, which is none by the time it arrives."""
        found = super().find(name, deadline)
        self.looks += 1
        if self.looks == 2:
            self._daemon.stop("win11", "shutdown")
        return found


def test_the_guest_ends_after_it_was_seen_to_have_the_card(root: str) -> None:
    """Its release has recorded both ends; attach adds none and begins no record of a guest that is gone."""
    host = running(root)
    attach(host, EndsAfterTheLook(host.libvirt), xml(NIC))
    assert host.trail == [f"attach {NIC} success", f"stop {NIC} success"]
    assert (host.changed, host.leftovers) == ([], [])


@pytest.mark.parametrize("answer", ["silent", "late"])
def test_the_guest_ends_after_it_was_looked_at_by_detach(root: str, answer: str) -> None:
    """Its release has recorded its end, and no second one follows, nor a refusal."""
    host = running(root, NIC)
    detach(host, EndsAfterTheLook(host.libvirt, detach=answer), xml(NIC))
    assert host.trail == [f"start {NIC} success", f"stop {NIC} success"]
    assert (host.changed, host.leftovers) == ([], [])


def test_a_guest_that_is_defined_ends_while_it_is_given_a_card(root: str) -> None:
    """Its configuration is no guest that runs: said so, and nothing more is recorded."""
    host = running(root)
    hypervisor = Hypervisor(host.libvirt, attach="ends after")
    hypervisor.stopped.append(guest())
    assert "the guest win11 ended meanwhile" in attach(host, hypervisor, xml(NIC)).error
    assert host.trail == [f"attach {NIC} success", f"stop {NIC} success"]
    assert (host.changed, host.leftovers) == ([], [])


@pytest.mark.parametrize("recorded", ["nothing", "success"])
def test_who_comes_late_settles_nothing_a_second_time(root: str, recorded: str) -> None:
    """Another has settled it and plugged the card in again since the entry was read: it stays with the guest."""
    host = running(root, *([NIC] if recorded == "success" else []))
    if recorded == "nothing":
        attach(host, Hypervisor(host.libvirt, attach="no answer, not"), xml(NIC))
    else:
        detach(host, Hypervisor(host.libvirt, detach="no answer, gave it"), xml(NIC))
    _abandon(host)
    stale = host.state.load(UUID)
    assert stale
    attach(host, Hypervisor(host.libvirt, attach="no answer, not"), xml(NIC))  # which settles it, and is under way
    before = host.state.load(UUID)
    trail = host.trail
    with Log(host.machine, operation="recover") as log:
        session = Session(host.machine, host.state, log, Config(), Deadline.after(300), host.libvirt.pid)
        settle_abandoned(session, stale)
    assert host.driver(NIC) == "vfio-pci"
    assert host.state.load(UUID) == before
    assert host.trail == trail


def test_what_is_foretold_of_a_card_that_the_guest_has_comes_true(root: str) -> None:
    """Whoever plugged it in was killed before it was recorded: a dry run says what recover does, and does nothing."""
    host = running(root)
    attach(host, Hypervisor(host.libvirt, attach="no answer, had it"), xml(NIC))
    _abandon(host)
    before = host.everything()
    done = libhook(host, "recover", "--dry-run")
    assert f"  {NIC}: the guest has it; this would be recorded\n" in done.out
    assert host.everything() == before
    assert libhook(host, "recover").code == 0
    assert host.trail == [f"attach {NIC} success"]
    assert host.driver(NIC) == "vfio-pci"


def test_whose_a_card_is_cannot_be_told_while_its_group_is_open(root: str) -> None:
    """QEMU has the group open for another card of it: neither recorded nor taken away, and recover says why."""
    first, second, third = (device.address for device in triple().devices)
    host = running(root, first, second, third, world=triple())
    held = host.state.load(UUID)
    assert held
    left = [one._replace(recorded="nothing", began="attach") if one.address == second else one for one in held.devices]
    host.state.save(held._replace(devices=tuple(left)))
    _abandon(host, second)
    why = (
        f"{second}: the guest has another device of the same IOMMU group; "
        "the guest's end will show whether it has this one"
    )
    before, trail = host.everything(), host.trail
    assert f"  {why}\n" in libhook(host, "recover", "--dry-run").out
    assert host.everything() == before
    done = libhook(host, "recover")
    assert (done.code, done.err) == (1, f"win11: the unfinished hot-plug cannot be ended: {why}\n")
    assert host.trail == trail
    assert host.driver(second) == "vfio-pci"
    host.libvirt.stop("win11", "shutdown")
    assert (host.changed, host.leftovers) == ([], [])


def _abandon(host: Host, only: str = "") -> None:
    held = host.state.load(UUID)
    assert held
    dead = Process(host.libvirt.pid, 1)
    devices = (one if only not in ("", one.address) else one._replace(plugging=dead) for one in held.devices)
    host.state.save(held._replace(devices=tuple(devices)))
