# SPDX-License-Identifier: LGPL-2.1-or-later
"""Keys and values as TOML writes them, for messages and for ``libhook config``. Pure."""

from __future__ import annotations

from libhook.light import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

DEVICES, DOMAINS = "devices", "domains"
"""The tables of sections. The name of a section in them is written with quotes."""


def named(where: Sequence[str | int]) -> str:
    """Keys as they are written: ``domains."win11".audit.required``. A number, as of an item in a list, is left out."""
    texts = [key for key in where if isinstance(key, str)]
    return ".".join(
        key if _is_bare(key) and not (number == 1 and texts[0] in (DEVICES, DOMAINS)) else quoted(key)
        for number, key in enumerate(texts)
    )


def quoted(text: str) -> str:
    """A text in double quotes, as TOML writes it. What a terminal would obey is not escaped: see errors.printable."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _is_bare(key: str) -> bool:
    """Whether TOML needs no quotes around the key."""
    return key.isascii() and key.replace("_", "a").replace("-", "a").isalnum()


def written(value: object) -> str:
    """A value as TOML writes it. A float that is a whole number is written as one."""
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, list):
        return f"[{', '.join(map(written, value))}]"
    if isinstance(value, dict):
        inside = ", ".join(f"{named((key,))} = {written(inner)}" for key, inner in value.items())
        return f"{{ {inside} }}" if inside else "{}"
    return str(value)
