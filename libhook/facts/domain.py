# SPDX-License-Identifier: LGPL-2.1-or-later
"""A guest and its host devices, as the guest's XML names them. Types only."""

from __future__ import annotations

from libhook.facts.address import PciAddress
from libhook.light import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

Kind = Literal["pci", "usb", "scsi", "scsi_host", "mdev"]
Source = Literal["hostdev", "interface", "disk", "settings"]

USB_UNRESOLVED = "000.000"
REDIRECTED = "USB redirdev"
"""The ``device=`` of libvirt's audit record for every <redirdev> (virDomainAuditRedirdev)."""
NO_DRIVER = "(none)"
"""Written like ``tty=(none)`` in the kernel's own records."""


class Extra(NamedTuple):
    """Extra fields of a device's audit records, for ``audit.extra``.

    A field is "" where it is unknown, or where devices of this kind do not have it.
    """

    driver: str = ""
    """The host driver before the hand-over, or NO_DRIVER."""
    group: str = ""
    """The number of the device's IOMMU group."""
    ids: str = ""
    """Vendor and product of a PCI or USB device: ``8086:10d3``."""


class Disk(NamedTuple):
    """A disk of the guest that is a namespace of an NVMe controller."""

    alias: str
    """Like HostDevice.alias: ``virtio-disk1``."""
    target: str
    """The disk's target name, by which libvirt finds it: ``vdb``."""


class HostDevice(NamedTuple):
    """One host device of a guest.

    ``kind`` is the ``bus=`` of its audit record, and ``address`` is the ``device=``. An NVMe disk has kind ``pci`` and
    its controller's address. An iSCSI device has kind ``scsi`` and its source's name.
    """

    kind: Kind
    source: Source
    """``settings``: not the XML names it, but ``take_along`` in the guest's settings."""
    managed: bool
    address: str
    pci: PciAddress | None = None
    model: str | None = None
    """The driver that ``<driver model=…>`` asks for. This is only a request: it comes from the author of the XML."""
    missing: bool = False
    """libvirt did not find this USB device with startupPolicy='optional', so the guest does not have it."""
    alias: str = ""
    """libvirt's own name for the device, in the XML of a running guest: ``hostdev0``."""
    hint: str = ""
    """A second way to identify the device: an interface's MAC address, or a USB device's vendor:product."""
    extra: Extra | None = None
    disks: tuple[Disk, ...] = ()
    """For an NVMe controller: the disks that the guest has on it. Each can be plugged in and out on its own."""

    @property
    def aliases(self) -> tuple[str, ...]:
        """All aliases by which libvirt's events name the device."""
        return tuple(disk.alias for disk in self.disks) or (self.alias,)

    @property
    def resolved(self) -> bool:
        """Whether the address is known. For a USB device named by vendor and product it is known from ``start`` on."""
        return self.address != USB_UNRESOLVED

    @property
    def audited(self) -> bool:
        """Whether it has audit records. One of ``take_along`` has none, as nobody knows whether the guest uses it."""
        return self.source != "settings"

    @property
    def key(self) -> str:
        """What identifies the device within its guest: ``pci 0000:01:00.0``."""
        return f"{self.kind} {self.address}"


class LibvirtsDevice(NamedTuple):
    """A host device that only libvirt records. libvirt's audit record of it is complete, so the hook ignores it.

    This is a container's device from <hostdev mode='capabilities'>, or a USB device that a client brings (<redirdev>).
    """

    kind: Literal["storage", "misc", "net", "redir"]
    source: Literal["hostdev", "redirdev"]
    address: str
    """The block or character device, the interface's name, or REDIRECTED."""


class Domain(NamedTuple):
    """A guest. ``uuid`` has libvirt's lower-case form, ``virt`` is the text of ``<domain type=…>``."""

    name: str
    uuid: str
    virt: str
    devices: tuple[HostDevice, ...]
    """In document order. An NVMe controller appears once, even if several of its namespaces are disks."""
    warnings: tuple[str, ...] = ()
    """What was skipped because this version does not know it."""
    others: tuple[LibvirtsDevice, ...] = ()
    """Filled only for a caller that asks for every kind. The hook does not ask."""
    back_doors: tuple[str, ...] = ()
    """Places in the XML that give the guest host devices past libvirt, and so past libhook. Not escaped."""
    taps: tuple[str, ...] = ()
    """The host's names of its network interfaces, as far as the XML has them. libvirt names most before ``start``."""
    too_long: tuple[str, ...] = ()
    """Devices that were left out because a name of theirs is longer than any can be. No guest starts with one."""

    @property
    def pci(self) -> tuple[HostDevice, ...]:
        """The PCI devices, which vfio hands over."""
        return tuple(device for device in self.devices if device.pci is not None)

    @property
    def addresses(self) -> tuple[PciAddress, ...]:
        """The addresses of the PCI devices."""
        return tuple(device.pci for device in self.devices if device.pci)

    def with_along(self, addresses: Iterable[PciAddress]) -> Domain:
        """The guest with these PCI devices, too, unless it has them already."""
        new = [address for address in dict.fromkeys(addresses) if address not in self.addresses]
        along = (HostDevice("pci", "settings", False, str(address), address) for address in new)
        return self._replace(devices=(*self.devices, *along)) if new else self

    @property
    def skipped(self) -> tuple[str, ...]:
        """One warning for each device that was left out."""
        return (*self.warnings, *self.too_long)

    @property
    def back_door_warnings(self) -> tuple[str, ...]:
        """One warning for each of ``back_doors``."""
        return tuple(f"a host device that libhook neither checks nor records: {door}" for door in self.back_doors)
