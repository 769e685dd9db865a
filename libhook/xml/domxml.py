# SPDX-License-Identifier: LGPL-2.1-or-later
"""Turns a domain's XML into a Domain.

It reads what libvirt 11 reads (src/conf/domain_conf.c, whose functions are named below), and only what names a host
device. Whatever else is wrong with the document, libvirt refuses.
"""

from __future__ import annotations

from lxml import etree

from libhook.errors import BadInput
from libhook.facts.domain import Disk, Domain, HostDevice, LibvirtsDevice, Source
from libhook.light import TYPE_CHECKING, NamedTuple
from libhook.xml import prolog
from libhook.xml.hostdevxml import (
    KINDS,
    LONGEST,
    QEMU,
    Found,
    Identity,
    TooLong,
    Unknown,
    bad,
    capability,
    child,
    first,
    line_of,
    pci_address,
    quoted,
    read_uuid,
    redirected,
    required,
    required_child,
    text_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

_VIRT = frozenset("abcdefghijklmnopqrstuvwxyz0123456789")  # letters of virDomainVirt's names, and of later ones
_OF_INTERFACES = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")
_WITH_TAP = ("network", "bridge", "ethernet", "direct")
_LONGEST_INTERFACE = 15
"""IFNAMSIZ without its NUL (linux/if.h)."""
_MOST_INTERFACES = 4096  # a command gets their names in one variable, which may have 128 KiB (MAX_ARG_STRLEN)
_LONGEST_VIRT = 32
_TAGS = ("hostdev", "interface", "disk")


class OnNetwork(NamedTuple):
    """An interface on a network of libvirt's. Where that is a pool of VFs, libvirt chooses one at the guest's start."""

    network: str
    mac: str
    """"" where the document gives none."""
    address: str
    """That of the VF which a guest that runs has; "" before."""


class DeviceXml(NamedTuple):
    """What one device's own document contains."""

    element: str
    devices: tuple[HostDevice, ...]
    """Also empty for an interface out of a pool: its VF is chosen when it is plugged in."""
    mac: str
    """An interface's MAC address, by which libvirt finds it again; "" where the document gives none."""
    warnings: tuple[str, ...]
    document: bytes
    """The document in UTF-8, whatever encoding it had. libvirt accepts nothing else."""


def parse(document: bytes, *, every_kind: bool = False) -> Domain:
    """The guest of ``document``, with its host devices in document order.

    The document may have at most prolog.MAX_BYTES. With ``every_kind``, Domain.others is filled too. BadInput says what
    is wrong and in which line. A device of an unknown type is skipped, with a line in ``Domain.warnings``.
    """
    root = _root(document)
    if root.tag != "domain":
        raise bad(root, f"the root element is {quoted(str(root.tag))}, not 'domain'")
    virt = required(root, "type")
    if not 0 < len(virt) <= _LONGEST_VIRT or not _VIRT.issuperset(virt):
        # It goes into audit records as it is.
        raise bad(root, f"domain type {quoted(virt)} is not one of libvirt's")
    name, node = text_of(root, "name")
    if len(name) > LONGEST or len(name.encode()) > LONGEST:
        raise bad(node, f"the guest's name {quoted(name)} has more than {LONGEST} bytes")
    uuid, node = text_of(root, "uuid")
    reader = _Reader(every_kind)
    for candidate, device in _candidates(root, (*_TAGS, "redirdev") if every_kind else _TAGS):
        reader.read(candidate, device)
    return Domain(
        name,
        read_uuid(node, uuid),
        virt,
        reader.devices,
        first(reader.warnings),
        tuple(reader.others),
        _back_doors(root),
        tuple(_taps(root))[:_MOST_INTERFACES],
        first(reader.too_long),
    )


def on_networks(document: bytes) -> tuple[OnNetwork, ...]:
    """The guest's interfaces on libvirt's networks. BadInput as by ``parse``."""
    return tuple(_on_network(device) for _, device in _candidates(_root(document), ("interface",)) if _network(device))


def _on_network(device: etree._Element) -> OnNetwork:
    """In a status file the VF stands in ``actual`` (virDomainActualNetDefFormat)."""
    actual = child(device, "actual")
    source = child(actual, "source") if actual is not None and actual.get("type") == "hostdev" else None
    address = child(source, "address") if source is not None else None
    return OnNetwork(_network(device), _mac(device), "" if address is None else str(pci_address(address)))


def _network(interface: etree._Element) -> str:
    return _attribute(interface, "source", "network") if interface.get("type") == "network" else ""


def parse_device(document: bytes) -> DeviceXml:
    """Read one device's own document, as ``virsh attach-device`` takes it.

    BadInput as by ``parse``, and for a name that is longer than any can be.
    """
    root = _root(document)
    reader = _Reader()
    if root.tag in _TAGS:
        for layer in _layers(root):
            reader.read(layer, root)
    if reader.too_long:
        raise BadInput(reader.too_long[0])
    document = etree.tostring(root, encoding="UTF-8")
    return DeviceXml(str(root.tag), reader.devices, _mac(root), first(reader.warnings), document)


class _Controller(NamedTuple):
    """An NVMe controller: its index in the list of devices, and the disks on it, in order."""

    at: int
    disks: dict[Disk, None]


class _Reader:
    """Collects the devices of one document."""

    def __init__(self, every_kind: bool = False) -> None:
        self._every_kind = every_kind
        self.others: list[LibvirtsDevice] = []
        self.warnings: list[str] = []
        self.too_long: list[str] = []
        self._devices: list[HostDevice] = []
        self._lines: dict[Identity, int] = {}
        self._controllers: dict[Identity, _Controller] = {}

    @property
    def devices(self) -> tuple[HostDevice, ...]:
        """All devices that were read. Each NVMe controller has its disks."""
        devices = self._devices.copy()
        for at, disks in self._controllers.values():
            devices[at] = devices[at]._replace(disks=tuple(disks))
        return tuple(devices)

    def read(self, node: etree._Element, device: etree._Element) -> None:
        """Read one of the elements from _candidates."""
        alias = _attribute(device, "alias", "name")
        try:
            if node.tag == "hostdev":
                self._hostdev(node, alias)
            elif node.tag == "interface":
                if node.get("type") == "hostdev":
                    self._add(node, "interface", _interface_type(node), alias)
            elif node.tag == "redirdev":
                self.others.append(redirected(node))
            elif node.get("type") == "nvme":
                self._nvme(node, Disk(alias, _attribute(device, "target", "dev")))
        except Unknown as unknown:
            into = self.too_long if isinstance(unknown, TooLong) else self.warnings
            into.append(f"{unknown}, line {line_of(node)}")

    def _hostdev(self, node: etree._Element, alias: str) -> None:
        """Read <hostdev> (virDomainHostdevDefParseXML)."""
        mode = node.get("mode", "subsystem")
        if mode == "capabilities" and self._every_kind:
            self.others.append(capability(node))
            return
        if mode != "subsystem":  # capabilities: for LXC only
            raise Unknown(f"hostdev mode {quoted(mode)} is not supported")
        self._add(node, "hostdev", required(node, "type"), alias)

    def _add(self, node: etree._Element, source: Source, kind: str, alias: str) -> None:
        """Read the elements that name the device (virDomainHostdevDefParseXMLSubsys)."""
        read = KINDS.get(kind)
        if read is None:
            raise Unknown(f"{node.tag} type {quoted(kind)} is not known")
        found = read(node, required_child(node, "source"))
        if not found.missing:
            self._once(node, found)
        # Only "yes" counts: libvirt ignores an unknown value here.
        managed = node.get("managed") == "yes"
        hint = _mac(node) if source == "interface" else found.ids
        self._devices.append(
            HostDevice(found.kind, source, managed, found.address, found.pci, found.model, found.missing, alias, hint)
        )

    def _nvme(self, layer: etree._Element, disk: Disk) -> None:
        """Read one NVMe source of a disk (virDomainDiskSourceNVMeParse).

        Several namespaces of one controller are one device. The first decides whether it is managed, because libvirt
        binds the controller once, for the first (virNVMeDeviceListCreateDetachList).
        """
        source = required_child(layer, "source")
        kind = required(source, "type")
        if kind != "pci":
            raise Unknown(f"NVMe source type {quoted(kind)} is not known")
        # virDomainDiskDefPostParse makes the disk itself managed, not the layers below it.
        managed = source.get("managed", "yes" if layer.tag == "disk" else "no")
        if managed not in ("yes", "no"):
            raise bad(source, f"managed={quoted(managed)} is neither yes nor no")
        pci = pci_address(required_child(source, "address"))
        found = Found("pci", str(pci), ("pci", str(pci)), pci)
        if found.identity not in self._controllers:
            self._once(source, found)
            self._controllers[found.identity] = _Controller(len(self._devices), {})
            self._devices.append(HostDevice("pci", "disk", managed == "yes", str(pci), pci, alias=disk.alias))
        self._controllers[found.identity].disks[disk] = None  # another layer of the same disk adds nothing

    def _once(self, node: etree._Element, found: Found) -> None:
        """Refuse a device that the document has named before (virDomainDefHostdevValidate).

        libvirt refuses a controller that is both hostdev and NVMe disk only at the start: PCI device in use.
        """
        first = self._lines.get(found.identity)
        if first is not None:
            what = f"{found.kind} device {quoted(found.address)}"
            raise bad(node, f"{what} is named twice, first in line {first}")
        self._lines[found.identity] = line_of(node)


def _root(document: bytes) -> etree._Element:
    """The root element. Everything that could be dangerous is refused first."""
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
        import re

        reason = re.sub(r", line \d+, column \d+$", "", first)[:160]
        raise BadInput(f"the XML is malformed: {reason}, line {error.lineno or 1}") from None
    if root.getroottree().docinfo.internalDTD is not None:  # an unusual encoding hid it from the check
        raise BadInput("the XML has a DOCTYPE, line 1", prolog.NO_DOCTYPE)
    return root


def _back_doors(root: etree._Element) -> tuple[str, ...]:
    if next(root.iterchildren(f"{QEMU}*"), None) is None:
        return ()
    from libhook.xml import backdoor  # few guests have any

    return backdoor.found(root)


def _taps(root: etree._Element) -> Iterator[str]:
    """The names of the guest's interfaces on the host (virDomainNetDefParseXML), as far as the kernel takes them."""
    for _, device in _candidates(root, ("interface",)):
        name = _attribute(device, "target", "dev") if device.get("type") in _WITH_TAP else ""
        if 0 < len(name) <= _LONGEST_INTERFACE and _OF_INTERFACES.issuperset(name) and name[0] not in "-.":
            yield name


def _interface_type(node: etree._Element) -> str:
    """The device type that <interface type='hostdev'> names (virDomainNetDefParseXML)."""
    sources = list(node.iterchildren("source"))
    for source in sources:
        for address in source.iterchildren("address"):
            kind = address.get("type")
            if kind:
                return kind
    if any(child(source, "vendor") is not None for source in sources):
        return "usb"
    raise bad(node, "interface of type hostdev has no source address type")


def _candidates(root: etree._Element, tags: tuple[str, ...]) -> Iterator[tuple[etree._Element, etree._Element]]:
    """The elements that may name a host device, each with the device of the guest that it belongs to.

    They come only from /domain/devices. <metadata> holds whatever its owner likes.
    """
    for devices in root.iterchildren("devices"):
        for device in devices.iterchildren(*tags):
            yield from ((layer, device) for layer in _layers(device))


def _layers(device: etree._Element) -> Iterator[etree._Element]:
    """The device itself. For a disk, also the layers below and beside it, which may be on NVMe too."""
    yield device
    if device.tag == "disk":
        yield from _chain(child(device, "backingStore"))
        yield from _chain(child(device, "mirror"))


def _chain(layer: etree._Element | None) -> Iterator[etree._Element]:
    """A layer of a disk and the layers below it. Each has a type and a source, like the disk itself."""
    while layer is not None:
        yield layer
        layer = child(layer, "backingStore")


def _mac(interface: etree._Element) -> str:
    return _attribute(interface, "mac", "address").lower()


def _attribute(node: etree._Element, name: str, attribute: str) -> str:
    """An attribute of the first child with this name; "" where there is none, or it has more bytes than any name."""
    found = child(node, name)
    text = "" if found is None else found.get(attribute, "")
    return text if len(text) <= LONGEST and len(text.encode()) <= LONGEST else ""
