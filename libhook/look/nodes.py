# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the host's drivers have made of a PCI function: the block devices, interfaces and device nodes below it.

A child reads them. A ``uevent`` file takes its device's lock on some kernels (6.11's uevent_show), and what NVIDIA's
driver shows in /proc may take one too.
"""

from __future__ import annotations

import os

from libhook.children.tracks import Order, Step, paper
from libhook.children.worker import Worker
from libhook.facts.address import PciAddress
from libhook.facts.machine import Machine
from libhook.light import TYPE_CHECKING, NamedTuple, partial
from libhook.look import attributes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from libhook.children.tracks import Track

_BARREN = frozenset(("power", "statistics", "queues", "msi_irqs"))
_BARREN_ON_TOP = _BARREN | {"vfio-dev", "link", "wakeup"}
"""Folders right below the function that are not searched. vfio's own nodes are known without that (look/holders.py)."""
_ALONE = _BARREN_ON_TOP | {"net", "ptp", "hwmon", "infiniband"}
"""The same, and what else a network card has below it: no guest is given any of that."""
GROUP = "vfio"
"""The kind of an IOMMU group's node."""
VFIO = "/dev/vfio/"
"""The folder of the nodes that a guest has open: of a function, or of a mediated device below one."""
_NVIDIA = 195
"""The major number of NVIDIA's nodes (Documentation/admin-guide/devices.txt)."""


class Node(NamedTuple):
    """A block device, an interface or a device node."""

    folder: str
    """Its folder in /sys; in /proc for NVIDIA's own driver."""
    kind: str
    """Its class: ``block``, ``net``, ``drm``; or ``vfio`` for an IOMMU group, or ``nvidia``."""
    path: str
    """``/dev/dri/card0``; "" for a network interface, which has no node."""
    device: str
    """The kernel's number of that node, ``c 226:0``; "" when it has none."""

    @property
    def name(self) -> str:
        """``eth0``, ``nvme0n1``."""
        return os.path.basename(self.folder)


def below(machine: Machine, address: PciAddress, worker: Worker | None = None) -> Track[tuple[Node, ...] | int]:
    """Everything below the function, and below functions below it, as behind VMD; an errno when that cannot be seen.

    A VF is a device of its own, and not below its PF. The ``worker`` looks, or a child of its own.
    """
    top, nvidia = f"{machine.sys}/bus/pci/devices/{address}", f"{machine.proc}/driver/nvidia/gpus/{address}"
    if not (any(_folders(top, _BARREN_ON_TOP)) or os.path.isdir(nvidia)):
        return ()
    if worker is not None:
        code = yield Order(worker, write_down, (top, nvidia))
        return code or _read(worker.lines())
    with paper() as sheet:
        code = yield Step(partial(write_down, machine, sheet.descriptor, top, nvidia), keep=sheet.descriptor)
        return code or _read(sheet.lines())


def may_be_shared(top: str) -> bool:
    """Whether the function with this folder has something below it that a guest may be given by itself."""
    return any(_folders(top, _ALONE))


def write_down(machine: Machine, output: int, top: str, nvidia: str) -> None:
    """Write a line for each node to this descriptor. ``below`` has a child do it."""
    text = "".join("\0".join(node) + "\n" for node in (*_walk(machine, top), *_of_nvidia(nvidia)))
    with open(output, "wb", closefd=False) as file:
        file.write(os.fsencode(text))


def _read(lines: list[str]) -> tuple[Node, ...]:
    return tuple(Node(*line.split("\0")) for line in lines)


def _walk(machine: Machine, top: str) -> Iterator[Node]:
    pending = list(_folders(top, _BARREN_ON_TOP))
    while pending:
        folder = pending.pop()
        kind = _kind(folder)
        device = device_number(folder, kind)
        path = _node(folder) if kind and device else ""
        if path or kind == "net":
            yield Node(folder, kind, path, device)
        if group := os.path.basename(_link(f"{folder}/iommu_group")):  # of a mediated device or a function behind VMD
            node = f"{machine.sys}/class/vfio/{group}"
            yield Node(node, GROUP, f"{VFIO}{group}", device_number(node))
        if disk := _disk_behind(os.path.basename(folder)):
            pending.append(f"{machine.sys}/class/block/{disk}")
        pending += _folders(folder, _BARREN)


def _disk_behind(name: str) -> str:
    """``nvme0n1`` for ``nvme0c1n1``, a hidden path to it; "" for any other name.

    The disk itself is not below a PCI function (drivers/nvme/host/multipath.c).
    """
    controller, _, rest = name.removeprefix("nvme").partition("c")
    way, _, namespace = rest.partition("n")
    numbers = all(part.isdecimal() for part in (controller, way, namespace))
    return f"nvme{controller}n{namespace}" if numbers and name.startswith("nvme") else ""


def _folders(path: str, barren: frozenset[str]) -> Iterator[str]:
    """The folders in this one. No link is followed, so that a walk ends."""
    try:
        entries = list(os.scandir(path))
    except OSError:
        return
    yield from (e.path for e in entries if e.name not in barren and e.is_dir(follow_symlinks=False))


def _of_nvidia(folder: str) -> Iterator[Node]:
    """``/dev/nvidia0``. NVIDIA's own driver shows no nodes in /sys, but shows their number in /proc."""
    try:
        with open(f"{folder}/information", encoding="utf-8", errors="replace") as file:
            numbers = [line.partition(":")[2].strip() for line in file if line.startswith("Device Minor:")]
    except OSError:
        numbers = []
    yield from (Node(folder, "nvidia", f"/dev/nvidia{number}", f"c {_NVIDIA}:{number}") for number in numbers)


def device_number(folder: str, kind: str = "") -> str:
    """``c 226:0``, from the ``dev`` file of a folder in /sys; "" without one."""
    number = attributes.plain(folder, "any/dev")
    return number and f"{'b' if kind == 'block' else 'c'} {number}"


def _kind(folder: str) -> str:
    return os.path.basename(_link(f"{folder}/subsystem"))


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


def _node(folder: str) -> str:
    try:
        with open(f"{folder}/uevent", encoding="utf-8", errors="replace") as file:
            names = [line.rstrip("\n").removeprefix("DEVNAME=") for line in file if line.startswith("DEVNAME=")]
    except OSError:
        names = []
    return f"/dev/{names[0]}" if names else ""
