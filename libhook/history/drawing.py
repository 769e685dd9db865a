# SPDX-License-Identifier: LGPL-2.1-or-later
"""Draws all but the bars on the page's time lines: failures, times without a trail, the grid. Pure."""

import html
from collections.abc import Iterable

from libhook.history.entry import Silence
from libhook.history.timeline import COLUMNS, Gap, Span, gaps, ticks


def once(silences: Iterable[list[Silence]], span: Span) -> str:
    """Draw once what lies below the bars of many guests: the grid, and the silences of each node.

    The ids are ``grid``, and ``s`` with the node's number from 1.
    """
    grid = "".join(f'<line class="grid" x1="{at:.2f}%" x2="{at:.2f}%" y1="0" y2="100%"/>' for at, _ in ticks(span))
    silent = "".join(
        f'<g id="s{number}">{"".join(map(_gap, gaps(each, span)))}</g>\n' for number, each in enumerate(silences, 1)
    )
    return f'<svg class="hidden" aria-hidden="true"><defs><g id="grid">{grid}</g>\n{silent}</defs></svg>\n'


def _gap(gap: Gap) -> str:
    several = f" {gap.times} times" if gap.times > 1 else ""
    return (
        f'<rect class="silence" x="{percent(gap.first)}" width="{percent(gap.last - gap.first)}" y="0" height="100%">'
        f"<title>no trail{several}: {html.escape(', '.join(gap.why))}</title></rect>"
    )


def percent(columns: int) -> str:
    """Return the place of a column, in percent."""
    return f"{columns * 100 / COLUMNS:g}%"


def mark(column: int, differ: bool, number: int) -> str:
    """Draw a cross for failures, with a ring around it if the records differ."""
    ring = '<circle class="differs" r="9"/>' if differ else ""
    title = f"<title>failed{f' {number} times' if number > 1 else ''}{', the records differ' if differ else ''}</title>"
    return (
        f'<svg x="{percent(column)}" y="50%" width="1" height="1">{title}'
        f'<path class="failed" d="M-5-5 5 5M-5 5 5-5"/>{ring}</svg>'
    )


LEGEND = (
    '<section class="card" aria-labelledby="legend"><h2 id="legend">How to read it</h2>\n<ul class="legend">'
    '<li><svg aria-hidden="true"><rect class="had" x="0" width="90%" y="25%" height="50%" rx="2"/></svg>'
    "the guest had the device</li>"
    '<li><svg aria-hidden="true"><rect class="had" x="0" width="80%" y="25%" height="50%" rx="2"/>'
    '<line class="open" x1="80%" x2="80%" y1="5%" y2="95%"/></svg>held still, or no record of the end</li>'
    '<li><svg aria-hidden="true"><svg x="50%" y="50%" width="1" height="1">'
    '<path class="failed" d="M-5-5 5 5M-5 5 5-5"/></svg></svg>failed to get it</li>'
    '<li><svg aria-hidden="true"><svg x="50%" y="50%" width="1" height="1"><path class="failed" '
    'd="M-5-5 5 5M-5 5 5-5"/><circle class="differs" r="9"/></svg></svg>libvirtd&#8217;s record and '
    "libhook&#8217;s differ</li>"
    '<li><svg aria-hidden="true"><rect class="silence" x="0" width="90%" y="0" height="100%"/></svg>'
    "no trail</li></ul></section>\n"
)
