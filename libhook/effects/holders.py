# SPDX-License-Identifier: LGPL-2.1-or-later
"""Who has a device open: the device nodes below it in /sys against the open files in /proc.

Reads only links, so it cannot sleep on a hung device or file system. Root sees every process of the host, in any
container; a process in one may show another path for the same node, and is then missed.
"""

import os
from collections.abc import Iterable
from typing import NamedTuple

from libhook.address import PciAddress
from libhook.effects.kernel import Machine
from libhook.errors import printable

_BARREN = frozenset(("power", "statistics", "queues", "msi_irqs"))
_DEPTH = 8
"""Folders below a device to look into: usb3/3-1/3-1:1.0/host6/target6:0:0/6:0:0:0/block/sdb is the deepest known."""


class Holder(NamedTuple):
    """A process with a node open."""

    pid: int
    name: str
    node: str

    def __str__(self) -> str:
        """``Xorg (pid 812, /dev/dri/card0)``, printable."""
        return printable(f"{self.name} (pid {self.pid}, {self.node})")


def of_device(machine: Machine, address: PciAddress) -> tuple[Holder, ...]:
    """The processes that would keep its driver from letting go."""
    nodes = _nodes_below(f"{machine.sys}/bus/pci/devices/{address}")
    return _who_has_open(machine, nodes | set(_vfio_nodes(machine, address)))


def of_vfio(machine: Machine, addresses: Iterable[PciAddress]) -> dict[PciAddress, str]:
    """For each device on a vfio driver whose own node or whose group's is open: by whom."""
    nodes: dict[str, list[PciAddress]] = {}
    for address in addresses:
        for node in _vfio_nodes(machine, address):
            nodes.setdefault(node, []).append(address)
    held: dict[PciAddress, str] = {}
    for holder in _who_has_open(machine, frozenset(nodes)):
        for address in nodes[holder.node]:
            held.setdefault(address, str(holder))
    return held


def _vfio_nodes(machine: Machine, address: PciAddress) -> list[str]:
    """``/dev/vfio/7`` and ``/dev/vfio/devices/vfio0``, of a device that a vfio driver has."""
    folder = f"{machine.sys}/bus/pci/devices/{address}"
    try:
        group = os.path.basename(os.readlink(f"{folder}/iommu_group"))
        return [f"/dev/vfio/{group}", *(f"/dev/vfio/devices/{name}" for name in os.listdir(f"{folder}/vfio-dev"))]
    except FileNotFoundError:
        return []


def _nodes_below(path: str) -> frozenset[str]:
    """The device nodes of everything below a device: the DEVNAME of each ``uevent`` that has one.

    Other PCI functions below, behind a bridge or as VFs, are devices of their own and not looked into.
    """
    found = set()
    pending = [(path, 0)]
    while pending:
        folder, depth = pending.pop()
        try:
            entries = list(os.scandir(folder))
        except OSError:
            continue
        names = {entry.name for entry in entries}
        if depth and "driver_override" in names:
            continue
        if "dev" in names and "uevent" in names:
            found.update(_devname(f"{folder}/uevent"))
        if depth < _DEPTH:
            pending += [
                (entry.path, depth + 1)
                for entry in entries
                if entry.name not in _BARREN and entry.is_dir(follow_symlinks=False)
            ]
    return frozenset(found)


def _devname(uevent: str) -> list[str]:
    try:
        with open(uevent, encoding="utf-8", errors="replace") as file:
            return [
                "/dev/" + line.rstrip("\n").removeprefix("DEVNAME=") for line in file if line.startswith("DEVNAME=")
            ]
    except OSError:
        return []


def _who_has_open(machine: Machine, nodes: frozenset[str]) -> tuple[Holder, ...]:
    """Each process once for each of these nodes that it has open. No node: /proc is not read at all."""
    if not nodes:
        return ()
    found = []
    for pid in filter(str.isdigit, os.listdir(machine.proc)):
        folder = f"{machine.proc}/{pid}/fd"
        try:
            links = {os.readlink(f"{folder}/{descriptor}") for descriptor in os.listdir(folder)}
        except OSError:
            continue  # it ended meanwhile, or closed one: what it still has is seen at the next look
        found += [Holder(int(pid), _name(machine, pid), node) for node in sorted(nodes & links)]
    return tuple(found)


def _name(machine: Machine, pid: str) -> str:
    try:
        with open(f"{machine.proc}/{pid}/comm", encoding="utf-8", errors="replace") as file:
            return file.read().rstrip("\n")
    except OSError:
        return "?"
