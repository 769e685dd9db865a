# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which file a path below /sys or /proc/sys leads to: two paths may lead to one.

Folders of /sys are links into /sys/devices. To follow them takes no lock of a device: kernfs finds a name, and reads a
link, under its own lock alone, which it lets go of while it waits for a driver (fs/kernfs/dir.c, kernfs_drain). But
what is mounted there, such as /proc/sys/fs/binfmt_misc, systemd may have to mount first. So a child does it.
"""

from __future__ import annotations

import errno
import os

from libhook.children import tracks
from libhook.children.tracks import Late, Step, paper
from libhook.errors import LibhookError
from libhook.facts.knob import is_mtu
from libhook.facts.samefile import File, file_at
from libhook.light import TYPE_CHECKING, partial, suppress
from libhook.look import attributes, interfaces

if TYPE_CHECKING:
    from collections.abc import Sequence

    from libhook.children.child import Deadline
    from libhook.children.tracks import Track
    from libhook.facts.machine import Machine


def files(machine: Machine, paths: Sequence[str], deadline: Deadline) -> dict[str, File]:
    """The file that each of these leads to. LibhookError where that cannot be seen in time."""
    (found,) = tracks.run([_asked(machine, paths)], deadline)
    if isinstance(found, int):
        raise LibhookError(f"{paths[0]} cannot be looked up ({os.strerror(found)})", "see whether ls shows its folder")
    return dict(zip(paths, found, strict=True))


def _asked(machine: Machine, paths: Sequence[str]) -> Track[list[File] | int]:
    try:
        with paper() as sheet:
            note = partial(_note, machine, paths, sheet.descriptor)
            code = yield Step(note, keep=sheet.descriptor, looks=True)
            lines = [line.split("\t") for line in sheet.lines()]
            found = [File(name, whole, below, tuple(masters)) for name, whole, below, *masters in lines]
    except Late:
        return errno.ETIMEDOUT
    return found if len(found) == len(paths) else code or errno.EIO


def _note(machine: Machine, paths: Sequence[str], sheet: int) -> None:
    size = page_size(machine) if any("hugepages" in path for path in paths) else ""
    os.write(sheet, "".join(_line(_file(machine, path, size)) for path in paths).encode())


def _line(file: File) -> str:
    return "\t".join((file.name, file.whole, file.below, *file.masters)) + "\n"


def _file(machine: Machine, path: str, size: str) -> File:
    folder, _, last = path.rpartition("/")
    whole = f"{_real(machine, folder)}/{last}"
    if last == "read_ahead_kb" and folder.endswith("/queue"):
        # A disk's is that of its backing device (queue_ra_store() in block/blk-sysfs.c), which the folder above names.
        bdi = f"{_real(machine, folder)}/../bdi"
        if os.path.isdir(f"{machine.root}{bdi}"):
            whole = f"{_real(machine, bdi)}/{last}"
    if folder.endswith("/link") and whole.startswith("/sys/devices/pci"):
        # Of a slot's functions one link is meant (pcie_aspm_get_link() in drivers/pci/pcie/aspm.c). The first has it.
        slot = os.path.dirname(os.path.dirname(_real(machine, folder)))
        with suppress(OSError):
            own = (f"{slot}/{one}/link/{last}" for one in sorted(os.listdir(f"{machine.root}{slot}")))
            whole = next((one for one in own if os.path.lexists(f"{machine.root}{one}")), whole)
    is_there = whole.startswith(("/sys/", "/proc/sys/")) and whole.isascii() and whole.isprintable()
    file = file_at(whole, size) if is_there else File("")
    return _stacked(machine, file) if file.name and is_mtu(file.name) else file


def _stacked(machine: Machine, file: File) -> File:
    """An interface's mtu. No guest can claim that of one whose name is not ASCII."""
    root = os.path.realpath(machine.root) if machine.root else ""
    folder = os.path.dirname(f"{root}{file.name}")
    below, *masters = (
        f"{one.removeprefix(root)}/mtu" if one and one.isascii() else ""
        for one in (interfaces.below(folder), *interfaces.masters(folder))
    )
    return file._replace(below=below, masters=tuple(filter(None, masters)))


def _real(machine: Machine, folder: str) -> str:
    """The folder with each link followed, without the root; "" where it leads out of that."""
    root = os.path.realpath(machine.root) if machine.root else ""
    real = os.path.realpath(f"{machine.root}{folder}")
    return real.removeprefix(root) if real.startswith(f"{root}/") else ""


def page_size(machine: Machine) -> str:
    """The size of a huge page by default: ``2048kB``; "" where there are none."""
    for line in attributes.whole(f"{machine.root}/proc/meminfo").split("\n"):
        if line.startswith("Hugepagesize:"):
            return line.removeprefix("Hugepagesize:").replace(" ", "")
    return ""
