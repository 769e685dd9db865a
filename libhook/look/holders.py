# SPDX-License-Identifier: LGPL-2.1-or-later
"""Finds the processes that have a device open. The kernel is believed, a process is not.

A path in /proc/PID/fd is what the process says. Anybody may name a node without a right to open it (O_PATH), or put a
file of that path into a private /dev. So a process is a holder only if its open file is the device, by the kernel's
number for it. That also finds a container that has the node under another path, and QEMU after libvirt has removed the
node. Before a device is unbound, vfio itself is asked whether a group is in use. A child looks, until a deadline.
"""

from __future__ import annotations

import errno
import os

from libhook.children.child import Deadline
from libhook.children.tracks import Late, Order, Paper, Step, paper, run
from libhook.children.worker import Worker
from libhook.errors import MORE_TIME, DeadlineExpired, LibhookError, named, printable, remedy_of
from libhook.facts.address import PciAddress
from libhook.facts.machine import Machine
from libhook.light import TYPE_CHECKING, NamedTuple, partial, suppress
from libhook.look.nodes import GROUP, Node, device_number

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from libhook.children.tracks import Track
    from libhook.look.openfiles import Found

_LET_GO = frozenset(("sound", "input", "hidraw", "usb", "usbmisc"))
"""Kinds of nodes whose drivers take them away from a process that has them open; docs/decisions.md says why."""
_UNSEEN = "libhook cannot see who has {} open"


class Holder(NamedTuple):
    """A process that has a node open."""

    pid: int
    name: str
    node: str

    def __str__(self) -> str:
        """``Xorg (pid 812, /dev/dri/card0)``, printable."""
        return printable(f"{named(self.name)} (pid {self.pid}, {self.node})")


class Nodes(NamedTuple):
    """Nodes that must not be open when a device is unbound."""

    paths: Mapping[str, str]
    """The path of each node by the kernel's number: ``/dev/dri/card0`` by ``c 226:0``."""
    groups: Mapping[str, str]
    """Those among them that are IOMMU groups: the device's, and of devices below it. vfio itself tells their state."""
    answered: frozenset[str]
    """Numbers of the nodes whose state follows from the groups': the groups' nodes, and a vfio device's own."""


def in_the_way(machine: Machine, address: PciAddress, found: Iterable[Node]) -> Nodes:
    """Pick the nodes that must not be open from those found below a device, and add vfio's own."""
    mine = {node.device: node.path for node in found if node.device and node.kind not in _LET_GO}
    groups = {node.device: node.path for node in found if node.device and node.kind == GROUP}
    of_group, of_device = _vfio_nodes(machine, address)
    return Nodes(mine | of_group | of_device, groups | of_group, frozenset((*groups, *of_group, *of_device)))


def of_vfio(
    machine: Machine, addresses: Iterable[PciAddress], deadline: Deadline, *, must_see: bool = False
) -> dict[PciAddress, str]:
    """The devices whose vfio node, or whose group's node, is open, and a process that has it open, as text.

    ``must_see``, and what is raised, is as in ``of_nodes``. vfio is not asked, since that opens the group: a QEMU that
    opens it at that very moment would be refused.
    """
    wanted: dict[str, str] = {}
    of_device: dict[str, list[PciAddress]] = {}
    for address in addresses:
        for number, path in (pair for nodes in _vfio_nodes(machine, address) for pair in nodes.items()):
            wanted[number] = path
            of_device.setdefault(path, []).append(address)
    held: dict[PciAddress, str] = {}
    for holder in of_nodes(machine, wanted, deadline, must_see=must_see):
        for address in of_device[holder.node]:
            held.setdefault(address, str(holder))
    return held


def _vfio_nodes(machine: Machine, address: PciAddress) -> tuple[dict[str, str], dict[str, str]]:
    """The nodes of a device on vfio, by number: ``/dev/vfio/7``; and, since 6.6, ``/dev/vfio/devices/vfio0``."""
    folder = f"{machine.sys}/bus/pci/devices/{address}"
    names, of_group, of_device = list[str](), dict[str, str](), dict[str, str]()
    with suppress(OSError):
        names = os.listdir(f"{folder}/vfio-dev")
    for name in names:
        if number := device_number(f"{folder}/vfio-dev/{name}"):
            of_device[number] = f"/dev/vfio/devices/{name}"
    with suppress(OSError):
        if names or "vfio" in os.path.basename(os.readlink(f"{folder}/driver")):
            group = os.path.basename(os.readlink(f"{folder}/iommu_group"))
            for name in (group, f"noiommu-{group}"):
                if number := device_number(f"{machine.sys}/class/vfio/{name}"):
                    of_group[number] = f"/dev/vfio/{name}"
    return of_group, of_device


def of_nodes(
    machine: Machine, wanted: Mapping[str, str], deadline: Deadline, *, must_see: bool = False
) -> tuple[Holder, ...]:
    """The processes that have these nodes open, once for each node. ``wanted`` has the paths by the kernel's number.

    When the look fails and nobody was found, DeadlineExpired or LibhookError. With ``must_see``, for a hand-over, a
    process whose files cannot be seen is a LibhookError. Without any node nobody looks.
    """
    if not wanted:
        return ()
    with paper() as sheet:
        (code,) = run([_look(machine, wanted, sheet)], deadline)
        return _holders(machine, wanted, sheet, code, must_see)


def known_now(machine: Machine, wanted: Mapping[str, str], deadline: Deadline) -> tuple[Holder, ...]:
    """As ``of_nodes``, but only to name processes: those that can be seen in that time."""
    if not wanted:
        return ()
    with paper() as sheet:
        run([_look(machine, wanted, sheet)], deadline)
        return _named(machine, wanted, _heard(sheet))


def who_is_in_the_way(machine: Machine, nodes: Nodes, worker: Worker, *, must_see: bool) -> Track[str]:
    """Which processes have a device open that is about to be unbound, as text; "" when none. Late may pass through.

    vfio is asked first, by the device's ``worker``: it refuses a group exactly while a process has the group or a
    device of it. /proc then says which.
    """
    busy, silent = "", False
    for number, path in nodes.groups.items():
        code = yield Order(worker, open_group, (path, number), looks=True)
        busy = path if code == errno.EBUSY else busy
        silent = silent or code not in (0, errno.EBUSY)
    if not (busy or silent) and nodes.paths.keys() <= nodes.answered:
        return ""
    with paper() as sheet:
        code = yield _step(machine, nodes.paths, sheet)
        holders = _holders(machine, nodes.paths, sheet, code, must_see and not busy)
    if busy and not holders:
        return f"a process that does not show it ({busy})"
    return ", ".join(map(str, holders))


def open_group(machine: Machine, _output: int, path: str, number: str) -> None:
    """Open a group's node once. EBUSY where a process has it. The device's worker does it."""
    machine.kernel.open_group(path, number)


def _look(machine: Machine, wanted: Mapping[str, str], sheet: Paper) -> Track[int]:
    try:
        return (yield _step(machine, wanted, sheet))
    except Late:
        return errno.ETIMEDOUT


def _step(machine: Machine, wanted: Mapping[str, str], sheet: Paper) -> Step:
    from libhook.look import openfiles  # not imported when there is no node to look for

    return Step(partial(openfiles.scan, machine, wanted, sheet.descriptor), keep=sheet.descriptor, looks=True)


def _heard(sheet: Paper) -> Found:
    from libhook.look import openfiles

    return openfiles.heard(sheet.lines())


def _holders(
    machine: Machine, wanted: Mapping[str, str], sheet: Paper, code: int, must_see: bool
) -> tuple[Holder, ...]:
    found = _heard(sheet)
    holders = _named(machine, wanted, found)
    if code and not holders:
        what = _UNSEEN.format(", ".join(sorted(wanted.values())))
        if code == errno.ETIMEDOUT:
            raise DeadlineExpired(f"{what}: no answer in time", MORE_TIME)
        raise LibhookError(f"{what} ({os.strerror(code)})", remedy_of(OSError(code, "")))
    if must_see and found.hidden:
        pid, code = found.hidden[0]
        what = f"libhook cannot see what {_name(machine, pid)} (pid {pid}) has open ({os.strerror(code)})"
        denied = code in (errno.EACCES, errno.EPERM)
        raise LibhookError(
            what,
            "libhook must run as root, with CAP_SYS_PTRACE, and not confined: see libhook doctor"
            if denied
            else remedy_of(OSError(code, "")),
        )
    return holders


def _named(machine: Machine, wanted: Mapping[str, str], found: Found) -> tuple[Holder, ...]:
    return tuple(Holder(pid, _name(machine, pid), wanted[number]) for pid, number in found.holders)


def _name(machine: Machine, pid: int) -> str:
    try:
        with open(f"{machine.proc}/{pid}/comm", encoding="utf-8", errors="replace") as file:
            return file.read().rstrip("\n")
    except OSError:
        return "?"
