# SPDX-License-Identifier: LGPL-2.1-or-later
"""Reads /sys, and who has vfio's nodes open, into a Host.

But for one list of all IOMMU groups, the cost in /sys grows with the guest's own devices and their groups. ``driver``,
``iommu_group``, ``physfn`` and ``virtfn*`` are links. ``driver_override`` takes the device's lock on some kernels, and
``sriov_numvfs`` on all, so a child reads them. No other file that is read here does (look/attributes.py).
"""

from __future__ import annotations

import os

from libhook.children.child import Deadline
from libhook.children.worker import Worker
from libhook.effects import locks
from libhook.errors import BadInput, DeadlineExpired, kernel_log, unanswered
from libhook.facts.address import PciAddress
from libhook.facts.host import NO_CLASS, NOTHING, VFIO_PCI, Binding, Claim, Host, Identity, PciDevice
from libhook.facts.machine import Machine
from libhook.light import TYPE_CHECKING, MappingProxyType, suppress
from libhook.look import attributes, holders, patient

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_PATIENCE = 2.0
"""Seconds to wait for a device's lock while other devices wait to be given back."""
_UNSET = ("", "(null)")
"""How an unset override reads. Older kernels print the null pointer."""


def device_path(machine: Machine, address: PciAddress) -> str:
    """The folder of a device in /sys."""
    return f"{machine.sys}/bus/pci/devices/{address}"


def driver(machine: Machine, address: PciAddress) -> str | None:
    """The driver that the device is on now; None when it has none. Only this tells whether a bind worked."""
    return attributes.link(f"{device_path(machine, address)}/driver", FileNotFoundError)


def exists(machine: Machine, address: PciAddress) -> bool:
    """Whether the host has this function."""
    return os.path.isdir(device_path(machine, address))


def group(machine: Machine, address: PciAddress) -> int | None:
    """The number of its IOMMU group; None when it is in none."""
    name = attributes.link(f"{device_path(machine, address)}/iommu_group", FileNotFoundError)
    return int(name) if name is not None and name.isdigit() else None


def physical_function(machine: Machine, address: PciAddress) -> str:
    """The address of a VF's PF; "" for any other function."""
    return attributes.link(f"{device_path(machine, address)}/physfn", FileNotFoundError) or ""


def related(machine: Machine, address: PciAddress) -> tuple[PciAddress | None, tuple[PciAddress, ...]]:
    """The PF of a VF, or None; and the VFs that a PF has enabled."""
    path = device_path(machine, address)
    pf = physical_function(machine, address)
    vfs = sorted(
        PciAddress.parse(target)
        for name in attributes.entries(path, FileNotFoundError)
        if name.startswith("virtfn") and (target := attributes.link(f"{path}/{name}", FileNotFoundError)) is not None
    )
    return (PciAddress.parse(pf) if pf else None), tuple(vfs)


def overrides(
    machine: Machine,
    addresses: Iterable[PciAddress],
    deadline: Deadline,
    patience: float,
    workers: Mapping[PciAddress, Worker],
) -> dict[PciAddress, str | None]:
    """The driver_override of each device: "" when unset, None when it cannot be read.

    A device that does not answer is left out (patient.read_all, which also explains ``patience``). Devices that have a
    worker are read by it.
    """
    paths = {address: f"{device_path(machine, address)}/driver_override" for address in addresses}
    own = {path: workers[address] for address, path in paths.items() if address in workers}
    texts = patient.ask_each(own, deadline, patience)
    rest = [path for path in paths.values() if path not in texts]
    texts |= zip(rest, patient.read_all(rest, deadline, patience), strict=True)
    found = ((address, texts[path]) for address, path in paths.items())
    return {address: "" if text in _UNSET else text for address, text in found if not isinstance(text, patient.Silent)}


def silent(machine: Machine, addresses: Iterable[PciAddress], deadline: Deadline) -> frozenset[PciAddress]:
    """Those of these devices that do not answer: something hangs with their lock."""
    there = [address for address in addresses if exists(machine, address)]
    stuck = _stuck(machine, there, deadline, _PATIENCE)
    rest = [address for address in there if address not in stuck]
    return stuck.union(rest) - overrides(machine, rest, deadline, _PATIENCE, {}).keys()


def _stuck(
    machine: Machine, addresses: Iterable[PciAddress], deadline: Deadline, patience: float
) -> frozenset[PciAddress]:
    """The PFs among these whose number of VFs does not answer, because something hangs with their lock.

    Where ``driver_override`` has a lock of its own, no other file of a PF tells (look/attributes.py).
    """
    paths = {address: f"{device_path(machine, address)}/sriov_numvfs" for address in addresses}
    paths = {address: path for address, path in paths.items() if os.path.lexists(path)}
    texts = patient.read_all(list(paths.values()), deadline, patience)
    return frozenset(one for one, text in zip(paths, texts, strict=True) if isinstance(text, patient.Silent))


def names_of_locks(machine: Machine, addresses: Iterable[PciAddress]) -> set[str]:
    """The names of the locks that these devices need: their groups', their VFs', and, shared, their PFs'.

    A PF and its VF are in different groups, and may not go to two guests. Two VFs may, and do not wait for each other.
    """
    own, shared = set(), set()
    for address in addresses:
        own.add(name_of_lock(machine, address))
        pf, vfs = related(machine, address)
        own.update(name_of_lock(machine, vf) for vf in vfs)
        if pf is not None:
            shared.add(name_of_lock(machine, pf))
    return own | {f"{name}{locks.SHARED}" for name in shared - own}


def name_of_lock(machine: Machine, address: PciAddress) -> str:
    """The name of a device's lock. It is the same for all devices of one IOMMU group."""
    number = group(machine, address)
    return f"device-{address}" if number is None else f"group-{number}"


def on_vfio(machine: Machine, address: PciAddress) -> bool:
    """Whether a vfio driver has the device, so that it can be handed to a guest."""
    if os.path.isdir(f"{machine.sys}/class/vfio-dev"):
        return os.path.isdir(f"{device_path(machine, address)}/vfio-dev")
    return driver(machine, address) == VFIO_PCI


def ids(machine: Machine, address: PciAddress) -> str:
    """Vendor and product, ``8086:10d3``; "" where they cannot be read."""
    path = device_path(machine, address)
    vendor, product = (attributes.plain(path, name)[:64].removeprefix("0x") for name in ("pci/vendor", "pci/device"))
    return f"{vendor}:{product}" if vendor and product else ""


def identity(machine: Machine, address: PciAddress) -> Identity:
    """What tells the device from others."""
    path = device_path(machine, address)
    of_card = ("pci/subsystem_vendor", "pci/subsystem_device")
    maker, card = (attributes.plain(path, name)[:64].removeprefix("0x") for name in of_card)
    controllers = attributes.entries(f"{path}/nvme")
    serial = attributes.plain(f"{path}/nvme/{controllers[0]}", "nvme/serial")[:64] if len(controllers) == 1 else ""
    return Identity(ids(machine, address), f"{maker}:{card}" if maker and card else "", serial)


def addresses(machine: Machine) -> list[PciAddress]:
    """The functions of this host, sorted. OSError where they cannot be listed."""
    found = []
    for name in attributes.entries(f"{machine.sys}/bus/pci/devices", FileNotFoundError):
        with suppress(BadInput):
            found.append(PciAddress.parse(name))
    return sorted(found)


def pci_class(machine: Machine, address: PciAddress) -> int:
    """Base class and subclass, 0x0200 for an Ethernet controller; NO_CLASS where they cannot be read."""
    try:
        return int(_class(machine, address), 16) >> 8
    except ValueError:
        return NO_CLASS


def is_display(machine: Machine, address: PciAddress) -> bool:
    """Whether the device is a GPU."""
    return _class(machine, address).startswith("0x03")


def is_bridge(machine: Machine, address: PciAddress) -> bool:
    """Whether the device is a bridge, with other functions below it."""
    return _class(machine, address).startswith(("0x0604", "0x0607"))


def _class(machine: Machine, address: PciAddress) -> str:
    return attributes.plain(device_path(machine, address), "pci/class")


def driver_name(machine: Machine, wanted: str) -> str | None:
    """The name by which the kernel knows a driver; a module's name may differ. None when the driver is not there."""
    for name in (wanted, wanted.replace("_", "-"), wanted.replace("-", "_")):
        if os.path.isdir(f"{machine.sys}/bus/pci/drivers/{name}"):
            return name
    entries = attributes.entries(f"{machine.sys}/module/{wanted.replace('-', '_')}/drivers", FileNotFoundError)
    return next((entry.removeprefix("pci:") for entry in entries if entry.startswith("pci:")), None)


def look(
    machine: Machine,
    addresses: Iterable[PciAddress],
    claims: Mapping[PciAddress, Claim],
    in_flight: frozenset[PciAddress],
    deadline: Deadline,
    *,
    siblings: bool = False,
    survey: bool = False,
) -> Host:
    """The Host with these devices and their groups, but without their uses.

    With ``siblings``, the overrides of the groups' other devices are read too. A device that does not answer is a
    DeadlineExpired; in a ``survey`` it only counts as in flight.
    """
    wanted = [address for address in addresses if exists(machine, address)]
    numbers = dict.fromkeys(group(machine, address) for address in wanted)
    groups = {number: members(machine, number) for number in numbers if number is not None}
    seen = tuple(dict.fromkeys((*wanted, *(other for others in groups.values() for other in others))))
    readable = [address for address in (seen if siblings else wanted) if address not in in_flight]
    patience = _PATIENCE if survey else deadline.left
    stuck = _stuck(machine, readable, deadline, patience)
    asked = [address for address in readable if address not in stuck]
    set_now = {} if stuck and not survey else overrides(machine, asked, deadline, patience, {})
    silent = [*stuck, *(address for address in asked if address not in set_now)]
    if silent and not survey:
        raise DeadlineExpired(f"{silent[0]} does not answer", kernel_log(silent[0]))
    aliases = vfio_aliases(machine)
    vfio_drivers = frozenset((VFIO_PCI, *(module for _, module in aliases if module != "vfio_pci")))
    return Host(
        devices={address: _device(machine, address, set_now.get(address), aliases) for address in seen},
        groups=groups,
        claims=claims,
        vfio_drivers=vfio_drivers,
        loaded=frozenset(name for name in vfio_drivers if driver_name(machine, name)),
        iommu=bool(groups_of_host(machine)),
        in_use=holders.of_vfio(machine, seen, deadline),
        uses={},
        in_flight=in_flight.union(silent),
        unread=_unread(machine, set_now),
    )


def glance(
    machine: Machine,
    addresses: Iterable[PciAddress],
    claims: Mapping[PciAddress, Claim],
    in_flight: frozenset[PciAddress],
    deadline: Deadline | None = None,
    workers: Mapping[PciAddress, Worker] = MappingProxyType({}),
) -> Host:
    """The Host with these devices alone, and nothing of their groups: enough once they are handed over.

    With a ``deadline``, for a give-back, their overrides are read as well, and a device that cannot be looked at does
    not stop the others. Devices that have one of the ``workers`` are read by it. A device that does not answer counts
    as in flight: a process hangs with its lock, and the other devices must not wait for it. Without a deadline nothing
    here can sleep.
    """
    wanted = [address for address in addresses if exists(machine, address)]
    readable = [address for address in wanted if address not in in_flight]
    if deadline:
        set_now = overrides(machine, readable, deadline, min(_PATIENCE, deadline.left / 4), workers)
        in_flight |= frozenset(readable) - set_now.keys()
    else:
        set_now = {}
    devices, unknown = {}, {}
    for address in wanted:
        try:
            devices[address] = _device(machine, address, set_now.get(address), ())
        except OSError as error:
            if deadline is None:
                raise
            unknown[address] = f"{address} cannot be read: {unanswered(error).message}"
    unread = _unread(machine, set_now)
    return NOTHING._replace(devices=devices, claims=claims, in_flight=in_flight, unread=unread, unknown=unknown)


def _unread(machine: Machine, found: Mapping[PciAddress, str | None]) -> frozenset[PciAddress]:
    return frozenset(address for address, text in found.items() if text is None and exists(machine, address))


def _device(
    machine: Machine, address: PciAddress, override: str | None, aliases: tuple[tuple[str, str], ...]
) -> PciDevice:
    path = device_path(machine, address)
    pf, vfs = related(machine, address)
    if aliases:
        from libhook.look import variants  # only prepare asks
    return PciDevice(
        address=address,
        binding=Binding(driver(machine, address), override or ""),
        pci_class=pci_class(machine, address),
        group=group(machine, address),
        on_vfio=on_vfio(machine, address),
        variant=variants.best(aliases, attributes.plain(path, "pci/modalias")) if aliases else VFIO_PCI,
        pf=pf,
        vfs=vfs,
        ids=ids(machine, address),
        needs_override=pf is not None and attributes.plain(f"{path}/physfn", "pci/sriov_drivers_autoprobe") == "0",
    )


def groups_of_host(machine: Machine) -> list[str]:
    """The numbers of all IOMMU groups; none when the IOMMU is off."""
    return attributes.entries(f"{machine.sys}/kernel/iommu_groups", FileNotFoundError)


def members(machine: Machine, number: int) -> tuple[PciAddress, ...]:
    """The PCI functions of an IOMMU group."""
    names = attributes.entries(f"{machine.sys}/kernel/iommu_groups/{number}/devices", FileNotFoundError)
    return tuple(sorted(PciAddress.parse(name) for name in names if name.count(":") == 2))


def vfio_aliases(machine: Machine) -> tuple[tuple[str, str], ...]:
    """The running kernel's ``alias vfio_pci:PATTERN MODULE`` lines, which name the variant drivers."""
    modules = f"{machine.root}/lib/modules"
    release = os.uname().release if not machine.root else next(iter(attributes.entries(modules, FileNotFoundError)), "")
    try:
        with open(f"{modules}/{release}/modules.alias", "rb") as file:
            content = file.read()
    except FileNotFoundError:
        return ()
    found = []
    start = content.find(b"alias vfio_pci:")
    while start >= 0:
        end = content.find(b"\n", start)
        words = content[start : end if end >= 0 else None].decode("ascii", "replace").split()
        if len(words) == 3:  # depmod writes no other; skip what was cut off or is not depmod's
            found.append((words[1].removeprefix("vfio_pci:"), words[2]))
        start = content.find(b"alias vfio_pci:", end) if end >= 0 else -1
    return tuple(found)
