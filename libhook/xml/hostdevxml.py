# SPDX-License-Identifier: LGPL-2.1-or-later
"""What one element names: the kind and address of a host device, and values in libvirt's notation.

It reads them as libvirt 11 does (src/conf/domain_conf.c, whose functions are named below).
"""

from __future__ import annotations

from lxml import etree

from libhook.errors import BadInput, harmless
from libhook.facts.address import PciAddress
from libhook.facts.domain import REDIRECTED, Kind, LibvirtsDevice
from libhook.light import NamedTuple
from libhook.xml import notation

QEMU = "{http://libvirt.org/schemas/domain/qemu/1.0}"
"""The XML namespace of QEMU's own elements."""
LONGEST = 255
"""Bytes of a name. What the guest's author chooses here is journalled and recorded, so it must not be of any length.

libvirt names files after the guest, an adapter is a folder of /sys, and no file's name is longer (NAME_MAX in
linux/limits.h). A driver is a folder of /sys, too. An iSCSI name has 223 bytes (RFC 7143, 4.2.7.1), and libvirt writes
the unit behind it. A longer one is not cut, since two devices could have one name then."""
_SHOWN = 16
_LONGEST_PATH = 4096  # PATH_MAX in linux/limits.h
Identity = tuple[str | int | None, ...]


class Found(NamedTuple):
    """A host device as its elements name it. ``identity`` is what libvirt compares to find a device named twice."""

    kind: Kind
    address: str
    identity: Identity
    pci: PciAddress | None = None
    model: str | None = None
    missing: bool = False
    ids: str = ""
    """Vendor and product of a USB device that is named by them: ``46f4:0001``."""


class Unknown(Exception):
    """A value that this version does not know and a later libvirt may know. The device is skipped."""


class TooLong(Unknown):
    """A name that is longer than any can be. No guest starts with it. Of a guest that runs the device is skipped."""


def _pci(node: etree._Element, source: etree._Element) -> Found:
    """virDomainHostdevSubsysPCIDefParseXML. Without an address libvirt uses 0000:00:00.0."""
    address = child(source, "address")
    pci = PciAddress(0, 0, 0, 0) if address is None else pci_address(address)
    driver = child(node, "driver")
    model = None if driver is None else short("driver model", driver.get("model", ""))
    return Found("pci", str(pci), ("pci", str(pci)), pci, model or None)


def _usb(_node: etree._Element, source: etree._Element) -> Found:
    """virDomainHostdevSubsysUSBDefParseXML and virDomainHostdevMatchSubsysUSB."""
    vendor, product = child(source, "vendor"), child(source, "product")
    if (vendor is None) != (product is None):
        raise bad(source, f"USB device has no {'vendor' if vendor is None else 'product'}")
    address = child(source, "address")
    bus = device = 0
    if address is not None:
        bus, device = _number(address, "bus"), _number(address, "device")
    # Of two devices with the same vendor and product, libvirt also refuses one without address before one with. We do
    # not: at release a missing device looks like the first, and a hot-plugged one like the second.
    identity: Identity = ("usb", bus, device)
    if not (bus and device):
        identity = ("usb ids", *(_number(node, "id") for node in (vendor, product) if node is not None))
    ids = ":".join(_usb_id(node) for node in (vendor, product) if node is not None)
    return Found("usb", f"{bus:03d}.{device:03d}", identity, missing=source.get("missing") == "yes", ids=ids)


def _usb_id(node: etree._Element) -> str:
    value = notation.number(node.get("id", ""), notation.UINT)
    return "?" if value is None else f"{value:04x}"


def _scsi(_node: etree._Element, source: etree._Element) -> Found:
    """virDomainHostdevSubsysSCSIDefParseXML, SCSIHost and SCSIiSCSI."""
    protocol = source.get("protocol", "adapter")
    if protocol == "iscsi":
        name = short("iSCSI name", required(source, "name"))
        host = child(source, "host")
        target = (None, None) if host is None else (host.get("name"), host.get("port"))
        # virDomainPostParseCheckISCSIPath: a missing unit means unit 0.
        return Found("scsi", name, ("iscsi", name if "/" in name else f"{name}/0", *target))
    if protocol != "adapter":
        raise Unknown(f"SCSI protocol {quoted(protocol)} is not known")
    address, adapter = required_child(source, "address"), required_child(source, "adapter")
    host_name = short("adapter name", required(adapter, "name"))
    bus, target_id = _number(address, "bus"), _number(address, "target")
    unit = _number(address, "unit", notation.ULONGLONG)
    return Found("scsi", f"{host_name}:{bus}:{target_id}:{unit}", ("scsi", host_name, bus, target_id, unit))


def _scsi_host(_node: etree._Element, source: etree._Element) -> Found:
    """virDomainHostdevSubsysSCSIVHostDefParseXML."""
    protocol = required(source, "protocol")
    if protocol != "vhost":
        raise Unknown(f"scsi_host protocol {quoted(protocol)} is not known")
    wwpn = required(source, "wwpn")
    if not notation.is_wwpn(wwpn):
        raise bad(source, f"wwpn {quoted(wwpn)} is not naa. and 16 hex digits")
    return Found("scsi_host", wwpn, ("scsi_host", wwpn))


def _mdev(_node: etree._Element, source: etree._Element) -> Found:
    """virDomainHostdevSubsysMediatedDevDefParseXML."""
    address = required_child(source, "address")
    uuid = read_uuid(address, required(address, "uuid"))
    return Found("mdev", uuid, ("mdev", uuid))


def capability(node: etree._Element) -> LibvirtsDevice:
    """A container's device (virDomainHostdevDefParseXMLCaps)."""
    kind = required(node, "type")
    match kind:
        case "storage":
            return LibvirtsDevice(kind, "hostdev", _text_below(node, "block"))
        case "misc":
            return LibvirtsDevice(kind, "hostdev", _text_below(node, "char"))
        case "net":
            return LibvirtsDevice(kind, "hostdev", _text_below(node, "interface"))
    raise Unknown(f"hostdev capability {quoted(kind)} is not known")


def redirected(node: etree._Element) -> LibvirtsDevice:
    """A <redirdev> (virDomainRedirdevDefParseXML). Only its client knows which device is redirected."""
    bus = node.get("bus", "usb")
    if bus != "usb":
        raise Unknown(f"redirdev bus {quoted(bus)} is not known")
    return LibvirtsDevice("redir", "redirdev", REDIRECTED)


KINDS = {"pci": _pci, "usb": _usb, "scsi": _scsi, "scsi_host": _scsi_host, "mdev": _mdev}


def pci_address(node: etree._Element) -> PciAddress:
    """virPCIDeviceAddressParseXML: a missing part is 0."""
    numbers = [0 if node.get(part) is None else _number(node, part) for part in PciAddress._fields]
    try:
        return PciAddress.of(*numbers)
    except BadInput as error:
        raise bad(node, error.message) from None


def read_uuid(node: etree._Element, text: str) -> str:
    """The UUID in libvirt's form. BadInput where the text is no UUID."""
    uuid = notation.uuid(text)
    if uuid is None:
        raise bad(node, f"uuid {quoted(text)} is not 32 hex digits")
    return uuid


def _number(node: etree._Element, name: str, most: int = notation.UINT) -> int:
    """The number in an attribute that must be there."""
    text = required(node, name)
    value = notation.number(text, most)
    if value is None:
        raise bad(node, f"{node.tag} {name}={quoted(text)} is not a number from 0 to {most:#x}")
    return value


def text_of(root: etree._Element, name: str) -> tuple[str, etree._Element]:
    """The whole text of the first element with this name, and the element.

    Empty text counts as missing (virXPathString).
    """
    node = child(root, name)
    text = "" if node is None else "".join(map(str, node.itertext()))
    if node is None or not text:
        raise bad(root if node is None else node, f"the domain has no <{name}>")
    return text, node


def _text_below(node: etree._Element, name: str) -> str:
    """The text of <source><NAME>, which must not be empty."""
    inner = child(required_child(node, "source"), name)
    text = "" if inner is None else "".join(map(str, inner.itertext()))
    if not text:
        raise bad(node, f"hostdev type {quoted(node.get('type', ''))} has no <{name}>")
    return short(name, text, _LONGEST_PATH)


def required(node: etree._Element, name: str) -> str:
    """The text of an attribute that must be there."""
    text = node.get(name)
    if text is None:
        raise bad(node, f"{node.tag} has no {name}=")
    return text


def required_child(node: etree._Element, name: str) -> etree._Element:
    """The first child with this name, which must be there."""
    found = child(node, name)
    if found is None:
        raise bad(node, f"{node.tag} has no <{name}>")
    return found


def child(node: etree._Element, name: str) -> etree._Element | None:
    """The first child with this name, as libvirt's virXPathNode finds it."""
    return next(node.iterchildren(name), None)


def bad(node: etree._Element, what: str) -> BadInput:
    """A BadInput that also names the element's line."""
    return BadInput(f"{what}, line {line_of(node)}")


def line_of(node: etree._Element) -> int:
    """The line of an element. From line 65,536 on libxml2 may not know it."""
    return node.sourceline  # type: ignore[return-value] # of a parsed document it is an int


def short(what: str, text: str, most: int = LONGEST) -> str:
    """The text. TooLong where it has more bytes than any such name."""
    if len(text) > most or len(text.encode()) > most:
        raise TooLong(f"the {what} {quoted(text)} has more than {most} bytes")
    return text


def quoted(text: str) -> str:
    """Foreign text in quotes for a message, cut to 80 characters. It ends none of them, and begins no command."""
    shown = harmless(text[:80]).replace("'", "\\x27")
    return f"'{shown}…'" if len(text) > 80 else f"'{shown}'"


def first(lines: list[str]) -> tuple[str, ...]:
    """The first of these, and how many more there are: the document's author chose that number."""
    rest = len(lines) - _SHOWN
    return (*lines[:_SHOWN], f"and {rest} more") if rest > 0 else tuple(lines)
