# SPDX-License-Identifier: LGPL-2.1-or-later
"""Makes and removes the folder of one PCI function, as the kernel does when a device comes or goes."""

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from libhook.simulation import buses, consoles, store

if TYPE_CHECKING:
    from libhook.simulation.world import Device, Driver

_CHILD_CLASSES = {
    "net": "net",
    "block": "nvme/nvme0",
    "drm": "drm",
    "usb": "usb",
    "sound": "sound/card0",
    "nvme": "nvme",
    "graphics": "graphics",
}
_MAJORS = {"block": 259, "drm": 226, "usb": 189, "sound": 116, "nvme": 240, "graphics": 29}
_NODE_FOLDERS = {"drm": "dri/", "sound": "snd/"}


def home_of(address: str) -> str:
    """Return the function's own folder below /sys. Bridges are not nested, because no code here walks up."""
    return f"devices/pci{address[: address.index(':')]}:00/{address}"


def add(root: str, device: "Device", drivers: "Iterable[Driver]", potential: "list[Device] | None" = None) -> None:
    """Add a function without a driver. ``potential`` has the VFs that a PF can have."""
    address, home = device.address, home_of(device.address)
    folder = f"{root}/sys/{home}"
    os.makedirs(folder)
    vendor, product = device.ids.split(":")
    share = store.share
    share(root, f"{folder}/vendor", f"0x{vendor}\n")
    share(root, f"{folder}/device", f"0x{product}\n")
    share(root, f"{folder}/subsystem_vendor", f"0x{vendor}\n")
    share(root, f"{folder}/subsystem_device", "0x0000\n")
    share(root, f"{folder}/class", f"0x{device.class_}\n")
    share(root, f"{folder}/modalias", modalias(device) + "\n")
    share(root, f"{folder}/config", config_space(device))
    share(root, f"{folder}/numa_node", f"{device.numa_node}\n")
    create = store.create
    create(f"{folder}/driver_override", store.UNSET)
    link = os.symlink
    link(f"../../../{home}", f"{root}/sys/bus/pci/devices/{address}")
    link("../../../bus/pci", f"{folder}/subsystem")
    if device.group is not None:
        group = f"{root}/sys/kernel/iommu_groups/{device.group}"
        os.makedirs(f"{group}/devices", exist_ok=True)
        link(f"../../../../{home}", f"{group}/devices/{address}")
        link(f"../../../kernel/iommu_groups/{device.group}", f"{folder}/iommu_group")
    if device.totalvfs:
        create(f"{folder}/sriov_totalvfs", f"{device.totalvfs}\n")
        create(f"{folder}/sriov_numvfs", "0\n")
        create(f"{folder}/sriov_drivers_autoprobe", f"{device.vf_autoprobe:d}\n")
    if device.physfn is not None:
        link(f"../{device.physfn}", f"{folder}/physfn")
        link(f"../{address}", f"{root}/sys/bus/pci/devices/{device.physfn}/virtfn{device.vf_index}")
    fields = {
        "address": address,
        "home": home,
        "group": device.group,
        "drivers": [driver.name for driver in drivers if driver.kind != "vfio" and driver.matches(device)],
        "remove": device.remove,
        "probe": device.probe,
        "refuses": dict(device.refuses),
        "physfn": device.physfn,
        "vfs": [vf._asdict() for vf in potential or ()],
        "children": device.children,
        "serial": device.serial,
    }
    create(f"{root}/simulation/devices/{address}", store.to_json(fields))


def remove(root: str, address: str) -> None:
    """Remove a function, and the links to it first, because readers come by these. It must have no driver."""
    device = store.load(root, "devices", address)
    if device is None:
        return
    store.unlink(f"{root}/simulation/devices/{address}")
    store.unlink(f"{root}/simulation/overridden/{address}")
    if device["physfn"] is not None:
        folder = f"{root}/sys/bus/pci/devices/{device['physfn']}"
        for name in os.listdir(folder):
            if name.startswith("virtfn") and os.path.basename(os.readlink(f"{folder}/{name}")) == address:
                store.unlink(f"{folder}/{name}")
    store.unlink(f"{root}/sys/bus/pci/devices/{address}")
    if device["group"] is not None:
        group = f"{root}/sys/kernel/iommu_groups/{device['group']}"
        store.unlink(f"{group}/devices/{address}")
        if not os.listdir(f"{group}/devices"):
            _remove_tree(group)
    _remove_tree(f"{root}/sys/{device['home']}")


def add_children(root: str, device: dict[str, Any]) -> None:
    """Add what a host driver makes for the device: network interfaces, disks, DRM cards and so on, and their nodes."""
    if device["serial"]:
        os.makedirs(f"{root}/sys/{device['home']}/nvme/nvme0", exist_ok=True)
        store.create(f"{root}/sys/{device['home']}/nvme/nvme0/serial", f"{device['serial']:<20}\n")
    for kind, name in device["children"]:
        if kind in buses.KINDS:
            buses.add(root, device["home"], kind, name)
            continue
        inner = f"{_CHILD_CLASSES[kind]}/{name}"
        folder = f"{root}/sys/{device['home']}/{inner}"
        os.makedirs(folder, exist_ok=True)
        os.makedirs(f"{root}/sys/class/{kind}", exist_ok=True)
        store.link("../" * (inner.count("/") + 1), f"{folder}/device")
        store.link(f"../../{device['home']}/{inner}", f"{root}/sys/class/{kind}/{name}")
        store.link("../" * (device["home"].count("/") + inner.count("/") + 2) + f"class/{kind}", f"{folder}/subsystem")
        if kind == "net":
            store.create(f"{folder}/operstate", "up\n")
            store.create(f"{folder}/uevent", f"INTERFACE={name}\n")
        else:
            node = f"{_NODE_FOLDERS.get(kind, '')}{name}"
            os.makedirs(os.path.dirname(f"{root}/dev/{node}"), exist_ok=True)
            number = store.number_of(_MAJORS[kind], node)
            store.create(f"{root}/dev/{node}", f"{'b' if kind == 'block' else 'c'} {number}")
            store.create(f"{folder}/dev", f"{number}\n")
            store.create(f"{folder}/uevent", f"DEVNAME={node}\n")
        if kind == "graphics":
            consoles.follow_framebuffers(root)


def numbers(root: str, device: dict[str, Any]) -> set[str]:
    """Return the numbers of the device's nodes that a host driver has made, such as ``c 226:0``."""
    nodes = (f"{_NODE_FOLDERS.get(kind, '')}{name}" for kind, name in device["children"] if kind in _MAJORS)
    return {store.read(f"{root}/dev/{node}") for node in nodes if os.path.lexists(f"{root}/dev/{node}")}


def remove_children(root: str, device: dict[str, Any]) -> None:
    """Remove what a host driver has made. A process that has a node open keeps it open."""
    from libhook.simulation import processes

    for kind, name in device["children"]:
        if kind in buses.KINDS:
            buses.remove(root, device["home"], kind, name)
            continue
        node = f"/dev/{_NODE_FOLDERS.get(kind, '')}{name}"
        store.unlink(f"{root}/sys/class/{kind}/{name}")
        _remove_tree(f"{root}/sys/{device['home']}/{_CHILD_CLASSES[kind].split('/')[0]}")
        store.unlink(f"{root}{node}")
        processes.node_removed(root, node)
        if kind == "graphics":
            consoles.follow_framebuffers(root)


def modalias(device: "Device") -> str:
    """Return ``pci:v…d…sv…sd…bc…sc…i…`` as pci_uevent() writes it."""
    vendor, product = (part.upper() for part in device.ids.split(":"))
    base, sub, interface = (device.class_[at : at + 2].upper() for at in (0, 2, 4))
    return f"pci:v0000{vendor}d0000{product}sv0000{vendor}sd00000000bc{base}sc{sub}i{interface}"


def config_space(device: "Device") -> bytes:
    """Return the first 64 bytes: ids, class, and the header type at 0x0e (bit 7: more than one function)."""
    vendor, product = (int(part, 16) for part in device.ids.split(":"))
    space = bytearray(64)
    space[0:2] = vendor.to_bytes(2, "little")
    space[2:4] = product.to_bytes(2, "little")
    space[9:12] = bytes.fromhex(device.class_)[::-1]
    space[14] = device.header
    return bytes(space)


def _remove_tree(folder: str) -> None:
    import shutil  # slow to import, and rarely needed

    shutil.rmtree(folder, ignore_errors=True)
