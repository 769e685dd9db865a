# SPDX-License-Identifier: LGPL-2.1-or-later
"""Draws the page's time lines as SVG paths, and gives each guest its look and its letters. Pure.

A line is ``COLUMNS`` wide and 10 high. The browser stretches it, so a bar is a stroke along it, and a mark one across.
"""

import hashlib
from collections.abc import Iterable, Iterator

from libhook.history.entry import Silence
from libhook.history.timeline import COLUMNS, Gap, Share, Span, gaps, runs, ticks

LOOKS = 24
"""Eight colours, each as a full, a hollow and a thin bar (page.css)."""
OTHERS = LOOKS
"""The look of guests that have none of their own."""
LABEL = 20
"""A bar with fewer columns for each letter has no room for a text on a telephone."""
_MOST_LABELS = 60
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def letters(number: int) -> str:
    """Return A for 0, Z for 25, AA for 26."""
    number, text = number + 1, ""
    while number:
        number, letter = divmod(number - 1, 26)
        text = _LETTERS[letter] + text
    return text


def looks(uuids: Iterable[str]) -> dict[str, int]:
    """Give each guest a look, by its UUID: the same on most pages. While any look is left, no two have the same."""
    found: dict[str, int] = {}
    taken: set[int] = set()
    for uuid in uuids:
        wanted = int.from_bytes(hashlib.sha256(uuid.encode("utf-8", "surrogatepass")).digest()[:4]) % LOOKS
        near = ((wanted + step) % LOOKS for step in range(LOOKS))
        found[uuid] = next((look for look in near if look not in taken), wanted)
        taken.add(found[uuid])
    return found


def paths(share: Share) -> Iterator[tuple[str, str]]:
    """Give what is on a share's line: its class in page.css, and its path. ``bar`` comes first."""
    yield "bar", bars(share.had)
    for name, columns in (("open", share.open), ("failed", share.failures), ("differs", share.differs)):
        if columns:
            yield name, marks(columns, "M{} 8h0" if name == "differs" else "M{} 1v8")


def bars(columns: int) -> str:
    """Draw bars: strokes along the line."""
    return "".join(f"M{first} 5h{end - first}" for first, end in runs(columns))


def marks(columns: int, drawn: str) -> str:
    """Draw the same mark in each column: a stroke across the line, or a dot at its foot."""
    return "".join(drawn.format(column) for first, end in runs(columns) for column in range(first, end))


def labels(shares: Iterable[tuple[str, str, int, Share]]) -> list[tuple[str, str, int]]:
    """Give what is written in the bars of a device's line: its place in percent, the text, and the look.

    It is a guest's letters, with its name if there is room for it.
    """
    found = []
    for code, name, look, share in shares:
        for first, end in runs(share.had):
            texts = (text for text in (f"{code} {name}", code) if end - first >= LABEL * (len(text) + 0.5))
            if (text := next(texts, "")) != "":
                found.append((first, text, look))
    return [(percent(first + 5), text, look) for first, text, look in sorted(found)[:_MOST_LABELS]]


def silent(silences: Iterable[Silence], span: Span) -> str:
    """Draw a node's times without a trail, as areas."""
    return "".join(map(_area, gaps(silences, span)))


def _area(gap: Gap) -> str:
    return f"M{gap.first} 0h{gap.last - gap.first}v10h{gap.first - gap.last}z"


def grid(span: Span) -> str:
    """Draw a line across for each tick of the axis."""
    return "".join(f"M{at * COLUMNS / 100:.1f} 0v10" for at, _ in ticks(span))


def axis(span: Span) -> list[tuple[str, str, str]]:
    """Give the texts of the axis: their place in percent, how they are anchored there, and the text."""
    return [(f"{at:.2f}%", "start" if at < 6 else "end" if at > 94 else "middle", text) for at, text in ticks(span)]


def percent(columns: int) -> str:
    """Return the place of a column, in percent."""
    return f"{columns * 100 / COLUMNS:g}%"
