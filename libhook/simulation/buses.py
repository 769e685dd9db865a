# SPDX-License-Identifier: LGPL-2.1-or-later
"""Things below a PCI function that a guest can get by themselves: USB devices, SCSI adapters, mediated devices.

Like the kernel, this shows each as a folder below the function's, with a link to it from its bus or class.
"""

import os
from typing import Any

from libhook.simulation import processes, store, vfio

_USB = 189
"""The major number of the nodes of usbfs."""
KINDS = ("usb_device", "scsi_host", "mdev")


def add(root: str, home: str, kind: str, name: str) -> None:
    """Add a USB device such as ``001.004``, a SCSI adapter such as ``host0``, or an mdev with a UUID below ``home``."""
    match kind:
        case "usb_device":
            _add_usb(root, home, name)
        case "scsi_host":
            _folder(root, f"{home}/{name}/scsi_host/{name}", f"class/scsi_host/{name}", {})
        case "mdev":
            _add_mdev(root, home, name)


def remove(root: str, home: str, kind: str, name: str) -> None:
    """Remove one, as when the driver of its function goes.

    In the kernel an mdev does not come back with that driver. Here it does.
    """
    match kind:
        case "usb_device":
            bus, _, number = name.partition(".")
            for at in (f"usb{int(bus)}", f"{int(bus)}-{int(number)}"):
                store.unlink(f"{root}/sys/bus/usb/devices/{at}")
            for node in ("001", number):
                store.unlink(f"{root}/dev/bus/usb/{bus}/{node}")
            _remove_tree(f"{root}/sys/{home}/usb{int(bus)}")
        case "scsi_host":
            store.unlink(f"{root}/sys/class/scsi_host/{name}")
            _remove_tree(f"{root}/sys/{home}/{name}")
        case "mdev":
            group = _group(root, home, name)
            vfio.unregister(root, name, {"home": f"{home}/{name}", "group": group})
            store.unlink(f"{root}/sys/bus/mdev/devices/{name}")
            store.unlink(f"{root}/sys/class/vfio/{group}")
            for folder in (f"kernel/iommu_groups/{group}", f"devices/virtual/vfio/{group}", f"{home}/{name}"):
                _remove_tree(f"{root}/sys/{folder}")


def has_open_mdev(root: str, device: dict[str, Any]) -> bool:
    """Whether a process has the group of an mdev of this device open. mdev_unregister_parent() waits for that."""
    names = [name for kind, name in device["children"] if kind == "mdev"]
    groups = [_group(root, device["home"], name) for name in names]
    return processes.have_open(root, [store.read(f"{root}/dev/vfio/{group}") for group in groups])


def _add_usb(root: str, home: str, name: str) -> None:
    bus, _, number = name.partition(".")
    hub = f"{home}/usb{int(bus)}"
    for folder, device in ((hub, "001"), (f"{hub}/{int(bus)}-{int(number)}", number)):
        node = f"bus/usb/{bus}/{device}"
        shown = store.number_of(_USB, node)
        texts = {
            "busnum": f"{int(bus)}\n",
            "devnum": f"{int(device)}\n",
            "dev": f"{shown}\n",
            "uevent": f"DEVNAME={node}\n",
        }
        _folder(root, folder, f"bus/usb/devices/{os.path.basename(folder)}", texts)
        os.makedirs(os.path.dirname(f"{root}/dev/{node}"), exist_ok=True)
        store.create(f"{root}/dev/{node}", f"c {shown}")


def _add_mdev(root: str, home: str, name: str) -> None:
    groups = [int(number) for number in os.listdir(f"{root}/sys/kernel/iommu_groups")]
    group = max((39, *groups)) + 1
    _folder(root, f"{home}/{name}", f"bus/mdev/devices/{name}", {})
    os.makedirs(f"{root}/sys/kernel/iommu_groups/{group}/devices/{name}")
    up = "../" * (home.count("/") + 2)
    store.link(f"{up}kernel/iommu_groups/{group}", f"{root}/sys/{home}/{name}/iommu_group")
    texts = {"uevent": f"DEVNAME=vfio/{group}\n"}
    _folder(root, f"devices/virtual/vfio/{group}", f"class/vfio/{group}", texts)
    for folder in ("class/vfio-dev", "../dev/vfio/devices"):
        os.makedirs(f"{root}/sys/{folder}", exist_ok=True)
    vfio.register(root, {"home": f"{home}/{name}", "group": group})


def _group(root: str, home: str, name: str) -> int:
    return int(os.path.basename(os.readlink(f"{root}/sys/{home}/{name}/iommu_group")))


def _folder(root: str, folder: str, shown_as: str, texts: dict[str, str]) -> None:
    """Make a device's folder, its ``subsystem`` link, and the link from its bus or class."""
    os.makedirs(f"{root}/sys/{folder}", exist_ok=True)
    for name, text in texts.items():
        store.create(f"{root}/sys/{folder}/{name}", text)
    subsystem = "/".join(shown_as.split("/")[:2])
    store.link("../" * (folder.count("/") + 1) + subsystem, f"{root}/sys/{folder}/subsystem")
    os.makedirs(os.path.dirname(f"{root}/sys/{shown_as}"), exist_ok=True)
    store.link("../" * shown_as.count("/") + folder, f"{root}/sys/{shown_as}")


def _remove_tree(folder: str) -> None:
    import shutil  # slow to import, and rarely needed

    shutil.rmtree(folder, ignore_errors=True)
