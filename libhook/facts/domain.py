# SPDX-License-Identifier: LGPL-2.1-or-later
"""A guest and its host devices, as its XML names them: types only."""

from __future__ import annotations

from libhook.facts.address import PciAddress
from libhook.light import Literal, NamedTuple

Kind = Literal["pci", "usb", "scsi", "scsi_host", "mdev"]
Source = Literal["hostdev", "interface", "disk"]

USB_UNRESOLVED = "000.000"
REDIRECTED = "USB redirdev"
"""The ``device=`` of libvirt's record of every <redirdev> (virDomainAuditRedirdev)."""
NO_DRIVER = "(none)"
"""As the kernel's own records say ``tty=(none)``."""


class Extra(NamedTuple):
    """What a device's records say besides where ``audit.extra`` asks for it; "" where unknown or not of its kind."""

    driver: str = ""
    """The host's driver before the hand-over, or NO_DRIVER."""
    group: str = ""
    """The number of its IOMMU group."""
    ids: str = ""
    """``8086:10d3``, of a PCI or USB device."""


class Disk(NamedTuple):
    """A disk of the guest that is a namespace of an NVMe controller."""

    alias: str
    """As HostDevice.alias: ``virtio-disk1``."""
    target: str
    """``vdb``: by which libvirt finds it."""


class HostDevice(NamedTuple):
    """One host device of a guest.

    ``kind`` is the ``bus=`` of its audit record and ``address`` its ``device=``: an NVMe disk is ``pci`` with its
    controller's address, an iSCSI device ``scsi`` with its source's name.
    """

    kind: Kind
    source: Source
    managed: bool
    address: str
    pci: PciAddress | None = None
    model: str | None = None
    """The driver that ``<driver model=…>`` asks for; only ever a request, whoever writes the XML chooses it."""
    missing: bool = False
    """A USB device with startupPolicy='optional' that libvirt did not find: the guest does not have it."""
    alias: str = ""
    """libvirt's own name for it, in the XML of a guest that runs: ``hostdev0``."""
    hint: str = ""
    """By what else it can be told: the MAC address of an interface, vendor:product of a USB device."""
    extra: Extra | None = None
    disks: tuple[Disk, ...] = ()
    """Of an NVMe controller: what the guest has of it, which comes and goes disk by disk."""

    @property
    def aliases(self) -> tuple[str, ...]:
        """Each by which libvirt's events name it."""
        return tuple(disk.alias for disk in self.disks) or (self.alias,)

    @property
    def resolved(self) -> bool:
        """Whether the address is known: a USB device named by vendor and product has one from ``start`` on."""
        return self.address != USB_UNRESOLVED

    @property
    def key(self) -> str:
        """What names the device among a guest's: ``pci 0000:01:00.0``."""
        return f"{self.kind} {self.address}"


class LibvirtsDevice(NamedTuple):
    """A device of the host's whose record is libvirt's alone, complete as it is: the hook has no business with it.

    What <hostdev mode='capabilities'> gives a container, and a USB device that a client brings along (<redirdev>).
    """

    kind: Literal["storage", "misc", "net", "redir"]
    source: Literal["hostdev", "redirdev"]
    address: str
    """The block or character device, the interface's name, or what libvirt calls every <redirdev>."""


class Domain(NamedTuple):
    """A guest: ``uuid`` in libvirt's lower-case form, ``virt`` as in ``<domain type=…>``."""

    name: str
    uuid: str
    virt: str
    devices: tuple[HostDevice, ...]
    """In the document's order; an NVMe controller once, however many of its namespaces are disks."""
    warnings: tuple[str, ...] = ()
    """What was passed over because this version does not know it."""
    others: tuple[LibvirtsDevice, ...] = ()
    """Read for who asks for every kind; the hook does not."""
    back_doors: tuple[str, ...] = ()
    """Where it is given host devices past libvirt, and so past libhook, ready to print."""

    @property
    def pci(self) -> tuple[HostDevice, ...]:
        """The devices that vfio hands over."""
        return tuple(device for device in self.devices if device.pci is not None)

    @property
    def addresses(self) -> tuple[PciAddress, ...]:
        """Of those."""
        return tuple(device.pci for device in self.devices if device.pci)

    @property
    def unseen(self) -> tuple[str, ...]:
        """What there is to say of its back doors."""
        return tuple(f"a host device that libhook neither checks nor records: {door}" for door in self.back_doors)
