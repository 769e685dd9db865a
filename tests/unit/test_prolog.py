# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whose document it is, said without an XML parser: as the parser says, or not at all."""

import pytest
from xml_reading import DOCUMENTS, UUID, document

from libhook.xml import domxml, prolog

WHOLE = document()


def test_of_libvirts_own_text_the_guest_is_known() -> None:
    """In every document that libvirt 11 was seen to write, whatever the guest is called."""
    assert DOCUMENTS
    for path in DOCUMENTS:
        written = path.read_bytes()
        assert prolog.uuid(written) == domxml.parse(written).uuid


@pytest.mark.parametrize(
    "other",
    [
        b"",
        b"<domain",
        WHOLE.upper(),
        WHOLE.replace(b"<name>", b"<!-- <uuid>x</uuid> --><name>"),
        WHOLE.replace(b"<name>", b"<title>it is mine</title><name>"),
        WHOLE.replace(b"<name>", b"<name><![CDATA[").replace(b"</name>", b"]]></name>"),
        WHOLE.replace(UUID.encode(), UUID.upper().encode()),
        WHOLE.replace(UUID.encode(), UUID.replace("-", "").encode()),
        WHOLE.replace(b"<domain ", b"<domainsnapshot "),
        b"<x/>" + WHOLE,
    ],
)
def test_of_anything_else_nothing_is_said(other: bytes) -> None:
    """A parser must be asked: what looks like a UUID may be part of a comment or of a name."""
    assert prolog.uuid(WHOLE) == UUID
    assert prolog.uuid(other) is None
