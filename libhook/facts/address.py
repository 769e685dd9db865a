# SPDX-License-Identifier: LGPL-2.1-or-later
"""A PCI address: strict parsing, and the text form that sysfs and audit records share."""

from __future__ import annotations

from libhook.errors import BadInput
from libhook.light import NamedTuple

_HEX = frozenset("0123456789abcdef")
_SLOTS, _FUNCTIONS = 0x1F, 7
"""The highest slot number and the highest function number."""


class PciAddress(NamedTuple):
    """Domain 0..0xffffffff, bus 0..0xff, slot 0..0x1f, function 0..7 (virPCIDeviceAddressIsValid)."""

    domain: int
    bus: int
    slot: int
    function: int

    @classmethod
    def parse(cls, text: str) -> PciAddress:
        """The address of ``0000:01:00.0``, as sysfs writes it. BadInput for any other text."""
        place, _, function = text.partition(".")
        parts = (*place.split(":"), function)
        lengths = tuple(map(len, parts))
        if lengths[1:] == (2, 2, 1) and 4 <= lengths[0] <= 8 and all(map(_HEX.issuperset, parts)):
            address = cls(*(int(part, 16) for part in parts))
            if address.slot <= _SLOTS and address.function <= _FUNCTIONS:
                return address
        raise BadInput(f"{text!r} is not a PCI address", "write it as 0000:01:00.0")

    @classmethod
    def of(cls, domain: int, bus: int, slot: int, function: int) -> PciAddress:
        """The address made of these numbers. BadInput names the number that is out of range."""
        address = cls(domain, bus, slot, function)
        for field, value, most in zip(cls._fields, address, (0xFFFFFFFF, 0xFF, _SLOTS, _FUNCTIONS), strict=True):
            if not 0 <= value <= most:
                raise BadInput(f"PCI address: {field} {value:#x} is out of range, at most {most:#x}")
        return address

    def __str__(self) -> str:
        """``0000:01:00.0``: libvirt's ``%04x:%02x:%02x.%d`` and the name in /sys/bus/pci/devices."""
        return f"{self.domain:04x}:{self.bus:02x}:{self.slot:02x}.{self.function}"
