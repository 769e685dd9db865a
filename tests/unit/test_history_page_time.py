# SPDX-License-Identifier: LGPL-2.1-or-later
"""The page of ``libhook history --html`` says nothing of a time of which the trail knows nothing."""

import json
import re
import time
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from trail_writing import UUID, Trail

from libhook.command import parsing
from libhook.history import command

HOUR = 3_600_000
ENDS, BEGINS = "The trail ends 2026-11-24 20:30:01.", "The trail begins 2026-11-24 18:30:01."
CLAIMS = "no gap", "nobody is recorded", "what was after", "what was before", "Not all of the logs could"


@pytest.fixture(autouse=True)
def _utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def _log() -> Trail:
    """A card that was held when the trail began, and one that is held when it ends."""
    log = Trail().device("libhook", "stop", device="0000:02:00.0")
    return log.device("libhook", "start").raw("USER_LOGIN", "x", after=2 * HOUR - 1)


def _made(tmp_path: Path, *given: str, log: bytes | None = None) -> tuple[str, str, dict[str, Any]]:
    """The page, what a reader sees of it, and what its script knows."""
    (tmp_path / "log").write_bytes(bytes(_log()) if log is None else log)
    made = tmp_path / "page.html"
    options = parsing.parser().parse_args(["history", "-if", str(tmp_path / "log"), "--html", str(made), *given])
    assert command.run(str(tmp_path), options) == 0
    text = made.read_text()
    body, facts = text.split("<body>")[1].split('<script type="application/json" id="facts">')
    seen = " ".join(unescape(re.sub("<[^>]*>", " ", re.sub("</?time.*?>", "", body))).split())
    return text, seen, json.loads(facts.split("</script>")[0])


@pytest.mark.parametrize("entries", [True, False])
@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("-ts", "2026-11-25"), f"{ENDS} Of the time that is asked for, from 2026-11-25 00:00:00 on,"),
        (("-ts", "2026-11-25", "-te", "2026-11-26T12:00:00"),
         f"{ENDS} Of the time that is asked for, from 2026-11-25 00:00:00 to 2026-11-26 12:00:00,"),
        (("-te", "2026-11-24T18:00:00"), f"{BEGINS} Of the time that is asked for, until 2026-11-24 18:00:00,"),
        (("-ts", "2026-11-23", "-te", "2026-11-23"),
         f"{BEGINS} Of the time that is asked for, from 2026-11-23 00:00:00 to 2026-11-23 23:59:59,"),
        (("-te", "0001-01-02"), f"{BEGINS} Of the time that is asked for, until 1970-01-01 00:00:00,"),
        (("-ts", "9999-12-30"), f"{ENDS} Of the time that is asked for, from 5138-11-16 09:46:40 on,"),
    ],
)  # fmt: skip
def test_of_a_time_outside_the_trail_nothing_is_said(
    tmp_path: Path, given: tuple[str, ...], said: str, entries: bool
) -> None:
    """It is named, with where the trail ends or begins. Nothing is drawn in it but that it is not known.

    An entry without a start, or without an end, matches it. Logs that could not be read do not matter.
    """
    broken = _log().lines[0][:-80] + b"\n" + bytes(_log())
    text, seen, facts = _made(tmp_path, *given, *([] if entries else ["--vm", "other"]), log=broken)
    assert text.count('<tr class="g') == entries
    whole = f"{said} nothing is known."
    assert facts["unknown"] == whole
    assert facts["whole"] == [False, False]
    assert seen.count(whole) == 1 + (not entries)
    assert f"Times without a trail {whole} {'By guest' if entries else 'By device'} " in seen
    assert not [claim for claim in CLAIMS if claim in seen]
    assert '<path id="outside" class="silence" d="M0 0h800v10h-800z"/>' in text
    lines = text.split("<defs>")[1].split("</defs>")[0]
    assert re.findall(r'<path class="(?!rails|grid|silence)\w+" d="[^"]+"/>', lines) == []
    assert text.count('<use href="#outside"/>') >= 1


@pytest.mark.parametrize("end", ["2026-11-24T19:00:00", "2026-11-24T19:00:00.500"])
def test_a_moment_is_not_taken_for_the_whole_trail(tmp_path: Path, end: str) -> None:
    """It says nothing of a time that was not asked for: an entry that began later is left out."""
    text, seen, facts = _made(tmp_path, "-ts", "2026-11-24T19:00:00", "-te", end)
    assert facts["end"] - facts["start"] == 1
    assert facts["unknown"] == ""
    assert "From 2026-11-24 19:00:00 to 2026-11-24 19:00:00 no gap in the trail is recorded." in seen
    assert '<path class="bar" d="M0 5h800"/>' in text
    assert UUID in seen
    _, seen, _ = _made(tmp_path, "-ts", "2026-11-24T19:00:00", "-te", end, "--vm", "other")
    assert "No entry matches: from 2026-11-24 19:00:00 to 2026-11-24 19:00:00 nobody is recorded" in seen


def test_a_time_that_reaches_beyond_the_trail_is_told_of_as_far_as_it_goes(tmp_path: Path) -> None:
    """Of the rest is said that it is not known."""
    _, seen, facts = _made(tmp_path, "-ts", "2026-11-24T20:30:01", "-te", "2026-11-30")
    assert "The trail ends 2026-11-24 20:30:01: what was after is not known." in seen
    assert facts["unknown"] == ""


def test_a_time_in_summer_has_its_own_offset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the trail is in winter; the script writes the same."""
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    _, _, facts = _made(tmp_path, "-ts", "2027-07-01", "-te", "2027-07-02")
    assert "from 2027-07-01 00:00:00 +0200 to" in facts["unknown"]
    assert [offset for _, offset in facts["zones"]] == [3600, 7200]
