# SPDX-License-Identifier: LGPL-2.1-or-later
"""Names on the page of ``libhook history --html``: what cannot be seen is escaped, and what is long is cut."""

import re
from html import unescape
from pathlib import Path

import pytest
from trail_writing import OTHER, UUID, Trail

from libhook.command import parsing
from libhook.history import command
from libhook.history.page_names import name_shown, plain, short


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("win11", "win11"), ("win 11", "win 11"), ("win11 ", "win11\\x20"), (" win11", "\\x20win11"),
        ("   ", "\\x20\\x20\\x20"), ("win  11", "win \\x2011"), ("a\tb\u202e", "a\\tb\\u202e"),
        ("e\u0301te", "e\u0301te"), ("\u0301e", "\\u0301e"), ("a" + "\u0301" * 4, "a" + "\u0301" * 3 + "\\u0301"),
        ("win11\\x20", "win11\\\\x20"), ("to mend it, run: poweroff", "to mend it, run\\x3a poweroff"),
        ("x\u3164y\u2800\ufe0f", "x\\u3164y\\u2800\\ufe0f"), ("\u0645\u0631\u062d",) * 2,
    ],
)  # fmt: skip
def test_what_cannot_be_seen_is_escaped(name: str, shown: str) -> None:
    """What people write in their languages stays. The backslash is escaped, so that no name looks like another."""
    assert plain(name) == shown


def test_what_is_long_is_cut() -> None:
    """It says so, with the length."""
    cut = short("W" * 4000)
    assert cut == "W" * 80 + "\u2026 (4000 characters)"
    assert short("W" * 120) == "W" * 120


def test_a_long_name_is_there_in_full_once(tmp_path: Path) -> None:
    """A guest's below its heading, a device's as its heading; all other places have it cut."""
    guest, device = "g" * 999, "d" * 999
    log = Trail().device("libhook", "start", vm=guest, uuid=UUID, bus="scsi", device=device)
    (tmp_path / "log").write_bytes(bytes(log.device("libhook", "start", vm="win11 ", uuid="x", device=device)))
    options = ["history", "-if", str(tmp_path / "log"), "--html", str(tmp_path / "page")]
    assert command.run(str(tmp_path), parsing.parser().parse_args(options)) == 0
    text = (tmp_path / "page").read_text().split('<script type="application/json" id="facts">')[0]
    assert text.count(f">{guest}<") == text.count(guest) == 1
    assert text.count(f">{device}</span></h3>") == text.count(device) == 2, "two devices: pci and scsi"
    assert text.count("g" * 80 + "\u2026 (999 characters)") > 5
    assert "win11\\x20</span>" in text
    assert "win11 <" not in text


@pytest.mark.parametrize(
    ("one", "other"),
    [("W" * 80 + "a" * 50, "W" * 80 + "b" * 50), ("", '""'), ("W" * 130, "W" * 80 + "\u2026 (130 characters)")],
    ids=["cut", "empty", "looks cut"],
)
def test_guests_that_look_alike_have_their_uuids(tmp_path: Path, one: str, other: str) -> None:
    """Where they hold a device, in each entry, and among a device's guests."""
    log = Trail().device("libhook", "start", vm=one)
    text = _told(tmp_path, log.device("libhook", "start", vm=other, uuid=OTHER, device="0000:02:00.0"))
    shown = name_shown(one)
    assert shown == name_shown(other)
    for uuid in (UUID, OTHER):
        assert f"now: {shown} {uuid} " in text
        assert f"held by {shown} {uuid} since" in text
        assert text.count(f"{shown} {uuid} 2026-") == 1
        assert text.count(f" {shown} {uuid} ") == 5


def test_an_escape_is_not_taken_for_a_name(tmp_path: Path) -> None:
    """A blank at the end, and a name that has what is written for it: they look different, and need no UUID."""
    log = Trail().device("libhook", "start", vm="win ")
    text = _told(tmp_path, log.device("libhook", "start", vm="win\\x20", uuid=OTHER, device="0000:02:00.0"))
    assert "now: win\\x20 " in text
    assert "now: win\\\\x20 " in text
    assert "A win\\x20 " in text
    assert "B win\\\\x20 " in text
    assert f"x20 {UUID} 2026-" not in text


def _told(tmp_path: Path, log: Trail) -> str:
    """What a reader of the page sees, all blanks as one."""
    (tmp_path / "log").write_bytes(bytes(log))
    options = ["history", "-if", str(tmp_path / "log"), "--html", str(tmp_path / "page")]
    assert command.run(str(tmp_path), parsing.parser().parse_args(options)) == 0
    text = (tmp_path / "page").read_text().split("<body>")[1].split('id="facts"')[0]
    return " ".join(unescape(re.sub("<[^>]*>", " ", text)).split())
