# SPDX-License-Identifier: LGPL-2.1-or-later
"""Describes a host in a few lines, and checks that such a host can exist."""

import re
from collections import Counter
from collections.abc import Iterable
from typing import Literal, NamedTuple, get_args

from libhook.errors import LibhookError
from libhook.facts.address import PciAddress

ETHERNET, NVME, VGA, AUDIO, BRIDGE, USB = "020000", "010802", "030000", "040300", "060400", "0c0330"
_HEADER_BRIDGE = 1


Kind = Literal["host", "vfio", "stub"]
CHILDREN = frozenset(
    ("net", "block", "drm", "usb", "sound", "nvme", "graphics", "usb_device", "scsi_device", "scsi_host", "mdev")
)


class Driver(NamedTuple):
    """A PCI driver of the host and its module.

    A ``host`` driver uses the kernel's DMA. A ``vfio`` driver binds only by override. A ``stub`` (pci-stub, pcieport)
    manages its DMA itself, so it does not keep a guest from the group.
    """

    name: str
    ids: tuple[str, ...] = ()
    """Vendor and device, ``8086:10d3``, or a class, ``class:0300``."""
    kind: Kind = "host"
    module: str = ""
    """"" stands for the driver's name with ``_``."""
    loaded: bool = True
    remove: float = 0
    """Seconds that its remove takes. ``probe`` is the same for its probe."""
    probe: float = 0
    sriov: bool = False

    @property
    def module_name(self) -> str:
        """The module's name in /sys/module."""
        return self.module or self.name.replace("-", "_")

    def matches(self, device: "Device") -> bool:
        """Whether the driver matches a device, by vendor and device or by class."""
        return device.ids in self.ids or f"class:{device.class_[:4]}" in self.ids


class Module(NamedTuple):
    """A module without drivers, or one with more properties than its drivers."""

    name: str
    needs: tuple[str, ...] = ()
    """The modules that it uses. While it is loaded they are loaded too, and cannot be removed."""
    loaded: bool = True
    """Counts only for a module without drivers. Otherwise the drivers say it."""
    users: int = 0
    """How many users it has besides open nodes, other modules and fbcon."""
    shows_consoles: bool = False
    """fbcon has a reference on it while the virtual consoles are bound."""
    built_in: bool = False
    """The module and its drivers are part of the kernel."""


class Device(NamedTuple):
    """One PCI function. Only the address is required."""

    address: str
    driver: str | None = None
    group: int | None = None
    """The IOMMU group. None stands for a group of its own, if the host has an IOMMU."""
    class_: str = ETHERNET
    ids: str = "8086:10d3"
    physfn: str | None = None
    header: int = 0
    override: str = ""
    numa_node: int = -1
    totalvfs: int = 0
    numvfs: int = 0
    """How many VFs exist from the beginning. World.complete() makes their Devices."""
    vf_ids: str = "8086:10ca"
    vf_offset: int = 128
    vf_stride: int = 4
    vf_index: int = 0
    vf_autoprobe: bool = True
    """Whether a driver may bind its VFs without an override."""
    remove: float | None = None
    """Seconds that the driver's remove takes; None for the driver's own time. ``probe`` is the same for its probe."""
    probe: float | None = None
    serial: str = ""
    """What the nvme driver says of an NVMe disk."""
    refuses: tuple[tuple[str, str], ...] = ()
    """Drivers whose probe of this device fails, and its errno: (("vfio-pci", "EINVAL"),)."""
    children: tuple[tuple[str, str], ...] = ()
    """What its host driver makes: (("net", "eth0"),), (("block", "nvme0n1"),), (("drm", "card0"),) and so on.
    Also what a guest can get by itself (buses.py): (("usb_device", "001.004"),), (("mdev", UUID),)."""


class World(NamedTuple):
    """A whole host."""

    devices: tuple[Device, ...]
    drivers: tuple[Driver, ...] = ()
    iommu: bool = True
    variants: tuple[tuple[str, str], ...] = ()
    """Variant drivers and the ids that they are for: (("mlx5_vfio_pci", "15b3:101e"),)."""
    vfio_loaded: bool = False
    """Whether the vfio drivers are loaded. On a stock host they are not loaded yet."""
    modules: tuple[Module, ...] = ()

    def complete(self) -> "World":
        """Return the world with the VFs that ``numvfs`` asks for, a number for each group, and the vfio drivers."""
        vfs = {vf.address: vf for pf in self.devices for vf in virtual_functions(pf)[: pf.numvfs]}
        devices = [
            *self.devices,
            *(vf for vf in vfs.values() if vf.address not in {d.address for d in self.devices}),
        ]
        if self.iommu:
            free = max((device.group for device in devices if device.group is not None), default=-1) + 1
            for at, device in enumerate(devices):
                if device.group is None:
                    devices[at], free = device._replace(group=free), free + 1
        known = {driver.name for driver in self.drivers}
        names = ("vfio-pci", *(name for name, _ in self.variants))
        vfio = (Driver(name, kind="vfio", loaded=self.vfio_loaded) for name in names if name not in known)
        return self._replace(devices=tuple(devices), drivers=(*self.drivers, *vfio))

    def is_loaded(self, module: str) -> bool:
        """Whether a module is loaded in the beginning."""
        brought = [driver.loaded for driver in self.drivers if driver.module_name == module]
        return any(brought) if brought else any(one.loaded for one in self.modules if one.name == module)


class Impossible(LibhookError):
    """No host can be like this."""


def virtual_functions(pf: Device) -> list[Device]:
    """Return all VFs that a PF can have, by its First VF Offset and VF Stride (PCIe, 9.2.1.2)."""
    if not pf.totalvfs:
        return []
    address = PciAddress.parse(pf.address)
    own = address.bus << 8 | address.slot << 3 | address.function
    found = []
    for index in range(pf.totalvfs):
        at = own + pf.vf_offset + index * pf.vf_stride
        name = str(PciAddress.of(address.domain, at >> 8, at >> 3 & 31, at & 7))
        found.append(Device(name, ids=pf.vf_ids, physfn=pf.address, vf_index=index, numa_node=pf.numa_node))
    return found


def check(world: World) -> None:
    """Raise Impossible with all that is wrong, unless such a host can exist. The world must be complete."""
    wrong = [*_wrong_fields(world), *_wrong_addresses(world.devices), *_wrong_drivers(world), *_wrong_relations(world)]
    if wrong:
        raise Impossible("no host can be like this: " + "; ".join(wrong))


def _wrong_fields(world: World) -> Iterable[str]:
    for device in world.devices:
        if not re.fullmatch("[0-9a-f]{6}", device.class_):
            yield f"{device.address} has the class {device.class_!r}, which is no six hex digits"
        for kind, _ in device.children:
            if kind not in CHILDREN:
                yield f"{device.address} has a child of the kind {kind!r}: it is one of {', '.join(sorted(CHILDREN))}"
        if min(device.remove or 0, device.probe or 0) < 0:
            yield f"{device.address} takes less than no time"
    children = Counter(child for device in world.devices for child in device.children)
    for (kind, name), times in children.items():
        if times > 1:
            yield f"{kind} {name} is there {times} times"
    for driver in world.drivers:
        if driver.kind not in get_args(Kind):
            yield f"the driver {driver.name} has the kind {driver.kind!r}: it is one of {', '.join(get_args(Kind))}"
        if min(driver.remove, driver.probe) < 0:
            yield f"the driver {driver.name} takes less than no time"


def _wrong_addresses(devices: Iterable[Device]) -> Iterable[str]:
    for address, times in Counter(device.address for device in devices).items():
        PciAddress.parse(address)
        if times > 1:
            yield f"{address} is there {times} times"


def _wrong_drivers(world: World) -> Iterable[str]:
    drivers = {driver.name: driver for driver in world.drivers}
    if len(drivers) != len(world.drivers):
        yield "two drivers have one name"
    for device in world.devices:
        if device.driver is None:
            continue
        driver = drivers.get(device.driver)
        if driver is None or not driver.loaded:
            yield f"{device.address} is on {device.driver}, which is not loaded"
        elif driver.kind == "vfio" and device.override != driver.name:
            yield f"{device.address} is on {driver.name}, which binds by override only, and has none"
        elif not device.override and not driver.matches(device):
            yield f"{device.address} is on {driver.name}, which does not know {device.ids}"
        elif driver.kind == "vfio" and device.group is None:
            yield f"{device.address} is on {driver.name} without an IOMMU"


def _wrong_relations(world: World) -> Iterable[str]:
    devices = {device.address: device for device in world.devices}
    drivers = {driver.name: driver for driver in world.drivers}
    for device in world.devices:
        if device.group is not None and not world.iommu:
            yield f"{device.address} has an IOMMU group on a host without an IOMMU"
        if (device.header & 0x7F == _HEADER_BRIDGE) != (device.class_[:4] == "0604"):
            yield f"{device.address}: header type {device.header} does not go with class {device.class_}"
        if device.numvfs > device.totalvfs:
            yield f"{device.address} has {device.numvfs} VFs of {device.totalvfs}"
        if device.numvfs and (device.driver is None or not drivers[device.driver].sriov):
            yield f"{device.address} has VFs without a driver that knows SR-IOV"
        if device.physfn is None:
            continue
        pf = devices.get(device.physfn)
        if pf is None:
            yield f"{device.address} is a VF of {device.physfn}, which is not there"
        elif device.address not in {vf.address for vf in virtual_functions(pf)[: pf.numvfs]}:
            yield f"{device.address} is not among the {pf.numvfs} VFs of {device.physfn}"
        elif device.totalvfs:
            yield f"{device.address} is a VF and a PF"
    for module in world.modules:
        for needed in module.needs if world.is_loaded(module.name) else ():
            if not world.is_loaded(needed):
                yield f"the module {module.name} is loaded without {needed}, which it needs"
