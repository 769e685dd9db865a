# SPDX-License-Identifier: LGPL-2.1-or-later
"""PCI addresses: one text for sysfs and records, and nothing that only looks like one."""

import re

import pytest
from generated import generated
from hypothesis import strategies as st

from libhook.errors import BadInput
from libhook.facts.address import PciAddress

_addresses = st.builds(
    PciAddress, st.integers(0, 0xFFFFFFFF), st.integers(0, 0xFF), st.integers(0, 0x1F), st.integers(0, 7)
)


@generated("numbers", _addresses)
def test_an_address_and_its_text_are_the_same(address: PciAddress) -> None:
    """What is written is read back equal."""
    assert PciAddress.parse(str(address)) == address == PciAddress.of(*address)


@pytest.mark.parametrize(
    ("address", "text"),
    [
        ((0, 0, 0, 0), "0000:00:00.0"),
        ((0, 1, 0x1F, 7), "0000:01:1f.7"),
        ((0x10000, 0xE1, 0, 0), "10000:e1:00.0"),
        ((0xFFFFFFFF, 0xFF, 0x1F, 7), "ffffffff:ff:1f.7"),
    ],
)
def test_the_text_is_that_of_sysfs(address: tuple[int, int, int, int], text: str) -> None:
    """Four digits of domain or as many as it takes, lower-case hex, the function decimal."""
    assert str(PciAddress(*address)) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "01:00.0",
        "0000:01:00",
        "0000:01:00.8",
        "0000:01:20.0",
        "0000:1:00.0",
        "000:01:00.0",
        "123456789:01:00.0",
        "0000:AB:00.0",
        "0000:01:00.0\n",
        " 0000:01:00.0",
        "0000:01:00.0/..",
        "../01:00.0",
        "0000:01:00.\u0660",
    ],
)
def test_other_texts_are_refused(text: str) -> None:
    """Parsing is strict: the text becomes a path in /sys."""
    with pytest.raises(BadInput, match="is not a PCI address"):
        PciAddress.parse(text)


@pytest.mark.parametrize(
    ("numbers", "what"),
    [
        ((0x100000000, 0, 0, 0), "domain 0x100000000 is out of range, at most 0xffffffff"),
        ((0, 0x100, 0, 0), "bus 0x100 is out of range, at most 0xff"),
        ((0, 0, 0x20, 0), "slot 0x20 is out of range, at most 0x1f"),
        ((0, 0, 0, 8), "function 0x8 is out of range, at most 0x7"),
        ((0, -1, 0, 0), "bus -0x1 is out of range, at most 0xff"),
    ],
)
def test_a_number_out_of_range_is_named(numbers: tuple[int, int, int, int], what: str) -> None:
    """The part, its value and its limit."""
    with pytest.raises(BadInput) as caught:
        PciAddress.of(*numbers)
    assert caught.value.line == f"PCI address: {what}"


def test_addresses_are_in_the_order_of_the_bus() -> None:
    """Locks are taken in this order."""
    texts = ["0000:00:01.0", "0000:01:00.0", "0000:01:00.1", "0000:0a:00.0", "0001:00:00.0", "10000:00:00.0"]
    assert [str(address) for address in sorted(map(PciAddress.parse, reversed(texts)))] == texts


_TEXT = re.compile(r"([0-9a-f]{4,8}):([0-9a-f]{2}):([01][0-9a-f])\.([0-7])", re.ASCII)
_parts = st.tuples(*(st.text("0123456789abcdfxF:. -\n\u0661", min_size=low, max_size=high) for low, high in
                     ((3, 9), (1, 3), (1, 3), (0, 2))))  # fmt: skip


@generated("numbers", _addresses.map(str) | _parts.map(lambda parts: "{}:{}:{}.{}".format(*parts)) | st.text(":.01f"))
def test_an_address_is_what_the_expression_says(text: str) -> None:
    """What one looks like, said once more in one line."""
    match = _TEXT.fullmatch(text)
    try:
        found: tuple[int, ...] | None = PciAddress.parse(text)
    except BadInput:
        found = None
    assert found == (tuple(int(part, 16) for part in match.groups()) if match else None)
