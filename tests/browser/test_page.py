# SPDX-License-Identifier: LGPL-2.1-or-later
"""The page of ``libhook history --html`` as a browser shows it: on a telephone, a wide screen, by day and by night."""

import itertools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from chromium import Browser

sys.path.append(str(Path(__file__).parents[1] / "unit"))
from trail_writing import OTHER, UUID, Trail

ROOT = Path(__file__).parents[2]
HOUR = 3_600_000
NASTY = "<script>document.title='x'</script>\"'&\u202egnp\n\x1b[31m\udcff<img src=http://x.test/>"
LONG = "n" * 300

# What stands further right than the window is wide: of the page, and of each part that is not hidden on purpose.
OVERFLOW = """
[...document.querySelectorAll('body *')].filter(e => !e.closest('svg') && !e.closest('caption, .skip, thead') &&
  e.getBoundingClientRect().right > innerWidth + 0.5).map(e => e.outerHTML.slice(0, 80))
"""
# Of each text with its colour against the first ground below it: the contrast, where it is too little (WCAG 2.1 AA).
CONTRAST = """
(() => {
  const parse = c => c.match(/[\\d.]+/g).map(Number);
  const light = c => parse(c).slice(0, 3).map(v => v / 255).map(v => v <= 0.03928 ? v / 12.92 :
    ((v + 0.055) / 1.055) ** 2.4).reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = e => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor;
    if (parse(c)[3] !== 0) return c; } return 'rgb(255, 255, 255)'; };
  const low = [];
  for (const e of document.querySelectorAll('body *:not(title)')) {
    if (![...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim())) continue;
    const style = getComputedStyle(e);
    const a = light(e.closest('svg') ? style.fill : style.color), b = light(ground(e));
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) low.push([e.outerHTML.slice(0, 60), ratio]);
  }
  return low;
})()
"""


def _trail() -> bytes:
    """A week with everything: names that hold anything, failures, a difference, a silence, a boot, what is held."""
    log = Trail("host<b>", now=1_795_000_000_000)
    for number in range(20):
        log.device("libhook", "start", after=5 * HOUR).device("libvirtd", "start").control("start")
        log.device("libhook", "stop", after=2 * HOUR).control("stop")
        nasty = {"vm": NASTY, "uuid": OTHER, "device": f"0000:0{number % 3}:00.0"}
        log.device("libhook", "start", number % 4 > 0, **nasty).device("libvirtd", "start", **nasty)  # type: ignore[arg-type]
        log.control("start", number % 4 > 0, vm=NASTY, uuid=OTHER)
        log.control("stop", vm=NASTY, uuid=OTHER, after=HOUR)
    log.raw("DAEMON_END", "op=terminate").raw("DAEMON_START", "op=start", after=9 * HOUR)
    log.device("libvirtd", "attach", vm=LONG, bus="scsi", device=LONG)
    for guest in range(20):
        log.device(
            "libhook", "start", vm=f"guest {guest}", uuid=UUID[:-2] + f"{guest:02d}", bus="usb", device="001.004"
        )
    return bytes(log)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page, made by the command itself."""
    folder = tmp_path_factory.mktemp("page")
    (folder / "audit.log").write_bytes(_trail())
    made = folder / "page.html"
    command = ["/usr/bin/python3", "-m", "libhook", "history", "-if", str(folder / "audit.log"), "--html", str(made)]
    subprocess.run(command, cwd=ROOT, check=True, env={"PATH": "/usr/bin:/bin", "TZ": "Europe/Berlin"})
    return made


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One for all: its start takes longest."""
    with Browser() as started:
        yield started


@pytest.mark.parametrize(("width", "scheme"), list(itertools.product((360, 1600), ("light", "dark"))))
def test_the_page_fits_is_legible_and_stays_by_itself(browser: Browser, page: Path, width: int, scheme: str) -> None:
    """Nothing is cut off or scrolls sideways, every text has enough contrast, and nothing is said, run or fetched."""
    browser.console.clear()
    browser.requests.clear()
    browser.open(page, width, scheme)
    assert browser.value("innerWidth") == width
    assert browser.value("document.documentElement.scrollWidth") == width
    assert browser.value(OVERFLOW) == []
    assert browser.value(CONTRAST) == []
    assert browser.value("document.title") == "Who had which host device"
    assert browser.value("document.querySelectorAll('script, img, iframe, link, [style], [onclick]').length") == 0
    assert (browser.console, browser.requests) == ([], [page.as_uri()])


def test_a_time_without_a_trail_is_drawn_below_each_guest(browser: Browser, page: Path) -> None:
    """At the same place of each line, as high as the line, where the host's auditd did not run."""
    browser.open(page, 1600, "light")
    places = browser.value("""[...document.querySelectorAll('figure svg[role=img]')].map(svg => {
      const line = svg.getBoundingClientRect(), gap = svg.querySelector('use[href="#s1"]').getBoundingClientRect();
      return [gap.left - line.left, gap.width, gap.height - line.height].map(each => each / line.width);
    })""")
    assert len(places) > 10
    assert {tuple(round(part, 2) for part in place) for place in places} == {(0.95, 0.05, 0.0)}


def test_day_and_night_differ(browser: Browser, page: Path) -> None:
    """The one is dark on light, the other light on dark."""
    grounds = []
    for scheme in ("light", "dark"):
        browser.open(page, 1600, scheme)
        grounds.append(browser.value("getComputedStyle(document.body).backgroundColor"))
    assert grounds == ["rgb(251, 251, 248)", "rgb(20, 23, 26)"]


def test_its_policy_lets_nothing_run(browser: Browser, page: Path) -> None:
    """A script, a style and a picture that got in all the same would do nothing."""
    browser.open(page, 1600, "light")
    browser.value("document.body.insertAdjacentHTML('beforeend', '<img src=\"data:image/gif;base64,R0lGOD\">')")
    browser.value("document.body.append(Object.assign(document.createElement('script'), {text: 'window.ran = 1'}))")
    browser.value("document.body.append(Object.assign(document.createElement('style'), {text: 'body {color: red}'}))")
    assert browser.value("window.ran") is None
    assert browser.value("getComputedStyle(document.body).color") == "rgb(27, 31, 36)"
    assert any("Content Security Policy" in line for line in browser.console)


def test_a_screen_reader_has_tables_and_headings(browser: Browser, page: Path) -> None:
    """At both widths each device is a heading, a picture with a label for each guest, and a table with its columns."""
    for width in (360, 1600):
        browser.open(page, width, "light")
        nodes = browser.call("Accessibility.getFullAXTree")["nodes"]
        roles: dict[str, list[str]] = {}
        for node in nodes:
            if not node.get("ignored"):
                roles.setdefault(node["role"]["value"], []).append(node.get("name", {}).get("value", ""))
        devices = browser.value("document.querySelectorAll('main section').length")
        assert devices == 5
        assert len(roles["table"]) == devices
        assert all(name.startswith("Of ") for name in roles["table"])
        assert roles["columnheader"][:5] == ["Guest", "From", "To", "What", "Recorded by"]
        assert all("the table below says when" in name for name in roles["image"])
        assert {"main", "navigation", "heading", "list"} <= set(roles)


def test_the_keyboard_reaches_everything(browser: Browser, page: Path) -> None:
    """The first tab is the way past the index, and the index leads to each device; focus can be seen."""
    browser.open(page, 360, "light")
    key = {"key": "Tab", "code": "Tab", "windowsVirtualKeyCode": 9}
    browser.call("Input.dispatchKeyEvent", type="keyDown", **key)
    assert browser.value("document.activeElement.textContent") == "Skip to the devices"
    assert browser.value("document.activeElement.getBoundingClientRect().top >= 0")
    browser.call("Input.dispatchKeyEvent", type="keyDown", **key)
    assert browser.value("document.activeElement.getAttribute('href')") == "#d1"
    assert browser.value("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    missing = "[...document.querySelectorAll('nav a')].filter(a => !document.querySelector(a.getAttribute('href')))"
    assert browser.value(f"{missing}.length") == 0


def test_it_can_be_printed(browser: Browser, page: Path) -> None:
    """On paper all is black on white, by night too."""
    browser.open(page, 1600, "dark")
    assert len(browser.call("Page.printToPDF")["data"]) > 1000
    browser.call("Emulation.setEmulatedMedia", media="print")
    assert browser.value("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert browser.value("getComputedStyle(document.body).color") == "rgb(0, 0, 0)"
    browser.call("Emulation.setEmulatedMedia", media="")
