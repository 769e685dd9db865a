# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the page's script adds: search, filters, zoom, what one points at; and what a hostile log cannot make it do."""

from pathlib import Path
from typing import Any

import busy_host
import pytest
from chromium import Browser, Making
from trail_writing import BEGIN, OTHER, UUID, Trail

pytest_plugins = ["pages"]
HOUR = 3_600_000
SHOWN = (
    "[...document.querySelectorAll('.entries tbody tr')].filter(row => !row.hidden && !row.closest('[hidden], .gone'))"
)
GUESTS = f"{SHOWN}.map(row => row.cells[0].textContent)"
TIP = "document.getElementById('tip').hidden ? '' : document.getElementById('tip').textContent"
LANES = ".querySelectorAll('svg.lane')"


def _trail() -> Trail:
    """A week of two guests that take turns at a card each day, 19:00 to 21:00 and 22:00 to 23:00 in Berlin."""
    log = Trail(now=BEGIN - BEGIN % (24 * HOUR) + 18 * HOUR - 24 * HOUR)
    for _ in range(7):
        log.device("libhook", "start", vm="win11", after=0).device("libhook", "stop", vm="win11", after=2 * HOUR)
        log.device("libhook", "start", vm="build", uuid=OTHER, after=HOUR)
        log.device("libhook", "stop", vm="build", uuid=OTHER, after=HOUR)
        log.now += 20 * HOUR
    log.device("libhook", "start", False, vm="build", uuid=OTHER, device="0000:02:00.0", after=0)
    return log


@pytest.fixture(scope="module", name="made")
def _made(making: Making) -> Path:
    return making(bytes(_trail()))


@pytest.fixture
def page(browser: Browser, made: Path) -> Browser:
    """The page, opened anew."""
    browser.console.clear()
    browser.open(made, 1400, "light")
    return browser


def _ask(page: Browser, **fields: str) -> list[str]:
    """Fill in what is asked for; the guests of the entries that are left."""
    for name, value in fields.items():
        page.value(f"document.getElementById('{name}').value = {value!r}")
    page.value("document.getElementById('from').onchange()")
    found: list[str] = page.value(GUESTS)
    return found


def test_who_had_the_card_that_evening(page: Browser) -> None:
    """A time leaves what anybody had at some moment of it, opens it, and draws the lines of that time alone."""
    assert _ask(page, **{"from": "2026-11-25 20:30", "to": "2026-11-25 21:30"}) == ["B win11"]
    assert page.value("document.getElementById('found').textContent").startswith("Shown: 1 of 15 entries, from ")
    drawn = page.value(
        "[...document.querySelectorAll('defs g[id^=l]')].map(g => g.querySelector('.bar')?.getAttribute('d'))"
    )
    assert [each for each in drawn if each] == ["M0 5h400"]
    assert page.value("document.getElementById('axis').textContent").endswith("2026-11-25 20:302026-11-25 21:30")
    assert page.value(f"{SHOWN}[0].closest('details').open")


def test_who_had_it_while_nobody_wrote_it_down(browser: Browser, making: Making) -> None:
    """That nothing is found is no answer where the trail was silent: that is said beside it, and only there."""
    log = _trail().raw("DAEMON_END", "op=terminate", after=0).raw("DAEMON_START", "op=start", after=2 * HOUR)
    browser.open(making(bytes(log)), 1400, "light")
    found = "document.getElementById('found').textContent"
    assert browser.value(found) == "15 entries"
    assert _ask(browser, **{"from": "2026-11-30 19:30", "to": "2026-11-30 20:00"}) == []
    assert "Shown: 0 of 15 entries" in browser.value(found)
    assert "There is no trail from 2026-11-30 19:30:00 to 2026-11-30 20:00:00" in browser.value(found)
    _ask(browser, **{"from": "2026-11-25 20:30", "to": "2026-11-25 21:30"})
    assert "no trail" not in browser.value(found)


def test_a_day_is_a_time(page: Browser) -> None:
    """From its first second to its last."""
    assert _ask(page, **{"from": "2026-11-26", "to": "2026-11-26"}) == ["B win11", "A build"]


@pytest.mark.parametrize("text", ["x", "2026-13-40", "26.11.2026", "1999-01-01"])
def test_what_is_no_time_is_said(page: Browser, text: str) -> None:
    """The field is marked, and nothing is said of an answer."""
    assert len(_ask(page, to=text)) == 15
    assert page.value("document.getElementById('to').getAttribute('aria-invalid')") == "true"
    assert page.value("document.getElementById('found').textContent") == ""
    assert len(_ask(page, to="")) == 15
    assert page.value("document.getElementById('to').getAttribute('aria-invalid')") == "false"


@pytest.mark.parametrize(
    ("fields", "count"),
    [
        ({"text": "WIN"}, 7), ({"text": "win 02:00"}, 0), ({"text": "build 02:00"}, 1), ({"text": OTHER[:9]}, 8),
        ({"guest": "1"}, 7), ({"device": "2"}, 1), ({"result": "failed"}, 1), ({"result": "success"}, 14),
        ({"result": "held"}, 0), ({"result": "success", "guest": "0", "from": "2026-11-26"}, 4),
    ],
)  # fmt: skip
def test_each_field_leaves_what_it_names(page: Browser, fields: dict[str, str], count: int) -> None:
    """Rows, lines, devices and guests; Show all brings everything back."""
    before = page.value("document.querySelector('defs').textContent + document.querySelectorAll('defs path').length")
    assert len(_ask(page, **fields)) == count
    devices = page.value("document.querySelectorAll('main section:not(.gone)').length")
    assert devices == page.value(f"new Set({SHOWN}.map(row => row.closest('section'))).size")
    page.value("document.getElementById('all').click()")
    page.settle()
    assert len(page.value(GUESTS)) == 15
    after = page.value("document.querySelector('defs').textContent + document.querySelectorAll('defs path').length")
    assert after == before


def test_a_folded_block_shows_what_is_asked_for_once_it_is_opened(browser: Browser, making: Making) -> None:
    """Its rows are left alone until then, and before print: of a long page that takes seconds."""
    browser.open(making(busy_host.log(6_000)), 1400, "light")
    hidden = "document.querySelectorAll('.entries tr[hidden]').length"
    count = int(_count(browser, "failed"))
    assert 500 < count < 1_000
    assert browser.value(hidden) == 0
    browser.value("document.querySelector('details.block:not([hidden])').open = true")
    browser.wait(f"{hidden} > 0")
    browser.call("Page.printToPDF")
    assert browser.value(f"document.querySelectorAll('.entries tbody tr').length - {hidden}") == count


def _count(page: Browser, result: str) -> str:
    page.value(f"document.getElementById('result').value = {result!r}; document.getElementById('result').onchange()")
    said: str = page.value("document.getElementById('found').textContent")
    return said.split()[1]


def test_one_types_to_search(page: Browser) -> None:
    """As soon as one stops."""
    page.value("document.getElementById('text').focus()")
    page.call("Input.insertText", text="win11")
    page.wait(f"{SHOWN}.length === 7")


def _middle(page: Browser, number: int, part: float) -> tuple[float, float]:
    """Where on the screen a part of the width of the overview's line is."""
    page.value(f"document{LANES}[{number}].scrollIntoView({{block: 'center'}})")
    box = page.value(
        f"(() => {{ const box = document{LANES}[{number}].getBoundingClientRect();"
        " return [box.left, box.top, box.width, box.height]; })()"
    )
    return box[0] + box[2] * part, box[1] + box[3] / 2


def test_the_mouse_tells_and_zooms(page: Browser) -> None:
    """Who, from when to when, how long and by whom; away from an entry nothing; along a line it zooms."""
    page.mouse("Moved", *_middle(page, 0, 0.001))
    times, how = (
        "2026-11-23 19:00:00 to 2026-11-23 21:00:00, 2 h 0 min",
        "start, stop, recorded by libhook, event 11 \u2026 12",
    )
    assert page.value(TIP) == f"pci 0000:01:00.0: B win11\n{times}\n{how}"
    page.mouse("Moved", *_middle(page, 0, 0.1))
    assert page.value(TIP) == ""
    start, end = _middle(page, 0, 0.0), _middle(page, 0, 0.1)
    page.mouse("Moved", *start)
    page.mouse("Pressed", *start)
    page.mouse("Moved", *end)
    page.mouse("Released", *end)
    assert page.value(GUESTS) == ["B win11", "A build"]


def test_the_buttons_zoom_and_move(page: Browser) -> None:
    """Half the time, later, earlier, twice the time; never beyond the trail."""
    counts = []
    for name in ("in", "later", "later", "later", "earlier", "out", "out"):
        page.value(f"document.getElementById('{name}').click()")
        counts.append(len(page.value(GUESTS)))
    assert counts == [8, 7, 7, 7, 8, 15, 15]
    assert page.value("document.getElementById('found').textContent") == "15 entries"


def test_the_arrow_keys_go_from_entry_to_entry(page: Browser) -> None:
    """And from line to line; a screen reader hears the same; Enter goes to the row; Escape closes what is said."""
    page.value(f"document{LANES}[0].focus()")
    page.press("ArrowRight")
    first = page.value(TIP)
    assert first.startswith("pci 0000:01:00.0: B win11\n2026-11-23 19:00:00 to ")
    assert page.value("document.activeElement.getAttribute('aria-valuetext')") == first
    page.press("ArrowRight")
    assert "A build\n2026-11-23 22:00:00" in page.value(TIP)
    assert page.value("document.activeElement.getAttribute('aria-valuenow')") == "2"
    page.press("End")
    assert "2026-11-29" in page.value(TIP)
    page.press("Home")
    assert page.value(TIP) == first
    page.press("Escape")
    assert page.value(TIP) == ""
    page.press("ArrowDown")
    page.press("ArrowLeft")
    assert "start failed libvirtd" not in page.value(TIP)
    assert "pci 0000:02:00.0: A build" in page.value(TIP)
    page.press("Enter")
    assert (
        page.value("document.activeElement.tagName + document.activeElement.cells[4].textContent") == "TRstart failed"
    )


def test_what_is_filtered_out_is_passed_over(page: Browser) -> None:
    """By the arrow keys and by the mouse."""
    _ask(page, guest="1")
    page.value(f"document{LANES}[0].focus()")
    for day in (23, 24):
        page.press("ArrowRight")
        assert f"B win11\n2026-11-{day} 19:00:00" in page.value(TIP)
    _ask(page, guest="0")
    page.mouse("Moved", *_middle(page, 0, 0.001))
    assert page.value(TIP) == ""


def test_a_link_opens_what_is_folded(page: Browser) -> None:
    """A guest's name leads to that guest."""
    page.value("document.querySelectorAll('details').forEach(each => { each.open = false; })")
    page.value("document.querySelector('a[href=\"#g1\"]').click()")
    page.wait("document.getElementById('g1').open")


HOSTILE = (
    "</script><script>window.ran = 1</script>",
    "<!--<script>",
    "<img src=x onerror='window.ran = 1'>",
    "]]>\"'`${window.ran = 1}\\",
    "\u2028\u2029\u202e\u2066x\x00\x1b[31m\udcff",
    "constructor", "__proto__", "0", "",
)  # fmt: skip


def test_a_hostile_log_runs_nothing(browser: Browser, making: Making) -> None:
    """Whatever guests, UUIDs and devices are called: all of it is text, and the script goes on to work."""
    log = Trail()
    for number, name in enumerate(HOSTILE):
        uuid = f"{UUID[:-2]}{number:02d}" if number % 2 else (name.split() or ["x"])[0].replace("\u2028", "")[:30]
        log.device("libhook", "start", vm=name, uuid=uuid, bus="scsi", device=name or "x")
    page = making(bytes(log))
    browser.console.clear()
    browser.requests.clear()
    browser.open(page, 1400, "light")
    assert browser.value("window.ran") is None
    assert (browser.console, browser.requests) == ([], [page.as_uri()])
    for each in browser.value(f"[...document{LANES}].map((_, at) => at)"):
        browser.value(f"document{LANES}[{each}].focus()")
        browser.press("ArrowRight")
        assert browser.value(TIP)
    assert _ask(browser, text="window.ran")
    assert browser.value("window.ran") is None
    assert browser.value("document.querySelectorAll('img, script:not([type]) ~ script').length") == 0
    letters = browser.value("document.body.textContent")
    assert not set("\u2028\u202e\u2066\x1b\x00") & set(letters)
    assert browser.console == []


def _opened(browser: Browser, path: Path) -> Any:  # noqa: ANN401 - numbers
    browser.open(path, 1400, "light")
    return browser.value("performance.getEntriesByType('navigation')[0].loadEventEnd")


@pytest.mark.rest
def test_a_long_page_opens_in_proportion(browser: Browser, making: Making) -> None:
    """Twelve times the entries take at most twenty times as long: nothing is looked for again for each entry.

    The square would take 144 times as long, in each of ten measurements, so a busy machine fails none.
    """
    short, long = making(busy_host.log(1_000)), making(busy_host.log(12_000))
    assert any(20 * _opened(browser, short) > _opened(browser, long) for _ in range(10))
    assert browser.value("document.getElementById('found').textContent") == "12001 entries"
    assert (
        browser.value("[...document.querySelectorAll('.entries')].filter(each => each.checkVisibility()).length") == 0
    )
