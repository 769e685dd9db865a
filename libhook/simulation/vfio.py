# SPDX-License-Identifier: LGPL-2.1-or-later
"""What vfio shows of a device, and which process has claimed an IOMMU group's DMA."""

import errno
import os
from contextlib import suppress
from typing import Any

from libhook.simulation import store

_GROUP, _CDEV = 243, 511
"""Major numbers of the nodes of groups and of devices. The kernel takes any free numbers."""


def register(root: str, device: dict[str, Any]) -> None:
    """vfio_register_group_dev(): makes vfio-dev/vfioN, the device's node, and its group's node.

    N is the lowest free number (ida_alloc), and the same everywhere. Call it under group_lock.
    """
    number = 0
    while True:
        try:
            os.symlink(f"../../{device['home']}/vfio-dev/vfio{number}", f"{root}/sys/class/vfio-dev/vfio{number}")
            break
        except FileExistsError:
            number += 1
    os.makedirs(f"{root}/sys/{device['home']}/vfio-dev/vfio{number}", exist_ok=True)
    store.create(f"{root}/sys/{device['home']}/vfio-dev/vfio{number}/dev", f"{_CDEV}:{number}\n")
    store.create(f"{root}/dev/vfio/devices/vfio{number}", f"c {_CDEV}:{number}")
    group = device["group"]
    os.makedirs(f"{root}/sys/class/vfio/{group}", exist_ok=True)
    store.create(f"{root}/sys/class/vfio/{group}/dev", f"{_GROUP}:{group}\n")
    store.create(f"{root}/dev/vfio/{group}", f"c {_GROUP}:{group}")


def unregister(root: str, address: str, device: dict[str, Any]) -> None:
    """Undo ``register``. The group's node goes with the last vfio device of the group. Call it under group_lock."""
    folder = f"{root}/sys/{device['home']}/vfio-dev"
    for name in os.listdir(folder):
        store.unlink(f"{root}/dev/vfio/devices/{name}")
        store.unlink(f"{folder}/{name}/dev")
        os.rmdir(f"{folder}/{name}")
        store.unlink(f"{root}/sys/class/vfio-dev/{name}")
    os.rmdir(folder)
    others = (other for other in store.members(root, device["group"]) if other != address)
    if not any(os.path.isdir(f"{root}/sys/bus/pci/devices/{other}/vfio-dev") for other in others):
        store.unlink(f"{root}/dev/vfio/{device['group']}")
        store.unlink(f"{root}/sys/class/vfio/{device['group']}/dev")
        with suppress(FileNotFoundError, NotADirectoryError):  # for a mediated device it is a link
            os.rmdir(f"{root}/sys/class/vfio/{device['group']}")


def numbers(root: str, group: str) -> set[str]:
    """Return the number of a group's node, and the numbers of its devices' nodes. ``group`` is ``c MAJOR:GROUP``."""
    found = {group}
    for address in store.members(root, int(group.rpartition(":")[2])):
        with suppress(FileNotFoundError):
            for name in os.listdir(f"{root}/sys/bus/pci/devices/{address}/vfio-dev"):
                found.add(f"c {_CDEV}:{name.removeprefix('vfio')}")
    return found


def claim(root: str, group: int, pid: int, addresses: tuple[str, ...]) -> bool:
    """Let a process open the group and these of its devices (iommu_group_claim_dma_owner()).

    Return whether the process had the group already. EBUSY if another process has it, EPERM if a device of the group is
    on a driver that uses the kernel's DMA ("group is not viable"), ENOENT if no device of the group is on a vfio
    driver, ENODEV if one of these devices is not.
    """
    with store.group_lock(root, group):
        if not os.path.lexists(f"{root}/dev/vfio/{group}"):
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT), f"/dev/vfio/{group}")
        owner, *had = _owner(root, group)
        if owner not in ("", str(pid)):
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), f"/dev/vfio/{group}")
        for address in store.members(root, group):
            driver = store.bound(root, address)
            if driver is not None and (store.load(root, "drivers", driver) or {})["kind"] == "host":
                raise OSError(errno.EPERM, os.strerror(errno.EPERM), f"/dev/vfio/{group}")
        for address in addresses:
            if not os.path.isdir(f"{root}/sys/bus/pci/devices/{address}/vfio-dev"):
                raise OSError(errno.ENODEV, os.strerror(errno.ENODEV), address)
        store.replace(root, f"{root}/simulation/owners/{group}", " ".join((str(pid), *had, *addresses)))
        return bool(had)


def opened(root: str, address: str, group: int | None) -> bool:
    """Whether a process has the device open."""
    try:
        return address in store.read(f"{root}/simulation/owners/{group}").split()
    except FileNotFoundError:
        return False


def release(root: str, group: int, address: str) -> bool:
    """Let the owner close a device, and the group with its last device. Return whether it still has the group."""
    with store.group_lock(root, group):
        owner, *had = _owner(root, group)
        left = [other for other in had if other != address]
        if left:
            store.replace(root, f"{root}/simulation/owners/{group}", " ".join((owner, *left)))
        else:
            store.unlink(f"{root}/simulation/owners/{group}")
        return bool(left)


def _owner(root: str, group: int) -> list[str]:
    """Return the pid that has the group, then the devices that it has open. The pid is "" if nobody has the group."""
    try:
        return store.read(f"{root}/simulation/owners/{group}").split() or [""]
    except FileNotFoundError:
        return [""]
