# SPDX-License-Identifier: LGPL-2.1-or-later
"""Shows names so that nobody takes one for another because of what cannot be seen. Pure.

A browser leaves out blanks at the ends, and shows several as one. Marks that join the character before them may pile up
over other lines, and a long name hides the rest of the page.
"""

import re
import unicodedata
from functools import lru_cache

from libhook.errors import harmless, printable

_BLANKS = re.compile("^ +| +$|(?<= ) +")
_UNSEEN = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u2800\u3164\uffa0")
"""Printable, says Unicode, and nothing is to be seen of them; so it is with the variation selectors."""
_MOST_MARKS = 3
"""Marks on one character. No language needs more in a guest's name."""
_MOST = 120
_CUT = 80
_CACHED = 4096


@lru_cache(_CACHED)
def plain(text: str) -> str:
    """Return ``text`` on one line, with what cannot be seen escaped, and the backslash, with which an escape begins.

    It cannot begin a command to paste either.
    """
    text = harmless(printable(text.replace("\\", "\\\\")))
    if not text.isascii():
        text = "".join(_marks_escaped(text))
    return _BLANKS.sub(lambda blanks: "\\x20" * len(blanks[0]), text)


def _marks_escaped(text: str) -> list[str]:
    shown, marks = [], _MOST_MARKS  # a mark at the start would join what stands before the name
    for each in text:
        marks = marks + 1 if unicodedata.category(each) in ("Mn", "Me") else 0
        unseen = marks > _MOST_MARKS or each in _UNSEEN or "\ufe00" <= each <= "\ufe0f" or each >= "\U000e0100"
        shown.append(ascii(each)[1:-1] if unseen else each)
    return shown


def short(text: str) -> str:
    """Return ``text`` like plain, cut if it is long. Where it is cut, it says so."""
    shown = plain(text)
    return shown if len(shown) <= _MOST else f"{shown[:_CUT]}\u2026 ({len(text)} characters)"


def name_shown(name: str) -> str:
    """Return how a name is shown on the page. Two long names may be shown as the same."""
    return short(name) or '""'
