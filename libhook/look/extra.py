# SPDX-License-Identifier: LGPL-2.1-or-later
"""Reads what ``audit.extra`` adds to a device's audit records. Only links and attributes that take no lock are read."""

import os

from libhook.facts.domain import NO_DRIVER, Domain, Extra, HostDevice
from libhook.facts.entry import Held
from libhook.facts.machine import Machine
from libhook.look import attributes, sysfs


def complete(machine: Machine, guest: Domain, held: Held | None, *, before: bool) -> Domain:
    """The guest whose devices all have the fields: those they have, else the entry's, else as the host is now."""
    known = {device.key: device.extra for device in held.devices} if held else {}

    def with_fields(device: HostDevice) -> HostDevice:
        fields = device.extra or known.get(device.key) or of_device(machine, device, before=before)
        return device._replace(extra=fields)

    return guest._replace(devices=tuple(map(with_fields, guest.devices)))


def of_device(machine: Machine, device: HostDevice, *, before: bool) -> Extra:
    """What is known of the device now. ``before`` says that it is not handed over yet, so its driver is the host's."""
    if device.kind == "usb":
        named = device.hint if device.source == "hostdev" and "?" not in device.hint else ""
        return Extra(ids=_usb_ids(machine, device.address) or named)
    if device.pci is None or not sysfs.exists(machine, device.pci):
        return Extra()
    group = sysfs.group(machine, device.pci)
    driver = ""
    if before or not sysfs.on_vfio(machine, device.pci):
        driver = sysfs.driver(machine, device.pci) or NO_DRIVER
    return Extra(driver, "" if group is None else str(group), sysfs.ids(machine, device.pci))


def _usb_ids(machine: Machine, address: str) -> str:
    """Vendor and product of the USB device with this bus and number; "" when there is none."""
    folder = f"{machine.sys}/bus/usb/devices"
    for name in os.listdir(folder) if os.path.isdir(folder) else ():
        bus, number = (attributes.plain(f"{folder}/{name}", part) for part in ("usb/busnum", "usb/devnum"))
        if bus.isdigit() and number.isdigit() and f"{int(bus):03d}.{int(number):03d}" == address:
            return ":".join(attributes.plain(f"{folder}/{name}", part) for part in ("usb/idVendor", "usb/idProduct"))
    return ""
