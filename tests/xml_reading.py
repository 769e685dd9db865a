# SPDX-License-Identifier: LGPL-2.1-or-later
"""Domain XML for tests: how to make it, and a second way to read it that shares nothing with libhook's."""

import re
from pathlib import Path
from xml.etree import ElementTree

DOCUMENTS = sorted((Path(__file__).parent / "data" / "hook-stdin").glob("*.xml"))
UUID = "6795d288-a702-4e31-9462-e5b227641fd4"


def document(devices: str = "", *, name: str = "guest", uuid: str = UUID, more: str = "") -> bytes:
    """A domain with these devices; the first of them is in line 5."""
    text = f"<domain type='kvm'>\n<name>{name}</name>\n<uuid>{uuid}</uuid>\n<devices>\n{devices}\n</devices>{more}"
    return f"{text}\n</domain>\n".encode()


def hostdev(kind: str, source: str, attributes: str = "", more: str = "") -> str:
    """A <hostdev> in one line."""
    return f"<hostdev mode='subsystem' type='{kind}' {attributes}><source>{source}</source>{more}</hostdev>"


def pci(attributes: str, more: str = "") -> str:
    """A PCI <hostdev> with these attributes of its address."""
    return hostdev("pci", f"<address {attributes}/>", more=more)


def read(raw: bytes) -> list[str]:
    """The devices as ``kind source managed address`` for documents that libvirt wrote, without duplicates.

    Another way than libhook's: every element of the tree by its path, numbers by their prefix.
    """
    root = ElementTree.fromstring(raw)  # noqa: S314 - a test's own document
    found: list[str] = []
    for path, node in _walk(root, ""):
        source = node.find("source")
        if source is None:
            continue
        managed = node.get("managed", "no")
        if path == "/devices/hostdev":
            found.append(f"{node.get('type')} hostdev {managed} {_address(node.get('type'), source)}")
        elif path == "/devices/interface" and node.get("type") == "hostdev":
            kind = source.find("address").get("type")  # type: ignore[union-attr]
            found.append(f"{kind} interface {managed} {_address(kind, source)}")
        elif re.fullmatch(r"/devices/disk(/mirror)?(/backingStore)*", path) and node.get("type") == "nvme":
            found.append(f"pci disk {source.get('managed')} {_address('pci', source)}")
    return list(dict.fromkeys(found)) if any(" disk " in line for line in found) else found


def read_others(raw: bytes) -> list[str]:
    """What only libvirt records, as ``kind source address``: again by every element's path."""
    found = []
    names = {"storage": "block", "misc": "char", "net": "interface"}
    for path, node in _walk(ElementTree.fromstring(raw), ""):  # noqa: S314 - a test's own document
        if path == "/devices/redirdev":
            found.append("redir redirdev USB redirdev")
        elif path == "/devices/hostdev" and node.get("mode") == "capabilities":
            kind = node.get("type", "")
            found.append(f"{kind} hostdev {node.findtext(f'source/{names[kind]}')}")
    return found


def _walk(node: ElementTree.Element, path: str) -> list[tuple[str, ElementTree.Element]]:
    here = [(path, node)]
    for child in node:
        here += _walk(child, f"{path}/{child.tag}")
    return here


def _address(kind: str | None, source: ElementTree.Element) -> str:
    if kind == "scsi" and source.get("protocol") == "iscsi":
        return source.get("name", "")
    if kind == "scsi_host":
        return source.get("wwpn", "")
    node = source.find("address")
    if node is None:
        return "000.000"
    if kind == "mdev":
        return node.get("uuid", "")
    number = {key: _number(value) for key, value in node.attrib.items() if key != "type"}
    if kind == "pci":
        return "{domain:04x}:{bus:02x}:{slot:02x}.{function:d}".format(**number)
    if kind == "usb":
        return "{bus:03d}.{device:03d}".format(**number)
    adapter = source.find("adapter")
    assert adapter is not None
    return "{}:{bus}:{target}:{unit}".format(adapter.get("name"), **number)


def _number(text: str) -> int:
    if text[:2] in ("0x", "0X"):
        return int(text[2:], 16)
    return int(text, 8 if text.startswith("0") else 10)
