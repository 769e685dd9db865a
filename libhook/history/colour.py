# SPDX-License-Identifier: LGPL-2.1-or-later
"""Colours what matters, for a terminal: what failed, what is held, what needs a look. Pure.

These are a terminal's own codes around text that is already printable. A library for it takes longer for a hundred
thousand rows than all the rest.
"""

from collections.abc import Callable, Mapping

Paint = Callable[[str, str], str]
"""Takes the sense of a text, and the text."""
_CODES = {"failed": "31", "held": "32", "odd": "33", "silent": "2"}


def plain(sense: str, text: str) -> str:  # noqa: ARG001 - a Paint
    """Leave the text as it is."""
    return text


def coloured(sense: str, text: str) -> str:
    """Put the codes of a colour around the text, where its sense has one."""
    code = _CODES.get(sense)
    return f"\033[{code}m{text}\033[0m" if code and text else text


def wanted(terminal: bool, environment: Mapping[str, str]) -> Paint:
    """Return how to paint: with colours only on a terminal that has them, and unless the user says NO_COLOR."""
    able = terminal and not environment.get("NO_COLOR") and environment.get("TERM", "dumb") != "dumb"
    return coloured if able else plain


def sense(what: str) -> str:
    """Return the sense of what ``shown.what`` says of an entry."""
    return "failed" if what.endswith(" failed") else "held" if what.endswith(", held") else ""
