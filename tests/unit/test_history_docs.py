# SPDX-License-Identifier: LGPL-2.1-or-later
"""What docs/history.md and docs/follow.md show of ``libhook history`` is what it prints."""

import re
import time
from pathlib import Path

import pytest
from following import Desk
from trail_writing import BEGIN, NOWHERE, OTHER, Trail, read

from libhook.history.names import lookup
from libhook.history.table import Table

ROOT = Path(__file__).parents[2]
CARD = "0000:03:00.0"


def test_the_table_of_the_page_is_what_is_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a log with a guest's life, a start that failed, a silence, and a device that is held."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    log = Trail().device("libhook", "start", device=CARD).device("libvirtd", "start", device=CARD, after=52)
    log.control("start").device("libhook", "stop", device=CARD, after=1_958_000).control("stop")
    about = {"vm": "build", "uuid": OTHER, "device": CARD}
    log.device("libhook", "start", False, after=444_000, **about).device("libvirtd", "start", **about)  # type: ignore[arg-type]
    log.control("start", False, vm="build", uuid=OTHER)
    log.raw("DAEMON_END", "op=terminate").raw("DAEMON_START", "op=start", after=600_000)
    log.device("libvirtd", "attach", bus="usb", device="001.004", after=30_000)
    table = Table(lookup(NOWHERE))
    entries, silences, _ = read([bytes(log)])
    rows = [(entry.start, table.row(entry)) for entry in entries]
    rows += [(silence.start, table.silence(silence)) for silence in silences]
    shown = list(table.lines((row for _, row in sorted(rows)), 120, hosts={None: (BEGIN + 1000, log.now)}))
    blocks = re.findall(r"```console\n(.*?)```", (ROOT / "docs/history.md").read_text(), flags=re.S)
    monkeypatch.undo()
    time.tzset()
    assert blocks[0].splitlines()[1:] == shown


def test_the_lines_of_follow_are_what_is_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the same life, and of the start that failed."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    desk = Desk(tmp_path)
    desk.given = ["-ts", "2026-11-24"]
    log = Trail().device("libhook", "start", device=CARD).device("libvirtd", "start", device=CARD, after=52)
    log.control("start").device("libhook", "stop", device=CARD, after=1_958_000).control("stop")
    about = {"vm": "build", "uuid": OTHER, "device": CARD}
    log.device("libhook", "start", False, after=444_000, **about).device("libvirtd", "start", **about)  # type: ignore[arg-type]
    desk.append(bytes(log.control("start", False, vm="build", uuid=OTHER)))
    desk.follow()
    monkeypatch.undo()
    time.tzset()
    blocks = re.findall(r"```console\n(.*?)```", (ROOT / "docs/follow.md").read_text(), flags=re.S)
    assert blocks[0].splitlines()[1:] == desk.out.read_text().splitlines()
