# SPDX-License-Identifier: LGPL-2.1-or-later
"""XML and bytes that nobody would write: a domain whose every address can be recorded, or one line that says why."""

import re

from generated import generated
from hypothesis import example
from hypothesis import strategies as st
from xml_making import documents

from libhook.errors import BadInput
from libhook.handlers import record
from libhook.xml import domxml

_TEXT = re.compile(
    r"virt=[a-z]+ resrc=dev reason=start vm=(\"[!#-~]*\"|[0-9A-F]+) uuid=[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12} "
    r"bus=(pci|usb|scsi|scsi_host|mdev) device=(\"[!#-~]*\"|[0-9A-F]+)",
    re.ASCII,
)


def _read(raw: bytes) -> int:
    """The number of its devices; -1 where it is refused."""
    try:
        domain = domxml.parse(raw)
    except BadInput as error:
        line = error.line
    else:
        assert domain.name
        for device in domain.devices:
            assert _TEXT.fullmatch(record.text(domain, device, "start"))
            assert (device.pci is not None) == (device.kind == "pci")
        return len(domain.devices)
    assert line.isprintable()
    assert len(line) < 400
    return -1


def test_any_document_of_libvirt_s_elements_is_a_domain_or_bad_input() -> None:
    """Whatever stands in whatever attribute; among them are guests with devices, as well as what is refused."""
    found = set()

    @generated("XML", documents())
    def look(raw: bytes) -> None:
        found.add(_read(raw))

    look()
    assert {-1, 0, 1} <= found


@generated("XML", st.binary(max_size=200))
@example(b"<domain type='kvm'>\xff")
def test_any_bytes_are_a_domain_or_bad_input(raw: bytes) -> None:
    """Nothing else is raised."""
    assert _read(raw) == -1


@generated("XML", st.text(st.sampled_from("<>/!?[]&;'\"= \n\tadominpevcs:-"), max_size=80))
def test_anything_made_of_markup_is_a_domain_or_bad_input(text: str) -> None:
    """Tags, comments, declarations and references that go nowhere."""
    assert _read(f"<domain type='kvm'>{text}".encode()) == -1
