# SPDX-License-Identifier: LGPL-2.1-or-later
"""Small files, links and folders, as in /sys and /proc. What is not there reads as nothing.

A driver may hang with the lock of its device. Who then reads a file of the device that takes this lock sleeps in the
kernel, and no signal ends that sleep. So a file of a device is read with ``plain`` if it takes no lock, and else by a
child with a deadline (look/patient.py). Links and folders take no lock of a device: kernfs keeps them, and never waits
for a driver with its own lock (kernfs_drain() in fs/kernfs/dir.c).

``but`` names the errors that mean "not there". By default all do, so use the default only where the difference does not
matter.
"""

from __future__ import annotations

import os

PLAIN = {
    "pci/vendor": "pci_config_attr() in drivers/pci/pci-sysfs.c prints a field of struct pci_dev",
    "pci/device": "the same",
    "pci/subsystem_vendor": "the same",
    "pci/subsystem_device": "the same",
    "pci/class": "the same",
    "pci/modalias": "modalias_show() there prints the same fields",
    "pci/sriov_drivers_autoprobe": "sriov_drivers_autoprobe_show() in drivers/pci/iov.c prints a field of the PF",
    "nvme/serial": "nvme_show_str_function() in drivers/nvme/host prints what was read when the controller began",
    "usb/busnum": "busnum_show() in drivers/usb/core/sysfs.c prints a field of struct usb_device",
    "usb/devnum": "devnum_show() there prints another",
    "usb/idVendor": "usb_descriptor_attr_le16() there prints a field of the descriptor",
    "usb/idProduct": "the same",
    "vtconsole/name": "show_name() in drivers/tty/vt/vt.c prints the console driver's description",
    "module/refcnt": "show_refcnt() in kernel/module prints a counter",
    "any/dev": "dev_show() in drivers/base/core.c prints the number",
}
"""The files of devices and modules that are read without a child, and why each needs none: on no kernel from 6.1 on
does its show function take a lock.

The show functions of these files take a lock, so the files are not here:

- ``sriov_numvfs``: the device's lock (sriov_numvfs_show())
- ``driver_override``: the device's lock, if struct pci_dev has the override. In struct device, as on Debian's 6.12.118,
  the override has a lock of its own
- ``uevent``: the device's lock (uevent_show()) on 6.1.192 and others; the newest kernels take none
- the ``bind`` of a console: the lock of all consoles (show_bind())
- the ``dm/name`` of a mapped disk: a mutex (dm_copy_name_and_uuid())
"""
_MOST = 4096
"""An attribute holds a page at most (Documentation/filesystems/sysfs.rst)."""


def plain(folder: str, attribute: str) -> str:
    """A file of a device that takes no lock, without the line feed; "" when it cannot be read.

    ``attribute`` is a key of PLAIN. Any other is a mistake, and a KeyError.
    """
    _ = PLAIN[attribute]
    return text(f"{folder}/{attribute.rpartition('/')[2]}")


def text(path: str) -> str:
    """An attribute's content without the line feed; "" when it cannot be read."""
    try:
        with open(path, "rb", buffering=0) as file:
            return os.fsdecode(file.read(_MOST) or b"").strip()
    except OSError:
        return ""


def whole(path: str) -> str:
    """A file's content of any length, without line feeds at its end; "" when it cannot be read."""
    try:
        with open(path, "rb") as file:
            return os.fsdecode(file.read()).rstrip("\n")
    except OSError:
        return ""


def entries(folder: str, but: type[OSError] = OSError) -> list[str]:
    """The names in a folder, sorted; none when it is not there."""
    try:
        return sorted(os.listdir(folder))
    except but:
        return []


def link(path: str, but: type[OSError] = OSError) -> str | None:
    """The last part of a link's target; None when there is no such link."""
    try:
        return os.path.basename(os.readlink(path))
    except but:
        return None
