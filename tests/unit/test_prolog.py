# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whose document it is, said without an XML parser: as the parser says, or not at all."""

import re

import pytest
from generated import generated
from hypothesis import strategies as st
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


_GUEST = rb"\s*<domain(?: [^<>]*)?>\s*<name>[^<>]*</name>\s*<uuid>([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})</uuid>"
_pieces = st.sampled_from(
    [b"<domain>", b"<domain type='kvm'>", b"<domain", b"<name>", b"</name>", b"a name", b"<uuid>", UUID.encode(),
     b"</uuid>", b"\n  ", b"\x0b", b"\xa0", b"<", b">", b"<!--", b"x", UUID[:-1].encode(), UUID.upper().encode()]
)  # fmt: skip
_whole = st.just([b" ", b"<domain type='kvm'>", b"\n", b"<name>", b"x", b"</name>", b"\n", b"<uuid>", UUID.encode(),
                  b"</uuid>", b"<more/>"])  # fmt: skip


def _spoilt(parts: list[bytes], at: int, piece: bytes) -> bytes:
    return b"".join([*parts[:at], piece, *parts[at:]])


@generated("XML", st.lists(_pieces).map(b"".join) | st.builds(_spoilt, _whole, st.integers(0, 11), _pieces))
def test_libvirts_own_text_is_what_the_expression_says(text: bytes) -> None:
    """What it looks like, said once more in one line."""
    match = re.match(_GUEST, text)
    assert prolog.uuid(text) == (match[1].decode() if match else None)
