# SPDX-License-Identifier: LGPL-2.1-or-later
"""How libvirt reads a number, a UUID and a WWPN in XML. Pure."""

import re

UINT = 0xFFFFFFFF
ULONGLONG = 0xFFFFFFFFFFFFFFFF

# Possessive throughout: whoever writes the XML must not make it slow.
_NUMBER = re.compile(r"[ \t\n\r\f]*+\+?(0[xX][0-9A-Fa-f]++|0[bB][01]++|0[0-7]*+|[1-9][0-9]*+)", re.ASCII)
_UUID = re.compile(r"[ \t\n\r\f]*+((?:[ -]*+[0-9A-Fa-f]{2}){16})[ \t\n\r\f]*+", re.ASCII)
_WWPN = re.compile(r"naa\.(?:0x)?[0-9A-Fa-f]{16}", re.ASCII)
_BASES = {"0x": 16, "0b": 2}
_DIGITS = 64  # what 64 bits take in binary; int() is slow with many


def number(text: str, most: int) -> int | None:
    """The number of an attribute, None if it is none or more than ``most``.

    strtoull with base 0 as virStrToLong_uip calls it: ``0x`` means hex, a leading ``0`` octal and, since glibc
    2.38, ``0b`` binary; white space and a plus may stand before it, nothing after it, and a minus nowhere.
    """
    match = _NUMBER.fullmatch(text)
    if match is None:
        return None
    digits = match[1].lower()
    base = _BASES.get(digits[:2], 8 if digits.startswith("0") else 10)
    significant = digits[2:].lstrip("0") if base in (2, 16) else digits.lstrip("0")
    value = int(significant or "0", base) if len(significant) <= _DIGITS else most + 1
    return value if value <= most else None


def uuid(text: str) -> str | None:
    """The UUID as virUUIDFormat writes it, in lower case with four hyphens; None if it is none.

    virUUIDParse takes hyphens and spaces before each pair of digits, and white space around the whole.
    """
    match = _UUID.fullmatch(text)
    if match is None:
        return None
    digits = match[1].replace("-", "").replace(" ", "").lower()
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def is_wwpn(text: str) -> bool:
    """Whether ``text`` is ``naa.`` and 16 hex digits (virValidateWWN)."""
    return _WWPN.fullmatch(text) is not None
