# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which devices the host's own screens are on, for who reads it.

A start is not refused for that: the driver takes its framebuffer along when it goes, and the consoles with it. What has
such a device open is another matter (look/uses.py).
"""

from __future__ import annotations

import os

from libhook.facts.address import PciAddress
from libhook.facts.machine import Machine
from libhook.light import TYPE_CHECKING
from libhook.look import attributes, modules, sysfs

if TYPE_CHECKING:
    from collections.abc import Iterable


def of_devices(machine: Machine, addresses: Iterable[PciAddress]) -> dict[PciAddress, tuple[str, ...]]:
    """What each of these devices shows: ``the console (fb0)``, ``the firmware's screen``. Others are left out."""
    shown = dict[str, list[str]]()
    if any(_is_bound(machine, console) for console, _ in modules.consoles(machine)):
        for name in modules.framebuffers(machine):
            for folder in os.path.realpath(f"{machine.sys}/class/graphics/{name}").split("/"):
                shown.setdefault(folder, []).append(f"the console ({name})")
    addresses = tuple(addresses)
    for address in addresses:
        if attributes.text(f"{sysfs.device_path(machine, address)}/boot_vga") == "1":
            shown.setdefault(str(address), []).append("the firmware's screen")
    return {address: tuple(shown[str(address)]) for address in addresses if str(address) in shown}


def _is_bound(machine: Machine, console: str) -> bool:
    return attributes.text(f"{machine.sys}/class/vtconsole/{console}/bind") == "1"
