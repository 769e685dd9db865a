# SPDX-License-Identifier: LGPL-2.1-or-later
"""A guest with PCI host devices, and the XML that libvirt gives its hook at each step."""

from collections.abc import Iterable
from hashlib import sha256
from typing import NamedTuple
from uuid import UUID
from xml.sax.saxutils import escape, quoteattr

from libhook.facts.address import PciAddress


class Assigned(NamedTuple):
    """A PCI device of a guest: a ``hostdev``, the VF of an ``interface``, or the controller of an NVMe ``disk``."""

    address: str
    managed: bool = False
    source: str = "hostdev"
    model: str = ""
    """``<driver model=…>``: the vfio driver that the XML asks for."""

    def xml(self, at: int, prepared: bool = False) -> str:
        """Return the element of device number ``at``. ``prepared`` adds what libvirt fills in after ``prepare``."""
        return _device(self, at, prepared)


_WIN11 = "c7a5fdbd-edaf-9455-926a-d65c16db1809"
"""Of the guest of the documentation."""


class _Guest(NamedTuple):
    name: str
    devices: tuple[Assigned, ...]
    uuid: str
    document: bytes
    """If there is one, it is the XML at every step."""
    elements: str
    """XML for the guest's ``<devices>``: interfaces, disks and what else there may be."""
    metadata: str
    """XML for its ``<metadata>``."""


class Guest(_Guest):
    """A guest. Its UUID follows from its name. ``Guest.of(document)`` makes one from its XML.

    ``devices`` may have plain addresses: libhook binds them.
    """

    __slots__ = ()

    def __new__(  # noqa: D102 - as the class
        cls, name: str = "win11", devices: Iterable[Assigned | str] = (), uuid: str = "", document: bytes = b"",
        elements: str = "", metadata: str = "",
    ) -> "Guest":  # fmt: skip
        known = tuple(Assigned(one) if isinstance(one, str) else one for one in devices)
        own = uuid or (_WIN11 if name == "win11" else _uuid(name))
        return super().__new__(cls, name, known, own, document, elements, metadata)

    @classmethod
    def of(cls, document: bytes | str) -> "Guest":
        """Return the guest whose XML this is. BadInput where it is none. Work on its PCI devices is simulated."""
        from libhook.xml import domxml  # lxml is slow to import

        text = document.encode() if isinstance(document, str) else document
        domain = domxml.parse(text)
        devices = (Assigned(one.address, one.managed, one.source, one.model or "") for one in domain.pci)
        return cls(domain.name, tuple(devices), domain.uuid, text)

    def xml(self, number: int = -1, prepared: bool = False) -> bytes:
        """Return the XML, with ``number`` as the id if it is not negative.

        ``prepared`` adds what libvirt fills in after ``prepare``.
        """
        if self.document:
            return self.document
        identity = f" id='{number}'" if number >= 0 else ""
        devices = "".join(_device(device, at, prepared) for at, device in enumerate(self.devices))
        devices += f"\n    {self.elements}" if self.elements else ""
        metadata = f"\n  <metadata>\n    {self.metadata}\n  </metadata>" if self.metadata else ""
        name = escape(self.name)
        return _DOMAIN.format(id=identity, name=name, uuid=self.uuid, metadata=metadata, devices=devices).encode()


def _uuid(name: str) -> str:
    return str(UUID(bytes=sha256(name.encode("utf-8", "surrogateescape")).digest()[:16], version=4))


def _device(device: Assigned, at: int, prepared: bool) -> str:
    a = PciAddress.parse(device.address)
    address = (
        f"<address{{}} domain='0x{a.domain:04x}' bus='0x{a.bus:02x}' slot='0x{a.slot:02x}' function='0x{a.function}'/>"
    )
    pci = " type='pci'"
    managed = "yes" if device.managed else "no"
    driver = f"<driver name='vfio'{f' model={quoteattr(device.model)}' if device.model else ''}/>"
    driver = driver if prepared or device.model else ""
    alias = f"<alias name='hostdev{at}'/>" if prepared else ""
    if device.source == "interface":
        return (
            f"\n    <interface type='hostdev' managed='{managed}'>\n      <mac address='52:54:00:6d:90:{at:02x}'/>"
            f"\n      {driver}<source>{address.format(pci)}</source>{alias}\n    </interface>"
        )
    if device.source == "disk":
        return (
            f"\n    <disk type='nvme' device='disk'>\n      <driver name='qemu' type='raw'/>\n      <source type='pci' "
            f"managed='{managed}' namespace='1'>{address.format('')}</source>\n      <target dev='vd{chr(97 + at)}' "
            f"bus='virtio'/>{alias}\n    </disk>"
        )
    return (
        f"\n    <hostdev mode='subsystem' type='pci' managed='{managed}'>\n      {driver}<source>"
        f"{address.format('')}</source>{alias}\n    </hostdev>"
    )


_DOMAIN = """<domain type='kvm'{id}>
  <name>{name}</name>
  <uuid>{uuid}</uuid>{metadata}
  <memory unit='KiB'>8388608</memory>
  <vcpu placement='static'>4</vcpu>
  <os>
    <type arch='x86_64' machine='pc-q35-10.0'>hvm</type>
  </os>
  <features>
    <acpi/>
  </features>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    <disk type='file' device='disk'>
      <driver name='qemu' type='qcow2'/>
      <source file='/var/lib/libvirt/images/disk.qcow2'/>
      <target dev='sda' bus='sata'/>
    </disk>{devices}
    <memballoon model='none'/>
  </devices>
</domain>
"""
