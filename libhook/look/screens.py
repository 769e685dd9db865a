# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which devices the host's own screens are on, for who reads it.

A start is not refused for that: the driver takes its framebuffer along when it goes, and the consoles with it. What has
such a device open is another matter (look/uses.py).
"""

from __future__ import annotations

import os

from libhook.children.child import Deadline
from libhook.facts.address import PciAddress
from libhook.facts.machine import Machine
from libhook.light import TYPE_CHECKING
from libhook.look import attributes, modules, patient, sysfs

if TYPE_CHECKING:
    from collections.abc import Iterable


_PATIENCE = 2.0
"""Seconds to wait for the lock of the consoles."""


def of_devices(
    machine: Machine, addresses: Iterable[PciAddress], deadline: Deadline
) -> dict[PciAddress, tuple[str, ...]]:
    """What each of these devices shows: ``the console (fb0)``, ``the firmware's screen``. Others are left out.

    Where the consoles do not answer, none is shown.
    """
    shown = dict[str, list[str]]()
    binds = [f"{machine.sys}/class/vtconsole/{console}/bind" for console, _ in modules.consoles(machine)]
    if "1" in patient.read_all(binds, deadline, _PATIENCE):
        for name in modules.framebuffers(machine):
            for folder in os.path.realpath(f"{machine.sys}/class/graphics/{name}").split("/"):
                shown.setdefault(folder, []).append(f"the console ({name})")
    addresses = tuple(addresses)
    for address in addresses:
        if attributes.plain(sysfs.device_path(machine, address), "pci/boot_vga") == "1":
            shown.setdefault(str(address), []).append("the firmware's screen")
    return {address: tuple(shown[str(address)]) for address in addresses if str(address) in shown}
