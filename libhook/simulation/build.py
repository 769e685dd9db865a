# SPDX-License-Identifier: LGPL-2.1-or-later
"""Makes a World into a folder: /sys, /proc, /dev, /run, /etc and /lib/modules as libhook reads them."""

import os
import tempfile

from libhook.simulation import devices as functions
from libhook.simulation import modules, processes, store, vfio
from libhook.simulation.hwdata import PCI_IDS
from libhook.simulation.world import Module, World, check, virtual_functions

_FOLDERS = (
    "sys/bus/pci/devices", "sys/bus/pci/drivers", "sys/class", "sys/kernel/iommu_groups", "sys/module",
    "sys/devices/virtual/iommu", "proc/sys/kernel/random", "proc/net", "proc/self", "dev", "etc/libhook",
    "usr/share/hwdata", "var/lib", "var/log", "run/libvirt/qemu", "run/systemd/system",
    *(f"simulation/{name}" for name in (
        "devices", "drivers", "modules", "bound", "overridden", "owners", "opened", "holds", "locks", "shared",
        "tmp")),
)  # fmt: skip

_PROC = {
    "sys/kernel/random/boot_id": "8c7de1a2-6a6b-4f5e-9b3f-0d6f2f1f7f11\n",
    "sys/kernel/osrelease": f"{os.uname().release}\n",
    "cmdline": "root=/dev/sda1 intel_iommu=on\n",
    "swaps": "Filename\tType\tSize\tUsed\tPriority\n",
    "self/mountinfo": "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n",
    "net/route": "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n",
    "net/ipv6_route": "",
}


def scratch() -> str:
    """Make a new folder for a host, in memory if possible, because ext4 is slow after many deletions."""
    memory = "/dev/shm"  # noqa: S108 - mkdtemp makes the folder, under a name nobody can guess
    return tempfile.mkdtemp(prefix="libhook-host-", dir=memory if os.access(memory, os.W_OK | os.X_OK) else None)


def build(root: str, world: World) -> None:
    """Make the host in ``root``, which is empty or does not exist. Impossible if no host can be like that."""
    world = world.complete()
    check(world)
    for folder in _FOLDERS:
        os.makedirs(f"{root}/{folder}", exist_ok=True)
    store.create(f"{root}/simulation/serial", "0")
    for name, text in _PROC.items():
        store.create(f"{root}/proc/{name}", text)
    store.create(f"{root}/usr/share/hwdata/pci.ids", PCI_IDS)
    for attribute in ("drivers_probe", "drivers_autoprobe"):
        store.create(f"{root}/sys/bus/pci/{attribute}", "1\n" if attribute == "drivers_autoprobe" else "")
    if world.iommu:
        os.makedirs(f"{root}/sys/devices/virtual/iommu/dmar0")
        os.makedirs(f"{root}/sys/class/iommu")
        os.symlink("../../devices/virtual/iommu/dmar0", f"{root}/sys/class/iommu/dmar0")
    _add_drivers(root, world)
    _add_devices(root, world)
    processes.add(root, 1, "systemd")


def _add_drivers(root: str, world: World) -> None:
    by_module: dict[str, list[str]] = {}
    for driver in world.drivers:
        store.create(f"{root}/simulation/drivers/{driver.name}", store.to_json(driver._asdict()))
        by_module.setdefault(driver.module_name, []).append(driver.name)
    said = {module.name: module for module in world.modules}
    for name in by_module.keys() | said.keys():
        module = said.get(name, Module(name))
        known = {"drivers": by_module.get(name, []), "needs": module.needs, "users": module.users}
        known["shows_consoles"] = module.shows_consoles
        known |= {"built_in": module.built_in, "seconds": 0, "exit": 0}
        store.create(f"{root}/simulation/modules/{name}", store.to_json(known))
    for driver in world.drivers:
        if driver.loaded:
            modules.register(root, driver.module_name, driver.name)
    for name in by_module.keys() | said.keys():
        if world.is_loaded(name):
            modules.appear(root, name)
    folder = f"{root}/lib/modules/{os.uname().release}"
    os.makedirs(folder)
    store.create(f"{folder}/modules.alias", "".join(_aliases(world)))


def _aliases(world: World) -> list[str]:
    lines = ["# Aliases extracted from modules themselves.\n"]
    for driver in world.drivers:
        for ids in driver.ids:
            vendor, _, product = ids.upper().partition(":")
            what = f"v*d*sv*sd*bc{product[:2]}sc{product[2:]}i*" if vendor == "CLASS" else _by_id(vendor, product)
            lines.append(f"alias pci:{what} {driver.module_name}\n")
    for name, ids in world.variants:
        lines.append(f"alias vfio_pci:{_by_id(*ids.upper().split(':'))} {name.replace('-', '_')}\n")
    lines.append("alias vfio_pci:v*d*sv*sd*bc*sc*i* vfio_pci\n")
    return lines


def _by_id(vendor: str, product: str) -> str:
    return f"v0000{vendor}d0000{product}sv*sd*bc*sc*i*"


def _add_devices(root: str, world: World) -> None:
    kinds = {driver.name: driver.kind for driver in world.drivers}
    group = max((device.group for device in world.devices if device.group is not None), default=-1) + 1
    for device in sorted(world.devices, key=lambda device: device.physfn is not None):
        potential = virtual_functions(device)
        present = {other.address: other for other in world.devices} if potential else {}
        for at, vf in enumerate(potential):
            # A VF that is enabled later also gets its own IOMMU group, and the same one each time.
            own = present[vf.address].group if vf.address in present else group
            potential[at] = present.get(vf.address, vf)._replace(
                group=own if world.iommu else None, vf_index=vf.vf_index
            )
            group += vf.address not in present
        functions.add(root, device, world.drivers, potential)
        if device.numvfs:
            store.create(f"{root}/sys/bus/pci/devices/{device.address}/sriov_numvfs", f"{device.numvfs}\n")
        if device.override:
            store.create(f"{root}/sys/bus/pci/devices/{device.address}/driver_override", f"{device.override}\n")
            store.create(f"{root}/simulation/overridden/{device.address}", "")
        if device.driver is not None:
            os.symlink(device.driver, f"{root}/simulation/bound/{device.address}")
            store.show_driver(root, device.address, functions.home_of(device.address), device.driver)
            fields = {
                "home": functions.home_of(device.address),
                "group": device.group,
                "children": device.children,
                "serial": device.serial,
            }
            if kinds[device.driver] == "vfio":
                vfio.register(root, fields)
            elif kinds[device.driver] == "host":
                functions.add_children(root, fields)
