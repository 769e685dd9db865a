# SPDX-License-Identifier: LGPL-2.1-or-later
"""The names of this host's devices: from hwdata's lists, by the ids in /sys, which take no lock of the device.

libudev is not asked. It reads the device's ``uevent``, which waits for that lock on some kernels (look/attributes.py).
"""

from __future__ import annotations

from libhook.errors import BadInput
from libhook.facts.address import PciAddress
from libhook.facts.machine import Machine
from libhook.look import sysfs
from libhook.naming.database import Bus, Database
from libhook.naming.name import UNKNOWN, Name


class Names:
    """Tells names, and remembers them."""

    def __init__(self, machine: Machine) -> None:
        """Nothing is read before it is asked for."""
        self._machine = machine
        self._database = Database(machine.root)
        self._known: dict[str, Name] = {}

    def of_ids(self, bus: Bus, ids: str) -> Name:
        """What a device with these ids is called: ``1002:747e``. It need not be on this host."""
        return self._database.name(bus, ids)

    def of_pci(self, address: str) -> Name:
        """What is at this address now. An address that this host does not have is unknown."""
        if address not in self._known:
            self._known[address] = self._look(address)
        return self._known[address]

    def _look(self, text: str) -> Name:
        try:
            address = PciAddress.parse(text)
        except BadInput:
            return UNKNOWN
        ids = sysfs.ids(self._machine, address) if sysfs.exists(self._machine, address) else ""
        return self.of_ids("pci", ids) if ids else UNKNOWN
