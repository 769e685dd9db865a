# SPDX-License-Identifier: LGPL-2.1-or-later
"""The text of records, against libaudit itself and against texts known to be libvirt's."""

import re

import pytest
from generated import generated
from hypothesis import strategies as st
from trail_writing import Trail

from libhook.facts.address import PciAddress
from libhook.facts.domain import NO_DRIVER, Domain, Extra, HostDevice
from libhook.handlers import record
from libhook.history.records import DeviceRecord, Parser

UUID = "6795d288-a702-4e31-9462-e5b227641fd4"

# What XML allows, and more: all but surrogates and NUL, which C strings cannot hold.
_texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))


def _libaudit(field: str, value: str) -> str:
    """The field as libaudit writes it. The length is 0 always: libaudit then takes the whole string."""
    audit = pytest.importorskip("audit", reason="python3-audit is not installed")
    return str(audit.audit_encode_nv_string(field, value, 0))


@pytest.mark.parametrize("byte", range(1, 128))
def test_each_ascii_byte_is_encoded_as_libaudit_does(byte: int) -> None:
    """Alone, first, in the middle and last."""
    character = chr(byte)
    for value in (character, f"{character}ab", f"a{character}b", f"ab{character}"):
        assert record.encode("vm", value) == _libaudit("vm", value)


@pytest.mark.parametrize("byte", range(128, 256))
def test_bytes_that_are_no_utf8_are_hex(byte: int) -> None:
    """They come as lone surrogates, which the binding refuses, and go out as the byte."""
    value = bytes([0x61, byte]).decode("utf-8", "surrogateescape")
    assert record.encode("vm", value) == f"vm=61{byte:02X}"


@generated("names", st.sampled_from(["vm", "device"]), _texts)
def test_any_text_is_encoded_as_libaudit_does(field: str, value: str) -> None:
    """Whatever a guest is called."""
    assert record.encode(field, value) == _libaudit(field, value)


@generated("names", _texts)
def test_encoding_loses_nothing_and_cannot_be_broken_out_of(value: str) -> None:
    """One word without quotes inside, from which the value can be had back."""
    written = record.encode("vm", value)
    match = re.fullmatch(r'vm=(?:"([\x21\x23-\x7e]*)"|([0-9A-F]+))', written, re.ASCII)
    assert match is not None
    assert (match[1] if match[2] is None else bytes.fromhex(match[2]).decode()) == value


def test_an_empty_value_is_quoted() -> None:
    """libaudit has vm="" for it, not a hex string of length 0."""
    assert record.encode("vm", "") == 'vm=""' == _libaudit("vm", "")


def _device(kind: str, address: str) -> HostDevice:
    pci = PciAddress.parse(address) if kind == "pci" else None
    return HostDevice(kind, "hostdev", True, address, pci)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kind", "address", "written"),
    [
        ("pci", "0000:01:00.0", '"0000:01:00.0"'),
        ("pci", "10000:e1:1f.7", '"10000:e1:1f.7"'),
        ("usb", "001.002", '"001.002"'),
        ("usb", "000.000", '"000.000"'),
        ("scsi", "scsi_host0:0:1:2", '"scsi_host0:0:1:2"'),
        ("scsi", "iqn.1992-01.com.example:a b/1", "69716E2E313939322D30312E636F6D2E6578616D706C653A6120622F31"),
        ("scsi_host", "naa.5123456789abcde0", '"naa.5123456789abcde0"'),
        ("mdev", UUID, f'"{UUID}"'),
    ],
)
def test_the_text_of_each_kind(kind: str, address: str, written: str) -> None:
    """libvirt 11's text byte for byte, and the first patch's: no virt=, and type= for bus=."""
    domain = Domain("guest1", UUID, "kvm", ())
    device = _device(kind, address)
    rest = f'vm="guest1" uuid={UUID}'
    assert record.text(domain, device, "start") == f"virt=kvm resrc=dev reason=start {rest} bus={kind} device={written}"
    assert record.text(domain, device, "stop", "2011") == f"resrc=dev reason=stop {rest} type={kind} device={written}"


@pytest.mark.parametrize("reason", ["start", "stop", "attach", "detach"])
def test_the_reason_is_named(reason: record.Reason) -> None:
    """Each of the four stands as it is."""
    text = record.text(Domain("a", UUID, "qemu", ()), _device("usb", "001.002"), reason)
    assert text == f'virt=qemu resrc=dev reason={reason} vm="a" uuid={UUID} bus=usb device="001.002"'


@pytest.mark.parametrize(
    ("extra", "written"),
    [
        (Extra("e1000e", "14", "8086:10d3"), ' driver="e1000e" iommu-group=14 device-id="8086:10d3"'),
        (Extra(NO_DRIVER, "0", "1b36:0010"), ' driver=(none) iommu-group=0 device-id="1b36:0010"'),
        (Extra('a "driver"'), " driver=61202264726976657222"),
        (Extra(ids="46f4:0001"), ' device-id="46f4:0001"'),
        (Extra(), ""),
        (None, ""),
    ],
)
@pytest.mark.parametrize("style", ["libvirt", "2011"])
def test_more_is_said_after_libvirts_own_fields_where_it_is_asked_for(
    extra: Extra | None, written: str, style: record.Style
) -> None:
    """What is known of the device, encoded as the rest is; and nothing at all where it is not asked for."""
    domain = Domain("guest1", UUID, "kvm", ())
    device = _device("pci", "0000:01:00.0")
    plain = record.text(domain, device, "start", style)
    known = device._replace(extra=extra)
    assert record.text(domain, known, "start", style, extra=True) == plain + written
    assert record.text(domain, known, "start", style) == plain


def test_libaudits_reader_takes_no_extra_field_for_something_else() -> None:
    """``id`` would be a user's, whatever stands in it: 8086:10d3 is root then. Ours are plain, the others as before."""
    auparse = pytest.importorskip("auparse", reason="python3-audit is not installed")
    device = _device("pci", "0000:01:00.0")._replace(extra=Extra("e1000e", "14", "8086:10d3"))
    text = record.text(Domain("a b", UUID, "kvm", ()), device, "start", extra=True)
    head = "type=VIRT_RESOURCE msg=audit(1795535088.344:10): pid=518 uid=0 auid=4294967295 ses=4294967295 msg="
    reader = auparse.AuParser(auparse.AUSOURCE_BUFFER, f"{head}'{text} exe=\"/x\" res=success'\n")
    assert reader.parse_next_event()
    read = {}
    while True:
        read[reader.get_field_name()] = (reader.interpret_field(), reader.get_field_type())
        if not reader.next_field():
            break
    plain = auparse.AUPARSE_TYPE_UNCLASSIFIED
    assert read["vm"][0] == "a b"
    assert read["device"][0] == "0000:01:00.0"
    assert read["driver"] == ('"e1000e"', plain)
    assert read["iommu-group"] == ("14", plain)
    assert read["device-id"] == ('"8086:10d3"', plain)


@pytest.mark.parametrize("style", ["libvirt", "2011"])
def test_history_reads_what_says_more_as_what_does_not(style: record.Style) -> None:
    """The same but for the ids, and as fast: of none of them is every field taken apart."""
    device = _device("pci", "0000:01:00.0")
    told: list[list[DeviceRecord]] = []
    for extra in (None, Extra("e1000e", "14", "8086:10d3"), Extra(NO_DRIVER, "14"), Extra(ids="46f4:0001")):
        trail = Trail()
        for reason in ("start", "stop"):
            known = device._replace(extra=extra)
            text = record.text(Domain("a b", UUID, "kvm", ()), known, reason, style, extra=True)
            trail.message("VIRT_RESOURCE", text, "libhook", True, 1000)
        parser = Parser()
        told.append([])
        for read in parser.records(b"\n" + bytes(trail)):
            assert isinstance(read, DeviceRecord)
            assert read.subject.ids == (extra.ids if extra else "")
            told[-1].append(read._replace(subject=read.subject._replace(ids="")))
        assert len(parser._subjects) == 1
    assert len(told[0]) == 2
    assert told == [told[0]] * 4


def test_a_name_cannot_forge_a_field() -> None:
    """A name that reads like the rest of a record is hex."""
    name = f'x" uuid={UUID} bus=pci device="0000:00:00.0'
    text = record.text(Domain(name, UUID, "kvm", ()), _device("usb", "001.002"), "start")
    assert text == (
        f'virt=kvm resrc=dev reason=start vm={name.encode().hex().upper()} uuid={UUID} bus=usb device="001.002"'
    )
