# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the page says of its answer: what is shown, what is not known, and what is no time. On paper, too."""

import base64
import subprocess
from pathlib import Path

import pytest
from axe import violations
from chromium import Browser, Making
from trail_writing import BEGIN, OTHER, Trail

pytest_plugins = ["pages"]
HOUR = 3_600_000
FOUND = "document.getElementById('found').textContent"
WRONG = "document.getElementById('wrong').hidden ? '' : document.getElementById('wrong').textContent"
TIP = "document.getElementById('tip').hidden ? '' : document.getElementById('tip').textContent"
EMPTY = (
    "[...document.querySelectorAll('li.row')].map(row => row.hidden ? null : row.querySelector('.empty').textContent)"
)
OUTSIDE = "document.getElementById('outside').getAttribute('d')"


@pytest.fixture(scope="module", name="made")
def _made(making: Making) -> Path:
    """A card from 10:00 to 12:00 and 14:00 to 16:00, another in the second time only; a silence from 17:00 to 19:00."""
    log = Trail(now=BEGIN - BEGIN % (24 * HOUR) + 9 * HOUR - 1000)  # Berlin is an hour ahead
    log.device("libhook", "start").device("libhook", "stop", after=2 * HOUR)
    log.device("libhook", "start", vm="build", uuid=OTHER, after=2 * HOUR)
    log.device("libhook", "start", vm="build", uuid=OTHER, device="0000:02:00.0", after=0)
    log.device("libhook", "stop", vm="build", uuid=OTHER, after=2 * HOUR)
    log.device("libhook", "stop", vm="build", uuid=OTHER, device="0000:02:00.0", after=0)
    log.raw("DAEMON_END", "op=terminate", after=HOUR).raw("DAEMON_START", "op=start", after=2 * HOUR)
    return making(bytes(log.raw("USER_LOGIN", "x", after=HOUR)))


@pytest.fixture
def page(browser: Browser, made: Path) -> Browser:
    """The page, opened anew."""
    browser.open(made, 1400, "light")
    return browser


def _ask(page: Browser, **fields: str) -> str:
    """Fill in what is asked for; what is said of the answer."""
    for name, value in fields.items():
        page.value(f"document.getElementById('{name}').value = {value!r}")
    page.value("document.getElementById('from').onchange()")
    said: str = page.value(FOUND)
    return said


def _printed(page: Browser) -> str:
    data = base64.b64decode(page.call("Page.printToPDF", paperWidth=8.27, paperHeight=11.69)["data"])
    done = subprocess.run(["pdftotext", "-layout", "-", "-"], input=data, capture_output=True, check=True)
    return " ".join(done.stdout.decode().split())


def test_what_is_shown_is_said_on_paper_too(page: Browser) -> None:
    """With its filter, at the top and at the end; the totals say that they are of all; Show all takes it back."""
    assert "Of all entries on this page" not in _printed(page)
    said = _ask(page, **{"from": "2026-11-24 10:30", "to": "2026-11-24 11:00", "device": "1", "guest": "1"})
    assert said == (
        "Shown: 1 of 3 entries, from 2026-11-24 10:30:00 to 2026-11-24 11:00:00, device pci 0000:01:00.0, "
        "guest B win11. For this time no gap in the trail is recorded."
    )
    paper = _printed(page)
    assert paper.count(said) == 2
    assert "Made without a filter" in paper
    assert "No filter" not in paper
    assert paper.index("Of all entries on this page, and not only of those that are shown: 2 devices") < paper.index(
        said
    )
    page.value("document.getElementById('all').click()")
    page.settle()
    assert page.value(FOUND) == "3 entries"
    paper = _printed(page)
    assert "Shown:" not in paper
    assert "all entries on this page, and" not in paper


def test_a_gap_and_the_ends_of_the_trail_are_said(page: Browser) -> None:
    """What is asked for stays in the fields, and what no trail is of is grey."""
    said = _ask(page, **{"from": "2026-11-24 18:00", "to": "2026-11-24 20:30"})
    assert "There is no trail from 2026-11-24 18:00:00 to 2026-11-24 19:00:00: who had what then is not known." in said
    said = _ask(page, **{"from": "2026-11-24 09:00", "to": "2026-11-24 11:00"})
    assert (
        "The trail begins 2026-11-24 10:00:00: what was before is not known. For the rest of this time no gap" in said
    )
    assert page.value("document.getElementById('from').value") == "2026-11-24 09:00:00"
    assert page.value(OUTSIDE) == "M0 0h400v10h-400z"
    said = _ask(page, **{"from": "2026-11-25", "to": "2026-11-25"})
    assert said == (
        "Shown: 0 of 3 entries, from 2026-11-25 00:00:00 to 2026-11-25 23:59:59. "
        "The trail ends 2026-11-24 20:00:00: what was after is not known."
    )
    assert page.value(OUTSIDE) == "M0 0h800v10h-800z"
    page.value("document.getElementById('all').click()")
    page.settle()
    assert page.value(OUTSIDE) == ""


def test_what_could_not_be_read_is_said_of_each_answer(browser: Browser, making: Making) -> None:
    """In its foot, too: a gap may be hidden by what is missing."""
    log = Trail().device("libhook", "start").device("libhook", "stop", after=HOUR)
    browser.open(making(bytes(log) + log.lines[0][:-80] + b"\n"), 1400, "light")
    said = _ask(browser, device="1")
    assert said.endswith(
        "For this time no gap in the trail is recorded. Not all of the logs could be read, as said at the top."
    )
    assert browser.value("document.getElementById('made-shown').textContent") == said


def test_a_page_of_a_time_outside_the_trail_knows_nothing(browser: Browser, making: Making) -> None:
    """Whatever is asked of it, within the time that it was made of and beyond."""
    asked = "Of the time that is asked for, from 2026-11-25 10:00:00 on, nothing is known."
    unknown = f"The trail ends 2026-11-24 20:30:01. {asked}"
    log = Trail().device("libhook", "start").raw("USER_LOGIN", "x", after=HOUR)
    browser.open(making(bytes(log), "-ts", "2026-11-25T10:00:00"), 1400, "light")
    assert browser.value(OUTSIDE) == "M0 0h800v10h-800z"
    said = _ask(browser, device="1")
    assert said == (
        "Shown: 0 of 1 entry, from 2026-11-25 10:00:00 to 2026-11-26 10:00:00, device pci 0000:01:00.0. " + unknown
    )
    assert browser.value(EMPTY) == ["no entry; unknown where it is grey"]
    said = _ask(browser, **{"from": "2026-11-25", "to": "2026-11-27"})
    assert "This page begins 2026-11-25 10:00:00: what was before is not on it." in said
    assert "This page ends 2026-11-26 10:00:00: what was after is not on it." in said
    assert said.endswith(unknown)
    assert browser.value(OUTSIDE) == "M0 0h800v10h-800z"


def test_zoom_stays_where_there_is_no_trail(page: Browser) -> None:
    """From and To may lie there; from there the trail can be reached."""
    _ask(page, **{"from": "2026-11-24 08:00", "to": "2026-11-24 10:00"})
    for name, window in (
        ("in", ("08:30", "09:30")),
        ("out", ("08:30", "10:30")),
        ("later", ("09:30", "11:30")),
        ("earlier", ("09:30", "11:30")),
    ):
        page.value(f"document.getElementById('{name}').click()")
        shown = page.value("['from', 'to'].map(name => document.getElementById(name).value)")
        assert shown == [f"2026-11-24 {time}:00" for time in window], name


def test_a_device_without_an_entry_keeps_its_line(page: Browser) -> None:
    """Where the time alone, or that device, is asked for; it says what is not known."""
    assert page.value(EMPTY) == ["", ""]
    _ask(page, **{"from": "2026-11-24 10:30", "to": "2026-11-24 11:00"})
    assert page.value(EMPTY) == ["", "no entry in this time"]
    _ask(page, **{"from": "2026-11-24 17:30", "to": "2026-11-24 18:00"})
    assert page.value(EMPTY) == ["no entry in this time; unknown where it is grey"] * 2
    _ask(page, device="2")
    assert page.value(EMPTY) == [None, "no entry in this time; unknown where it is grey"]
    _ask(page, device="", guest="1")
    assert page.value(EMPTY) == [None, None]


@pytest.mark.parametrize(
    ("text", "taken"),
    [("2026-11-24T11:00", "11:00:00"), ("2026-11-24 9:00", "09:00:00"), ("2026/11/24  11:00:05", "11:00:05"),
     ("2026-11-24", "00:00:00")],
)  # fmt: skip
def test_what_is_plain_is_a_time(page: Browser, text: str, taken: str) -> None:
    """However it is written; the field shows what was understood."""
    assert f"from 2026-11-24 {taken} to" in _ask(page, **{"from": text})
    assert page.value("document.getElementById('from').value") == f"2026-11-24 {taken}"


def test_what_is_no_time_leaves_no_answer(page: Browser) -> None:
    """Its field is marked and says why, with an example from this trail; nothing older looks like the answer."""
    _ask(page, **{"from": "2026-11-24 10:30", "to": "2026-11-24 11:00"})
    assert _ask(page, **{"from": "2026-02-30"}) == ""
    assert page.value(WRONG) == (
        "From: \u201c2026-02-30\u201d is no time. Write it like 2026-11-24 10:00 or 2026-11-24."
    )
    field = "document.getElementById('{}').getAttribute('aria-{}')"
    assert page.value(field.format("from", "describedby")) == "wrong"
    assert page.value(field.format("to", "describedby")) is None
    parts = "[...document.querySelectorAll('svg.lane, td')]"
    seen = f"{parts}.filter(each => each.checkVisibility({{visibilityProperty: true}})).length"
    assert page.value(seen) == 0
    assert page.value("getComputedStyle(document.getElementById('wrong')).color") == "rgb(179, 38, 30)"
    assert violations(page) == []
    _ask(page, **{"from": "2026-11-24 12:00"})
    assert page.value(WRONG) == "To is before From: no time lies between them."
    assert "Shown: 1 of 3" in _ask(page, **{"from": "2026-11-24 10:30"})
    assert page.value(WRONG) == ""
    assert page.value(seen) > 0


def test_tab_reaches_a_line_that_is_shown(page: Browser) -> None:
    """The first of each group, also where a filter has hidden the first of all."""
    _ask(page, device="2")
    reached = """[...document.querySelectorAll('svg.lane')].filter(lane => lane.getClientRects().length)
      .map(lane => [lane.getAttribute('aria-label').match(/0000:0\\d/)[0], lane.getAttribute('tabindex')])"""
    assert page.value(reached) == [["0000:02", "0"]] * 3
    _ask(page, device="")
    overview = "[...document.querySelectorAll('li.row > .lane')].map(lane => lane.getAttribute('tabindex'))"
    assert page.value(overview) == ["0", "-1"]


def test_the_first_tap_tells(browser: Browser, made: Path) -> None:
    """A tap on another line, too; a tap elsewhere takes it away."""
    browser.open(made, 360, "light")
    browser.call("Emulation.setTouchEmulationEnabled", enabled=True)
    try:
        for number, part, guest in ((0, 0.1, "win11"), (1, 0.5, "build"), (0, 0.1, "win11")):
            lane = f"document.querySelectorAll('li.row > .lane')[{number}]"
            browser.value(f"{lane}.scrollIntoView({{block: 'center'}})")
            left, top, width = browser.value(
                f"(() => {{ const box = {lane}.getBoundingClientRect(); return [box.left, box.top, box.width]; }})()"
            )
            _tap(browser, left + width * part, top + 5)
            assert guest in browser.value(TIP)
        _tap(browser, 5, 5)
        assert browser.value(TIP) == ""
    finally:
        browser.call("Emulation.setTouchEmulationEnabled", enabled=False)


def _tap(browser: Browser, x: float, y: float) -> None:
    browser.call("Input.dispatchTouchEvent", type="touchStart", touchPoints=[{"x": x, "y": y}])
    browser.call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])
    browser.settle()
