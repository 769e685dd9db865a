# SPDX-License-Identifier: LGPL-2.1-or-later
"""Answers questions about the journal entry of a guest that runs: which devices are abandoned, which leave together."""

from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from functools import partial

from libhook.effects.state import State
from libhook.facts.address import PciAddress
from libhook.facts.config import HANDLERS
from libhook.facts.domain import Domain, HostDevice
from libhook.facts.entry import Held, HeldDevice, Process
from libhook.facts.event import Event
from libhook.look import libvirtd, processes, sysfs
from libhook.story.giveback import send_pending
from libhook.story.session import Session


@contextmanager
def locked_entry(session: Session, guest: Domain, devices: Iterable[HostDevice]) -> Iterator[Held]:
    """Give the guest's journal entry, or a new one, under the locks of the guest and of the devices.

    What a process that was killed was about to record has been recorded by then.
    """
    state = session.state
    with (
        state.locked([f"domain-{guest.uuid}"], session.deadline),
        state.locked(sysfs.names_of_locks(session.machine, addresses(devices)), session.deadline),
    ):
        held = state.load(guest.uuid)
        if held is None:
            daemon = processes.process(session.machine, session.libvirtd)
            held = Held(guest.uuid, guest.name, guest.virt, "started", state.boot(), daemon)
        yield send_pending(session, held)


def with_pending_sent(session: Session, guest: Domain) -> Held | None:
    """Return the guest's journal entry, after what a process that was killed was about to record."""
    held = session.state.load(guest.uuid)
    if held and held.has_pending:
        with locked_entry(session, guest, ()) as held:
            return held
    return held


def addresses(devices: Iterable[HostDevice | HeldDevice]) -> list[PciAddress]:
    """Return the addresses of the PCI devices among these."""
    return [device.pci for device in devices if device.pci]


def may_run(held: Held) -> bool:
    """Whether the entry's guest runs or may run: QEMU may run already while the phase is ``starting``."""
    return held.phase in ("starting", "started")


def has_ended(session: Session, held: Held) -> bool:
    """Whether the guest's ``release`` has done everything, or is at it.

    Then the entry says so, or it is gone and libvirt has no status file for the guest.
    """
    if not may_run(held):
        return True
    forgotten = held.uuid not in session.state.uuids()
    return forgotten and libvirtd.has_status_file(session.machine, held.name, held.uuid) is False


def lost_its_worker(session: Session, device: HeldDevice) -> bool:
    """Whether the process that was plugging the device in or out was killed."""
    return device.plugging is not None and not processes.works(session.state, device.plugging)


def has_worker(state: State, device: HeldDevice) -> bool:
    """Whether a process is plugging the device in or out now."""
    return device.plugging is not None and processes.works(state, device.plugging)


def has_other_worker(session: Session, device: HeldDevice | None, worker: Process | None) -> bool:
    """Whether a process other than ``worker`` plugs the device in or out, and still runs."""
    other_worker = device.plugging if device else None
    return bool(other_worker and other_worker != worker and processes.lives(session.machine, other_worker))


def with_known_extra(held: Held, devices: Iterable[HostDevice]) -> Held:
    """Return the entry with the extra fields of these devices' records, where it had none. Its records have them."""
    extra = {device.key: device.extra for device in devices}
    return held._replace(devices=tuple(one._replace(extra=one.extra or extra.get(one.key)) for one in held.devices))


def abandoned(session: Session, held: Held) -> list[HeldDevice]:
    """Return the abandoned PCI devices of a guest that runs.

    The process that plugged them was killed, or they did not come back to the host.
    """
    return [
        device
        for device in held.devices
        if device.pci
        and may_run(held)
        and (device.recorded in ("failed", "unreturned") or lost_its_worker(session, device))
    ]


def unfinished(session: Session, held: Held) -> list[str]:
    """Return the keys of what ``settle_abandoned`` sees to: devices that are abandoned, or to be recorded again.

    While a process holds the guest's lock, it is about to record that itself.
    """
    is_busy = held.has_pending and session.state.is_busy(held.uuid)
    pending = [device.key for device in held.devices if device.pending and not is_busy]
    return list(dict.fromkeys((*(device.key for device in abandoned(session, held)), *pending)))


def leaving_with(session: Session, held: Held, part: Collection[HeldDevice]) -> tuple[HeldDevice, ...]:
    """Return the devices of the entry that go back to the host when ``part`` goes.

    While QEMU has an IOMMU group open, the kernel lets no host driver bind a device of the group
    (iommu_device_use_default_domain()). So the device goes back with the guest's last device of that group. What was
    taken along goes back then, too, but for what ``take_along`` names: the guest may use that past libvirt.
    """
    lock = partial(sysfs.name_of_lock, session.machine)
    staying = {lock(one.pci) for one in held.devices if one.pci and (one.audited or one.named) and one not in part}
    own = [device for device in part if not device.pci or lock(device.pci) not in staying]
    going = {lock(address) for address in addresses(own)}
    along = [
        device
        for device in held.devices
        if not device.audited and device not in part and device.pci and lock(device.pci) in going
    ]
    return (*own, *along)


def consulted(session: Session, event: Event, guest: Domain, held: Held | None) -> Session:
    """Return the session with what handlers by others say and set, where the settings want some."""
    if HANDLERS not in session.config.actions:
        return session
    from libhook.story import consult  # few settings do

    return consult.ask(session, event, guest, held)
