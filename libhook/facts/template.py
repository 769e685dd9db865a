# SPDX-License-Identifier: LGPL-2.1-or-later
"""Fills a guest's name and UUID into the settings: ``{name}`` and ``{uuid}``. Pure.

Others choose the name. So it becomes one piece of one thing, and nothing reads it again: it stays where the placeholder
was, in its part of a path, in a unit's instance, in a value, in a command's argument. Where it cannot, the guest is
refused.

Imported only where a setting has a brace.
"""

from __future__ import annotations

import re

from libhook.errors import BadInput
from libhook.errors import named as called
from libhook.facts import keys
from libhook.facts.command import is_argv
from libhook.facts.mountpoint import escaped
from libhook.facts.problem import Problem
from libhook.facts.settings import Section
from libhook.facts.unit import is_name
from libhook.facts.written import named, quoted
from libhook.light import TYPE_CHECKING, suppress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from typing import Any

    Facts = Mapping[str, str]

_PLACEHOLDERS = keys.PLACEHOLDERS
_PIECE = re.compile(r"\{\{|\}\}|\{[^{}]*\}|[{}]|[^{}]+")
_IN_ARGUMENT = re.compile("(" + "|".join(map(re.escape, _PLACEHOLDERS)) + ")")
"""Other braces of a command are its own: ``awk '{print}'``."""
_REMEDY = f"the known ones are {' and '.join(_PLACEHOLDERS)}; a brace itself is written twice"

_WORD = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-")
_PLAIN = _WORD | {":"}
_LONGEST_WORD = 255  # libvirt names files after a guest
_ANOTHER = "correct it, or give the guest another name"


def problems(file: int, where: tuple[str, ...], value: Mapping[str, object] | list[object]) -> Iterator[Problem]:
    """The braces in a table or list of the settings that are no placeholder."""
    if where[-1] == _LIST and isinstance(value, list):
        yield from _wrong(file, where, value)
    elif where[-1] in _FILL and isinstance(value, dict):
        for entry, inner in value.items():
            yield from _wrong(
                file, (*where, entry), (entry, *(inner.values() if isinstance(inner, dict) else (inner,)))
            )


def _wrong(file: int, at: tuple[str, ...], texts: Iterable[object]) -> Iterator[Problem]:
    for text in texts:
        for piece in _PIECE.findall(text) if isinstance(text, str) else ():
            if piece[0] in "{}" and piece not in (*_PLACEHOLDERS, "{{", "}}"):
                what = f"unknown placeholder {piece}" if len(piece) > 1 else f"there is a single {piece}"
                yield Problem(file, at, f"{what} in {named(at)}", _REMEDY, _PLACEHOLDERS, piece)


def filled(sections: Iterable[Section], name: str, uuid: str) -> list[Section]:
    """These sections for the guest with this name and UUID. What cannot be filled in is a problem of its section.

    Where the name or UUID is not known (""), what asks for it stays as it is written.
    """
    facts = dict(zip(_PLACEHOLDERS, (name, uuid), strict=True))
    return [_filled(section, facts, name) if section.has_placeholders else section for section in sections]


def _filled(section: Section, facts: Facts, name: str) -> Section:
    values, found = dict(section.values), list(section.problems)
    written: dict[tuple[str | int, ...], tuple[str | int, ...]] = {}

    def note(at: tuple[str, ...], error: BadInput) -> None:
        what = f"{named(at)} cannot be for the guest {quoted(name)}: {error.message}"
        found.append(Problem(section.file, at, what, error.hint or _ANOTHER))

    if _LIST in values:
        paths = list[str]()
        for path in values[_LIST]:
            try:
                with suppress(_NotKnown):
                    path = _mount(path, facts)
            except BadInput as error:
                note((*section.keys, _LIST), error)
            paths.append(path)
        values[_LIST] = paths
    for key, (fill_entry, fill_value) in _FILL.items():
        table: dict[str, Any] = {}
        for entry, value in values.get(key, {}).items():
            at, own = (*section.keys, key, entry), entry
            try:
                with suppress(_NotKnown):
                    own, value = fill_entry(entry, facts), fill_value(value, facts)
                if own in table:
                    raise BadInput(f"it is {own}, which is there already")
            except BadInput as error:
                note(at, error)
            else:
                table[own] = value
                written[key, own] = (key, entry)
        if key in values:
            values[key] = table
    return section._replace(values=values, problems=tuple(found), written=written)


class _NotKnown(Exception):
    """The name or UUID is not known."""


def _fill(text: str, facts: Facts, put: Callable[[str, str], str]) -> str:
    """Fill in a text once. ``put`` gets what is filled in, and the text before it."""
    found = ""
    for piece in _PIECE.findall(text):
        if piece in facts:
            if not facts[piece]:
                raise _NotKnown
            found += put(facts[piece], found)
        else:
            found += piece[0] if piece in ("{{", "}}") else piece
    return found


def _unit(text: str, facts: Facts) -> str:
    """In an instance it is escaped, as systemd's %i is. Elsewhere it must be plain, or it could begin an instance.

    In the name of a mount it is escaped too, since ``-`` stands for ``/`` there. Whose unit it is stands as written.
    """
    owner, slash, text = text.rpartition("/")
    is_path = text.endswith((".mount", ".automount"))

    def put(value: str, before: str) -> str:
        if "@" in before:
            return escaped(value)
        if is_path and "/" not in value and not set(value) <= {"."}:
            return escaped(value)
        if is_path or not set(value) <= _PLAIN:
            raise BadInput("that is no part of a unit's name", "use it behind an @, or use {uuid}")
        return value

    unit = _fill(text, facts, put)
    if not is_name(unit, glob=True):
        raise BadInput(f"{called(unit)} is no unit's name")
    return f"{owner}{slash}{unit}"


def _line_of(line: str, facts: Facts, show: Callable[[str], str]) -> str:
    text = _fill(line, facts, lambda inner, _: show(inner))
    if not keys.is_line(text):
        raise BadInput("the value is no line of text")
    return text


def _sentence(text: str, facts: Facts) -> str:
    """It stays a name there, in quotes unless it is a plain word."""
    return _line_of(text, facts, called)


def _anywhere(text: str, facts: Facts) -> str:
    """What stands in a part of the path stays in that part."""

    def fill(part: str) -> str:
        found = _fill(part, facts, lambda value, _: value)
        if found != part and ("/" in found or found in (".", "..")):
            raise BadInput("that is no part of a path", "use {uuid}")
        return found

    return "/".join(map(fill, text.split("/")))


def _mount(text: str, facts: Facts) -> str:
    path = _anywhere(text, facts)
    if keys.expectation(_LIST, [path]):
        raise BadInput(f"{quoted(path)} is no mount point that may be away", "use {uuid}")
    return path


def _argv(argv: Iterable[str], facts: Facts) -> list[str]:
    """It stays in its argument. What the command starts may read it again, as a shell: so it must be one plain word."""

    def fill(piece: str) -> str:
        if piece not in facts:
            return piece
        value = facts[piece]
        if not value:
            raise _NotKnown
        if len(value) > _LONGEST_WORD or not set(value) <= _WORD or value.startswith("-") or set(value) <= {"."}:
            raise BadInput("a shell or an option could take it for something else", _IN_COMMANDS)
        return value

    found = ["".join(map(fill, _IN_ARGUMENT.split(argument))) for argument in argv]
    if not is_argv(found):
        raise BadInput("an argument gets too long", _IN_COMMANDS)
    return found


_IN_COMMANDS = "use {uuid}, or let the command read LIBHOOK_GUEST in its environment"
_FIELDS: dict[str, Callable[[Any, Facts], object]] = {
    "file": _anywhere, "process": _anywhere, "unit": _unit, "reason": _sentence, "command": _argv, "undo": _argv
}  # fmt: skip


def _fields(table: Mapping[str, Any], facts: Facts) -> dict[str, Any]:
    return {field: _FIELDS[field](value, facts) if field in _FIELDS else value for field, value in table.items()}


_LIST = "mounts"
"""The list that may have placeholders."""
_FILL: dict[str, tuple[Callable[[str, Facts], str], Callable[[Any, Facts], Any]]] = {
    "units": (_unit, lambda state, _: state),
    "require": (lambda entry, _: entry, _fields),
    "run": (lambda entry, _: entry, _fields),
}
"""The tables that may have placeholders: how an entry's name is filled in, and its value."""
