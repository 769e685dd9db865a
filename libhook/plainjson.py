# SPDX-License-Identifier: LGPL-2.1-or-later
"""Reads and writes JSON as json.loads and json.dumps do, with the same C code, but without importing json.

Where the text to read is not valid, json reads it again and raises the error. Where a Python lacks that C code, json
does everything.
"""

from __future__ import annotations

from libhook.light import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_BLANK = " \t\n\r"
_NUMBERS = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}


class _Way:
    """json's default settings, under the names that the C code asks for."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    parse_constant = _NUMBERS.__getitem__
    memo: dict[str, str] = {}  # noqa: RUF012 - part of what is asked for


def _refuse(value: object) -> object:
    raise TypeError(f"Object of type {value.__class__.__name__} is not JSON serializable")


def loads(text: str) -> Any:  # noqa: ANN401 - as json has it
    """Like json.loads."""
    if _scan is not None:
        try:
            value, end = _scan(text, len(text) - len(text.lstrip(_BLANK)))
        except (StopIteration, ValueError):
            pass
        else:
            if not text[end:].strip(_BLANK):
                return value
    import json

    return json.loads(text)


def dumps(value: object) -> str:
    """Like json.dumps, byte for byte."""
    if _encoder is None:
        import json

        return json.dumps(value)
    if isinstance(value, str):
        return _quoted(value)
    return "".join(_encoder({}, _refuse, _quoted, None, ": ", ", ", False, False, True)(value, 0))


_scan: Callable[[str, int], tuple[Any, int]] | None
_encoder: Callable[..., Callable[[object, int], tuple[str, ...]]] | None
try:
    from _json import encode_basestring_ascii as _quoted
    from _json import make_encoder as _encoder
    from _json import make_scanner

    _scan = make_scanner(_Way)  # type: ignore[arg-type] # it only asks for these names
except ImportError:
    _scan = _encoder = None
