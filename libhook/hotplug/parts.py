# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is asked of a guest's record while it runs: what of it nobody sees to, and what leaves together."""

from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from functools import partial

from libhook.effects.state import State
from libhook.facts.address import PciAddress
from libhook.facts.domain import Domain, HostDevice
from libhook.facts.entry import Held, HeldDevice
from libhook.look import libvirtd, processes, sysfs
from libhook.story.session import Session


@contextmanager
def record_of(session: Session, guest: Domain, devices: Iterable[HostDevice]) -> Iterator[Held]:
    """The guest's record, or the beginning of one, under its lock and those of the devices."""
    state = session.state
    with (
        state.locked([f"domain-{guest.uuid}"], session.deadline),
        state.locked(sysfs.names_of_locks(session.machine, addresses(devices)), session.deadline),
    ):
        held = state.load(guest.uuid)
        if held is None:
            daemon = processes.process(session.machine, session.libvirtd)
            held = Held(guest.uuid, guest.name, guest.virt, "started", state.boot(), daemon)
        yield held


def addresses(devices: Iterable[HostDevice | HeldDevice]) -> list[PciAddress]:
    """Of those that are PCI devices."""
    return [device.pci for device in devices if device.pci]


def is_over(held: Held) -> bool:
    """Whether the record is of a guest that does not run yet, or no more; while ``starting`` QEMU may run already."""
    return held.phase not in ("starting", "started")


def has_ended(session: Session, held: Held) -> bool:
    """Whether the guest's ``release`` has seen to everything: its record is gone, and libvirt has none that runs."""
    forgotten = held.uuid not in session.state.uuids()
    return is_over(held) or (forgotten and libvirtd.has_status_file(session.machine, held.name, held.uuid) is False)


def is_left(session: Session, device: HeldDevice) -> bool:
    """Whether it was being plugged in or out by somebody who was killed."""
    return device.plugging is not None and not processes.works(session.state, device.plugging)


def is_attended(state: State, device: HeldDevice) -> bool:
    """Whether somebody who lives is plugging it in or out."""
    return device.plugging is not None and processes.works(state, device.plugging)


def abandoned(session: Session, held: Held) -> list[HeldDevice]:
    """The PCI devices of a guest that runs which nobody sees to: whoever did was killed, or they did not come back."""
    return [
        device
        for device in held.devices
        if device.pci
        and not is_over(held)
        and (device.recorded in ("failed", "unreturned") or is_left(session, device))
    ]


def leaving_with(session: Session, held: Held, part: Collection[HeldDevice]) -> tuple[HeldDevice, ...]:
    """What of the record goes back to the host with this part of it.

    The kernel gives no driver a device of an IOMMU group that QEMU has open (iommu_device_use_default_domain()): it
    goes with the last one of the group that the guest has, as does what was taken along.
    """
    lock = partial(sysfs.name_of_lock, session.machine)
    staying = {lock(device.pci) for device in held.devices if device.pci and device.audited and device not in part}
    own = [device for device in part if not device.pci or lock(device.pci) not in staying]
    going = {lock(address) for address in addresses(own)}
    along = [
        device
        for device in held.devices
        if not device.audited and device not in part and device.pci and lock(device.pci) in going
    ]
    return (*own, *along)
