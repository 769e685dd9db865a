# SPDX-License-Identifier: LGPL-2.1-or-later
"""NVMe disks plugged out: the controller is the device that is handed over, and its namespaces are the disks."""

from collections.abc import Callable

import pytest
from cases import DISK
from plugging import Scripted, detach, namespace, namespaces
from scenario import Host

from libhook.children.child import Deadline
from libhook.hotplug.hypervisor import Found, Gone, NoSuchGuest
from libhook.simulation.guests import Assigned, Guest

KEEPS = f"win11: keeps pci {DISK}, because it has other disks on it"


class Disks(Scripted):
    """A guest that answers for the disk that libvirt takes: that of the XML's target."""

    def __init__(
        self, host: Host, before: Guest, after: Guest, *, detach: Gone = "gone", has: tuple[Assigned, ...] = ()
    ) -> None:
        """It runs; what it has before it is asked, and after; ``has``: what QEMU has open."""
        super().__init__(host, before.document, after.document, detach=detach, has=has)
        self.aliases: list[str] = []
        self.meanwhile: Callable[[], object] = lambda: None

    def detach(self, uuid: str, document: bytes, alias: str, flags: int, deadline: Deadline) -> Gone:
        """Remember what is waited for."""
        self.aliases.append(alias)
        self.meanwhile()
        return super().detach(uuid, document, alias, flags, deadline)


@pytest.mark.parametrize("number", [1, 2])
def test_one_of_two(host: Host, number: int) -> None:
    """Its own alias is waited for; the controller stays with the guest, so nothing is recorded of it."""
    libvirt = Disks(host, namespaces(1, 2), namespaces(3 - number))
    assert detach(host, libvirt, namespace(number)) == (
        [f"win11: gave up the disk virtio-disk{number}", KEEPS],
        "",
    )
    assert libvirt.aliases == [f"virtio-disk{number}"]
    assert (host.trail, host.state.uuids()) == ([], ())


def test_the_last_one(host: Host) -> None:
    """The controller goes with it, whichever namespace it is."""
    libvirt = Disks(host, namespaces(2), namespaces())
    assert detach(host, libvirt, namespace(2)) == ([f"win11: gave up pci {DISK}"], "")
    assert libvirt.aliases == ["virtio-disk2"]
    assert host.trail == [f"detach {DISK} success"]


def test_the_other_goes_meanwhile(host: Host) -> None:
    """Then this one was the last."""
    libvirt = Disks(host, namespaces(1, 2), namespaces())
    assert detach(host, libvirt, namespace(2)) == ([f"win11: gave up pci {DISK}"], "")
    assert host.trail == [f"detach {DISK} success"]


@pytest.mark.parametrize("answer", ["kept", "silent"])
def test_one_of_two_that_the_guest_keeps(host: Host, answer: Gone) -> None:
    """That is no refusal to give up the controller, which nobody asked for."""
    done = detach(host, Disks(host, namespaces(1, 2), namespaces(1), detach=answer), namespace(2))
    assert done == ([], "the guest win11 keeps the disk virtio-disk2: make sure that its system is up, then try again")
    assert host.trail == []


def test_the_guest_ends_meanwhile(host: Host) -> None:
    """And says nothing any more."""
    libvirt = Disks(host, namespaces(1, 2), namespaces(1))

    def end() -> None:
        host.libvirt.stop("win11", "shutdown")
        libvirt.find = _nobody  # type: ignore[method-assign]

    libvirt.meanwhile = end
    assert detach(host, libvirt, namespace(2)) == (["win11: ended meanwhile, so it no longer has the disk"], "")


def _nobody(name: str, deadline: Deadline) -> Found:
    raise NoSuchGuest(f"libvirt: Domain not found: {name}, {deadline}")


def test_the_other_goes_meanwhile_and_somebody_holds_the_controller(host: Host) -> None:
    """Said, and recorded, as where one disk was all there was."""
    host.configure("holder_wait = 0.1\n")
    libvirt = Disks(host, namespaces(1, 2), namespaces(), has=(Assigned(DISK, source="disk"),))
    done = detach(host, libvirt, namespace(2))
    assert done.error.startswith(f"the guest win11 gave up pci {DISK}, but ")
    assert host.trail == [f"start {DISK} success", f"detach {DISK} failed"]


def test_a_dry_run(host: Host) -> None:
    """It says that the controller stays, and asks nobody."""
    libvirt = Disks(host, namespaces(1, 2), namespaces(1))
    assert detach(host, libvirt, namespace(2), dry_run=True) == ([KEEPS], "")
    assert libvirt.asked == []
