# SPDX-License-Identifier: LGPL-2.1-or-later
"""Finds disks that the kernel itself has open without a claim: behind loop devices, or exported to other machines.

Such a disk can be opened exclusively, and no process has its node open. loop keeps a plain file (drivers/block/loop.c).
nvmet opens a disk without a holder, and of a controller it keeps only a reference (drivers/nvme/target, io-cmd-bdev.c
and passthru.c). LIO's fileio and the USB gadget open a file (target_core_file.c, f_mass_storage.c). LIO's iblock and
pscsi do claim their disk.

Only root can write a path in configfs, so that path is believed. A user may choose the path that a loop device shows:
udisks sets up a loop device for any file, and the user's own mount namespace may call that file /dev/sda. So the kernel
is asked whether the disk is really behind the loop device.
"""

from __future__ import annotations

import errno
import os

from libhook import plainjson
from libhook.children import telling
from libhook.children.child import Deadline
from libhook.children.tracks import Late, Step, run
from libhook.errors import KERNEL_LOG, DeadlineExpired, named
from libhook.facts.machine import Machine
from libhook.light import TYPE_CHECKING, NamedTuple, partial
from libhook.look import attributes
from libhook.look.nodes import Node

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from libhook.children.tracks import Track

_AT_ONCE = 32
_PATIENCE = 1.0
"""Seconds for a look whose result is only shown, and for each batch of loop devices."""
_NONE = (errno.ENODEV, errno.ENXIO, errno.ENOENT)
"""Answers that mean: something else is behind the loop device, or nothing, or the loop device is gone."""
_REMOVED = " (deleted)"


class Export(NamedTuple):
    """One thing in the kernel that has a disk open."""

    name: str
    """The disk: ``nvme0n1``"""
    what: str
    """``behind /dev/loop3``, ``exported by nvmet as …``."""
    loop: str = ""
    """``/dev/loop3`` for a loop device, else ""."""


def of_nodes(machine: Machine, found: Iterable[Node], deadline: Deadline, *, must_see: bool) -> dict[str, list[str]]:
    """What has these disks and controllers open, by the node's name. Nodes of other kinds are passed over.

    With ``must_see``, DeadlineExpired when that cannot be seen in time.
    """
    nodes = {node.name: node for node in found if node.kind in ("block", "nvme")}
    if not nodes:
        return {}
    until = deadline if must_see else min(deadline, Deadline.after(_PATIENCE))
    said = telling.lines(partial(_tell, machine, frozenset(nodes)), until)
    if said[-1:] != [""] and must_see:
        raise DeadlineExpired(
            "the kernel does not say which disks it exports, so a disk may be in use",
            f"something in /sys/kernel/config does not answer: {KERNEL_LOG}",
        )
    exports = [Export(*plainjson.loads(line)) for line in said if line]
    false = _false_loops(machine, [export for export in exports if export.loop], nodes, deadline)
    uses: dict[str, list[str]] = {}
    for export in exports:
        if export not in false:
            uses.setdefault(export.name, []).append(export.what)
    return uses


def _false_loops(
    machine: Machine, loops: list[Export], nodes: dict[str, Node], deadline: Deadline
) -> frozenset[Export]:
    """The loop devices with something else behind them, which only has the same name as the disk."""
    false = []
    for at in range(0, len(loops), _AT_ONCE):
        some = loops[at : at + _AT_ONCE]
        patience = min(deadline, Deadline.after(_PATIENCE))
        answers = run((_is_false(machine, one, nodes[one.name]) for one in some), patience)
        false += [one for one, answer in zip(some, answers, strict=True) if answer]
    return frozenset(false)


def _is_false(machine: Machine, export: Export, node: Node) -> Track[bool]:
    try:
        code = yield Step(
            partial(machine.kernel.expect_behind_loop, export.loop, attributes.plain(node.folder, "any/dev"))
        )
    except Late as late:  # only a file system that a user has mounted does not answer, and that is no disk
        return late.on_its_way
    return code in _NONE


def _tell(machine: Machine, names: frozenset[str], say: Callable[[bytes], None]) -> None:
    for export in _all(machine):
        if export.name in names:
            say(plainjson.dumps(export).encode())
    say(b"")


def _all(machine: Machine) -> Iterator[Export]:
    for name in attributes.entries(f"{machine.sys}/block"):
        if name.startswith("loop") and (path := attributes.text(f"{machine.sys}/block/{name}/loop/backing_file")):
            # Only the last part counts: a container may have the disk's node elsewhere.
            yield Export(os.path.basename(path.removesuffix(_REMOVED)), f"behind /dev/{name}", f"/dev/{name}")
    config = f"{machine.sys}/kernel/config"
    for subsystem in attributes.entries(f"{config}/nvmet/subsystems"):
        folder = f"{config}/nvmet/subsystems/{subsystem}"
        for part in (
            "passthru",
            *(f"namespaces/{number}" for number in attributes.entries(f"{folder}/namespaces")),
        ):
            if attributes.text(f"{folder}/{part}/enable") == "1":
                yield from _exported(machine, f"{folder}/{part}/device_path", f"nvmet as {named(subsystem)}")
    for hba, name in _pairs(f"{config}/target/core"):
        by = f"LIO as {named(f'{hba}/{name}')}"
        yield from _exported(machine, f"{config}/target/core/{hba}/{name}/udev_path", by)
    for gadget in attributes.entries(f"{config}/usb_gadget"):
        folder = f"{config}/usb_gadget/{gadget}/functions"
        for function, lun in _pairs(folder):
            yield from _exported(machine, f"{folder}/{function}/{lun}/file", f"the USB gadget {named(gadget)}")


def _pairs(folder: str) -> Iterator[tuple[str, str]]:
    return ((name, below) for name in attributes.entries(folder) for below in attributes.entries(f"{folder}/{name}"))


def _exported(machine: Machine, attribute: str, by: str) -> Iterator[Export]:
    """The disk, if an export names one. Another file is on a mounted file system, which is seen elsewhere."""
    path = attributes.text(attribute)
    if path.startswith("/dev/"):
        real = os.path.realpath(f"{machine.root}{path}")  # the path is mostly /dev/disk/by-id/…
        if os.path.dirname(real) == os.path.realpath(f"{machine.root}/dev"):
            yield Export(os.path.basename(real), f"exported by {by}")
