# SPDX-License-Identifier: LGPL-2.1-or-later
"""Events that are read late, or are of a part of a device: what the guest has by then, and had, says what they mean."""

import os
from pathlib import Path

import pytest
from cases import DISK, NIC
from family import until
from fault_means import waits
from plugging import namespaces
from scenario import Host, guest
from watch_play import UUID, Watched

from libhook.simulation import faults, store
from libhook.simulation.guests import Assigned, Guest
from libhook.simulation.hosts import workstation


def _begin(host: Host, watched: Watched, *numbers: int) -> None:
    host.libvirt.start(Guest(devices=(Assigned(DISK, False, "disk"),)))
    watched.tell("began", now=namespaces(*numbers))


@pytest.mark.parametrize(("first", "last"), [(1, 2), (2, 1)])
def test_a_controller_goes_with_the_last_of_its_namespaces(host: Host, watched: Watched, first: int, last: int) -> None:
    """Whichever that is; then it comes back, and that is recorded."""
    _begin(host, watched, 1, 2)
    watched.tell("removed", f"virtio-disk{first}", namespaces(last))
    assert (host.trail, host.driver(DISK)) == ([f"start {DISK} success"], "vfio-pci")
    host.libvirt.unplug("win11", DISK)
    watched.tell("removed", f"virtio-disk{last}", namespaces())
    assert (host.trail, host.driver(DISK)) == ([f"start {DISK} success", f"detach {DISK} success"], "nvme")


def test_another_namespace_of_a_controller_that_the_guest_has(host: Host, watched: Watched) -> None:
    """It comes, and the first goes: the guest has had the controller all the time."""
    _begin(host, watched, 1)
    watched.tell("added", "virtio-disk2", namespaces(1, 2))
    watched.tell("removed", "virtio-disk1", namespaces(2))
    watched.again()
    assert host.trail == [f"start {DISK} success"]
    watched.tell("kept", "virtio-disk2")
    assert host.trail[1:] == [f"detach {DISK} failed"]


@pytest.mark.parametrize("alias", ["hostdev0", "hostdev2"])
def test_a_device_that_is_there_again_under_any_alias(host: Host, watched: Watched, alias: str) -> None:
    """It went and came before the first event of the two was read; libvirt may name it otherwise then."""
    watched.begin(guest(NIC, DISK))
    before = len(host.trail)
    now = Guest(document=guest(NIC, DISK).xml(1, prepared=True).replace(b"hostdev0", alias.encode()))
    watched.tell("removed", "hostdev0", now)
    watched.tell("added", alias)
    assert host.trail[before:] == [f"detach {NIC} success", f"attach {NIC} success"]
    assert host.driver(NIC) == "vfio-pci"


def test_a_device_that_came_and_went_before_anybody_looked(host: Host, watched: Watched) -> None:
    """libvirt says no more than its alias: nothing is recorded, and that is logged."""
    watched.begin(guest(NIC))
    for alias in ("hostdev1", "net0"):  # the other is no host device
        watched.tell("added", alias)
        watched.tell("removed", alias)
    assert host.trail == [f"start {NIC} success"]
    logged = [line for line in store.lines(f"{host.root}/var/log/libhook.jsonl") if line["level"] == "warning"]
    assert [(line["event"], line["alias"], line["uuid"]) for line in logged] == [
        ("plugged in, but not seen", "hostdev1", UUID)
    ]


def test_what_is_plugged_in_while_the_hook_is_still_at_work(root: str) -> None:
    """At ``started`` libvirt does not wait: the watch does, or it would not know what the guest began with."""
    host = Host(root, workstation(), launcher=True)
    host.patience = 0
    watched = Watched(host)
    watched.connect()
    faults.inject(root, faults.Fault("record *", 1, before=(("wait", "go"),)))
    assert host.libvirt.start(guest(NIC)).error == ""
    assert host.trail == []
    watch = os.getpid()
    if not os.fork():
        until(lambda: waits(watch))
        Path(root, "go").touch()
        os._exit(0)
    watched.tell("began", now=guest(NIC))
    watched.tell("added", "hostdev1", guest(NIC, DISK))
    host.libvirt.unplug("win11", NIC)
    watched.tell("removed", "hostdev0", guest(DISK))
    assert host.trail == [f"start {NIC} success", f"attach {DISK} success", f"detach {NIC} success"]


def test_a_managed_device_that_libvirt_leaves_on_vfio_is_given_back(host: Host, watched: Watched) -> None:
    """The same libvirtd has had it unmanaged before, in a guest of libhook's."""
    host.libvirt.start(guest(NIC))
    host.libvirt.stop("win11")
    watched.begin(guest(DISK))
    host.libvirt.attach("win11", Assigned(NIC, managed=True))
    watched.tell("added", "hostdev1", guest(DISK, NIC, managed=True))
    host.libvirt.unplug("win11", NIC)
    assert host.driver(NIC) == "vfio-pci"
    watched.tell("removed", "hostdev1", guest(DISK))
    assert host.driver(NIC) == "e1000e"
