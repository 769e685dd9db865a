# SPDX-License-Identifier: LGPL-2.1-or-later
"""What vfio shows of a device, and who has claimed an IOMMU group's DMA."""

import errno
import os
from contextlib import suppress
from typing import Any

from libhook.simulation import store

_GROUP, _CDEV = 243, 511
"""Major numbers of a group's node and of a device's: the kernel takes any that are free."""


def register(root: str, device: dict[str, Any]) -> None:
    """vfio_register_group_dev(): the device's vfio-dev/vfioN, its node, and its group's node. Under
    group_lock.

    N is the lowest that is free (ida_alloc), the same in every place.
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
    """The way back; the group's node goes with the last of the group on a vfio driver. Under group_lock."""
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
        with suppress(FileNotFoundError, NotADirectoryError):  # of a mediated device's it is a link
            os.rmdir(f"{root}/sys/class/vfio/{device['group']}")


def numbers(root: str, group: str) -> set[str]:
    """By the number of a group's node: its own, and those of its devices' nodes."""
    found = {group}
    for address in store.members(root, int(group.rpartition(":")[2])):
        with suppress(FileNotFoundError):
            for name in os.listdir(f"{root}/sys/bus/pci/devices/{address}/vfio-dev"):
                found.add(f"c {_CDEV}:{name.removeprefix('vfio')}")
    return found


def claim(root: str, group: int, pid: int, addresses: tuple[str, ...]) -> bool:
    """A process opens the group and these devices of it (iommu_group_claim_dma_owner()); whether it had it already.

    EBUSY when another has it, EPERM when a device of the group is on a driver that uses the kernel's DMA
    ("group is not viable"), ENOENT when no device is on a vfio driver.
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
    """The owner closes a device, and with its last one the group; whether it has the group still."""
    with store.group_lock(root, group):
        owner, *had = _owner(root, group)
        left = [other for other in had if other != address]
        if left:
            store.replace(root, f"{root}/simulation/owners/{group}", " ".join((owner, *left)))
        else:
            store.unlink(f"{root}/simulation/owners/{group}")
        return bool(left)


def _owner(root: str, group: int) -> list[str]:
    """The pid that has the group, then the devices of it that it has open; an empty pid when nobody has."""
    try:
        return store.read(f"{root}/simulation/owners/{group}").split() or [""]
    except FileNotFoundError:
        return [""]
