# SPDX-License-Identifier: LGPL-2.1-or-later
"""Adds and removes VFs when their PF's sriov_numvfs changes (drivers/pci/iov.c)."""

import errno
import os
from typing import TYPE_CHECKING

from libhook.simulation import devices, store
from libhook.simulation.sleepers import locked
from libhook.simulation.world import Device, Driver

if TYPE_CHECKING:
    from libhook.simulation.kernel import SimulatedKernel


def set_count(kernel: "SimulatedKernel", address: str, value: str) -> None:
    """sriov_numvfs_store(): the driver must know SR-IOV. From one number to another the way goes through 0."""
    path = f"{address}/sriov_numvfs"
    try:
        wanted = int(value, 0)
    except ValueError:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), path) from None
    pf = kernel.device(address, errno.ENOENT)
    if not pf["vfs"]:
        raise OSError(errno.ENOENT, os.strerror(errno.ENOENT), path)
    if not 0 <= wanted <= len(pf["vfs"]):
        raise OSError(errno.ERANGE, os.strerror(errno.ERANGE), path)
    with store.device_lock(kernel.root, address):
        now = count(kernel.root, address)
        if wanted == now:
            return
        driver = store.bound(kernel.root, address)
        if driver is None or not (store.load(kernel.root, "drivers", driver) or {})["sriov"]:
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        if wanted and now:
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), path)
        if wanted:
            enable(kernel, address, wanted)
        else:
            disable(kernel, address)


def count(root: str, address: str) -> int:
    """Return how many VFs a PF has now."""
    return int(store.read(f"{root}/sys/bus/pci/devices/{address}/sriov_numvfs"))


def enable(kernel: "SimulatedKernel", address: str, wanted: int) -> None:
    """sriov_enable(): adds each VF to the bus and offers it to the drivers. Call it under the PF's lock."""
    pf = kernel.device(address)
    for fields in pf["vfs"][:wanted]:
        vf = Device(**fields)
        known = (store.load(kernel.root, "drivers", name) for name in os.listdir(f"{kernel.root}/simulation/drivers"))
        drivers = [Driver(**behaviour) for behaviour in known if behaviour is not None]
        devices.add(kernel.root, vf, drivers)
        with store.device_lock(kernel.root, vf.address):
            kernel.attach(vf.address, kernel.device(vf.address))
    _set(kernel.root, address, wanted)


def disable(kernel: "SimulatedKernel", address: str) -> None:
    """sriov_disable(): the driver of each VF must let go first, so this waits for a guest that has one."""
    pf = kernel.device(address)
    present = [fields["address"] for fields in pf["vfs"][: count(kernel.root, address)]]
    with locked(kernel.root, pf["home"]):
        for vf in present:
            if store.load(kernel.root, "devices", vf) is not None:
                with store.device_lock(kernel.root, vf):
                    kernel.release(vf)
                    devices.remove(kernel.root, vf)
    _set(kernel.root, address, 0)


def _set(root: str, address: str, number: int) -> None:
    store.replace(root, f"{root}/sys/bus/pci/devices/{address}/sriov_numvfs", f"{number}\n")
