# SPDX-License-Identifier: LGPL-2.1-or-later
"""A domain's XML to a Domain: the only file that imports lxml.

It reads what libvirt 11 reads (src/conf/domain_conf.c, whose functions are named below), and only what names
a host device: whatever else is wrong with the document is for libvirt to refuse.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple, cast

from lxml import etree

from libhook import notation, prolog
from libhook.address import PciAddress
from libhook.domain import Domain, HostDevice, Kind, Source
from libhook.errors import BadInput

_VIRT = re.compile(r"[a-z0-9]+", re.ASCII)  # all of virDomainVirt, and what it may gain

_Identity = tuple[str | int | None, ...]


class _Found(NamedTuple):
    """A host device as its elements name it, and what libvirt compares to tell that one is named twice."""

    kind: Kind
    address: str
    identity: _Identity
    pci: PciAddress | None = None
    model: str | None = None
    missing: bool = False


class _Unknown(Exception):
    """A value that this version does not know and a newer libvirt may: the device is passed over."""


def parse(document: bytes) -> Domain:
    """The guest of ``document``, at most prolog.MAX_BYTES long, and its host devices in document order.

    BadInput says what is wrong and in which line. A device of a type that this version does not know is
    passed over with a line in ``Domain.warnings``.
    """
    root = _root(document)
    virt = _required(root, "type")
    if not _VIRT.fullmatch(virt):
        # It goes into audit records as it is.
        raise _bad(root, f"domain type {_quoted(virt)} is none of libvirt's")
    name, _ = _text(root, "name")
    uuid, node = _text(root, "uuid")
    reader = _Reader()
    for candidate in _candidates(root):
        reader.read(candidate)
    return Domain(name, _uuid(node, uuid), virt, tuple(reader.devices), tuple(reader.warnings))


class _Reader:
    """Collects the devices of one document."""

    def __init__(self) -> None:
        self.devices: list[HostDevice] = []
        self.warnings: list[str] = []
        self._lines: dict[_Identity, int] = {}
        self._controllers: set[_Identity] = set()

    def read(self, node: etree._Element) -> None:
        """Read one of _candidates."""
        try:
            if node.tag == "hostdev":
                self._hostdev(node)
            elif node.tag == "interface":
                if node.get("type") == "hostdev":
                    self._add(node, "interface", _interface_type(node))
            elif node.get("type") == "nvme":
                self._nvme(node)
        except _Unknown as unknown:
            self.warnings.append(f"{unknown}, line {_line(node)}: passed over")

    def _hostdev(self, node: etree._Element) -> None:
        """Read <hostdev> (virDomainHostdevDefParseXML)."""
        mode = node.get("mode", "subsystem")
        if mode != "subsystem":  # capabilities: LXC only
            raise _Unknown(f"hostdev mode {_quoted(mode)} is not supported")
        self._add(node, "hostdev", _required(node, "type"))

    def _add(self, node: etree._Element, source: Source, kind: str) -> None:
        """Read what names the device (virDomainHostdevDefParseXMLSubsys)."""
        read = _KINDS.get(kind)
        if read is None:
            raise _Unknown(f"{node.tag} type {_quoted(kind)} is not known")
        found = read(node, _required_child(node, "source"))
        if not found.missing:
            self._once(node, found)
        # libvirt ignores a value it does not know here, hence only this one.
        managed = node.get("managed") == "yes"
        self.devices.append(
            HostDevice(found.kind, source, managed, found.address, found.pci, found.model, found.missing)
        )

    def _nvme(self, layer: etree._Element) -> None:
        """Read one NVMe source of a disk (virDomainDiskSourceNVMeParse).

        Several namespaces of one controller are one device, managed as the first says: libvirt binds the
        controller once, by the first (virNVMeDeviceListCreateDetachList).
        """
        source = _required_child(layer, "source")
        kind = _required(source, "type")
        if kind != "pci":
            raise _Unknown(f"NVMe source type {_quoted(kind)} is not known")
        # virDomainDiskDefPostParse makes the disk itself managed, not what is below it.
        managed = source.get("managed", "yes" if layer.tag == "disk" else "no")
        if managed not in ("yes", "no"):
            raise _bad(source, f"managed={_quoted(managed)} is neither yes nor no")
        pci = _pci_address(_required_child(source, "address"))
        found = _Found("pci", str(pci), ("pci", str(pci)), pci)
        if found.identity not in self._controllers:
            self._once(source, found)
            self._controllers.add(found.identity)
            self.devices.append(HostDevice("pci", "disk", managed == "yes", str(pci), pci))

    def _once(self, node: etree._Element, found: _Found) -> None:
        """Refuse a device that the document named before (virDomainDefHostdevValidate).

        A controller that is hostdev and NVMe disk libvirt refuses later, at the start: PCI device in use.
        """
        first = self._lines.get(found.identity)
        if first is not None:
            what = f"{found.kind} device {_quoted(found.address)}"
            raise _bad(node, f"{what} is named twice, before in line {first}")
        self._lines[found.identity] = _line(node)


def _root(document: bytes) -> etree._Element:
    """The root element, after everything that could be dangerous is refused."""
    prolog.check(document)
    parser = etree.XMLParser(
        resolve_entities=False,
        load_dtd=False,
        no_network=True,
        huge_tree=False,
        remove_comments=True,
        remove_pis=True,
        collect_ids=False,
    )
    try:
        root = etree.fromstring(document, parser)
    except etree.XMLSyntaxError as error:
        first = (error.msg or "not well-formed").splitlines()[0]
        reason = re.sub(r", line \d+, column \d+$", "", first)[:160]
        raise BadInput(f"the XML is malformed: {reason}, line {error.lineno or 1}") from None
    if root.getroottree().docinfo.internalDTD is not None:  # hidden from us by an unusual encoding
        raise BadInput("the XML has a DOCTYPE, line 1", prolog.NO_DOCTYPE)
    if root.tag != "domain":
        raise _bad(root, f"the root element is {_quoted(str(root.tag))}, not 'domain'")
    return root


def _interface_type(node: etree._Element) -> str:
    """The kind of device that <interface type='hostdev'> names (virDomainNetDefParseXML)."""
    sources = list(node.iterchildren("source"))
    for source in sources:
        for address in source.iterchildren("address"):
            kind = address.get("type")
            if kind:
                return kind
    if any(_child(source, "vendor") is not None for source in sources):
        return "usb"
    raise _bad(node, "interface of type hostdev has no source address type")


def _candidates(root: etree._Element) -> Iterator[etree._Element]:
    """The elements that may name a host device.

    From /domain/devices and nowhere else: <metadata> holds whatever its owner likes.
    """
    for devices in root.iterchildren("devices"):
        for child in devices.iterchildren("hostdev", "interface", "disk"):
            yield child
            if child.tag == "disk":
                yield from _chain(_child(child, "backingStore"))
                yield from _chain(_child(child, "mirror"))


def _chain(layer: etree._Element | None) -> Iterator[etree._Element]:
    """A disk's layer and those below it; each has a type and a source as the disk has."""
    while layer is not None:
        yield layer
        layer = _child(layer, "backingStore")


def _pci(node: etree._Element, source: etree._Element) -> _Found:
    """virDomainHostdevSubsysPCIDefParseXML; without an address libvirt has 0000:00:00.0."""
    address = _child(source, "address")
    pci = PciAddress(0, 0, 0, 0) if address is None else _pci_address(address)
    driver = _child(node, "driver")
    model = None if driver is None else driver.get("model")
    return _Found("pci", str(pci), ("pci", str(pci)), pci, model or None)


def _usb(_node: etree._Element, source: etree._Element) -> _Found:
    """virDomainHostdevSubsysUSBDefParseXML and virDomainHostdevMatchSubsysUSB."""
    vendor, product = _child(source, "vendor"), _child(source, "product")
    if (vendor is None) != (product is None):
        raise _bad(source, f"USB device has no {'vendor' if vendor is None else 'product'}")
    address = _child(source, "address")
    bus = device = 0
    if address is not None:
        bus, device = _number(address, "bus"), _number(address, "device")
    # libvirt also refuses one without address before one with, of the same vendor and product. We do not: at
    # release a device that was missing looks like the first and one that was hot-plugged like the second.
    identity: _Identity = ("usb", bus, device)
    if not (bus and device):
        identity = ("usb ids", *(_number(node, "id") for node in (vendor, product) if node is not None))
    return _Found("usb", f"{bus:03d}.{device:03d}", identity, missing=source.get("missing") == "yes")


def _scsi(_node: etree._Element, source: etree._Element) -> _Found:
    """virDomainHostdevSubsysSCSIDefParseXML, SCSIHost and SCSIiSCSI."""
    protocol = source.get("protocol", "adapter")
    if protocol == "iscsi":
        name = _required(source, "name")
        host = _child(source, "host")
        target = (None, None) if host is None else (host.get("name"), host.get("port"))
        # virDomainPostParseCheckISCSIPath: no unit is unit 0.
        return _Found("scsi", name, ("iscsi", name if "/" in name else f"{name}/0", *target))
    if protocol != "adapter":
        raise _Unknown(f"SCSI protocol {_quoted(protocol)} is not known")
    address, adapter = _required_child(source, "address"), _required_child(source, "adapter")
    host_name = _required(adapter, "name")
    bus, target_id = _number(address, "bus"), _number(address, "target")
    unit = _number(address, "unit", notation.ULONGLONG)
    return _Found("scsi", f"{host_name}:{bus}:{target_id}:{unit}", ("scsi", host_name, bus, target_id, unit))


def _scsi_host(_node: etree._Element, source: etree._Element) -> _Found:
    """virDomainHostdevSubsysSCSIVHostDefParseXML."""
    protocol = _required(source, "protocol")
    if protocol != "vhost":
        raise _Unknown(f"scsi_host protocol {_quoted(protocol)} is not known")
    wwpn = _required(source, "wwpn")
    if not notation.is_wwpn(wwpn):
        raise _bad(source, f"wwpn {_quoted(wwpn)} is not naa. and 16 hex digits")
    return _Found("scsi_host", wwpn, ("scsi_host", wwpn))


def _mdev(_node: etree._Element, source: etree._Element) -> _Found:
    """virDomainHostdevSubsysMediatedDevDefParseXML."""
    address = _required_child(source, "address")
    uuid = _uuid(address, _required(address, "uuid"))
    return _Found("mdev", uuid, ("mdev", uuid))


_KINDS = {"pci": _pci, "usb": _usb, "scsi": _scsi, "scsi_host": _scsi_host, "mdev": _mdev}


def _pci_address(node: etree._Element) -> PciAddress:
    """virPCIDeviceAddressParseXML: whatever is not said is 0."""
    numbers = [0 if node.get(part) is None else _number(node, part) for part in PciAddress._fields]
    try:
        return PciAddress.of(*numbers)
    except BadInput as error:
        raise _bad(node, error.message) from None


def _uuid(node: etree._Element, text: str) -> str:
    """The UUID in libvirt's form, an error if it is none."""
    uuid = notation.uuid(text)
    if uuid is None:
        raise _bad(node, f"uuid {_quoted(text)} is not 32 hex digits")
    return uuid


def _number(node: etree._Element, name: str, most: int = notation.UINT) -> int:
    """The number of an attribute that must be there."""
    text = _required(node, name)
    value = notation.number(text, most)
    if value is None:
        raise _bad(node, f"{node.tag} {name}={_quoted(text)} is not a number from 0 to {most:#x}")
    return value


def _text(root: etree._Element, name: str) -> tuple[str, etree._Element]:
    """The whole text of the first element of this name, and the element; empty is none (virXPathString)."""
    node = _child(root, name)
    text = "" if node is None else "".join(map(str, node.itertext()))
    if node is None or not text:
        raise _bad(root if node is None else node, f"the domain has no <{name}>")
    return text, node


def _required(node: etree._Element, name: str) -> str:
    """An attribute that must be there."""
    text = node.get(name)
    if text is None:
        raise _bad(node, f"{node.tag} has no {name}=")
    return text


def _required_child(node: etree._Element, name: str) -> etree._Element:
    """The first child of this name, which must be there."""
    child = _child(node, name)
    if child is None:
        raise _bad(node, f"{node.tag} has no <{name}>")
    return child


def _child(node: etree._Element, name: str) -> etree._Element | None:
    """The first child of this name, as libvirt's virXPathNode takes it."""
    return next(node.iterchildren(name), None)


def _bad(node: etree._Element, what: str) -> BadInput:
    """The error, with the line of the element."""
    return BadInput(f"{what}, line {_line(node)}")


def _line(node: etree._Element) -> int:
    """The line of an element; from 65,536 on libxml2 may not know it."""
    return cast("int", node.sourceline)


def _quoted(text: str) -> str:
    """Foreign text for a message, no longer than a line can hold."""
    return f"'{text[:80]}…'" if len(text) > 80 else f"'{text}'"
