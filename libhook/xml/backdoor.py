# SPDX-License-Identifier: LGPL-2.1-or-later
"""Host devices that a guest is given past libvirt: by arguments of QEMU's own, or by a property put over libvirt's.

libvirt takes <qemu:commandline> and <qemu:override> as they are (src/qemu/qemu_domain.c, qemuDomainDefNamespaceParse),
so neither it nor libhook knows of such a device: it is not checked, handed over, given back or recorded.
"""

from __future__ import annotations

import re

from lxml import etree

from libhook.light import TYPE_CHECKING
from libhook.xml.hostdevxml import QEMU, line_of, quoted

if TYPE_CHECKING:
    from collections.abc import Iterator

_DRIVERS = re.compile(r"vfio-(?!user)[a-z0-9-]+|usb-host|scsi-generic|scsi-block|vhost-scsi(-[a-z-]+)?")
"""QEMU's devices that are one of the host's. What vfio-user reaches is another process."""
_NAMES = ("host", "sysfsdev", "hostbus", "hostaddr", "hostport", "hostdevice", "vendorid", "productid")
"""Properties of theirs that say which."""
_SET = re.compile(rf"[^=]*\.(?:{'|'.join(_NAMES)})=.")
_JSON_DRIVER = re.compile(r"""["']driver["']\s*:\s*["']([^"']*)""")
_NVME = re.compile(r"""nvme://|driver["']?\s*[=:]\s*["']?nvme\b""")
"""A disk by QEMU's own NVMe driver, which takes the controller by vfio."""
_SHOWN = 16


def found(root: etree._Element) -> tuple[str, ...]:
    """A line for each, but no more than a reader can use; whoever wrote the XML chose how many there are."""
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
            option = f"-{value.lstrip('-')}" if value.startswith("-") else ""  # QEMU takes one dash or two


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
    """``vfio-pci`` of ``vfio-pci,host=…``, ``id=x,driver=vfio-pci`` and ``{"driver": "vfio-pci", …}``."""
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
