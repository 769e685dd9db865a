# SPDX-License-Identifier: LGPL-2.1-or-later
"""How libvirt reads a number, a UUID and a WWPN in XML. Pure."""

UINT = 0xFFFFFFFF
ULONGLONG = 0xFFFFFFFFFFFFFFFF

_BLANK = " \t\n\r\f"
_HEX = frozenset("0123456789abcdef")
_DIGITS_OF = {2: frozenset("01"), 8: frozenset("01234567"), 10: frozenset("0123456789"), 16: _HEX}
_BASES = {"0x": 16, "0b": 2}
_DIGITS = 64  # what 64 bits take in binary; int() is slow with many digits


def number(text: str, most: int) -> int | None:
    """The number in an attribute. None where it is none, or is more than ``most``.

    Read as by strtoull with base 0, as virStrToLong_uip calls it. ``0x`` means hex, a leading ``0`` octal and, since
    glibc 2.38, ``0b`` binary. White space and a plus may stand before the number. Nothing may stand after it, and a
    minus is not allowed anywhere.
    """
    digits = text.lstrip(_BLANK).removeprefix("+").lower()
    base = _BASES.get(digits[:2], 8 if digits.startswith("0") else 10)
    if base in (2, 16):
        digits = digits[2:]
    if not digits or not _DIGITS_OF[base].issuperset(digits):
        return None
    significant = digits.lstrip("0")
    value = int(significant or "0", base) if len(significant) <= _DIGITS else most + 1
    return value if value <= most else None


def uuid(text: str) -> str | None:
    """The UUID as virUUIDFormat writes it, in lower case with four hyphens. None where the text is no UUID.

    Like virUUIDParse it accepts hyphens and spaces before each pair of digits, and white space around the whole text.
    """
    digits, rest = "", text.strip(_BLANK).lower()
    while rest and len(digits) < 32:
        rest = rest.lstrip(" -")
        digits, rest = digits + rest[:2], rest[2:]
        if len(digits) % 2 or not _HEX.issuperset(digits[-2:]):
            return None
    if rest or len(digits) < 32:
        return None
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def is_wwpn(text: str) -> bool:
    """Whether ``text`` is ``naa.`` and 16 hex digits (virValidateWWN)."""
    digits = text.removeprefix("naa.").removeprefix("0x")
    return text.startswith("naa.") and len(digits) == 16 and _HEX.issuperset(digits.lower())
