# SPDX-License-Identifier: LGPL-2.1-or-later
"""Modules: what is there to be loaded, and what loading one does."""

import errno
import os
import time
from typing import TYPE_CHECKING

from libhook.simulation import store

if TYPE_CHECKING:
    from libhook.simulation.kernel import SimulatedKernel


def load(kernel: "SimulatedKernel", module: str) -> None:
    """modprobe: ``-`` and ``_`` are one. A second load of a module waits for the first."""
    name, root = module.replace("-", "_"), kernel.root
    known = store.load(root, "modules", name)
    if known is None:
        raise OSError(errno.ENOENT, os.strerror(errno.ENOENT), module)
    with store.Lock(root, f"module-{name}"):
        if os.path.isdir(f"{root}/sys/module/{name}"):
            return
        time.sleep(known["seconds"])
        for driver in known["drivers"]:
            register(root, name, driver)
            _attach(kernel, driver)


def unload(kernel: "SimulatedKernel", module: str) -> None:
    """rmmod: driver_detach() takes each device off it first, and waits for who has one open."""
    import shutil  # which loading a module, timed by the benchmark, need not wait for

    name, root = module.replace("-", "_"), kernel.root
    known = store.load(root, "modules", name)
    for driver in known["drivers"] if known and os.path.isdir(f"{root}/sys/module/{name}") else ():
        for address in os.listdir(f"{root}/simulation/bound"):
            if store.bound(root, address) == driver:
                kernel.write_unharmed(f"bus/pci/drivers/{driver}/unbind", address)
        shutil.rmtree(f"{root}/sys/bus/pci/drivers/{driver}")
    shutil.rmtree(f"{root}/sys/module/{name}", ignore_errors=True)


def register(root: str, module: str, driver: str) -> None:
    """The driver's folder, its module's, and the links between them."""
    os.makedirs(f"{root}/sys/module/{module}/drivers", exist_ok=True)
    folder = f"{root}/sys/bus/pci/drivers/{driver}"
    os.mkdir(folder)
    for attribute in ("bind", "unbind", "new_id", "remove_id"):
        store.create(f"{folder}/{attribute}", "")
    store.link(f"../../../../module/{module}", f"{folder}/module")
    store.link(f"../../../bus/pci/drivers/{driver}", f"{root}/sys/module/{module}/drivers/pci:{driver}")
    if (store.load(root, "drivers", driver) or {})["kind"] == "vfio":
        os.makedirs(f"{root}/dev/vfio/devices", exist_ok=True)
        os.makedirs(f"{root}/sys/class/vfio-dev", exist_ok=True)
        store.create(f"{root}/dev/vfio/vfio", "")


def _attach(kernel: "SimulatedKernel", driver: str) -> None:
    """driver_attach(): a new driver is offered every device without one.

    One that binds by override only has nothing to look for where none is set: the kernel looks at all the
    same, but 4,096 of them cost it nothing.
    """
    root = kernel.root
    by_override = (store.load(root, "drivers", driver) or {})["kind"] == "vfio"
    for address in os.listdir(f"{root}/simulation/overridden" if by_override else f"{root}/sys/bus/pci/devices"):
        if store.bound(root, address) is None:
            kernel.probe(address)
