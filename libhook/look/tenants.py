# SPDX-License-Identifier: LGPL-2.1-or-later
"""Finds the guests that have something below a PCI function, by comparing folders in /sys.

What a guest's journal entry holds has a folder in /sys, and so has the function. A USB device is below its controller,
a SCSI device below its adapter, a mediated device below its parent, a function of another PCI domain below VMD. So is a
disk that a vhost-scsi target exports. All of it is lost when the function loses its driver.
"""

from __future__ import annotations

import os

from libhook import plainjson
from libhook.children import telling
from libhook.children.child import Deadline
from libhook.effects.state import State
from libhook.errors import KERNEL_LOG, BadInput, DeadlineExpired, LibhookError, TooNew
from libhook.facts.address import PciAddress
from libhook.facts.domain import HostDevice
from libhook.facts.entry import HeldDevice
from libhook.facts.host import Claim, Tenant
from libhook.facts.machine import Machine
from libhook.light import TYPE_CHECKING, suppress
from libhook.look import attributes, libvirtd, nodes, sysfs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_ANYTHING = "something"
_PATIENCE = 2.0
"""Seconds for a look whose result is only shown."""
Holding = tuple[Claim, str, str]
"""A guest, and the kind and address of something that it has."""


def below(
    machine: Machine,
    state: State,
    addresses: Iterable[PciAddress],
    deadline: Deadline,
    own: tuple[Claim, Iterable[HostDevice]] | None = None,
    *,
    must_see: bool = True,
) -> dict[PciAddress, tuple[Tenant, ...]]:
    """Which guests have what below each of these functions. ``own`` adds what this guest itself is about to get.

    The journal entries are read only if a function has something below it that a guest may be given by itself. With
    ``must_see``, DeadlineExpired when LIO does not answer in time.
    """
    tops = {os.path.realpath(sysfs.device_path(machine, address)): address for address in addresses}
    tops = {top: address for top, address in tops.items() if nodes.may_be_shared(top)}
    if not tops:
        return {}
    holdings = [one for one in (*_held(machine, state), *(_of(*own) if own else ())) if _names_one(one)]
    targets = {address for _, kind, address in holdings if kind == "scsi_host"}
    links = _disks_of(machine, targets, deadline, must_see) if targets else {}
    found: dict[PciAddress, dict[Tenant, None]] = {}
    for claim, kind, name in holdings:
        folders = [os.path.realpath(link) for link in (*_links(machine, kind, name), *links.get(name, ()))]
        for function in tops.values() if kind == _ANYTHING else _above(folders, tops):
            found.setdefault(function, {})[Tenant(claim, f"{kind} {name}".strip())] = None
    return {function: tuple(tenants) for function, tenants in found.items()}


def _above(folders: Iterable[str], tops: dict[str, PciAddress]) -> Iterator[PciAddress]:
    """The functions in ``tops`` that have one of these folders below them."""
    for folder in folders:
        while len(folder) > 1:
            folder = os.path.dirname(folder)
            if folder in tops:
                yield tops[folder]


def _held(machine: Machine, state: State) -> Iterator[Holding]:
    """What the journal entries hold. An entry that cannot be read may hold anything, if its guest may run."""
    for uuid in state.uuids():
        try:
            held = state.load(uuid)
        except BadInput as error:
            if _may_have_devices(machine, uuid):
                yield (Claim.unread(uuid, too_new=isinstance(error, TooNew)), _ANYTHING, "")
        else:
            if held and held.is_active:
                yield from _of(Claim(held.uuid, held.name), held.devices)


def _may_have_devices(machine: Machine, uuid: str) -> bool:
    try:
        return uuid in libvirtd.with_host_devices(machine, FileNotFoundError)
    except LibhookError:
        return True


def _of(claim: Claim, devices: Iterable[HostDevice | HeldDevice]) -> Iterator[Holding]:
    return ((claim, device.kind, device.address) for device in devices)


def _names_one(holding: Holding) -> bool:
    """Whether the address is only a name. It was read from XML, and becomes part of a path."""
    return not {"/", "\0"} & set(holding[2])


def _links(machine: Machine, kind: str, address: str) -> Iterator[str]:
    """The links by which the kernel shows where the device is."""
    match kind:
        case "pci":
            yield f"{machine.sys}/bus/pci/devices/{address}"
        case "usb":  # by its bus, since its number changes when it is plugged out and in
            yield f"{machine.sys}/bus/usb/devices/usb{address.partition('.')[0].lstrip('0')}"
        case "scsi":  # scsi_host0:0:1:2
            yield f"{machine.sys}/class/scsi_host/{address.partition(':')[0].removeprefix('scsi_')}"
        case "mdev":
            yield f"{machine.sys}/bus/mdev/devices/{address}"


def _disks_of(machine: Machine, targets: Iterable[str], deadline: Deadline, must_see: bool) -> dict[str, list[str]]:
    """The disks of vhost-scsi targets. A child looks: listing configfs waits while a folder there is removed."""

    def tell(say: Callable[[bytes], None]) -> None:
        for target in targets:
            for disk in _exported(machine, f"{machine.sys}/kernel/config/target/vhost/{target}"):
                say(plainjson.dumps([target, f"{machine.sys}/class/block/{disk}"]).encode())
        say(b"")

    said = telling.lines(tell, deadline if must_see else min(deadline, Deadline.after(_PATIENCE)))
    if said[-1:] != [""] and must_see:
        raise DeadlineExpired(
            "LIO does not say which of its disks guests have",
            f"something in /sys/kernel/config/target does not answer: {KERNEL_LOG}",
        )
    links: dict[str, list[str]] = {}
    for target, link in map(plainjson.loads, filter(None, said)):
        links.setdefault(target, []).append(link)
    return links


def _exported(machine: Machine, target: str) -> Iterator[str]:
    """The disks of one target. Each tpgt_N/lun/lun_N has a link to a backstore, whose udev_path names a disk."""
    for group in attributes.entries(target):
        for lun in attributes.entries(f"{target}/{group}/lun"):
            for link in attributes.entries(f"{target}/{group}/lun/{lun}"):
                with suppress(OSError), open(f"{target}/{group}/lun/{lun}/{link}/udev_path", "rb") as file:
                    yield os.path.basename(os.path.realpath(machine.root + os.fsdecode(file.read(4096)).strip()))
