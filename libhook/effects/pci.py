# SPDX-License-Identifier: LGPL-2.1-or-later
"""The writes by which a PCI device changes hands: one function for each knob of the kernel."""

from __future__ import annotations

from libhook.errors import printable
from libhook.facts.address import PciAddress
from libhook.light import NamedTuple


class Write(NamedTuple):
    """One write(2) to an attribute; ``path`` is relative to /sys."""

    path: str
    value: str

    def describe(self) -> str:
        """``write "vfio-pci" to /sys/…``."""
        return printable(f'write "{self.value}" to /sys/{self.path}')


def set_override(device: PciAddress, override: str) -> Write:
    """The override, or a lone line feed, which unsets it; an empty string would make no write(2) at all."""
    return Write(f"bus/pci/devices/{device}/driver_override", override or "\n")


def unbind(device: PciAddress, driver: str) -> Write:
    """From this driver, and no other: -ENODEV should the device have changed hands since we looked."""
    return Write(f"bus/pci/drivers/{driver}/unbind", str(device))


def probe(device: PciAddress) -> Write:
    """Let the kernel choose by override, then by id. Succeeds also when nothing bound."""
    return Write("bus/pci/drivers_probe", str(device))


def bind(device: PciAddress, driver: str) -> Write:
    """By name, which answers with the driver's own error."""
    return Write(f"bus/pci/drivers/{driver}/bind", str(device))
