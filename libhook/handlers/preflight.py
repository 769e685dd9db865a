# SPDX-License-Identifier: LGPL-2.1-or-later
"""What must be true before a device may be handed over, managed or not. It refuses, and writes nothing."""

from __future__ import annotations

from itertools import chain

from libhook.errors import BUSY, STOP_GUEST, WHEN_IT_ANSWERS, kernel_log
from libhook.facts.address import PciAddress
from libhook.facts.domain import HostDevice
from libhook.facts.host import NO_CLASS, PciDevice
from libhook.facts.plan import Condition, Refusal, Verdict, Warn
from libhook.facts.situation import Situation
from libhook.handlers import vfio
from libhook.light import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator

TURN_IOMMU_ON = (
    "turn it on in the firmware (VT-d, AMD-Vi), on Intel add intel_iommu=on to the kernel's command line, then reboot"
)
_NO_GROUP = "see what the kernel says of it: journalctl -k -b -g 'IOMMU|DMAR|AMD-Vi', or dmesg"


class Complaint(NamedTuple):
    """Why a device may not be handed over, and what would help."""

    reason: str
    remedy: str
    unless: str = ""
    """The state that would remove the reason, where another action of the plan may provide it."""


def prepare(situation: Situation) -> Iterator[Verdict]:
    """At most one refusal per device: for the first reason that will not go away.

    A reason that another action of the plan may remove becomes a Condition, with the later reasons in ``then``.
    """
    own = {device.pci for device in situation.domain.pci}
    for device in situation.domain.pci:
        verdict: Refusal | Condition | None = None
        for complaint in reversed(_until_certain(_complaints(situation, device, own))):
            refusal = Refusal(device.key, complaint.reason, complaint.remedy)
            verdict = Condition(complaint.unless, refusal, then=verdict) if complaint.unless else refusal
        if verdict:
            yield verdict
    for address, uses in situation.host.uses.items():
        for use in uses:
            if situation.config.strictness(use.kind) == "warn":
                yield Warn(f"{address} is in use by the host: {use.what}")
    for what in situation.domain.too_long:
        yield Refusal("", what, "correct the guest's XML: virsh edit")
    yield from map(Warn, situation.domain.back_door_warnings)


def _until_certain(complaints: Iterable[Complaint]) -> list[Complaint]:
    """The complaints up to the first that nothing in the plan can remove."""
    found = []
    for complaint in complaints:
        found.append(complaint)
        if not complaint.unless:
            break
    return found


def _in_use(situation: Situation, device: PciDevice) -> Iterator[Complaint]:
    """The complaints about how the host uses the device."""
    for use in situation.host.uses.get(device.address, ()):
        if situation.config.strictness(use.kind) == "refuse":
            from libhook.facts import remedy

            reason = f"{device.address} is in use by the host: {use.what}"
            what_helps = remedy.of_use(situation, use)
            for mount in use.mounts:
                yield Complaint(reason, what_helps, f"{mount} is not mounted")
            if not use.only_mounted:
                yield Complaint(reason, what_helps, f"{device.address} is free")


def _complaints(situation: Situation, device: HostDevice, own: Container[PciAddress | None]) -> Iterator[Complaint]:
    """The complaints about one device, the most basic first. ``own`` are the guest's."""
    address = device.pci
    if address is None:
        return
    host, config = situation.host, situation.config
    seen = host.devices.get(address)
    if seen is None and config.identity == "refuse" and any(address == one.address for one in situation.changed):
        return  # handlers/identity.py says where it may have gone
    if seen is None:
        from libhook.facts.remedy import whom

        in_xml = f"to correct the address in the guest's XML, run: virsh edit {whom(situation.domain)}"
        where = in_xml if device.audited else "correct the address in take_along, which libhook config shows"
        what_helps = f"libhook devices shows those that are; {where}"
        yield Complaint(f"{address} is not on this host", what_helps, f"{address} is present")
        return
    if seen.is_bridge:
        yield Complaint(
            f"{address} is a bridge, and a guest cannot have a bridge",
            "give the guest a device behind it; libhook devices shows them",
        )
    if not host.iommu:
        yield Complaint(f"{address} cannot be handed over, because the IOMMU is off", TURN_IOMMU_ON)
    elif seen.group is None:
        yield Complaint(f"{address} is in no IOMMU group", _NO_GROUP)
    elif address not in host.groups.get(seen.group, ()):
        yield Complaint(
            f"{address} is not among the devices of its IOMMU group {seen.group}",
            "start the guest again: a device may just be coming or going there",
        )
    wanted = vfio.target(situation, device)
    if not vfio.is_allowed(situation, wanted):
        yield Complaint(f"{address}: {wanted!r} is not a vfio driver of this kernel", _of_drivers(situation, device))
    yield from _taken(situation, seen)
    yield from _in_use(situation, seen)
    for other in host.groups.get(-1 if seen.group is None else seen.group, ()):
        if other not in own:
            yield from _sibling(situation, seen, host.devices[other], config.siblings == "bind")


def _taken(situation: Situation, device: PciDevice) -> Iterator[Complaint]:
    """The complaints where somebody has the device, its PF, one of its VFs, or something below it."""
    host, address = situation.host, device.address
    if device.pci_class == NO_CLASS:
        yield Complaint(f"{address}: its class cannot be read, so nobody knows what it is", kernel_log(address))
    if address in host.unread:
        unread = f"{address}: its driver_override cannot be read, so it could not be restored"
        yield Complaint(unread, kernel_log(address))
    if address in host.in_flight:
        yield Complaint(f"{address}{BUSY}", WHEN_IT_ANSWERS)
    for other, what in ((address, ""), (device.pf, ": its PF"), *((vf, ": its VF") for vf in device.vfs)):
        claim = host.claims.get(other) if isinstance(other, PciAddress) else None
        if claim and claim.uuid != situation.domain.uuid:
            yield Complaint(f"{address}{what and f'{what} {other}'} is held by the guest {claim.shown}", STOP_GUEST)
    for tenant in host.tenants.get(address, ()):
        what = tenant.what
        if tenant.claim.uuid != situation.domain.uuid:
            yield Complaint(
                f"{what} behind {address} is held by the guest {tenant.claim.shown}, which would lose it",
                "stop that guest first, or detach it there; libhook status shows what it holds",
            )
        else:
            yield Complaint(
                f"{what} behind {address} is also given to this guest, which would lose it",
                "give the guest only one of the two",
            )
    if device.vfs:
        yield Complaint(
            f"{address} is a PF with VFs enabled ({len(device.vfs)})",
            "give the guest a VF, which libhook devices shows; or, where nothing uses the VFs, to remove them all, "
            f"run: echo 0 >/sys/bus/pci/devices/{address}/sriov_numvfs",
        )
    claim = host.claims.get(address)  # a device that is plugged in may join what the guest already has of the group
    plugged = situation.event.operation.name == "attach" and claim and claim.uuid == situation.domain.uuid
    if address in host.in_use and not plugged:
        reason = f"{address} is open in {host.in_use[address]}"
        yield Complaint(reason, "stop what has it open first", f"{address} is free")


def _sibling(situation: Situation, device: PciDevice, other: PciDevice, consent: bool) -> Iterator[Complaint]:
    """The complaint about another device of the IOMMU group. The kernel hands over whole groups only."""
    if other.keeps_group_viable:
        return
    shared = f"{device.address} shares IOMMU group {device.group} with {other.address}"
    complaint = next(chain(_taken(situation, other), _in_use(situation, other)), None)
    if complaint:
        yield complaint._replace(reason=f"{shared}: {complaint.reason}")
    elif not (other.on_vfio or consent):
        from libhook.facts import remedy

        along = remedy.setting(situation, 'siblings = "bind"', "siblings")
        yield Complaint(
            f"{shared}, which is on {other.binding.driver}",
            f"give the guest the whole group, or to have the rest taken along, {along}",
        )


def _of_drivers(situation: Situation, device: HostDevice) -> str:
    """What helps where the wanted driver is none: the XML named it, or the settings did."""
    has = f"this kernel has {', '.join(sorted(situation.host.vfio_drivers))}"
    if device.model is not None:
        return f"take <driver model=...> out of the guest's XML, or name another there; {has}"
    from libhook.facts import remedy

    auto = remedy.setting(situation, 'driver = "auto"', "driver")
    return f"{has}; to have libhook choose, {auto}"
