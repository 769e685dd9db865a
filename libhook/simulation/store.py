# SPDX-License-Identifier: LGPL-2.1-or-later
"""The files of a simulated host: how they are written and locked, and the state that /sys does not show.

This imports little, so that it loads fast.

simulation/devices/ADDRESS   a device's ids, group, matching drivers, and how it behaves (JSON)
simulation/drivers/NAME      a driver's kind and how long it takes (JSON)
simulation/modules/NAME      a module's drivers, what it needs, and how it behaves (JSON)
simulation/bound/ADDRESS     link that names the driver: the kernel's dev->driver
simulation/overridden/       an entry for each device with a driver_override
simulation/owners/GROUP      the process that claimed the group's DMA, and the devices that it has open
simulation/opened/PID/N      the device that a process has open as descriptor N
simulation/holds/ADDRESS     while it exists, the device's driver does not let go
simulation/faults/           what goes wrong, and when (faults.py)
simulation/serial            the serial number of the last audit record
simulation/shared/           one copy of each text that many devices have
simulation/locks/            the files of Lock
simulation/tmp/              files before their rename
"""

import json
import os
from contextlib import suppress
from fcntl import LOCK_EX, flock
from types import TracebackType
from typing import Any

UNSET = "(null)\n"
"""What the kernel shows for a driver_override that is not set."""


class Lock:
    """An exclusive flock on a file of that name. It lasts as long as the ``with``, or until the process ends."""

    def __init__(self, root: str, name: str) -> None:
        """Remember the file. ``with`` takes the lock."""
        self._path = f"{root}/simulation/locks/{name}"
        self._file = -1

    def __enter__(self) -> None:
        """Take the lock. Wait without limit if another has it."""
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        flock(self._file, LOCK_EX)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Release the lock."""
        os.close(self._file)


def device_lock(root: str, address: str) -> Lock:
    """Return the kernel's device_lock(). It is held while a driver's probe or remove runs, however long that takes."""
    return Lock(root, address)


def group_lock(root: str, group: int | None) -> Lock:
    """Return the mutex of an IOMMU group. It is held only briefly. Devices without a group share one."""
    return Lock(root, f"group-{group}")


def read(path: str) -> str:
    """Return the whole text of a file, up to 1 MiB."""
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(file, 1 << 20).decode("utf-8", "surrogateescape")
    finally:
        os.close(file)


def replace(root: str, path: str, text: str) -> None:
    """Write a file so that a reader sees either the old text or the new, never a part."""
    temporary = f"{root}/simulation/tmp/{os.getpid()}-{path.replace('/', '-')[-100:]}"
    create(temporary, text)
    os.rename(temporary, path)


def create(path: str, text: str | bytes) -> None:
    """Write a file that nobody else reads yet."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    try:
        os.write(file, text if isinstance(text, bytes) else text.encode("utf-8", "surrogateescape"))
    finally:
        os.close(file)


def share(root: str, path: str, text: str | bytes) -> None:
    """Make a file that never changes. Files with the same text share one inode, so large hosts are quick to build."""
    content = text if isinstance(text, bytes) else text.encode()
    original = f"{root}/simulation/shared/{content.hex()}"
    try:
        os.link(original, path)
    except FileNotFoundError:
        create(original, content)
        os.link(original, path)


def number_of(major: int, node: str) -> str:
    """Return major and minor of a node. They follow from its name, so they are the same each time."""
    from zlib import crc32

    return f"{major}:{crc32(node.encode()) & 0xFFFFF}"


def to_json(fields: dict[str, Any]) -> str:
    """Return the JSON of one file in simulation/."""
    return json.dumps(fields)


def append(path: str, fields: dict[str, Any]) -> None:
    """Add a line of JSON in one write(2), so that lines of two processes never mix."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    try:
        os.write(file, (json.dumps(fields) + "\n").encode())
    finally:
        os.close(file)


def lines(path: str) -> list[dict[str, Any]]:
    """Return what ``append`` wrote; an empty list if there is no such file."""
    try:
        with open(path, encoding="utf-8") as file:
            return [json.loads(line) for line in file]
    except FileNotFoundError:
        return []


def load(root: str, kind: str, name: str) -> dict[str, Any] | None:
    """Read the file of one device, driver or module; None if there is none of that name."""
    try:
        found: dict[str, Any] = json.loads(read(f"{root}/simulation/{kind}/{name}"))
    except FileNotFoundError:
        return None
    return found


def save(root: str, kind: str, name: str, fields: dict[str, Any]) -> None:
    """Write the file of one device, driver or module."""
    replace(root, f"{root}/simulation/{kind}/{name}", to_json(fields))


def link(target: str, path: str) -> None:
    """Make a symlink. Replace one that a killed process left there."""
    try:
        os.symlink(target, path)
    except FileExistsError:
        os.unlink(path)
        os.symlink(target, path)


def unlink(path: str) -> None:
    """Remove a file or link that may be gone already."""
    with suppress(FileNotFoundError):
        os.unlink(path)


def bound(root: str, address: str) -> str | None:
    """Return the driver that the kernel has bound. The ``driver`` link in /sys may say otherwise: see kernel.py."""
    try:
        return os.readlink(f"{root}/simulation/bound/{address}")
    except FileNotFoundError:
        return None


def shown(root: str, address: str) -> str | None:
    """Return the driver that /sys shows."""
    try:
        return os.path.basename(os.readlink(f"{root}/sys/bus/pci/devices/{address}/driver"))
    except FileNotFoundError:
        return None


def members(root: str, group: int) -> list[str]:
    """Return the addresses in an IOMMU group."""
    return os.listdir(f"{root}/sys/kernel/iommu_groups/{group}/devices")


def show_driver(root: str, address: str, home: str, driver: str) -> None:
    """driver_sysfs_add(): makes the link from the device to its driver, and the link back."""
    link(f"../../../../{home}", f"{root}/sys/bus/pci/drivers/{driver}/{address}")
    link(f"{'../' * (home.count('/') + 1)}bus/pci/drivers/{driver}", f"{root}/sys/{home}/driver")


def hide_driver(root: str, address: str, driver: str) -> None:
    """driver_sysfs_remove(): removes both links."""
    unlink(f"{root}/sys/bus/pci/drivers/{driver}/{address}")
    unlink(f"{root}/sys/bus/pci/devices/{address}/driver")
