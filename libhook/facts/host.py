# SPDX-License-Identifier: LGPL-2.1-or-later
"""A frozen picture of the host: the guest's devices, their IOMMU groups and who claims them. Types only.

look/sysfs.py takes the picture. The handlers know nothing else about the host.
"""

from __future__ import annotations

from libhook.errors import named
from libhook.facts.address import PciAddress
from libhook.light import TYPE_CHECKING, Literal, MappingProxyType, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

VFIO_PCI = "vfio-pci"
NO_CLASS = -1
"""Stands for a class that cannot be read. Such a device may be anything, even a bridge."""
_BRIDGE_CLASSES = (0x0604, 0x0607)
_DISPLAY = 0x03
_USB_CONTROLLER = 0x0C03


class Binding(NamedTuple):
    """What decides which driver has a device: its current driver (None: no driver) and its override ("": unset)."""

    driver: str | None
    override: str = ""


class Identity(NamedTuple):
    """What tells one device from another. A part is "" where it cannot be read."""

    ids: str
    """Vendor and product: ``8086:10d3``."""
    subsystem: str = ""
    """The maker of the card, and its number for the card: ``1043:8679``."""
    serial: str = ""
    """Of an NVMe disk, as its driver read it. On another driver it is not known."""

    def is_other_than(self, before: Identity) -> bool:
        """Whether this is certainly another device: a part that is known of both differs."""
        return any(one and other and one != other for one, other in zip(self, before, strict=True))

    def __str__(self) -> str:
        """``[144d:a80a], subsystem 144d:a801, serial S5GXNX0R``."""
        parts = (f"[{self.ids}]" if self.ids else "unknown", self.subsystem and f"subsystem {self.subsystem}")
        return ", ".join(part for part in (*parts, self.serial and f"serial {self.serial}") if part)


class PciDevice(NamedTuple):
    """One PCI function as /sys shows it."""

    address: PciAddress
    binding: Binding
    pci_class: int
    """Base class and subclass: 0x0200 for an Ethernet controller."""
    group: int | None
    """The number of the IOMMU group. None where the device is in no group, for instance because the IOMMU is off."""
    on_vfio: bool = False
    """A vfio driver has the device. Since Linux 6.1 the sign is a ``vfio-dev/`` below it; before, that it is on
    vfio-pci."""
    variant: str = VFIO_PCI
    """The vfio driver that the kernel's ``vfio_pci:`` aliases name for the device."""
    pf: PciAddress | None = None
    vfs: tuple[PciAddress, ...] = ()
    ids: str = ""
    """Vendor and product: ``8086:10d3``."""
    needs_override: bool = False
    """The device is a VF, and its PF has ``sriov_drivers_autoprobe`` 0. No driver may have it without an override
    (pci_device_can_probe())."""

    def was_replaced(self, ids: str) -> bool:
        """Whether ``ids`` were read from a different model of device.

        A replacement of the same model is not told apart. All that it has lost is the override.
        """
        return bool(ids and self.ids and ids != self.ids)

    @property
    def is_bridge(self) -> bool:
        """PCI-to-PCI or CardBus bridge: header type 1 or 2. No guest can be given one."""
        return self.pci_class in _BRIDGE_CLASSES

    @property
    def on_host_driver(self) -> bool:
        """One of the host's own drivers has the device."""
        return self.binding.driver is not None and not self.on_vfio and not self.is_bridge

    @property
    def keeps_group_viable(self) -> bool:
        """The device leaves its IOMMU group viable (driver_managed_dma): vfio may own a group that contains it."""
        return self.is_bridge or self.binding.driver in (None, "pci-stub")

    @property
    def is_display(self) -> bool:
        """A display device, such as a GPU."""
        return self.pci_class >> 8 == _DISPLAY

    @property
    def is_usb_controller(self) -> bool:
        """A USB controller. There may be disks behind it."""
        return self.pci_class == _USB_CONTROLLER


KUBERNETES = "kubernetes"
"""The engine of a container in a pod. The kubelet starts it again, so its own engine does not end it."""
DISPLAY_MANAGER = "display-manager.service"
"""systemd's name for whichever display manager the host has."""
UseKind = Literal["storage", "network", "display", "usb", "open"]


class Owner(NamedTuple):
    """What a process ends with."""

    service: str = ""
    """A service of the host."""
    scope: str = ""
    """A scope of the host, which somebody has begun and systemd only groups; or a service that systemd-run has begun.
    Nobody can start it again."""
    container: str = ""
    """Its name, or its ID."""
    engine: str = ""
    """The container's: ``docker``, ``podman``, ``crictl``, ``machinectl``, ``lxc`` or KUBERNETES."""
    session: str = ""
    """A session of logind: ``2``."""
    unit: str = ""
    """A service or scope of a user's own systemd."""
    user: str = ""
    """The number of the user whose session, unit or container it is."""


class Use(NamedTuple):
    """Something on the host that uses a device."""

    kind: UseKind
    """``open``: some process has one of the device's nodes open. For a GPU this is ``display``."""
    what: str
    """What uses it: ``/dev/nvme0n1 is mounted on /data``."""
    pid: int = 0
    """The process that has the device open; 0 for any other use."""
    owner: Owner = Owner()
    """What the process ends with."""
    desktop: str = ""
    """The unit of the host's display manager, where the process ends with that: it is of it, or of a session that it
    has begun. "" for any other process."""
    mounts: tuple[str, ...] = ()
    """Of a disk: where it is mounted."""
    only_mounted: bool = False
    """That is all that shows: once nothing is mounted there, the disk may be free."""


class Trail(NamedTuple):
    """What the kernel says about its audit trail (AUDIT_GET)."""

    enabled: bool
    daemon: int
    """The pid of the auditd that writes the records down. 0: there is none."""
    lost: int
    """The number of records lost since boot, or since the count was reset."""
    may_send: bool = True
    """Whether the kernel would take a record from this process, and the library that sends one is installed."""
    stopped: bool = False
    """Whether SIGSTOP or a debugger has stopped auditd. Then it exists, and writes nothing down."""


class Claim(NamedTuple):
    """The guest that holds a device."""

    uuid: str
    name: str

    @classmethod
    def unread(cls, uuid: str, *, too_new: bool) -> Claim:
        """The claim of a guest whose journal entry cannot be read, so that its name is unknown."""
        return cls(uuid, f"{uuid}, whose journal entry is {'from a later libhook' if too_new else 'broken'}")

    @property
    def shown(self) -> str:
        """The name for a sentence. What ``unread`` says is ours, and has no quotes."""
        ours = (self.unread(self.uuid, too_new=too_new) for too_new in (True, False))
        return self.name if self in ours else named(self.name)


class Tenant(NamedTuple):
    """A guest that uses something below a function. It would lose that together with the function's driver."""

    claim: Claim
    what: str
    """Like HostDevice.key: ``mdev c7a5fdbd-…``, ``usb 001.004``."""


class Host(NamedTuple):
    """What /sys and libhook's own state say now about one guest's devices."""

    devices: Mapping[PciAddress, PciDevice]
    """The guest's devices and all others of their groups, as far as they exist."""
    groups: Mapping[int, tuple[PciAddress, ...]]
    claims: Mapping[PciAddress, Claim]
    """Claims to these devices, to the others of their groups, to their PFs and to their VFs."""
    vfio_drivers: frozenset[str]
    """vfio-pci and the variant drivers of this kernel. No other driver may be asked for."""
    loaded: frozenset[str]
    """Those of ``vfio_drivers`` that are loaded already."""
    iommu: bool
    in_use: Mapping[PciAddress, str]
    """Devices whose vfio node, or whose group's node, a process has open. The text says which process. Printable."""
    uses: Mapping[PciAddress, tuple[Use, ...]]
    """How the host uses the devices that are on its own drivers."""
    tenants: Mapping[PciAddress, tuple[Tenant, ...]] = MappingProxyType({})
    """What guests have below the devices that are on the host's own drivers."""
    in_flight: frozenset[PciAddress] = frozenset()
    """Devices for which one of our kernel writes has not returned, or that do not answer. Do not touch or read them."""
    unread: frozenset[PciAddress] = frozenset()
    """Devices whose override cannot be read. Their binding says "", and nobody knows what to restore."""
    unknown: Mapping[PciAddress, str] = MappingProxyType({})
    """Devices that exist and cannot be looked at, and why. Such a device does not hold up giving back the others."""


NOTHING = Host({}, {}, {}, frozenset(), frozenset(), iommu=False, in_use={}, uses={})
"""The Host for an event that asks nothing about the host."""


def same_driver(one: str | None, other: str | None) -> bool:
    """Whether two names mean the same driver. A module's name has ``_`` where its driver's name may have ``-``."""
    if one is None or other is None:
        return one is other
    return one.replace("-", "_") == other.replace("-", "_")


def is_driver_name(name: str) -> bool:
    """Whether this is a valid driver name: ``[A-Za-z0-9_-]{1,63}``. The name becomes part of a path in /sys."""
    return 0 < len(name) <= 63 and name.isascii() and name.replace("-", "a").replace("_", "a").isalnum()
