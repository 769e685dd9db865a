# SPDX-License-Identifier: LGPL-2.1-or-later
"""The writes that move a PCI device from one driver to another: one function for each knob of the kernel."""

from __future__ import annotations

from libhook.errors import printable
from libhook.facts.address import PciAddress
from libhook.facts.machine import Machine
from libhook.light import NamedTuple


class Write(NamedTuple):
    """One write(2) to an attribute. ``path`` is relative to /sys."""

    path: str
    value: str

    def describe(self) -> str:
        """The write in words: ``write "vfio-pci" to /sys/…``."""
        return printable(f'write "{self.value}" to /sys/{self.path}')


def carry_out(machine: Machine, _output: int, path: str, value: str) -> None:
    """Do one write. The device's worker does it (children/worker.py)."""
    machine.kernel.write(path, value)


def set_override(device: PciAddress, override: str) -> Write:
    """Set driver_override. A lone line feed unsets it; an empty string would make no write(2) at all."""
    return Write(f"bus/pci/devices/{device}/driver_override", override or "\n")


def unbind(device: PciAddress, driver: str) -> Write:
    """Take the device off this driver and no other. ENODEV if it has changed drivers since we looked."""
    return Write(f"bus/pci/drivers/{driver}/unbind", str(device))


def probe(device: PciAddress) -> Write:
    """Let the kernel choose a driver: by driver_override, then by id. Succeeds even if nothing binds."""
    return Write("bus/pci/drivers_probe", str(device))


def bind(device: PciAddress, driver: str) -> Write:
    """Bind the device to this driver. Fails with the driver's own error."""
    return Write(f"bus/pci/drivers/{driver}/bind", str(device))
