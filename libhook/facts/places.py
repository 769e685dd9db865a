# SPDX-License-Identifier: LGPL-2.1-or-later
"""Finds the line of each key in a TOML document.

tomllib does not tell lines. This is only for errors and for ``libhook config``: no event that finds nothing wrong
imports it. It reads only as far as it understands the document, and never raises: tomllib judges what is TOML.
"""

from __future__ import annotations

import re

from libhook.light import TYPE_CHECKING, NamedTuple, suppress

if TYPE_CHECKING:
    from collections.abc import Generator

    Path = tuple[str | int, ...]
    Found = tuple[Path, int]
    Walk = Generator[Found, None, int]
    """Yields keys, each with its offset. Returns the offset of what follows."""

_BETWEEN = re.compile(r"(?:[ \t\n]|#[^\n]*)*")
_BLANKS = re.compile(r"[ \t]*")
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_QUOTED = re.compile(r'"((?:\\.|[^"\\\n])*)"|\'([^\'\n]*)\'')
_TEXT = re.compile(
    r'"""(?:\\.|[^\\])*?"""(?:"{0,2})|' + r"'''.*?'''(?:'{0,2})|" + r'"(?:\\.|[^"\\\n])*"|' + r"'[^'\n]*'", re.S
)
_SCALAR = re.compile(r"[^,\]}#\n]+")
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|x([0-9a-fA-F]{2})|(.))")
_SHORT = {"b": "\b", "t": "\t", "n": "\n", "f": "\f", "r": "\r", "e": "\x1b"}


class Place(NamedTuple):
    """A key, with all keys before it, and the line that holds it. The items of a list have numbers."""

    keys: Path
    line: int


class _Lost(Exception):
    """The document goes on in a way that is not understood."""


def lines(text: str) -> dict[Path, int]:
    """The line of each key, where it is first written."""
    found: dict[Path, int] = {}
    for place in every(text):
        found.setdefault(place.keys, place.line)
    return found


def every(text: str) -> list[Place]:
    """Every key as often as it is written, in the document's order, as far as that can be read."""
    text = text.replace("\r\n", "\n")
    places: list[Place] = []
    line, seen = 1, 0
    with suppress(_Lost, RecursionError):
        for keys, at in _document(text):
            line += text.count("\n", seen, at)
            seen = at
            places.append(Place(keys, line))
    return places


def _document(text: str) -> Generator[Found, None, None]:
    table: Path = ()
    counts: dict[Path, int] = {}
    at = _match(_BETWEEN, text, 0)
    while at < len(text):
        if text[at] == "[":
            begin, brackets = at, 2 if text.startswith("[[", at) else 1
            names, at = _dotted(text, at + brackets)
            *above, table = _resolved(names, counts, is_item=brackets == 2)
            yield from ((path, begin) for path in (*above, table))
            at = _expect("]" * brackets, text, at)
        else:
            at = yield from _pair(text, at, table)
        at = _match(_BETWEEN, text, at)


def _resolved(names: list[str], counts: dict[Path, int], *, is_item: bool) -> list[Path]:
    """The paths that a header names, the table's own last. In an array of tables: the last item, or a new one."""
    paths: list[Path] = []
    path: Path = ()
    for number, name in enumerate(names):
        path = (*path, name)
        paths.append(path)
        if is_item and number == len(names) - 1:
            counts[path] = counts.get(path, 0) + 1
        if path in counts:
            path = (*path, counts[path] - 1)
            paths.append(path)
    return paths


def _pair(text: str, at: int, table: Path) -> Walk:
    begin = at
    names, at = _dotted(text, at)
    path: Path = table
    for name in names:
        path = (*path, name)
        yield path, begin
    return (yield from _value(text, _match(_BLANKS, text, _expect("=", text, at)), path))


def _value(text: str, at: int, path: Path) -> Walk:
    if text.startswith("[", at):
        return (yield from _list(text, at, path))
    if text.startswith("{", at):
        at = _match(_BETWEEN, text, at + 1)
        while not text.startswith("}", at):
            at = yield from _pair(text, at, path)
            at = _comma(text, at, "}")
        return at + 1
    return _match(_TEXT if text[at : at + 1] in ('"', "'") else _SCALAR, text, at)


def _list(text: str, at: int, path: Path) -> Walk:
    at, number = _match(_BETWEEN, text, at + 1), 0
    while not text.startswith("]", at):
        item = (*path, number)
        yield item, at
        at = yield from _value(text, at, item)
        at = _comma(text, at, "]")
        number += 1
    return at + 1


def _comma(text: str, at: int, end: str) -> int:
    at = _match(_BETWEEN, text, at)
    return at if text.startswith(end, at) else _match(_BETWEEN, text, _expect(",", text, at))


def _dotted(text: str, at: int) -> tuple[list[str], int]:
    """The names of a key, ``a."b.c"``, and the offset behind it and the blanks after it."""
    names = []
    while True:
        at = _match(_BLANKS, text, at)
        if found := _QUOTED.match(text, at):
            names.append(found[2] if found[1] is None else _ESCAPE.sub(_character, found[1]))
        elif found := _BARE.match(text, at):
            names.append(found[0])
        else:
            raise _Lost
        at = _match(_BLANKS, text, found.end())
        if not text.startswith(".", at):
            return names, at
        at += 1


def _character(escape: re.Match[str]) -> str:
    number = escape[1] or escape[2] or escape[3]
    if number and int(number, 16) > 0x10FFFF:
        raise _Lost
    return chr(int(number, 16)) if number else _SHORT.get(escape[4], escape[4])


def _expect(wanted: str, text: str, at: int) -> int:
    if not text.startswith(wanted, at):
        raise _Lost
    return at + len(wanted)


def _match(pattern: re.Pattern[str], text: str, at: int) -> int:
    """The offset behind what the pattern finds here."""
    found = pattern.match(text, at)
    if not found:
        raise _Lost
    return found.end()
