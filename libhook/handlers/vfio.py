# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which devices change hands: to vfio before the guest starts, and back after it has ended."""

from __future__ import annotations

from libhook.errors import STOP_GUEST, kernel_log
from libhook.facts.address import PciAddress
from libhook.facts.domain import HostDevice
from libhook.facts.host import VFIO_PCI, Binding, PciDevice, is_driver_name, same_driver
from libhook.facts.plan import Refusal, Verdict, Warn
from libhook.facts.situation import Situation
from libhook.kinds.pci.move import Move
from libhook.light import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_LOST = "the guest's entry in /run/libhook is gone"


def target(situation: Situation, device: HostDevice) -> str:
    """The driver that the device should get, by the kernel's name for it.

    ``vfio_pci``, for example, is the module of ``vfio-pci``.
    """
    wanted = _asked_for(situation, device)
    return next((known for known in situation.host.vfio_drivers if same_driver(known, wanted)), wanted)


def _asked_for(situation: Situation, device: HostDevice) -> str:
    """The driver that the XML asks for, else the one in the configuration, else the kernel's own choice.

    A managed device ignores our configuration, because libvirt binds it and does not know that configuration. libvirt
    would also move it off any other driver that we had chosen (virPCIDeviceBindToStub).
    """
    if device.model is not None:
        return device.model
    if situation.config.driver != "auto" and not device.managed:
        return situation.config.driver
    seen = situation.host.devices.get(device.pci) if device.pci else None
    return seen.variant if seen else VFIO_PCI


def is_allowed(situation: Situation, driver: str) -> bool:
    """Whether this is the name of a vfio driver of this kernel. The name may come from the author of the XML."""
    return is_driver_name(driver) and any(same_driver(driver, known) for known in situation.host.vfio_drivers)


def is_ours(situation: Situation, device: HostDevice) -> bool:
    """Whether libhook binds the device, rather than libvirt.

    libvirt always binds a managed interface: it saves the VF's MAC before it detaches the VF (virHostdevSaveNetConfig).
    """
    return not device.managed or (situation.config.bind_managed and device.source != "interface")


def prepare(situation: Situation) -> Iterator[Verdict]:
    """Move every device that is not on its driver yet, and with consent the others of its IOMMU group.

    Drivers that the kernel does not have yet are loaded first.
    """
    moves = list(_moves(situation))
    wanted = {move.want.driver for move in moves if move.by == "libhook" and move.want.driver}
    loaded = situation.host.loaded
    missing = [driver for driver in sorted(wanted) if not any(same_driver(driver, known) for known in loaded)]
    if missing:
        from libhook.kinds.module import Load  # imported here: mostly it is loaded

        yield from map(Load, missing)
    yield from moves


def _moves(situation: Situation) -> Iterator[Move]:
    moved = set()
    for device in situation.domain.pci:
        seen = situation.host.devices.get(device.pci) if device.pci else None
        if seen is None:
            continue
        moved.add(seen.address)
        wanted = target(situation, device)
        if same_driver(seen.binding.driver, wanted):
            continue  # it was there before us, so it is not ours to give back
        if is_ours(situation, device):
            yield _take(seen, wanted, f"{device.source} of the guest")
        else:
            yield _take(seen, wanted, f"managed {device.source} of the guest, libvirt binds it")._replace(by="libvirt")
    if situation.config.siblings != "bind":
        return
    groups = {situation.host.devices[address].group for address in moved}
    for number in sorted(group for group in groups if group is not None):
        for address in situation.host.groups.get(number, ()):
            other = situation.host.devices[address]
            if address not in moved and not other.keeps_group_viable and not other.on_vfio:
                yield _take(other, other.variant, f"in IOMMU group {number} of the guest's device")


def _take(device: PciDevice, driver: str, why: str) -> Move:
    return Move(device.address, device.binding, Binding(driver, driver), why)


def start(situation: Situation) -> Iterator[Verdict]:
    """Refuse a device that is not on a vfio driver by now, whether libhook or libvirt had to bind it.

    Also refuse a device that another guest holds, that was exchanged since ``prepare``, or that could not be given
    back.
    """
    known = {held.key: held for held in situation.held.devices} if situation.held else {}
    for device in situation.domain.pci:
        seen = situation.host.devices.get(device.pci) if device.pci else None
        if seen is None:
            yield Refusal(device.key, f"{device.address} is gone from the host", kernel_log(device.address))
        elif not seen.on_vfio:
            yield Refusal(
                device.key,
                f"{device.address} is on {seen.binding.driver or 'no driver'} instead of {target(situation, device)}",
                "something has moved it since: start the guest again; libhook status shows what libhook did",
            )
        elif (claim := situation.host.claims.get(seen.address)) and claim.uuid != situation.domain.uuid:
            yield Refusal(device.key, f"{device.address} is held by the guest {claim.shown}", STOP_GUEST)
        elif (held := known.get(device.key)) and seen.was_replaced(held.ids):
            yield Refusal(
                device.key,
                f"{device.address} is a different device than at prepare: {seen.ids} instead of {held.ids}",
                "start the guest again, if it may have this one",
            )
        elif situation.held is None and device.source != "interface" and is_ours(situation, device):
            yield Refusal(
                device.key,
                f"{device.address} would never be given back: {_LOST}",
                f"before you start the guest again, to give the device back, {_give_back(seen.address)}",
            )


def started(situation: Situation) -> Iterator[Verdict]:
    """Warn where the guest runs and has no journal entry.

    Somebody removed the entry after ``start``, which refuses such a guest (except for an interface). The guest runs, so
    libhook can only say that its devices will not be given back.
    """
    for device in situation.domain.pci if situation.held is None else ():
        if device.pci and is_ours(situation, device):
            remedy = f"when the guest has ended, {_give_back(device.pci)}"
            yield Warn(f"{device.address} will not be given back: {_LOST}: {remedy}")


def release(situation: Situation) -> Iterator[Verdict]:
    """Warn about devices that stay on vfio because the guest has no journal entry.

    Devices with an entry are given back by their kind (kinds/).
    """
    for _, left in left_behind(situation):
        if situation.event.extra != "failed":
            remedy = f"unless it was there before the guest, {_give_back(left.address)}"
            yield Warn(f"{left.address} stays on {left.binding.driver}: {_LOST}: {remedy}")


def left_behind(situation: Situation) -> Iterator[tuple[HostDevice, PciDevice]]:
    """When a guest without a journal entry ends: the devices that libhook seems to have bound, and no other guest has.

    A second ``release`` finds none, because the first has given them back.
    """
    is_over = situation.held is None and situation.event.operation.name == "release"
    for device in situation.domain.pci if is_over else ():
        seen = situation.host.devices.get(device.pci) if device.pci else None
        if seen and seen.on_vfio and is_ours(situation, device):
            claim = situation.host.claims.get(seen.address)  # the guest's own claim, where its entry is broken
            if claim is None or claim.uuid == situation.domain.uuid:
                yield device, seen


def _give_back(address: PciAddress) -> str:
    from libhook.facts import remedy  # only where somebody removed the entry

    return remedy.by_hand(address)


def reconnect(situation: Situation) -> Iterator[Verdict]:
    """Warn about devices that are not on vfio. A running guest must not be harmed, so nothing else is done."""
    for device in situation.domain.pci:
        seen = situation.host.devices.get(device.pci) if device.pci else None
        if seen is None or not seen.on_vfio:
            on = "gone from the host" if seen is None else f"on {seen.binding.driver or 'no driver'}"
            yield Warn(f"{device.address} of the running guest is {on}, not on a vfio driver")
