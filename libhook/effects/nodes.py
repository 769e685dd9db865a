# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the host's drivers have made of a PCI function: the block devices, interfaces and device nodes below it.

Reads only folders, links and ``uevent`` files, none of which takes a device's lock.
"""

import os
from collections.abc import Iterator
from typing import NamedTuple

from libhook.address import PciAddress
from libhook.effects.kernel import Machine

_BARREN = frozenset(("power", "statistics", "queues", "msi_irqs"))
_DEPTH = 10
"""Folders below a device to look into: usb3/3-1/3-1:1.0/host6/target6:0:0/6:0:0:0/block/sdb/sdb1 is deep."""


class Node(NamedTuple):
    """One of them."""

    folder: str
    """In /sys."""
    kind: str
    """``block``, ``net``, ``drm``: the class it is of."""
    path: str
    """``/dev/dri/card0``; "" for what has no node, as a network interface."""

    @property
    def name(self) -> str:
        """``eth0``, ``nvme0n1``."""
        return os.path.basename(self.folder)


def below(machine: Machine, address: PciAddress) -> tuple[Node, ...]:
    """All of them. PCI functions below, behind a bridge or as VFs, are devices of their own and not looked into."""
    return tuple(_walk(f"{machine.sys}/bus/pci/devices/{address}"))


def _walk(top: str) -> Iterator[Node]:
    pending = [(top, 0)]
    while pending:
        folder, depth = pending.pop()
        try:
            entries = list(os.scandir(folder))
        except OSError:
            continue
        names = {entry.name for entry in entries}
        if depth and "driver_override" in names:
            continue
        if depth and "uevent" in names and "subsystem" in names:
            kind, path = _kind(folder), _node(folder) if "dev" in names else ""
            if path or kind == "net":
                yield Node(folder, kind, path)
        if depth < _DEPTH:
            pending += [
                (entry.path, depth + 1)
                for entry in entries
                if entry.name not in _BARREN and entry.is_dir(follow_symlinks=False)
            ]


def _kind(folder: str) -> str:
    try:
        return os.path.basename(os.readlink(f"{folder}/subsystem"))
    except OSError:
        return ""


def _node(folder: str) -> str:
    try:
        with open(f"{folder}/uevent", encoding="utf-8", errors="replace") as file:
            names = [line.rstrip("\n").removeprefix("DEVNAME=") for line in file if line.startswith("DEVNAME=")]
    except OSError:
        names = []
    return f"/dev/{names[0]}" if names else ""
