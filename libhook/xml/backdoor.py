# SPDX-License-Identifier: LGPL-2.1-or-later
"""Finds host devices that reach a guest past libvirt: through QEMU arguments, or a property that overrides libvirt's.

libvirt takes <qemu:commandline> and <qemu:override> as they are (src/qemu/qemu_domain.c, qemuDomainDefNamespaceParse).
So neither libvirt nor libhook knows such a device: nobody checks it, hands it over, gives it back or records it.
"""

from __future__ import annotations

import re

from lxml import etree

from libhook.light import TYPE_CHECKING
from libhook.xml.hostdevxml import QEMU, line_of, quoted

if TYPE_CHECKING:
    from collections.abc import Iterator

_DRIVERS = re.compile(r"vfio-(?!user)[a-z0-9-]+|usb-host|scsi-generic|scsi-block|vhost-scsi(-[a-z-]+)?")
"""QEMU devices that pass a host device to the guest. vfio-user is left out: it reaches another process."""
_NAMES = ("host", "sysfsdev", "hostbus", "hostaddr", "hostport", "hostdevice", "vendorid", "productid")
"""The properties of such a QEMU device that name the host device."""
_SET = re.compile(rf"[^=]*\.(?:{'|'.join(_NAMES)})=.")
_JSON_DRIVER = re.compile(r"""["']driver["']\s*:\s*["']([^"']*)""")
_NVME = re.compile(r"""nvme://|driver["']?\s*[=:]\s*["']?nvme\b""")
"""A disk on QEMU's own NVMe driver, which takes the controller through vfio."""
_SHOWN = 16


def found(root: etree._Element) -> tuple[str, ...]:
    """One line for each device found. The XML's author chose how many there are, so the list is cut short."""
    lines = [*_arguments(root), *_properties(root)]
    rest = len(lines) - _SHOWN
    return (*lines[:_SHOWN], f"and {rest} more") if rest > 0 else tuple(lines)


def _arguments(root: etree._Element) -> Iterator[str]:
    for commandline in root.iterchildren(f"{QEMU}commandline"):
        option = ""
        for node in commandline.iterchildren(f"{QEMU}arg"):
            value = node.get("value", "")
            if _hands_over(option, value):
                yield f"{quoted(f'{option} {value}')} in <qemu:commandline>, line {line_of(node)}"
            option = f"-{value.lstrip('-')}" if value.startswith("-") else ""  # QEMU accepts one dash or two


def _hands_over(option: str, value: str) -> bool:
    match option:
        case "-device":
            return _DRIVERS.fullmatch(_driver(value)) is not None
        case "-set" | "-global":
            return _SET.match(value) is not None
        case "-drive" | "-blockdev":
            return _NVME.search(value) is not None
    return False


def _driver(value: str) -> str:
    """The driver's name, ``vfio-pci``, from any form that QEMU accepts.

    The forms are ``vfio-pci,host=…``, ``id=x,driver=vfio-pci`` and ``{"driver": "vfio-pci", …}``.
    """
    if value.lstrip().startswith("{"):
        found = _JSON_DRIVER.search(value)
        return found[1] if found else ""
    parts = value.split(",")
    named = [part.removeprefix("driver=") for part in parts if part.startswith("driver=")]
    return named[-1] if named else parts[0]


def _properties(root: etree._Element) -> Iterator[str]:
    for override in root.iterchildren(f"{QEMU}override"):
        for device in override.iterchildren(f"{QEMU}device"):
            for node in device.iterdescendants(f"{QEMU}property"):
                name = node.get("name", "")
                if name in _NAMES:
                    what = f"{name}={node.get('value', '')} of {device.get('alias', '')}"
                    yield f"{quoted(what)} in <qemu:override>, line {line_of(node)}"
