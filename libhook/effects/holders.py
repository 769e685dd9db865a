# SPDX-License-Identifier: LGPL-2.1-or-later
"""Who has a device open: the device nodes below it in /sys against the open files in /proc.

Reads only links, so it cannot sleep on a hung device or file system. Root sees every process of the host, in any
container; a process in one may show another path for the same node, and is then missed.
"""

import os
from collections.abc import Iterable, Iterator, Set
from contextlib import suppress
from typing import NamedTuple

from libhook.address import PciAddress
from libhook.effects.kernel import Machine
from libhook.effects.nodes import Node
from libhook.errors import LibhookError, printable, remedy_of

_LET_GO = frozenset(("sound", "input", "hidraw", "usb", "usbmisc"))
"""Kinds of nodes that are taken from who has them open: docs/decisions.md says on what grounds."""
_REMOVED = " (deleted)"
"""What the kernel appends to the path of an open file that has been removed (fs/d_path.c)."""


class Holder(NamedTuple):
    """A process with a node open."""

    pid: int
    name: str
    node: str

    def __str__(self) -> str:
        """``Xorg (pid 812, /dev/dri/card0)``, printable."""
        return printable(f"{self.name} (pid {self.pid}, {self.node})")


def in_the_way(machine: Machine, address: PciAddress, found: Iterable[Node]) -> frozenset[str]:
    """The nodes of a device that must not be open when it is unbound, of all that were found below it."""
    paths = (node.path for node in found if node.path and node.kind not in _LET_GO)
    return frozenset((*paths, *_vfio_nodes(machine, address)))


def of_vfio(machine: Machine, addresses: Iterable[PciAddress]) -> dict[PciAddress, str]:
    """For each device on a vfio driver whose own node or whose group's is open: by whom."""
    by_path: dict[str, list[PciAddress]] = {}
    for address in addresses:
        for path in _vfio_nodes(machine, address):
            by_path.setdefault(path, []).append(address)
    held: dict[PciAddress, str] = {}
    for holder in of_nodes(machine, by_path.keys()):
        for address in by_path[holder.node]:
            held.setdefault(address, str(holder))
    return held


def _vfio_nodes(machine: Machine, address: PciAddress) -> list[str]:
    """``/dev/vfio/7`` and, since 6.1, ``/dev/vfio/devices/vfio0``, of a device that a vfio driver has.

    Each also as it is called once libvirt has removed it from the /dev that it makes for each guest, which it does when
    a device is plugged out, whoever has it open then.
    """
    folder = f"{machine.sys}/bus/pci/devices/{address}"
    names: list[str] = []
    with suppress(OSError):
        names = [f"/dev/vfio/devices/{name}" for name in os.listdir(f"{folder}/vfio-dev")]
    with suppress(OSError):
        if names or "vfio" in os.path.basename(os.readlink(f"{folder}/driver")):
            group = os.path.basename(os.readlink(f"{folder}/iommu_group"))
            names += [f"/dev/vfio/{group}", f"/dev/vfio/noiommu-{group}"]
    return [*names, *(name + _REMOVED for name in names)]


def of_nodes(machine: Machine, paths: Set[str], *, removed: bool = False, must_see: bool = False) -> tuple[Holder, ...]:
    """Each process once for each of these nodes that it has open. No node: /proc is not read at all.

    With ``must_see``, for who would hand a device over, a process whose files cannot be seen is a LibhookError.

    With ``removed`` also those that had it open when it went from /dev: where a driver hangs, it mostly hangs after
    that (snd_card_free() waits for the last close of what devtmpfs does not have any more).
    """
    if not paths:
        return ()
    found = []
    for pid in filter(str.isdigit, os.listdir(machine.proc)):
        try:
            opened = tuple(_open_files(f"{machine.proc}/{pid}/fd"))
        except OSError as error:
            # One that ended at that very moment is refused as well (fs/proc/base.c, proc_fd_access_allowed).
            if must_see and os.path.exists(f"{machine.proc}/{pid}"):
                what = f"what {_name(machine, pid)} (pid {pid}) has open cannot be seen ({error.strerror})"
                denied = isinstance(error, PermissionError)
                remedy = "run it as root, with CAP_SYS_PTRACE and unconfined" if denied else remedy_of(error)
                raise LibhookError(what, remedy) from None
            continue
        open_here = paths & {path.removesuffix(_REMOVED) if removed else path for path in opened}
        found += [Holder(int(pid), _name(machine, pid), path) for path in sorted(open_here)]
    return tuple(found)


def _open_files(folder: str) -> Iterator[str]:
    """OSError where they cannot be seen: root without CAP_SYS_PTRACE may list them, and read none (proc_pid_fd(5))."""
    try:
        descriptors = os.listdir(folder)
    except (FileNotFoundError, ProcessLookupError):
        return  # the process has ended
    for descriptor in descriptors:
        try:
            yield os.readlink(f"{folder}/{descriptor}")
        except PermissionError:
            raise
        except OSError:  # closed meanwhile, or its path is longer than any node's
            continue


def _name(machine: Machine, pid: str) -> str:
    try:
        with open(f"{machine.proc}/{pid}/comm", encoding="utf-8", errors="replace") as file:
            return file.read().rstrip("\n")
    except OSError:
        return "?"
