# SPDX-License-Identifier: LGPL-2.1-or-later
"""Loads and removes kernel modules of the simulated host."""

import errno
import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from libhook.simulation import consoles, devices, store, vfio
from libhook.simulation.answers import refuse
from libhook.simulation.processes import have_open

if TYPE_CHECKING:
    from libhook.simulation.kernel import SimulatedKernel


def load(kernel: "SimulatedKernel", module: str) -> None:
    """Load a module as modprobe does. ``-`` and ``_`` are the same in its name. The modules that it needs come first.

    A second load of a module waits for the first. ENOENT if there is no such module.
    """
    name, root = module.replace("-", "_"), kernel.root
    known = store.load(root, "modules", name)
    if known is None:
        raise OSError(errno.ENOENT, os.strerror(errno.ENOENT), module)
    for needed in known["needs"]:
        load(kernel, needed)
    with store.Lock(root, f"module-{name}"):
        if os.path.isdir(f"{root}/sys/module/{name}"):
            return
        time.sleep(known["seconds"])
        for driver in known["drivers"]:
            register(root, name, driver)
        appear(root, name)
        for driver in known["drivers"]:
            _attach(kernel, driver)


def unload(kernel: "SimulatedKernel", module: str) -> None:
    """delete_module(): fails if the module is in use. Otherwise the module's exit runs, however long that takes.

    The exit unregisters the drivers, and driver_detach() unbinds each of their devices.
    """
    name, root = module.replace("-", "_"), kernel.root
    known, folder = store.load(root, "modules", name), f"{root}/sys/module/{name}"
    if known is None or not os.path.lexists(f"{folder}/initstate"):
        raise refuse(errno.ENOENT, module)
    if os.listdir(f"{folder}/holders"):
        raise refuse(errno.EAGAIN, module)
    if store.read(f"{folder}/initstate") != "live\n":
        raise refuse(errno.EBUSY, module)
    if users(root, name):
        count(root, name)
        raise refuse(errno.EAGAIN, module)
    with store.Lock(root, f"module-{name}"):
        if os.path.isdir(folder):
            store.replace(root, f"{folder}/initstate", "going\n")
            _exit(kernel, name, known)


def take_out(kernel: "SimulatedKernel", module: str) -> None:
    """Unload a module as another process would. Its error is dropped."""
    with suppress(OSError):
        unload(kernel, module)


def _exit(kernel: "SimulatedKernel", name: str, known: dict[str, Any]) -> None:
    import shutil  # slow to import, and the benchmark times the loading of modules

    root = kernel.root
    for driver in known["drivers"]:
        for address in os.listdir(f"{root}/simulation/bound"):
            if store.bound(root, address) == driver:
                kernel.unbind(driver, address)
        shutil.rmtree(f"{root}/sys/bus/pci/drivers/{driver}")
    time.sleep(known["exit"])
    shutil.rmtree(f"{root}/sys/module/{name}", ignore_errors=True)
    for needed in known["needs"]:
        store.unlink(f"{root}/sys/module/{needed}/holders/{name}")
        count(root, needed)


def users(root: str, name: str) -> int:
    """Count the users: ``users`` of the module, other modules, open nodes of its devices, and fbcon."""
    known = store.load(root, "modules", name) or {}
    nodes = 0
    for address in os.listdir(f"{root}/simulation/bound"):
        device = store.load(root, "devices", address)
        if device and store.bound(root, address) in known["drivers"]:
            nodes += vfio.opened(root, address, device["group"]) + have_open(root, devices.numbers(root, device))
    shown = known["shows_consoles"] and consoles.bound(root)
    return int(known["users"]) + len(os.listdir(f"{root}/sys/module/{name}/holders")) + nodes + shown


def use(root: str, name: str, users: int) -> None:
    """Set how many more users the module has than can be seen."""
    store.save(root, "modules", name, (store.load(root, "modules", name) or {}) | {"users": users})
    count(root, name)


def count(root: str, name: str) -> None:
    """Write the number of users to ``refcnt``. Processes that open and close nodes do not do that."""
    if os.path.lexists(f"{root}/sys/module/{name}/refcnt"):
        store.replace(root, f"{root}/sys/module/{name}/refcnt", f"{users(root, name)}\n")


def appear(root: str, name: str) -> None:
    """mod_sysfs_setup(). A built-in module has neither ``initstate`` nor ``refcnt``."""
    known = store.load(root, "modules", name) or {}
    folder = f"{root}/sys/module/{name}"
    if known["built_in"]:
        os.makedirs(folder, exist_ok=True)
        return
    os.makedirs(f"{folder}/holders", exist_ok=True)
    for needed in known["needs"]:
        os.makedirs(f"{root}/sys/module/{needed}/holders", exist_ok=True)
        store.link(f"../../{name}", f"{root}/sys/module/{needed}/holders/{name}")
        count(root, needed)
    store.create(f"{folder}/refcnt", f"{users(root, name)}\n")
    store.create(f"{folder}/initstate", "live\n")


def register(root: str, module: str, driver: str) -> None:
    """Make the folders of the driver and of its module, and the links between them."""
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
    """driver_attach(): offers a new driver every device without a driver.

    A device whose override names another driver is not offered (pci_match_device()). A driver that binds only by
    override gets only devices with an override. The kernel looks at all devices, but for the simulation 4,096 of them
    would cost too much.
    """
    root = kernel.root
    by_override = (store.load(root, "drivers", driver) or {})["kind"] == "vfio"
    for address in os.listdir(f"{root}/simulation/overridden" if by_override else f"{root}/sys/bus/pci/devices"):
        if store.bound(root, address) is None and kernel.override(address) in ("", driver):
            kernel.probe(address)


def turn(root: str, module: str) -> None:
    """Somebody loads a module, or unloads it if its name has a ``-`` before it."""
    from libhook.simulation.kernel import SimulatedKernel

    kernel = SimulatedKernel(root, by="somebody else")
    if module.startswith("-"):
        unload(kernel, module[1:])
    else:
        load(kernel, module)
