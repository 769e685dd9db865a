# SPDX-License-Identifier: LGPL-2.1-or-later
"""What audit.extra adds, as the audit trail's own readers have it back."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import auparse
import pytest
from conftest import MakeGuest
from guests import pci, usb, virsh
from host import NIC, PCI, USB_PEN
from trail import LOG, records

CONFIG = Path("/etc/libhook/config.toml")


@pytest.fixture
def extra() -> Iterator[None]:
    """Switch it on for the test."""
    CONFIG.parent.mkdir(exist_ok=True)
    CONFIG.write_text("[audit]\nextra = true\n")
    yield
    CONFIG.unlink()


def found_by_ausearch(*arguments: str) -> str:
    """What ausearch prints for a search among the records of host devices."""
    program = str(Path("/usr/bin/python3").resolve())
    command = ["ausearch", "--input", str(LOG), "-m", "VIRT_RESOURCE", "-x", program, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=600, check=False).stdout


def read_by_auparse(uuid: str) -> list[dict[str, str]]:
    """Each of our records of the guest, field by field."""
    found = []
    reader = auparse.AuParser(auparse.AUSOURCE_FILE, str(LOG))
    while reader.parse_next_event():
        fields = {}
        while True:
            fields[reader.get_field_name()] = reader.interpret_field()
            if not reader.next_field():
                break
        if fields.get("uuid") == uuid and fields.get("exe", "").startswith("/usr/bin/python3"):
            found.append(fields)
    return found


@pytest.mark.usefixtures("extra")
def test_the_trails_readers_find_the_record_and_its_fields(guest: MakeGuest) -> None:
    """ausearch finds it by the guest's name and UUID together, auparse reads each field; libvirtd's is its head."""
    group = (PCI / "devices" / NIC / "iommu_group").resolve().name
    one = guest(pci(NIC), usb(USB_PEN), name="extra guest").start()
    one.destroy()
    ours = records(one, ours=True)
    assert [record.field("reason") for record in ours] == ["start", "start", "stop", "stop"]
    for searched in (["-vm", one.name], ["-uu", one.uuid], ["-vm", one.name, "-uu", one.uuid]):
        assert found_by_ausearch(*searched).count("device-id=") == 4
    read = read_by_auparse(one.uuid)
    assert {fields["vm"] for fields in read} == {one.name}
    cards = [fields for fields in read if fields["bus"] == "pci"]
    assert [(one["device"], one["driver"], one["iommu-group"], one["device-id"]) for one in cards] == [
        (NIC, '"e1000e"', group, '"8086:10d3"')
    ] * 2
    pens = [fields for fields in read if fields["bus"] == "usb"]
    assert [(one["device-id"], "driver" in one) for one in pens] == [(f'"{":".join(USB_PEN)}"', False)] * 2
    theirs = {record.text for record in records(one, "start", ours=False)}
    assert {record.text.split(" driver=")[0].split(" device-id=")[0] for record in ours[:2]} == theirs
    assert virsh("list", "--all", "--uuid").split() == []
