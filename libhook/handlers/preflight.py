# SPDX-License-Identifier: LGPL-2.1-or-later
"""What must be true before a device may be handed over, managed or not. It refuses, and writes nothing."""

from __future__ import annotations

from itertools import chain

from libhook.facts.address import PciAddress
from libhook.facts.domain import HostDevice
from libhook.facts.host import NO_CLASS, PciDevice, UseKind
from libhook.facts.plan import Condition, Refusal, Verdict, Warn
from libhook.facts.situation import Situation
from libhook.handlers import vfio
from libhook.light import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_CONFIG = "the guest's section of /etc/libhook/config.toml"
TURN_IOMMU_ON = (
    "turn it on in the firmware (VT-d, AMD-Vi) and, on Intel, with intel_iommu=on on the kernel's command line"
)
_REMEDIES: dict[UseKind, str] = {
    "storage": f'unmount or free it; to hand it over anyway: preflight.storage = "warn" in {_CONFIG}',
    "network": f'reach the host another way first; to hand it over anyway: preflight.network = "warn" in {_CONFIG}',
    "display": "stop what uses the display, or let units or end do it; to hand it over anyway: "
    f'preflight.display = "warn" in {_CONFIG}',
    "usb": f'unmount the disk behind it; to hand it over anyway: preflight.usb = "warn" in {_CONFIG}',
    "open": "stop that process first",
}


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
    for device in situation.domain.pci:
        verdict: Refusal | Condition | None = None
        for complaint in reversed(_until_certain(_complaints(situation, device))):
            refusal = Refusal(device.key, complaint.reason, complaint.remedy)
            verdict = Condition(complaint.unless, refusal, then=verdict) if complaint.unless else refusal
        if verdict:
            yield verdict
    for address, uses in situation.host.uses.items():
        for use in uses:
            if situation.config.strictness(use.kind) == "warn":
                yield Warn(f"{address} is in use by the host: {use.what}")
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
            reason = f"{device.address} is in use by the host: {use.what}"
            for mount in use.mounts:
                yield Complaint(reason, _REMEDIES[use.kind], f"{mount} is not mounted")
            if not use.only_mounted:
                yield Complaint(reason, _REMEDIES[use.kind], f"{device.address} is free")


def _complaints(situation: Situation, device: HostDevice) -> Iterator[Complaint]:
    """The complaints about one device, the most basic first."""
    address = device.pci
    if address is None:
        return
    host, config = situation.host, situation.config
    seen = host.devices.get(address)
    if seen is None and any(address == changed.address for changed in situation.changed):
        return  # handlers/identity.py has said more
    if seen is None:
        remedy = "lspci -D lists the devices"
        if not device.audited:
            remedy = f"correct take_along in {_CONFIG}; {remedy}"
        yield Complaint(f"{address} is not on this host", remedy, f"{address} is present")
        return
    if seen.is_bridge:
        yield Complaint(f"{address} is a bridge, and a guest cannot have a bridge", "name a device behind it")
    if not host.iommu:
        yield Complaint(f"{address} cannot be handed over, because the IOMMU is off", TURN_IOMMU_ON)
    elif seen.group is None:
        yield Complaint(f"{address} is in no IOMMU group", "see the kernel's log for why the IOMMU does not cover it")
    elif address not in host.groups.get(seen.group, ()):
        yield Complaint(
            f"{address} is not among the devices of its IOMMU group {seen.group}",
            "a hot-plug may be under way there: try again",
        )
    wanted = vfio.target(situation, device)
    if not vfio.is_allowed(situation, wanted):
        yield Complaint(
            f"{address}: {wanted!r} is not a vfio driver of this kernel",
            f"this kernel has {', '.join(sorted(host.vfio_drivers))}",
        )
    yield from _taken(situation, seen)
    yield from _in_use(situation, seen)
    own = {other.pci for other in situation.domain.pci}
    for other in host.groups.get(-1 if seen.group is None else seen.group, ()):
        if other not in own:
            yield from _sibling(situation, seen, host.devices[other], config.siblings == "bind")


def _taken(situation: Situation, device: PciDevice) -> Iterator[Complaint]:
    """The complaints where somebody has the device, its PF, one of its VFs, or something below it."""
    host, address = situation.host, device.address
    if device.pci_class == NO_CLASS:
        yield Complaint(f"{address}: its class cannot be read, so nobody knows what it is", "see the kernel's log")
    if address in host.unread:
        yield Complaint(
            f"{address}: its driver_override cannot be read, so it could not be restored", "see the kernel's log"
        )
    if address in host.in_flight:
        yield Complaint(
            f"{address} hangs in an earlier kernel write",
            "see libhook status; when the write ends, run: libhook recover",
        )
    for other, what in ((address, ""), (device.pf, ": its PF"), *((vf, ": its VF") for vf in device.vfs)):
        claim = host.claims.get(other) if isinstance(other, PciAddress) else None
        if claim and claim.uuid != situation.domain.uuid:
            yield Complaint(
                f"{address}{what and f'{what} {other}'} is held by the guest {claim.name}",
                "stop that guest first; libhook status shows what it holds",
            )
    for tenant in host.tenants.get(address, ()):
        what = tenant.what
        if tenant.claim.uuid != situation.domain.uuid:
            yield Complaint(
                f"{what} behind {address} is held by the guest {tenant.claim.name}, which would lose it",
                "stop that guest first, or detach it there; libhook status shows what it holds",
            )
        else:
            yield Complaint(
                f"{what} behind {address} is also given to this guest, which would lose it",
                "give the guest only one of the two",
            )
    if device.vfs:
        yield Complaint(
            f"{address} is a PF with VFs enabled: {len(device.vfs)}",
            f"give the guest a VF, or disable them: echo 0 > /sys/bus/pci/devices/{address}/sriov_numvfs",
        )
    claim = host.claims.get(address)  # a device that is plugged in may join what the guest already has of the group
    plugged = situation.event.operation.name == "attach" and claim and claim.uuid == situation.domain.uuid
    if address in host.in_use and not plugged:
        reason = f"{address} is open in {host.in_use[address]}"
        yield Complaint(reason, "stop that process first", f"{address} is free")


def _sibling(situation: Situation, device: PciDevice, other: PciDevice, consent: bool) -> Iterator[Complaint]:
    """The complaint about another device of the IOMMU group. The kernel hands over whole groups only."""
    if other.keeps_group_viable:
        return
    shared = f"{device.address} shares IOMMU group {device.group} with {other.address}"
    complaint = next(chain(_taken(situation, other), _in_use(situation, other)), None)
    if complaint:
        yield complaint._replace(reason=f"{shared}: {complaint.reason}")
    elif not (other.on_vfio or consent):
        yield Complaint(
            f"{shared}, which is on {other.binding.driver}",
            f'give the guest both, or set siblings = "bind" in {_CONFIG} to take it along',
        )
