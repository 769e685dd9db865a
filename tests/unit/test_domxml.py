# SPDX-License-Identifier: LGPL-2.1-or-later
"""What libhook reads in domain XML: real documents, each kind of device, and libvirt's own spellings."""

from pathlib import Path

import pytest
from generated import generated
from hypothesis import strategies as st
from xml_making import devices as any_devices
from xml_reading import DOCUMENTS, UUID, document, hostdev, pci, read

from libhook.errors import BadInput
from libhook.facts.address import PciAddress
from libhook.facts.domain import HostDevice
from libhook.handlers import record
from libhook.story.reading import begin
from libhook.xml import domxml

_THREE = [
    "pci hostdev no 0000:01:00.0",
    "pci hostdev no 0000:07:00.0",
    "pci hostdev no 0000:07:00.1",
]
# For each guest, its devices at the operations that differ and at all others (*).
_GOLDEN: dict[str, dict[str, list[str]]] = {
    "plain": {"*": []},
    "nic_managed": {"*": ["pci hostdev yes 0000:01:00.0"]},
    "nic_unmanaged_refused": {"*": ["pci hostdev no 0000:01:00.0"]},
    "nic_unmanaged": {"*": _THREE},
    "driver_model": {"*": _THREE},
    "usb": {
        "prepare": ["usb hostdev no 000.000", "usb hostdev no 002.002", "usb hostdev no 000.000"],
        "*": ["usb hostdev no 001.002", "usb hostdev no 002.002", "usb hostdev no 000.000"],
    },
    "scsi": {"*": ["scsi hostdev no scsi_host0:0:0:0"]},
    "nvme": {"*": ["pci disk yes 0000:04:00.0"]},
    "vf_hostdev": {"*": ["pci hostdev yes 0000:02:10.0"]},
    "vf_interface": {"*": ["pci interface yes 0000:02:10.2"]},
    "vf_pool": {
        "start": ["pci interface yes 0000:02:10.0"],
        "started": ["pci interface yes 0000:02:10.0"],
        "*": [],
    },
    "start_fails": {"*": ["pci hostdev yes 0000:02:10.0"]},
    "a_b___touch_x___": {"prepare": ["usb hostdev no 000.000"], "*": ["usb hostdev no 001.002"]},
    "__help": {"prepare": ["usb hostdev no 000.000"], "*": ["usb hostdev no 001.002"]},
    "saved": {"*": []},
    "hotplug": {
        "prepare": [],
        "start": [],
        "started": [],
        "*": ["usb hostdev no 001.002", "pci hostdev yes 0000:02:10.4"],
    },
}
_NAMES = {
    "nic_managed": "nic managed",
    "a_b___touch_x___": "a b;$(touch x)\"'",
    "__help": "--help",
}


def _brief(devices: tuple[HostDevice, ...]) -> list[str]:
    return [f"{d.kind} {d.source} {'yes' if d.managed else 'no'} {d.address}" for d in devices]


def _one(devices: str) -> HostDevice:
    (device,) = domxml.parse(document(devices)).devices
    return device


def test_all_84_documents_are_here() -> None:
    """A wrong path must not pass as success."""
    assert len(DOCUMENTS) == 84


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.stem)
def test_real_documents_name_the_devices_they_are_known_to_name(path: Path) -> None:
    """Each document that libvirtd wrote is read like the second reading and like the list above."""
    _, guest, operation, _, _ = path.name.split(".")
    domain = domxml.parse(path.read_bytes())
    expected = _GOLDEN[guest].get(operation, _GOLDEN[guest]["*"])
    assert _brief(domain.devices) == expected == read(path.read_bytes())
    assert (domain.name, domain.virt) == (_NAMES.get(guest, guest.replace("_", "-")), "qemu")
    assert domain.warnings == ()


def test_a_usb_device_is_missing_only_where_libvirt_says_so() -> None:
    """missing='yes' stands in the XML of a running guest alone, and its address stays unknown."""
    states = {
        path.name.split(".")[2]: [device.missing for device in domxml.parse(path.read_bytes()).devices]
        for path in DOCUMENTS
        if ".usb." in path.name
    }
    missing = [False, False, True]
    assert states == {
        "prepare": [False] * 3,
        "start": missing,
        "started": missing,
        "stopped": [False] * 3,
        "release": [False] * 3,
    }


def test_the_driver_model_is_read_from_hostdev_and_interface() -> None:
    """virDomainHostdevDefParseXMLSubsys reads <driver model> of both, the first of several."""
    source = "<address type='pci' bus='1'/>"
    driver = "<driver name='vfio' model='mlx5_vfio_pci'/><driver model='other'/>"
    assert _one(hostdev("pci", source, more=driver)).model == "mlx5_vfio_pci"
    assert _one(f"<interface type='hostdev'><source>{source}</source>{driver}</interface>").model == "mlx5_vfio_pci"
    assert _one(hostdev("pci", source, more="<driver name='vfio'/>")).model is None
    assert _one(hostdev("pci", source, more="<driver model=''/>")).model is None


@pytest.mark.parametrize(
    ("devices", "expected"),
    [
        (pci("domain='0x12345678' bus='0xff' slot='0x1f' function='0x7'"), "pci hostdev no 12345678:ff:1f.7"),
        (pci("bus='010' slot='10'"), "pci hostdev no 0000:08:0a.0"),
        (pci("bus='+1' slot=' 0X1'"), "pci hostdev no 0000:01:01.0"),
        (hostdev("pci", ""), "pci hostdev no 0000:00:00.0"),
        (hostdev("pci", "<address bus='1'/>", "managed='yes'"), "pci hostdev yes 0000:01:00.0"),
        (hostdev("pci", "<address bus='1'/>", "managed='YES'"), "pci hostdev no 0000:01:00.0"),
        (
            "<hostdev type='pci'><source><address bus='1'/><address bus='2'/></source></hostdev>",
            "pci hostdev no 0000:01:00.0",
        ),
        (hostdev("usb", "<address bus='0x10' device='1234'/>"), "usb hostdev no 016.1234"),
        (hostdev("usb", "<vendor id='0x1'/><product id='0'/>"), "usb hostdev no 000.000"),
        (
            "<interface type='hostdev'><source><vendor id='1'/><product id='2'/></source></interface>",
            "usb interface no 000.000",
        ),
        (
            "<interface type='hostdev'><source><address type='usb' bus='1' device='2'/></source></interface>",
            "usb interface no 001.002",
        ),
        (
            hostdev("scsi", "<adapter name='scsi_host0'/><address bus='0' target='1' unit='18446744073709551615'/>"),
            "scsi hostdev no scsi_host0:0:1:18446744073709551615",
        ),
        (
            "<hostdev type='scsi'><source protocol='iscsi' name='iqn.1992-01.com:a/1'/></hostdev>",
            "scsi hostdev no iqn.1992-01.com:a/1",
        ),
        (
            "<hostdev type='scsi_host'><source protocol='vhost' wwpn='naa.5123456789ABCDE0'/></hostdev>",
            "scsi_host hostdev no naa.5123456789ABCDE0",
        ),
        (hostdev("mdev", f"<address uuid=' {UUID.upper().replace('-', ' ')}'/>"), f"mdev hostdev no {UUID}"),
        (
            "<disk type='nvme'><source type='pci' namespace='1'><address bus='1'/></source></disk>",
            "pci disk yes 0000:01:00.0",
        ),
    ],
)
def test_each_kind_is_read_as_libvirt_reads_it(devices: str, expected: str) -> None:
    """Every kind, with libvirt's defaults and its spellings of numbers and UUIDs."""
    domain = domxml.parse(document(devices))
    assert _brief(domain.devices) == [expected]
    assert domain.warnings == ()
    pci_address = domain.devices[0].pci
    assert (str(pci_address) if pci_address else None) == (expected.split()[3] if "pci" in expected else None)


def _nvme(bus: int, managed: str = "", below: str = "", tag: str = "disk") -> str:
    source = f"<source type='pci' {managed} namespace='1'><address bus='{bus}'/></source>"
    return f"<{tag} type='nvme'>{source}{below}</{tag}>"


def test_a_controller_counts_once_however_many_of_its_namespaces_are_disks() -> None:
    """libvirt binds the controller once, managed as the first disk says."""
    domain = domxml.parse(document(_nvme(1, "managed='no'") + _nvme(2) + _nvme(1, "managed='yes'")))
    assert _brief(domain.devices) == ["pci disk no 0000:01:00.0", "pci disk yes 0000:02:00.0"]


def test_the_disks_of_a_controller() -> None:
    """Each with its alias and target, once however many of its layers are there; other devices have none."""
    layers = _nvme(1, tag="backingStore", below=_nvme(2, tag="backingStore"))
    named = [f"<alias name='{alias}'/><target dev='{target}'/>" for alias, target in (("d1", "vda"), ("d2", "vdb"))]
    domain = domxml.parse(document(_nvme(1, below=named[0] + layers) + _nvme(1, below=named[1]) + pci("bus='9'")))
    assert [(device.address[5:7], device.alias, device.disks, device.aliases) for device in domain.devices] == [
        ("01", "d1", (("d1", "vda"), ("d2", "vdb")), ("d1", "d2")),
        ("02", "d1", (("d1", "vda"),), ("d1",)),
        ("09", "", (), ("",)),
    ]


def test_nvme_sources_are_found_below_a_disk_of_any_type() -> None:
    """The backing chain, the mirror and its chain count; unmanaged unless they say otherwise."""
    chain = _nvme(2, tag="backingStore", below=_nvme(3, "managed='yes'", tag="backingStore"))
    mirror = _nvme(4, tag="mirror", below=_nvme(5, tag="backingStore"))
    disk = f"<disk type='file'><source file='/x'/>{chain}{mirror}</disk>"
    assert _brief(domxml.parse(document(disk)).devices) == [
        "pci disk no 0000:02:00.0",
        "pci disk yes 0000:03:00.0",
        "pci disk no 0000:04:00.0",
        "pci disk no 0000:05:00.0",
    ]


def test_only_children_of_devices_count() -> None:
    """Look-alikes in <metadata>, below other elements, or in another namespace are not devices."""
    device, disk = pci("bus='9'"), _nvme(8)
    more = f"<metadata><a:b xmlns:a='urn:a'><devices>{device}{disk}</devices></a:b></metadata>{device}"
    inside = (
        f"<hub>{device}{disk}</hub><x:hostdev xmlns:x='urn:x' type='pci'/><!-- {device} --><?pi {device}?>"
        f"<hostdev type='pci'><source><address bus='1'/></source>{_nvme(7, tag='backingStore')}</hostdev>"
        "<interface type='network'><source network='pool'><address type='pci' bus='6'/></source></interface>"
    )
    assert _brief(domxml.parse(document(inside, more=more)).devices) == ["pci hostdev no 0000:01:00.0"]


def test_every_devices_element_is_read() -> None:
    """libvirt takes ./devices/hostdev, so a second <devices> counts as well."""
    second = pci("bus='2'")
    domain = domxml.parse(document(pci("bus='1'"), more=f"<devices>{second}</devices>"))
    assert [device.pci for device in domain.devices] == [PciAddress(0, 1, 0, 0), PciAddress(0, 2, 0, 0)]


@pytest.mark.parametrize(
    ("devices", "warning"),
    [
        ("<hostdev type='quantum'/>", "hostdev type 'quantum' is not known, line 5"),
        (
            "<hostdev mode='capabilities' type='misc'/>",
            "hostdev mode 'capabilities' is not supported, line 5",
        ),
        (
            "<interface type='hostdev'><source><address type='cxl'/></source></interface>",
            "interface type 'cxl' is not known, line 5",
        ),
        (
            "<hostdev type='scsi'><source protocol='nvmeof'/></hostdev>",
            "SCSI protocol 'nvmeof' is not known, line 5",
        ),
        (
            "<hostdev type='scsi_host'><source protocol='vfio'/></hostdev>",
            "scsi_host protocol 'vfio' is not known, line 5",
        ),
        (
            "<disk type='nvme'><source type='fabrics'/></disk>",
            "NVMe source type 'fabrics' is not known, line 5",
        ),
    ],
)
def test_what_a_newer_libvirt_may_have_is_passed_over_with_a_warning(devices: str, warning: str) -> None:
    """An unknown type is no error, and the devices after it are read."""
    domain = domxml.parse(document(devices + pci("bus='1'")))
    assert domain.warnings == (warning,)
    assert _brief(domain.devices) == ["pci hostdev no 0000:01:00.0"]


@generated(
    "XML", st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"], exclude_characters="￾￿"), min_size=1)
)
def test_any_name_comes_through(name: str) -> None:
    """A name is taken as it is, whatever characters XML allows in it."""
    written = "".join(f"&#{ord(character)};" for character in name)
    assert domxml.parse(document(name=written)).name == name


def test_a_name_may_be_written_in_pieces() -> None:
    """The first <name> counts, with its comments left out and its CDATA taken in, as XPath's string() has it."""
    pieces = "<name>a<!-- b -->c<?d?><![CDATA[<e>]]><f>g</f></name><name>second</name>"
    text = f"<domain type='kvm'>{pieces}<uuid>{UUID}</uuid><uuid>bad</uuid></domain>"
    assert domxml.parse(text.encode()).name == "ac<e>g"


def test_every_byte_that_xml_allows_in_a_name_reaches_the_record() -> None:
    """Written as a character reference or as it is, and back from the record's hex."""
    for code in (9, 10, 13, *range(32, 256), 0xFFFD, 0x10FFFF):
        domain = domxml.parse(document(pci("bus='1'"), name=f"a &#{code};b"))
        assert domain.name == f"a {chr(code)}b"
        vm = record.text(domain, domain.devices[0], "start").split(" vm=")[1].split(" ")[0]
        assert bytes.fromhex(vm).decode() == domain.name


@generated("XML", st.lists(any_devices(), max_size=6, unique=True))
def test_any_devices_are_read_like_the_second_reading(devices: list[str]) -> None:
    """Any mixture, in the document's order; a device named twice is the only reason to refuse one."""
    raw = document("\n".join(devices))
    try:
        domain = domxml.parse(raw)
    except BadInput as error:
        assert "named twice" in error.line  # noqa: PT017 - the rare outcome
    else:
        assert _brief(domain.devices) == read(raw)


def test_the_names_of_the_guests_interfaces_on_the_host() -> None:
    """As far as the document has them, and the kernel takes them. They come through the child that parses, too."""
    names = ("vnet0", "tap-a.1", "a" * 15, "a" * 16, "a b", "../x", "..", "-j", "a\u00e4", "")
    given = "".join(f"<interface type='network'><target dev='{name}'/></interface>" for name in names)
    other = "<interface type='user'><target dev='eth0'/></interface><disk type='file'><target dev='vda'/></disk>"
    xml = document(given + other)
    assert domxml.parse(xml).taps == ("vnet0", "tap-a.1", "a" * 15)
    assert begin(xml)(b"").taps == ("vnet0", "tap-a.1", "a" * 15)


def test_the_names_of_many_interfaces_fit_into_one_variable() -> None:
    """The kernel takes no longer string than MAX_ARG_STRLEN for an argument or a variable."""
    names = [f"a-long-{number:08d}" for number in range(9_000)]
    given = "".join(f"<interface type='bridge'><target dev='{name}'/></interface>" for name in names)
    taps = domxml.parse(document(given)).taps
    assert list(taps) == names[: len(taps)]
    assert len(taps) > 4_000
    assert len(" ".join(taps)) < 131_072 // 2 + 1
