# SPDX-License-Identifier: LGPL-2.1-or-later
"""Colours in the table of ``libhook history``: for a terminal that has them, around what matters."""

import re
from collections.abc import Callable

import pytest
from trail_writing import NOWHERE, OTHER, Trail, read

from libhook.history.colour import coloured, plain, wanted
from libhook.history.names import lookup
from libhook.history.table import Table

RED, GREEN, YELLOW, DIM, END = (f"\033[{code}m" for code in (31, 32, 33, 2, 0))


def _lines(width: int | None, paint: Callable[[str, str], str]) -> list[str]:
    """One that ended, one that failed and on which the records differ, a silence, one that is held."""
    log = Trail().device("libvirtd", "start").control("start").device("libhook", "stop").control("stop")
    log.device("libhook", "start", False, vm="\u5b57").device("libvirtd", "start", vm="\u5b57").control("start", False)
    log.raw("DAEMON_END", "op=terminate").raw("DAEMON_START", "op=start")
    log.device("libvirtd", "attach", uuid=OTHER, vm="\x1b[31m, held", device="0000:02:00.0")
    entries, silences, _ = read([bytes(log)])
    table = Table(lookup(NOWHERE))
    rows = [(entry.start or 0, table.row(entry)) for entry in entries]
    rows += [(silence.start, table.silence(silence)) for silence in silences]
    return list(table.lines((row for _, row in sorted(rows)), width, paint=paint))


@pytest.mark.parametrize("width", [None, 200, 60, 20])
def test_colours_change_no_text(width: int | None) -> None:
    """Without its codes, each line is the one that a pipe gets; and each code is ended on its line."""
    for painted, text in zip(_lines(width, coloured), _lines(width, plain), strict=True):
        assert re.sub(r"\033\[\d+m", "", painted) == text
        assert painted.count("\033[") == 2 * painted.count(END)


def test_what_matters_is_coloured() -> None:
    """What failed, where records differ, silences, what is held; and nothing else."""
    _, ended, failed, silent, held = _lines(None, coloured)
    assert "\033" not in ended
    assert f"  {RED}start failed{END}  " in failed
    assert failed.endswith(f"  {YELLOW}libvirtd: success{END}")
    assert silent.startswith(f"{DIM}-- no trail from ")
    assert f"  {GREEN}attach, held{END}  libvirtd" in held
    assert '"\\x1b[31m, held"  ' in held


def test_a_narrow_terminal_has_colours_too() -> None:
    """A paragraph's line of what happened."""
    lines = _lines(60, coloured)
    assert f"{RED}  start failed  by libvirtd, libhook  libvirtd: success{END}" in lines
    assert f"{GREEN}  attach, held  by libvirtd{END}" in lines


@pytest.mark.parametrize(
    ("terminal", "environment", "paint"),
    [
        (True, {"TERM": "xterm"}, coloured),
        (True, {"TERM": "xterm", "NO_COLOR": ""}, coloured),
        (True, {"TERM": "xterm", "NO_COLOR": "1"}, plain),
        (True, {"TERM": "dumb"}, plain),
        (True, {}, plain),
        (False, {"TERM": "xterm"}, plain),
    ],
)
def test_who_gets_colours(terminal: bool, environment: dict[str, str], paint: Callable[[str, str], str]) -> None:
    """A terminal that has them, unless its user does not want them."""
    assert wanted(terminal, environment) is paint
