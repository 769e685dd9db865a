# SPDX-License-Identifier: LGPL-2.1-or-later
"""What inspect shows to programs and to people."""

import json

import pytest
from xml_reading import DOCUMENTS, UUID, document, hostdev, pci

from libhook.command import report, terminal
from libhook.facts.domain import Domain
from libhook.xml import domxml

_MISSING = "<hostdev type='usb'><source missing='yes'><vendor id='1'/><product id='2'/></source></hostdev>"
_UNRESOLVED = hostdev("usb", "<vendor id='3'/><product id='4'/>")


def _domain(devices: str, name: str = "guest") -> Domain:
    return domxml.parse(document(devices, name=name))


def test_the_object_of_inspect() -> None:
    """Its keys and values, and a record that is null where none is written."""
    devices = pci("bus='1'", "<driver model='vfio-pci'/>") + _UNRESOLVED + _MISSING
    start = f'virt=kvm resrc=dev reason=start vm="guest" uuid={UUID}'
    no_name = {"ids": None, "vendor": None, "model": None}
    usb = {"kind": "usb", "source": "hostdev", "managed": False, "address": "000.000", **no_name}
    assert report.inspect_json(_domain(devices)) == {
        "name": "guest",
        "uuid": UUID,
        "virt": "kvm",
        "host_devices": [
            {
                "kind": "pci",
                "source": "hostdev",
                "managed": False,
                "address": "0000:01:00.0",
                **no_name,
                "record": f'{start} bus=pci device="0000:01:00.0"',
            },
            usb | {"record": f'{start} bus=usb device="000.000"'},
            usb | {"record": None},
        ],
    }


def test_a_vf_out_of_a_pool_has_no_address_before_the_start() -> None:
    """Said, whether the guest has other devices or none; its network's name is made printable."""
    source = "<interface type='network'><source network='vfs'/><mac address='52:54:00:00:00:01'/>{}</interface>"
    address = "<actual type='hostdev'><source><address type='pci' bus='1' slot='16'/></source></actual>"
    bridged = "<interface type='bridge'><source bridge='br0'/></interface>"
    before, now = domxml.on_networks(document(source.format("") + bridged + source.format(address)))
    name = before._replace(network="vfs\x07")
    assert report.inspect_text(_domain(""), pools=[name, now]) == [
        f"{UUID}  kvm  guest",
        "KIND  SOURCE  MANAGED  ADDRESS",
        "pci   pool    ?        ?  of the network vfs\\x07  address known at start",
        "    its record names that address",
        "pci   pool    ?        0000:01:10.0  of the network vfs",
        "    its record names that address",
    ]
    both = {"network": "vfs", "mac": "52:54:00:00:00:01"}
    assert report.inspect_json(_domain(""), pools=[before, now])["pools"] == [
        {**both, "address": None},
        {**both, "address": "0000:01:10.0"},
    ]


def test_the_lines_of_inspect() -> None:
    """A device a line with what must be known besides, its record below it."""
    devices = (
        hostdev("pci", "<address bus='1'/>", "managed='yes'", "<driver model='vfio-pci'/>")
        + "<disk type='nvme'><source type='pci' namespace='1'><address bus='2'/></source></disk>"
        + _UNRESOLVED
        + _MISSING
    )
    start = f'    virt=kvm resrc=dev reason=start vm="guest" uuid={UUID}'
    assert report.inspect_text(_domain(devices)) == [
        f"{UUID}  kvm  guest",
        "KIND  SOURCE   MANAGED  ADDRESS",
        "pci   hostdev  yes      0000:01:00.0  driver vfio-pci",
        f'{start} bus=pci device="0000:01:00.0"',
        "pci   disk     yes      0000:02:00.0",
        f'{start} bus=pci device="0000:02:00.0"',
        "usb   hostdev  no       000.000  address known at start",
        f'{start} bus=usb device="000.000"',
        "usb   hostdev  no       000.000  missing",
        "    no record",
    ]


def test_a_guest_without_host_devices() -> None:
    """One line says so."""
    assert report.inspect_text(_domain("")) == [f"{UUID}  kvm  guest", "no host devices"]
    assert report.inspect_json(_domain(""))["host_devices"] == []


def test_the_first_patch_s_text_can_be_asked_for() -> None:
    """The style of the records is the configuration's."""
    domain = _domain(pci("bus='1'"))
    text = f'resrc=dev reason=start vm="guest" uuid={UUID} type=pci device="0000:01:00.0"'
    assert report.inspect_text(domain, "2011")[-1] == f"    {text}"
    assert json.dumps(text) in json.dumps(report.inspect_json(domain, "2011"))


def test_foreign_text_reaches_the_terminal_escaped_and_programs_unchanged(capsys: pytest.CaptureFixture[str]) -> None:
    """Names, drivers and addresses are chosen by whoever writes the XML."""
    evil = "&#10;&#9;&#x9b;31m"
    domain = _domain(
        pci("bus='1'", f"<driver model='{evil}'/>")
        + f"<hostdev type='scsi'><source protocol='iscsi' name='{evil}'/></hostdev>",
        name=evil,
    )
    terminal.show(report.inspect_text(domain))
    lines = capsys.readouterr().out.split("\n")
    assert len(lines) == 7
    assert all(line.isprintable() for line in lines)
    assert lines[0].endswith(r'"\n\t\x9b31m"')
    assert report.inspect_json(domain)["name"] == "\n\t\x9b31m"


def test_no_secret_of_a_document_is_shown() -> None:
    """The document of restore holds a VNC password."""
    raw = next(path for path in DOCUMENTS if "restore" in path.name).read_bytes()
    password = raw.split(b"passwd='")[1].split(b"'")[0].decode()
    domain = domxml.parse(raw)
    assert password not in json.dumps(report.inspect_json(domain)) + "".join(report.inspect_text(domain))
