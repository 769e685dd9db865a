# SPDX-License-Identifier: LGPL-2.1-or-later
"""Numbers, UUIDs and WWPNs as libvirt reads them."""

import re

import pytest
from generated import generated
from hypothesis import strategies as st

from libhook.xml import notation

_UUID = "6795d288-a702-4e31-9462-e5b227641fd4"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0),
        ("00", 0),
        ("10", 10),
        ("010", 8),
        ("0x10", 16),
        ("0XfF", 255),
        ("0b101", 5),
        (" \t\n\r+7", 7),
        ("0" * 500 + "7", 7),
        ("0x" + "0" * 500 + "7", 7),
        ("4294967295", 0xFFFFFFFF),
        ("037777777777", 0xFFFFFFFF),
        ("0b" + "1" * 32, 0xFFFFFFFF),
        *((text, None) for text in ("4294967296", "0x100000000", "9" * 500, "0x" + "f" * 500)),
        *((text, None) for text in ("", " ", "+", "-1", "--1", "+-1", "+ 1", "1 ", "1.0", "1_0", "x", "0x", "0b")),
        *((text, None) for text in ("08", "0x1g", "0b2", "1a", "0x 1", "0x+1", "\xa01", "\u0661", "\uff11")),
    ],
)
def test_numbers(text: str, value: int | None) -> None:
    """The prefixes of strtoull with base 0, nothing after the digits, and no minus."""
    assert notation.number(text, notation.UINT) == value


@generated(
    "numbers", st.integers(0, notation.ULONGLONG), st.sampled_from(["{}", "{:#x}", "0{:o}", "0X{:X}", "{:#b}", "+{}"])
)
def test_every_number_is_read_in_every_notation(value: int, written: str) -> None:
    """64 bits in each base; 32 bits only where they fit."""
    text = written.format(value)
    assert notation.number(text, notation.ULONGLONG) == value
    assert notation.number(text, notation.UINT) == (value if value <= notation.UINT else None)


@pytest.mark.parametrize(
    "text",
    [
        _UUID,
        _UUID.upper(),
        _UUID.replace("-", ""),
        f" \t\n{_UUID}\r\n ",
        f"--{_UUID}",
        "67 95-d2 - 88a7024e319462e5b227641fd4",
    ],
)
def test_uuids_are_read_with_hyphens_and_spaces_anywhere_between_pairs(text: str) -> None:
    """And written in the one form that records and file names have."""
    assert notation.uuid(text) == _UUID


@pytest.mark.parametrize(
    "text", ["", _UUID[:-1], _UUID[:-2], f"{_UUID}0", f"{_UUID}-", f"6-{_UUID[1:]}", f"g{_UUID[1:]}", f"{{{_UUID}}}"]
)
def test_what_is_no_uuid(text: str) -> None:
    """Not 32 digits, something else among them, or a hyphen within a pair or at the end."""
    assert notation.uuid(text) is None


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("naa.5123456789abcde0", True),
        ("naa.5123456789ABCDE0", True),
        ("naa.0x5123456789abcde0", True),
        ("naa.5123456789abcde", False),
        ("naa.5123456789abcde00", False),
        ("5123456789abcde0", False),
        ("eui.5123456789abcde0", False),
        ("naa.5123456789abcde0\n", False),
    ],
)
def test_wwpns(text: str, good: bool) -> None:
    """naa. and exactly 16 hex digits."""
    assert notation.is_wwpn(text) is good


_NUMBER = re.compile(r"[ \t\n\r\f]*+\+?(0[xX][0-9A-Fa-f]++|0[bB][01]++|0[0-7]*+|[1-9][0-9]*+)", re.ASCII)
_UUIDS = re.compile(r"[ \t\n\r\f]*+((?:[ -]*+[0-9A-Fa-f]{2}){16})[ \t\n\r\f]*+", re.ASCII)
_WWPN = re.compile(r"naa\.(?:0x)?[0-9A-Fa-f]{16}", re.ASCII)
_pieces = st.sampled_from([*"0017afAFxXbBg+-. \t\n\r\f\v\xa0", "0x", "0b", "naa.", "\u0661", "\u212a", "\u0130"])
_uuid_like = st.lists(st.sampled_from(["12", "aF", "12345678", "-", " ", "\t", "g"]), max_size=22).map("".join)


@generated("numbers", st.lists(_pieces, max_size=8).map("".join))
def test_numbers_are_what_the_expression_says(text: str) -> None:
    """What a number may look like, said once more in one line."""
    assert (notation.number(text, notation.ULONGLONG) is not None) == (_NUMBER.fullmatch(text) is not None)


@generated("numbers", _uuid_like | st.from_regex(_UUIDS, fullmatch=True))
def test_uuids_are_what_the_expression_says(text: str) -> None:
    """The same of UUIDs."""
    match = _UUIDS.fullmatch(text)
    digits = match[1].replace("-", "").replace(" ", "").lower() if match else None
    found = notation.uuid(text)
    assert (found and found.replace("-", "")) == digits


@generated("numbers", st.builds("{}{}{}".format, st.sampled_from(["naa.", "NAA.", ""]), st.sampled_from(["0x", ""]),
                                st.text("0123456789abcdefABCDEFx\u0661", min_size=14, max_size=18)))  # fmt: skip
def test_wwpns_are_what_the_expression_says(text: str) -> None:
    """The same of WWPNs."""
    assert notation.is_wwpn(text) == (_WWPN.fullmatch(text) is not None)
