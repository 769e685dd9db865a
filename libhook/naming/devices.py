# SPDX-License-Identifier: LGPL-2.1-or-later
"""The names of this host's devices: from udev's database, or else from hwdata's lists by the ids in /sys.

udev copies the names out of its own hardware database when a device appears. So they are there where hwdata is not
installed. Neither takes a lock of the device, so a wedged one does not hold anybody up.
"""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Any

from libhook.errors import BadInput
from libhook.facts.address import PciAddress
from libhook.facts.machine import Machine
from libhook.look import sysfs
from libhook.naming.database import Bus, Database
from libhook.naming.name import UNKNOWN, Name

_PCI_ID = re.compile(r"[0-9A-Fa-f]{1,4}:[0-9A-Fa-f]{1,4}", re.ASCII)


class Names:
    """Tells names, and remembers them."""

    def __init__(self, machine: Machine) -> None:
        """Nothing is read before it is asked for."""
        self._machine = machine
        self._database = Database(machine.root)
        self._udev: Any = None
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
        if not sysfs.exists(self._machine, address):
            return UNKNOWN
        ids = sysfs.ids(self._machine, address)
        if not ids:
            return UNKNOWN
        told = self._from_udev(str(address)) if not self._machine.root else UNKNOWN
        listed = self.of_ids("pci", ids)
        if told.ids != ids:  # of the device that was here before, or of none
            return listed
        return Name(ids, told.vendor or listed.vendor, told.model or listed.model)

    def _from_udev(self, address: str) -> Name:
        try:
            import pyudev  # takes 15 ms
        except ImportError:
            return UNKNOWN
        with suppress(Exception):  # what libudev does not know, the lists may
            self._udev = self._udev or pyudev.Context()
            device = pyudev.Devices.from_name(self._udev, "pci", address).properties
            ids = device.get("PCI_ID", "")
            if _PCI_ID.fullmatch(ids):
                vendor, _, product = ids.lower().partition(":")
                names = (device.get(f"ID_{part}_FROM_DATABASE", "") for part in ("VENDOR", "MODEL"))
                return Name(f"{vendor:0>4}:{product:0>4}", *names)
        return UNKNOWN
