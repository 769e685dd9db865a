# SPDX-License-Identifier: LGPL-2.1-or-later
"""Domain XML that is broken or hostile: one line that says what and where, and never anything else."""

import time
from collections.abc import Callable
from contextlib import suppress

import pytest
from generated import generated
from hypothesis import strategies as st
from xml_reading import DOCUMENTS, UUID, document, hostdev, pci

from libhook.errors import BadInput
from libhook.facts.domain import Domain
from libhook.xml import domxml, prolog


def _refusal(raw: bytes) -> str:
    with pytest.raises(BadInput) as caught:
        domxml.parse(raw)
    line = caught.value.line
    assert "\n" not in line
    assert len(line) < 400
    return line


_USB_IDS = "<vendor id='0x1'/><product id='0x2'/>"
_ISCSI = "<hostdev type='scsi'><source protocol='iscsi' name='{}'><host name='{}'/></source></hostdev>"
_SCSI = hostdev("scsi", "<adapter name='scsi_host0'/><address bus='0' target='0' unit='{}'/>")
_VHOST = "<hostdev type='scsi_host'><source protocol='vhost' wwpn='{}'/></hostdev>"
_NVME = "<disk type='nvme'><source type='pci' namespace='1'><address bus='1'/></source></disk>"


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "the XML is empty, line 1"),
        (b" \n\t", "the XML is empty, line 1"),
        (b"hello", "the XML is malformed: Start tag expected, '<' not found, line 1"),
        (b"<domain>\n<name>", "the XML is malformed: Premature end of data in tag name line 2, line 2"),
        (b"<domain>\n\xff</domain>", "the XML is malformed: Input is not proper UTF-8, indicate encoding !, line 2"),
        (b"<domain>\n&foo;</domain>", "the XML is malformed: Entity 'foo' not defined, line 2"),
        (b"<domain>\n\0</domain>", "the XML has a null byte, line 2"),
        (b"<network/>", "the root element is 'network', not 'domain', line 1"),
        (b"<domain xmlns='urn:x'/>", "the root element is '{urn:x}domain', not 'domain', line 1"),
        (b"<domain/>", "domain has no type=, line 1"),
        (b"<domain type='kvm x&#10;'/>", "domain type 'kvm x\\n' is not one of libvirt's, line 1"),
        (b"<domain type='kvm'/>", "the domain has no <name>, line 1"),
        (b"<domain type='kvm'><name/></domain>", "the domain has no <name>, line 1"),
        (b"<domain type='kvm'><name>a</name>\n</domain>", "the domain has no <uuid>, line 1"),
        (document(uuid=UUID[:-1]), f"uuid '{UUID[:-1]}' is not 32 hex digits, line 3"),
        (document(uuid=UUID + "0"), f"uuid '{UUID}0' is not 32 hex digits, line 3"),
        (document(uuid="\n"), "uuid '\\n' is not 32 hex digits, line 3"),
    ],
)
def test_a_document_that_is_no_domain_is_refused(raw: bytes, reason: str) -> None:
    """Each gets one line with what is wrong and in which line."""
    assert _refusal(raw) == reason


@pytest.mark.parametrize(
    ("devices", "reason"),
    [
        (pci("bus='0x100'"), "PCI address: bus 0x100 is out of range, at most 0xff"),
        (pci("slot='32'"), "PCI address: slot 0x20 is out of range, at most 0x1f"),
        (pci("function='8'"), "PCI address: function 0x8 is out of range, at most 0x7"),
        (pci("domain='0x100000000'"), "address domain='0x100000000' is not a number from 0 to 0xffffffff"),
        (pci("bus='-1'"), "address bus='-1' is not a number from 0 to 0xffffffff"),
        (pci("bus='08'"), "address bus='08' is not a number from 0 to 0xffffffff"),
        (pci("bus=''"), "address bus='' is not a number from 0 to 0xffffffff"),
        ("<hostdev><source/></hostdev>", "hostdev has no type="),
        ("<hostdev type='pci'/>", "hostdev has no <source>"),
        ("<interface type='hostdev'/>", "interface of type hostdev has no source address type"),
        (
            "<interface type='hostdev'><source><address bus='1'/></source></interface>",
            "interface of type hostdev has no source address type",
        ),
        ("<disk type='nvme'/>", "disk has no <source>"),
        ("<disk type='nvme'><source/></disk>", "source has no type="),
        ("<disk type='nvme'><source type='pci'/></disk>", "source has no <address>"),
        ("<disk type='nvme'><source type='pci' managed='x'/></disk>", "managed='x' is neither yes nor no"),
        (hostdev("usb", "<vendor id='1'/>"), "USB device has no product"),
        (hostdev("usb", "<product id='1'/>"), "USB device has no vendor"),
        (hostdev("usb", "<vendor/><product id='1'/>"), "vendor has no id="),
        (hostdev("usb", "<address bus='1'/>"), "address has no device="),
        (hostdev("scsi", ""), "source has no <address>"),
        (hostdev("scsi", "<address bus='0' target='0' unit='0'/>"), "source has no <adapter>"),
        (hostdev("scsi", "<adapter/><address bus='0' target='0' unit='0'/>"), "adapter has no name="),
        (_SCSI.format("x"), "address unit='x' is not a number from 0 to 0xffffffffffffffff"),
        ("<hostdev type='scsi'><source protocol='iscsi'/></hostdev>", "source has no name="),
        ("<hostdev type='scsi_host'><source/></hostdev>", "source has no protocol="),
        (_VHOST.format("naa.1"), "wwpn 'naa.1' is not naa. and 16 hex digits"),
        (hostdev("mdev", ""), "source has no <address>"),
        (hostdev("mdev", "<address/>"), "address has no uuid="),
        (hostdev("mdev", "<address uuid='x'/>"), "uuid 'x' is not 32 hex digits"),
    ],
)
def test_a_device_that_cannot_be_told_is_refused(devices: str, reason: str) -> None:
    """What is out of range or not there is named, with its line."""
    assert _refusal(document(devices)) == f"{reason}, line 5"


@pytest.mark.parametrize(
    ("first", "second", "what"),
    [
        (pci("bus='1'"), pci("bus='0x01' domain='0'"), "pci device '0000:01:00.0'"),
        (
            pci("bus='1'"),
            "<interface type='hostdev'><source><address type='pci' bus='1'/></source></interface>",
            "pci device '0000:01:00.0'",
        ),
        (_NVME, pci("bus='1'"), "pci device '0000:01:00.0'"),
        (pci("bus='1'"), _NVME, "pci device '0000:01:00.0'"),
        (hostdev("usb", _USB_IDS), hostdev("usb", _USB_IDS), "usb device '000.000'"),
        (
            hostdev("usb", f"{_USB_IDS}<address bus='1' device='2'/>"),
            hostdev("usb", "<address bus='1' device='2'/>"),
            "usb device '001.002'",
        ),
        (_SCSI.format(0), _SCSI.format("0x0"), "scsi device 'scsi_host0:0:0:0'"),
        (_ISCSI.format("iqn.a", "h"), _ISCSI.format("iqn.a/0", "h"), "scsi device 'iqn.a/0'"),
        (
            _VHOST.format("naa.5123456789abcde0"),
            _VHOST.format("naa.5123456789abcde0"),
            "scsi_host device 'naa.5123456789abcde0'",
        ),
        (
            hostdev("mdev", f"<address uuid='{UUID}'/>"),
            hostdev("mdev", f"<address uuid='{UUID.upper()}'/>"),
            f"mdev device '{UUID}'",
        ),
    ],
)
def test_a_device_named_twice_is_refused(first: str, second: str, what: str) -> None:
    """Under each kind's own idea of being the same (virDomainHostdevMatch)."""
    assert _refusal(document(f"{first}\n{second}")) == f"{what} is named twice, first in line 5, line 6"


@pytest.mark.parametrize(
    "devices",
    [
        hostdev("usb", f"{_USB_IDS}<address bus='1' device='2'/>")
        + hostdev("usb", f"{_USB_IDS}<address bus='1' device='3'/>"),
        # As it stands in the running guest: one never found, one of its kind plugged in later.
        f"<hostdev type='usb'><source startupPolicy='optional' missing='yes'>{_USB_IDS}</source></hostdev>"
        + hostdev("usb", f"{_USB_IDS}<address bus='1' device='2'/>"),
        _ISCSI.format("iqn.a", "one") + _ISCSI.format("iqn.a", "two"),
        _VHOST.format("naa.5123456789abcde0") + _VHOST.format("naa.5123456789ABCDE0"),
        _NVME + _NVME,
    ],
)
def test_what_only_looks_like_named_twice_is_accepted(devices: str) -> None:
    """libvirt accepts these, so they start."""
    assert domxml.parse(document(devices)).devices


_BOMB = "<!DOCTYPE d [<!ENTITY a 'aaaaaaaaaa'>" + "".join(
    f"<!ENTITY {new} '{f'&{old};' * 10}'>" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    "prolog_text",
    [
        f"{_BOMB}]>",
        "<!DOCTYPE domain>",
        "<?xml version='1.0'?><!DOCTYPE domain SYSTEM 'file:///etc/passwd'>",
        "<?a?><!-- <domain> -->\t<!DOCTYPE domain PUBLIC 'a' 'http://192.0.2.1/a.dtd'>",
        "\ufeff<!DOCTYPE domain>",
        # libxml2 knows this encoding, so the name is hidden from whoever looks at bytes.
        "<?xml version='1.0' encoding='UTF-7'?>+ADwAIQ-DOCTYPE domain [ ]>",
    ],
)
def test_a_doctype_is_refused_outright(prolog_text: str) -> None:
    """Entities and DTDs are read by nobody, whatever hides them."""
    line = _refusal(prolog_text.encode() + document(name="&i;" if "ENTITY" in prolog_text else "a"))
    assert line == "the XML has a DOCTYPE, line 1: libvirt's own XML has none; remove it"


def test_the_word_doctype_inside_the_document_is_no_doctype() -> None:
    """In a comment, in CDATA or in a name it is text."""
    inside = "<!-- <!DOCTYPE a> --><metadata><![CDATA[<!DOCTYPE a>]]></metadata>"
    raw = b"<!-- <!DOCTYPE a> --><?p <!DOCTYPE a>?>" + document(name="&lt;!DOCTYPE", more=inside)
    assert domxml.parse(raw).name == "<!DOCTYPE"


@pytest.mark.parametrize(
    "make",
    [
        lambda: b"<domain>" + b" " * (50 << 20),
        lambda: b" " * (50 << 20),
        lambda: b"<" * (prolog.MAX_BYTES + 1),
        lambda: document(name="a" * prolog.MAX_BYTES),
    ],
    ids=["50 MB", "50 MB of spaces", "angles", "one byte and more too long"],
)
def test_a_document_larger_than_the_limit_is_refused_unread(make: Callable[[], bytes]) -> None:
    """The size is looked at first."""
    assert _refusal(make()) == "the XML has more than 16 MiB, line 1"


@pytest.mark.parametrize(
    "raw",
    [
        b"<a>" * 300_000,
        b"<?a?>" * 300_000 + b"<",
        b"<!---->" * 300_000 + b"<",
        document("<disk>" + "<backingStore type='nvme'>" * 300_000),
        document(pci(f"bus='{'0' * 1_000_000}x'")),
        document(pci(f"bus='{'9' * 1_000_000}'")),
        document(pci(f"bus='{' ' * 1_000_000}'")),
        document(uuid=" -" * 1_000_000),
        document(f"<{'h' * 40_000}"),
    ],
    ids=["deep", "PIs", "comments", "chain", "zeros", "nines", "spaces", "uuid", "long tag"],
)
def test_a_document_made_to_be_slow_is_refused_soon(raw: bytes) -> None:
    """No expression and no number takes longer than the document is long: a square of these sizes takes hours."""
    began = time.process_time()
    _refusal(raw)
    assert time.process_time() - began < 60


@pytest.mark.parametrize("name", ["usb.start", "nvme.start", "restore"])
def test_a_document_cut_at_any_byte_is_refused(name: str) -> None:
    """A pipe that breaks leaves nothing that could be taken for a guest."""
    raw = next(path for path in DOCUMENTS if name in path.name).read_bytes()
    end = raw.index(b"</domain>") + len(b"</domain>")
    for length in range(end):
        _refusal(raw[:length])
    assert isinstance(domxml.parse(raw[:end]), Domain)


_real = st.sampled_from(DOCUMENTS).map(lambda path: path.read_bytes())


@generated("XML", _real, st.data())
def test_a_damaged_document_is_a_domain_or_bad_input(raw: bytes, data: st.DataObject) -> None:
    """Bytes replaced, removed or repeated anywhere raise nothing else."""
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(raw)))
        end = start + data.draw(st.integers(0, 40))
        raw = raw[:start] + data.draw(st.one_of(st.binary(max_size=12), st.just(raw[start:end] * 2))) + raw[end:]
    with suppress(BadInput):
        domain = domxml.parse(raw)
        assert domain.name
        assert len(domain.uuid) == 36
