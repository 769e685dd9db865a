# SPDX-License-Identifier: LGPL-2.1-or-later
"""Notes in /run/libhook that may be lost: where a device was before, and what the watch saw.

Whoever reads a note does without it if it is gone, or cannot be read.
"""

from __future__ import annotations

from libhook import plainjson
from libhook.effects import files
from libhook.errors import BadInput
from libhook.facts.address import PciAddress
from libhook.facts.entry import Process
from libhook.facts.host import Binding
from libhook.facts.machine import Machine
from libhook.light import suppress


def remember_home(machine: Machine, address: PciAddress, binding: Binding, libvirtd: Process) -> None:
    """Note where the device was before libhook took it, for ``home``."""
    _write(machine, f"homes/{address}", [*binding, *libvirtd])


def home(machine: Machine, address: PciAddress, libvirtd: Process) -> Binding | None:
    """Where the device was before libhook took it, if this same libvirtd ran then; else None.

    That libvirtd has seen the device unmanaged. It takes the device for unmanaged for the rest of its life
    (virhostdev.c:628), and leaves it on vfio-pci after it is next used managed.
    """
    match _read(machine, f"homes/{address}"):
        case [str() | None as driver, str(override), int(pid), int(start)]:
            # A start of 0 means that the libvirtd was not known, so it cannot be said to be the same.
            if start and (pid, start) == libvirtd and "/" not in (driver or ""):
                return Binding(driver, override)
    return None


def remember_watched(machine: Machine, seen: object) -> None:
    """Write what the watch saw. Without it a later watch takes what it finds for known."""
    _write(machine, "watched.json", seen)


def watched(machine: Machine) -> object:
    """What the watch wrote last, or None."""
    return _read(machine, "watched.json")


def _read(machine: Machine, name: str) -> object:
    with suppress(BadInput, ValueError, RecursionError):
        found: object = plainjson.loads(files.read(f"{machine.state}/{name}") or "null")
        return found
    return None


def _write(machine: Machine, name: str, value: object) -> None:
    with suppress(OSError):
        files.replace(f"{machine.state}/{name}", plainjson.dumps(value))
