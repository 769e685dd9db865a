# SPDX-License-Identifier: LGPL-2.1-or-later
"""Output for a person at a terminal: colours, and columns that fit its width. Elsewhere, plain lines.

rich draws it. Without rich, in a pipe, and where TERM is dumb, there are plain lines. Foreign text reaches rich as
Text, made printable, and is never parsed. What matters is also said in words: a colour only helps to find it.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from libhook.command.groups import Block, Level, Row, as_text, next_steps
from libhook.command.terminal import show
from libhook.errors import printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

_NARROW = 70
"""Columns. Below this a table has no room, and each of its rows becomes a card."""
_STYLES: dict[Level, str] = {"": "", "free": "green", "busy": "red", "note": "yellow"}
_IDS = re.compile(r"\[[0-9a-f]{4}:[0-9a-f]{4}\]")
_TO_PASTE = re.compile(r"(?:^|(?<=[ ,]))run: ")
"""What stands before a command to paste."""
Styled = tuple[str, str]
"""A pattern, and the style of what it matches."""
_PLAN: tuple[Styled, ...] = (
    (r"^refuse[^:]*:", "bold red"),
    (r"^warning:", "bold yellow"),
    (r"^the start would not be refused.*", "green"),
    (r"^(write|record|may take up to) .*", "dim"),
    (r"\(checked after: .*\)$", "dim"),
)
_STATUS: tuple[Styled, ...] = (
    (r"\[(?![0-9a-f]{4}:[0-9a-f]{4}\])[^]]*\]$", "yellow"),
    (r"^recover: leaves .*", "dim"),
    (r"^recover: (?!leaves ).*", "yellow"),
)
_DOCTOR: tuple[Styled, ...] = ((r"^ok  ", "green"), (r"^note", "yellow"), (r"^fail", "bold red"))


def console() -> Console | None:
    """Return what draws on the terminal; None where plain lines are wanted, or rich is missing."""
    if not sys.stdout.isatty() or os.environ.get("TERM", "") in ("", "dumb", "unknown"):
        return None
    try:
        from rich.console import Console
    except ImportError:
        return None
    return Console(markup=False, highlight=False, emoji=False)


def plan(those: Sequence[str]) -> bool:
    """Show a plan: what is refused in red, what is only warned of in yellow, each write below its action.

    Return whether a person has it before their eyes, who need not read a refusal twice.
    """
    _show(those, _PLAN, pastes=True)
    return sys.stdout.isatty() and sys.stderr.isatty()


def status(those: Sequence[str]) -> None:
    """Show what is held: each guest with what it holds below it."""
    _show(those, _STATUS, heads="bold")


def doctor(those: Sequence[str]) -> None:
    """Show findings: each begins with its level."""
    _show(those, _DOCTOR, hang=6, pastes=True)


def lines(those: Sequence[str], *, pastes: bool = False) -> None:
    """Show lines that need no colour. With ``pastes`` they may end in a command to paste."""
    _show(those, (), pastes=pastes)


def devices(found: Sequence[Block], words: Sequence[str]) -> None:
    """Show groups. On a terminal each device has columns, or a card where those have no room; then what to do next."""
    out = console()
    if out is None:
        show(as_text(found) or ["no PCI devices"])
        if sys.stdout.isatty():
            show(next_steps(found, words))
        return
    draw = _cards if out.width < _NARROW else _table
    cells = [_cells(row) for block in found for row in block.rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for block in found:
        quiet = "" if block.verdict.level else "dim"
        out.print(_text(block.title, quiet or "bold"))
        draw(out, block.rows, widths, quiet)
        _print(out, _text(block.verdict.text, quiet or _STYLES[block.verdict.level]), 2)
    for line in next_steps(found, words) or ["no PCI devices"]:
        _print(out, _text(line, ""), 0)


def _cells(row: Row) -> tuple[str, str, str]:
    return ("  VF " if row.is_vf else "") + row.address, row.kind, row.driver


def _table(out: Console, rows: Iterable[Row], widths: Sequence[int], quiet: str) -> None:
    """Each device's details stand in a column of their own. No line ends in spaces, unlike those of rich's tables."""
    indent = 2 + sum(width + 2 for width in widths)
    for row in rows:
        cells = "  ".join(cell.ljust(width) for cell, width in zip(_cells(row), widths, strict=True))
        wrapped = (detail.wrap(out, max(out.width - indent, 8), overflow="fold") for detail in _details(row, quiet))
        first, *rest = [line for lines in wrapped for line in lines] or [_text("", "")]
        start = _text(f"  {cells}  ", quiet).append_text(first)
        start.rstrip()
        out.print(start, *(_shifted(line, indent) for line in rest), sep="\n")


def _cards(out: Console, rows: Iterable[Row], _widths: Sequence[int], quiet: str) -> None:
    for row in rows:
        _print(out, _text("  ".join(_cells(row)), quiet), 2)
        for detail in _details(row, quiet):
            _print(out, detail, 6 if row.is_vf else 4)


def _details(row: Row, quiet: str) -> Iterator[Text]:
    """The device's name, and each remark."""
    if name := _text(row.name.text, quiet):
        for found in _IDS.finditer(name.plain):
            name.stylize("dim", *found.span())
        yield name
    for remark in row.remarks:
        yield _text(remark.text, _STYLES[remark.level] or "dim")


def _show(
    those: Sequence[str], styles: Iterable[Styled], heads: str = "", hang: int = 4, *, pastes: bool = False
) -> None:
    """Show lines. On a terminal what wraps stands further right than the details below a line."""
    out = console()
    if out is None:
        show(list(those))
        return
    for line in those:
        bare = line.lstrip(" ")
        indent = len(line) - len(bare)
        text = _text(bare, "" if indent else heads)
        for pattern, style in styles:
            for found in re.finditer(pattern, text.plain):
                text.stylize(style, *found.span())
        _print(out, text, indent, hang, pastes=pastes)


def _print(out: Console, text: Text, indent: int, hang: int = 2, *, pastes: bool = False) -> None:
    """Print it with what wraps a little further right, so that each line's beginning stands out.

    With ``pastes``, a command to paste that does not fit begins a line, and no line feed is put into it: the terminal
    breaks it, and copies it whole. Elsewhere what looks like one may be somebody's name.
    """
    found = _TO_PASTE.search(text.plain) if pastes and indent + text.cell_len > out.width else None
    if found:
        command = text[found.end() :]
        text = text[: found.end() - 1]
    first, *rest = text.wrap(out, max(out.width - indent - hang, 8), overflow="fold")
    out.print(*(_shifted(line, indent + (hang if at else 0)) for at, line in enumerate((first, *rest))), sep="\n")
    if found:
        out.print(command, soft_wrap=True)


def _shifted(line: Text, by: int) -> Text:
    line.rstrip()
    line.pad_left(by)
    return line


def _text(text: str, style: str) -> Text:
    from rich.text import Text

    return Text(printable(text), style)
