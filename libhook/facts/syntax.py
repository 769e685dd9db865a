# SPDX-License-Identifier: LGPL-2.1-or-later
"""Says in plain words why a file is not TOML, and what to do. Imported only where a file is broken.

tomllib stops at the first error of a file, and so does this.
"""

from __future__ import annotations

import re

from libhook.errors import pasted
from libhook.facts import places
from libhook.facts.written import named

_CLOSE = "close it with the quotes that it begins with"
_BEHIND = "one setting a line, and a comment begins with #"
_QUOTES = 'text stands in quotes, as in driver = "vfio-pci"; numbers, true and false (in small letters) do not'
_NAMES = 'a name with other characters than letters, digits, _ and - stands in quotes: [domains."win 11"]'
_WORDS = (
    ("Invalid value", "what follows = is not a value", _QUOTES),
    ("Expected '='", "there is no = after the key", "write KEY = VALUE; a comment begins with #"),
    ("Expected newline or end", "something follows the value", _BEHIND),
    ("Invalid statement", "this is not a setting", "write KEY = VALUE or [SECTION]; a comment begins with #"),
    ("Invalid initial character", "a key is missing, or needs quotes", _NAMES),
    ("Expected ']'", "the section's name is not closed by ]", _NAMES),
    ("Unclosed array", "a list is not closed", "end it with ]"),
    ("Unclosed inline table", "a table is not closed", "end it with }"),
    ("Unterminated string", "a text has no closing quote", _CLOSE),
    ("Expected \"'", "a text has no closing quote", _CLOSE),
    ("Illegal character '\\n'", "a text has no closing quote", _CLOSE),
    ("Found invalid character '\\n'", "a text has no closing quote", _CLOSE),
    ("Illegal character", "there is a control character", "remove it"),
    ("Found invalid character", "there is a control character", "remove it"),
    ("Unescaped '\\'", 'a backslash in "…" begins an escape', "put the text in single quotes: '…'"),
    ("Cannot", "this key or section was written before, in another way", "keep one of the two"),
    ("Duplicate", "this key was written before", "keep one of the two"),
)
"""How tomllib's message begins, in plain words, and the remedy."""


def explain(path: str, text: str, error: ValueError | RecursionError) -> tuple[int, str, str]:
    """The line of the error, or 0; what is wrong; and the remedy. ``text`` is what was read as UTF-8.

    A byte that is not UTF-8 stands in it as a lone surrogate.
    """
    if text.startswith(("\udcff\udcfe", "\udcfe\udcff")) or "\0" in text:
        return (
            1,
            "the file is in UTF-16, or no text at all",
            f"save it as UTF-8: {_converted(path, 'UTF-16')}",
        )
    if text.startswith("\ufeff"):
        remedy = f"save the file without it: sed -i '1s/^\\xEF\\xBB\\xBF//' {pasted(path)}"
        return 1, "the file begins with a byte order mark (BOM)", remedy
    if isinstance(error, UnicodeEncodeError):
        byte = ord(text[error.start]) - 0xDC00
        remedy = f"save the file as UTF-8; if it is Latin-1 now: {_converted(path, 'LATIN1')}"
        return text.count("\n", 0, error.start) + 1, f"the byte 0x{byte:02x} is not UTF-8", remedy
    if isinstance(error, RecursionError):
        return 0, "its lists or tables are nested too deeply", "no setting needs that: write it flat"
    if at := re.search(r"\r(?!\n)", text):
        remedy = f"end lines as Linux does: sed -i 's/\\r/\\n/g' {pasted(path)}"
        return text.count("\n", 0, at.start()) + 1, "a line ends with CR alone, or has one in it", remedy
    said, line = _split(str(error), text)
    if not line:  # Python's own limit (sys.get_int_max_str_digits())
        return 0, "a number has too many digits", "correct it"
    if said.startswith(("Cannot", "Duplicate")) and (twice := _written_twice(text, line)):
        name, first, line = twice
        where = "in this line" if first == line else f"in line {first}"
        return line, f"{name} was already written {where}", "keep one of the two, with the keys of both"
    for begins, what, remedy in _WORDS:
        if said.startswith(begins):
            return line, what, remedy
    return line, said[:1].lower() + said[1:], "correct it as TOML wants it: https://toml.io"


def _converted(path: str, encoding: str) -> str:
    new = pasted(f"{path}.new")
    return f"iconv -f {encoding} -t UTF-8 {pasted(path)} >{new} && mv {new} {pasted(path)}"


def _split(said: str, text: str) -> tuple[str, int]:
    """tomllib's words without the place, and the line; 0 where it names none."""
    if found := re.search(r" \(at line (\d+), column \d+\)$", said):
        return said[: found.start()], int(found[1])
    if said.endswith(" (at end of document)"):
        return said.rpartition(" (")[0], text.rstrip("\n").count("\n") + 1
    return said, 0


def _written_twice(text: str, line: int) -> tuple[str, int, int] | None:
    """The key that is written once more in this line or just before it, its first line, and that line."""
    first = dict[tuple[str | int, ...], int]()
    again = list[places.Place]()
    for place in places.every(text):
        if place.line > line:
            break
        if place.keys in first:
            again.append(place)
        first.setdefault(place.keys, place.line)
    if not again:
        return None
    last = max((place for place in again if place.line == again[-1].line), key=lambda place: len(place.keys))
    return named(last.keys), first[last.keys], last.line
