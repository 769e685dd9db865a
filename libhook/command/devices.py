# SPDX-License-Identifier: LGPL-2.1-or-later
"""The answer of ``libhook devices``: what goes to a guest together, and what stands in the way. Pure.

What stands in the way is what the handler of a start says of a guest that has all of the group, by the default
settings. Only that nothing is opened to find out: a disk that only an exclusive open tells to be in use is not seen.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from libhook.command.groups import Block, Remark, Row, Verdict
from libhook.command.names import NameOf, fields
from libhook.errors import named
from libhook.facts.address import PciAddress
from libhook.facts.config import Config
from libhook.facts.domain import Domain, HostDevice
from libhook.facts.event import OPERATIONS, Event
from libhook.facts.host import NO_CLASS, Host, PciDevice
from libhook.facts.plan import Condition, Refusal
from libhook.facts.situation import Situation
from libhook.handlers import preflight

Json = dict[str, object]
_CLASSES = {
    NO_CLASS: "?",
    0x0100: "SCSI",
    0x0101: "IDE",
    0x0104: "RAID",
    0x0106: "SATA",
    0x0107: "SAS",
    0x0108: "NVMe",
    0x0180: "storage",
    0x0200: "Ethernet",
    0x0280: "network",
    0x0300: "VGA",
    0x0302: "3D",
    0x0380: "display",
    0x0401: "audio",
    0x0403: "audio",
    0x0600: "host",
    0x0601: "ISA",
    0x0604: "bridge",
    0x0C03: "USB",
    0x0C05: "SMBus",
    0x1200: "accel",
}
_OF_THE_BOARD = (0x05, 0x06, 0x08, 0x0B)
"""Base classes that only the host has a use for: memory, bridges, the system's own devices, processors."""
_SMBUS = 0x0C05
_QEMU = "qemu"
"""What the name of a guest's own process begins with. That it has the guest's devices open goes without saying."""


class Seen(NamedTuple):
    """All that is known of the host's devices."""

    host: Host
    config: Config
    name_of: NameOf
    wanted_by: Mapping[PciAddress, tuple[str, ...]]
    """The guests whose configuration names each."""


def blocks(seen: Seen) -> list[Block]:
    """Return the host's groups. A VF that is alone in its group stands below its PF instead."""
    found = []
    for group, members in _grouped(seen.host):
        rows = list[Row]()
        for device in members:
            if not _below_pf(seen.host, device):
                rows.append(_row(seen, device))
                vfs = (seen.host.devices[vf] for vf in device.vfs if vf in seen.host.devices)
                rows += [_row(seen, vf, is_vf=True) for vf in vfs if _below_pf(seen.host, vf)]
        if rows:
            found.append(Block(group, tuple(rows), _verdict(seen, group, members)))
    return found


def as_json(seen: Seen, found: Iterable[Block]) -> Json:
    """Return ``groups``. Each has its number (null: in none), what goes ``together``, and ``devices``."""
    shown = {row.address for block in found for row in block.rows}
    groups = (_group_json(seen, *group) for group in _grouped(seen.host))
    return {"groups": [group for group in groups if any(device["address"] in shown for device in group["devices"])]}


def _group_json(seen: Seen, group: int | None, members: Sequence[PciDevice]) -> dict[str, Any]:
    verdict = _verdict(seen, group, members)
    return {
        "group": group,
        "together": list(map(str, verdict.together)),
        "in_the_way": list(verdict.in_the_way),
        "devices": [_device_json(seen, device) for device in members],
    }


def _device_json(seen: Seen, device: PciDevice) -> Json:
    host, address = seen.host, device.address
    return {
        "address": str(address),
        **fields(seen.name_of(str(address))),
        "class": None if device.pci_class == NO_CLASS else f"{device.pci_class:04x}",
        "driver": device.binding.driver,
        "override": device.binding.override or None,
        "guest": claim._asdict() if (claim := host.claims.get(address)) else None,
        "wanted_by": list(seen.wanted_by.get(address, ())),
        "in_use": host.in_use.get(address),
        "uses": _uses(host, device),
        "hangs": address in host.in_flight,
        "pf": str(device.pf) if device.pf else None,
        "vfs": [str(vf) for vf in device.vfs],
    }


def _verdict(seen: Seen, group: int | None, members: Sequence[PciDevice]) -> Verdict:
    """What a start would say of a guest that has them all."""
    if group is None:
        why = "they are in no IOMMU group" if seen.host.iommu else f"the IOMMU is off: {preflight.TURN_IOMMU_ON}"
        return Verdict((), (why,))
    together = tuple(device.address for device in members if _must_go(device))
    if not any(_may_go(device) for device in members):
        return Verdict()
    return Verdict(together, _in_one(seen, together, tuple(_objections(seen, together))))


def _in_one(seen: Seen, together: Sequence[PciAddress], objections: tuple[str, ...]) -> tuple[str, ...]:
    """Say once who holds them, where one guest holds all of several, and nothing else is in the way."""
    claims = [claim for address in together if (claim := seen.host.claims.get(address))]
    pairs = zip(together, claims, strict=False)
    each = tuple(f"{address} is held by the guest {claim.shown}" for address, claim in pairs)
    if len(together) > 1 and objections == each and len(set(claims)) == 1:
        return (f"{'both' if len(together) == 2 else 'all'} are held by the guest {claims[0].shown}",)
    return objections


def _objections(seen: Seen, together: Iterable[PciAddress]) -> Iterator[str]:
    devices = tuple(HostDevice("pci", "hostdev", False, str(address), address) for address in together)
    event, guest = Event("", OPERATIONS["prepare"], "-"), Domain("", "", "kvm", devices)
    for verdict in preflight.prepare(Situation(event, guest, seen.host, None, seen.config)):
        if isinstance(verdict, Condition):
            yield verdict.refusal.said
        elif isinstance(verdict, Refusal):
            yield verdict.said


def _may_go(device: PciDevice) -> bool:
    """Whether a guest could have a use for it."""
    return device.pci_class >> 8 not in _OF_THE_BOARD and device.pci_class != _SMBUS


def _must_go(device: PciDevice) -> bool:
    """Whether it goes along with the group. What has no driver, and is of no use to a guest, may stay."""
    return not device.is_bridge and (_may_go(device) or not device.keeps_group_viable)


def _below_pf(host: Host, device: PciDevice) -> bool:
    """Whether a VF is shown below its PF: it is in the PF's group, or alone in its own."""
    pf = host.devices.get(device.pf) if device.pf else None
    if pf is None or device.group is None:
        return pf is not None
    return device.group == pf.group or _is_alone(host, device)


def _is_alone(host: Host, device: PciDevice) -> bool:
    return device.group is not None and len(host.groups.get(device.group, ())) == 1


def _grouped(host: Host) -> list[tuple[int | None, list[PciDevice]]]:
    groups: dict[int | None, list[PciDevice]] = {}
    for address in sorted(host.devices):
        device = host.devices[address]
        groups.setdefault(device.group, []).append(device)
    return sorted(groups.items(), key=lambda entry: (entry[0] is None, entry[0] or 0))


def _row(seen: Seen, device: PciDevice, *, is_vf: bool = False) -> Row:
    kind = _CLASSES.get(device.pci_class, f"{device.pci_class:04x}")
    name = seen.name_of(str(device.address))
    remarks = tuple(_remarks(seen, device))
    verdict = _verdict(seen, device.group, [device]) if device.pf and _is_alone(seen.host, device) else None
    if verdict and (verdict.level == "free" or all(remark.level != "busy" for remark in remarks)):
        remarks = (*remarks, Remark(verdict.text, verdict.level))
    may_go, driver = _may_go(device), device.binding.driver or "-"
    claim, wanted_by = seen.host.claims.get(device.address), seen.wanted_by.get(device.address, ())
    return Row(
        str(device.address), kind, may_go, device.is_display, driver, name, remarks, is_vf, verdict, device.group,
        held_by=claim.name if claim else "", wanted_by=wanted_by,
    )  # fmt: skip


def _remarks(seen: Seen, device: PciDevice) -> Iterator[Remark]:
    host, address = seen.host, device.address
    if device.pf and not _below_pf(host, device):
        yield Remark(f"VF of {device.pf}")
    elif device.pf and _is_alone(host, device):
        yield Remark(f"IOMMU group {device.group}")
    claim = host.claims.get(address)
    if device.binding.override and not (claim and device.binding.override == device.binding.driver):
        yield Remark(f"override {device.binding.override}")
    if claim:
        yield Remark(f"guest {claim.shown}", "busy")
    others = [name for name in seen.wanted_by.get(address, ()) if not (claim and claim.name == name)]
    if others:
        yield Remark(f"in the configuration of {' and '.join(map(named, others))}")
    using = host.in_use.get(address)
    if using and not (claim and using.startswith(_QEMU)):
        yield Remark(f"open in {using}", "busy")
    yield from (Remark(use, "busy") for use in _uses(host, device))
    if address in host.in_flight:
        yield Remark("does not answer", "busy")


def _uses(host: Host, device: PciDevice) -> list[str]:
    """Return what a guest or the host would lose with the device."""
    tenants = host.tenants.get(device.address, ())
    own = [use.what for use in host.uses.get(device.address, ())]
    return [*(f"{tenant.what} behind it is held by the guest {tenant.claim.shown}" for tenant in tenants), *own]
