# SPDX-License-Identifier: LGPL-2.1-or-later
"""A frozen picture of the host: the guest's devices, their IOMMU groups, who claims them. Types only.

look/sysfs.py takes the picture; the policy reads nothing else.
"""

from __future__ import annotations

from libhook.facts.address import PciAddress
from libhook.light import TYPE_CHECKING, Literal, MappingProxyType, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

VFIO_PCI = "vfio-pci"
NO_CLASS = -1
"""In the stead of a device's class: it cannot be read, so that the device may be anything, a bridge too."""
_BRIDGE_CLASSES = (0x0604, 0x0607)
_DISPLAY = 0x03
_USB_CONTROLLER = 0x0C03


class Binding(NamedTuple):
    """What decides who drives a device: the driver it is on (None: none), and its override ("" when unset)."""

    driver: str | None
    override: str = ""


class PciDevice(NamedTuple):
    """One PCI function as /sys shows it."""

    address: PciAddress
    binding: Binding
    pci_class: int
    """Base class and subclass, 0x0200 for an Ethernet controller."""
    group: int | None
    """IOMMU group; None where the IOMMU is off."""
    on_vfio: bool = False
    """A vfio driver has it: there is a ``vfio-dev/`` below it (since Linux 6.1), or it is on vfio-pci."""
    variant: str = VFIO_PCI
    """The vfio driver that the kernel's ``vfio_pci:`` aliases name for it."""
    pf: PciAddress | None = None
    vfs: tuple[PciAddress, ...] = ()
    ids: str = ""
    """Vendor and product, ``8086:10d3``."""
    needs_override: bool = False
    """A VF of a PF with ``sriov_drivers_autoprobe`` 0: without an override no driver may have it
    (pci_device_can_probe())."""

    def is_another(self, ids: str) -> bool:
        """Whether a device of another kind, with these ids, was here; one of the same kind has lost its override, no
        more."""
        return bool(ids and self.ids and ids != self.ids)

    @property
    def is_bridge(self) -> bool:
        """PCI-to-PCI or CardBus: header type 1 or 2, which no guest can be given."""
        return self.pci_class in _BRIDGE_CLASSES

    @property
    def is_at_home(self) -> bool:
        """One of the host's own drivers has it."""
        return self.binding.driver is not None and not self.on_vfio and not self.is_bridge

    @property
    def is_in_nobodys_way(self) -> bool:
        """It leaves its IOMMU group viable: the kernel lets vfio own a group beside it (driver_managed_dma)."""
        return self.is_bridge or self.binding.driver in (None, "pci-stub")

    @property
    def is_display(self) -> bool:
        """A GPU."""
        return self.pci_class >> 8 == _DISPLAY

    @property
    def is_usb_controller(self) -> bool:
        """Behind which there may be disks."""
        return self.pci_class == _USB_CONTROLLER


UseKind = Literal["storage", "network", "display", "usb", "open"]


class Use(NamedTuple):
    """Something of the host's own that stands on a device."""

    kind: UseKind
    """``open``: some process has a node of it open; of a GPU that is ``display``."""
    what: str
    """``/dev/nvme0n1 is mounted on /data``."""


class Trail(NamedTuple):
    """What the kernel says of its audit trail (AUDIT_GET)."""

    enabled: bool
    daemon: int
    """pid of the auditd that writes it down; 0: none."""
    lost: int
    """Records lost since boot."""
    may_send: bool = True
    """Whether the kernel would take a record from this process, and it has what sends one."""
    stopped: bool = False
    """Whether auditd is stopped, by SIGSTOP or a debugger: it is there, and writes nothing down."""


class Claim(NamedTuple):
    """Which guest holds a device."""

    uuid: str
    name: str

    @classmethod
    def unread(cls, uuid: str, *, too_new: bool) -> Claim:
        """Of a guest whose record cannot be read: nobody knows its name."""
        return cls(uuid, f"{uuid}, whose record is {'too new' if too_new else 'broken'}")


class Tenant(NamedTuple):
    """A guest that has something below a function: it would be torn away with the function's driver."""

    claim: Claim
    what: str
    """HostDevice.key: ``mdev c7a5fdbd-…``, ``usb 001.004``."""


class Host(NamedTuple):
    """What /sys and our own state say now, about one guest's devices."""

    devices: Mapping[PciAddress, PciDevice]
    """The guest's devices and all others of their groups, as far as they exist."""
    groups: Mapping[int, tuple[PciAddress, ...]]
    claims: Mapping[PciAddress, Claim]
    """Of the devices, their groups' others, their PFs and their VFs."""
    vfio_drivers: frozenset[str]
    """vfio-pci and the variant drivers this kernel has: no other may be asked for."""
    loaded: frozenset[str]
    """Those of them that need no loading first."""
    iommu: bool
    in_use: Mapping[PciAddress, str]
    """Devices whose vfio node, or whose group's, some process has open: who, ready to print."""
    uses: Mapping[PciAddress, tuple[Use, ...]]
    """What the host does with those that are on its own drivers."""
    tenants: Mapping[PciAddress, tuple[Tenant, ...]] = MappingProxyType({})
    """What guests have below those that are on the host's own drivers."""
    in_flight: frozenset[PciAddress] = frozenset()
    """Devices with a kernel write of ours still on its way: not to be touched, nor read."""
    unread: frozenset[PciAddress] = frozenset()
    """Devices whose override cannot be read, and is "" in their bindings: nobody knows what to restore."""
    unknown: Mapping[PciAddress, str] = MappingProxyType({})
    """Devices that are there and cannot be looked at, and why: of those to be given back, one keeps no other."""


NOTHING = Host({}, {}, {}, frozenset(), frozenset(), iommu=False, in_use={}, uses={})
"""Where no question is asked of the host."""


def same_driver(one: str | None, other: str | None) -> bool:
    """Whether two names mean one driver: a module's name has ``_`` where its driver's may have ``-``."""
    if one is None or other is None:
        return one is other
    return one.replace("-", "_") == other.replace("-", "_")


def is_driver_name(name: str) -> bool:
    """Whether this may be asked for as a driver: ``[A-Za-z0-9_-]{1,63}``. It becomes part of a path in /sys."""
    return 0 < len(name) <= 63 and name.isascii() and name.replace("-", "a").replace("_", "a").isalnum()
