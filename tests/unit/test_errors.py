# SPDX-License-Identifier: LGPL-2.1-or-later
"""Foreign text made printable, and errors that are one line."""

import pytest
from generated import generated
from hypothesis import strategies as st

from libhook.errors import BadInput, DeadlineExpired, LibhookError, Refused, printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", ""),
        ("ordinary text, 'quoted' and \\ too", "ordinary text, 'quoted' and \\ too"),
        ("Gäst ☃", "Gäst ☃"),
        ("a\nb\r\tc", "a\\nb\\r\\tc"),
        ("\x1b[2J\x07\x7f", "\\x1b[2J\\x07\\x7f"),
        ("\x9b31m\x85", "\\x9b31m\\x85"),
        ("\u2028\u202e\ufeff\U000e0001", "\\u2028\\u202e\\ufeff\\U000e0001"),
        (b"\xff".decode("utf-8", "surrogateescape"), "\\udcff"),
    ],
)
def test_what_a_terminal_would_obey_is_made_visible(text: str, shown: str) -> None:
    """Line feeds, escape sequences, marks of direction and lone surrogates; ordinary text stays."""
    assert printable(text) == shown


@generated("names", st.text(st.characters()))
def test_printable_text_is_one_line_and_stays_as_it_is(text: str) -> None:
    """Whatever comes in; twice makes no difference, and it can always be written."""
    shown = printable(text)
    assert shown.isprintable()
    assert len(shown.splitlines()) <= 1
    assert printable(shown) == shown
    shown.encode()


def test_an_error_is_reason_and_remedy() -> None:
    """Joined by a colon; without remedy the reason alone."""
    assert LibhookError("the disk is full", "make room").line == "the disk is full: make room"
    assert LibhookError("the disk is full").line == "the disk is full"


@pytest.mark.parametrize("kind", [BadInput, Refused, DeadlineExpired])
def test_every_error_is_one_line_whatever_it_holds(kind: type[LibhookError]) -> None:
    """Names in it may hold line feeds and escapes."""
    error = kind("guest 'a\nb'", "remove \x1b")
    assert isinstance(error, LibhookError)
    assert error.line == "guest 'a\\nb': remove \\x1b"
    assert str(error) == error.message
