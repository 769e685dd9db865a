# SPDX-License-Identifier: LGPL-2.1-or-later
"""The page of ``libhook history --html`` as a browser shows it: on a telephone, a wide screen, by day and by night."""

import base64
import itertools
import subprocess
from pathlib import Path

import pytest
from axe import violations
from chromium import Browser, Making
from trail_writing import OTHER, UUID, Trail

pytest_plugins = ["pages"]
HOUR = 3_600_000
NASTY = "<script>document.title='x'</script>\"'&\u202egnp\n\x1b[31m\udcff<img src=http://x.test/>"
LONG = "n" * 300

# What is folded, or so far from the window that it is not laid out.
SHOW_ALL = """
document.querySelectorAll('section, details, table').forEach(e => {
  e.style.contentVisibility = 'visible'; if (e.tagName === 'DETAILS') e.open = true; })
"""
# What stands further right than the window is wide: of the page, and of each part that is not hidden on purpose.
OVERFLOW = """
[...document.querySelectorAll('body *')].filter(e => !e.closest('svg, caption, .skip, thead, .hidden') &&
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
  for (const e of document.querySelectorAll('body *:not(script, option)')) {
    if (![...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim())) continue;
    const style = getComputedStyle(e);
    const a = light(e.closest('svg') ? style.fill : style.color);
    const b = light(e.closest('.letters') ? style.stroke : ground(e));
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
def page(making: Making) -> Path:
    """The page of that trail."""
    return making(_trail())


@pytest.mark.parametrize(("width", "scheme"), list(itertools.product((360, 800, 1400, 1600), ("light", "dark"))))
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
    assert browser.value("document.querySelectorAll('img, iframe, link, style ~ style, [onclick]').length") == 0
    assert (browser.console, browser.requests) == ([], [page.as_uri()])


def test_a_time_without_a_trail_is_drawn_below_each_guest(browser: Browser, page: Path) -> None:
    """At the same place of each line, as high as the line, where the host's auditd did not run."""
    browser.open(page, 1600, "light")
    places = browser.value("""[...document.querySelectorAll('svg.lane')].map(svg => {
      const line = svg.getBoundingClientRect(), gap = svg.querySelector('use[href="#s1"]').getBoundingClientRect();
      return [(gap.left - line.left) / line.width, gap.width / line.width, gap.height / line.height];
    }).filter(each => !isNaN(each[0]))""")
    assert len(places) > 10
    assert {tuple(round(part, 1) for part in place) for place in places} == {(0.9, 0.1, 1.0)}


def test_day_and_night_differ(browser: Browser, page: Path) -> None:
    """The one is dark on light, the other light on dark."""
    grounds = []
    for scheme in ("light", "dark"):
        browser.open(page, 1600, scheme)
        grounds.append(browser.value("getComputedStyle(document.body).backgroundColor"))
    assert grounds == ["rgb(251, 251, 248)", "rgb(20, 23, 26)"]


def test_its_policy_lets_nothing_run(browser: Browser, page: Path) -> None:
    """A script, a style and a picture that got in all the same would do nothing, and no text becomes elements."""
    browser.open(page, 1600, "light")
    add = "document.body.append(Object.assign(document.createElement('{}'), {{{}}}))"
    browser.value(add.format("style", "textContent: 'body {color: red}'"))
    browser.value(add.format("img", "src: 'data:image/gif;base64,R0lGOD'"))
    unsafe = add.format("script", "text: 'window.ran = 1'"), "document.body.innerHTML = '<p>'", "eval('window.ran = 1')"
    for each in unsafe:
        text = f"(() => {{ try {{ {each}; }} catch (error) {{ return error.name; }} }})()"
        answer = browser.call("Runtime.evaluate", expression=text, allowUnsafeEvalBlockedByCSP=False)
        assert answer["result"]["value"] in ("TypeError", "EvalError"), each
    assert browser.value("window.ran") is None
    assert browser.value("getComputedStyle(document.body).color") == "rgb(27, 31, 36)"
    assert sum("Content Security Policy" in line for line in browser.console) >= 2


def test_a_screen_reader_has_tables_and_headings(browser: Browser, page: Path) -> None:
    """At both widths each device is a heading and tables with their columns, and a line says what is on it."""
    for width in (360, 1600):
        browser.open(page, width, "light")
        browser.value(SHOW_ALL)
        nodes = browser.call("Accessibility.getFullAXTree")["nodes"]
        roles: dict[str, list[str]] = {}
        for node in nodes:
            if not node.get("ignored"):
                roles.setdefault(node["role"]["value"], []).append(node.get("name", {}).get("value", ""))
        devices = browser.value("document.querySelectorAll('main section').length")
        assert devices == 5
        assert sum(name.startswith("Entries of ") for name in roles["table"]) == devices
        assert sum(name.startswith("Guests that had ") for name in roles["table"]) == devices
        heads = ["Guest", "From", "To", "How long", "What", "Recorded by, event"]
        assert roles["columnheader"][-6:] == heads, width
        assert any("2 guests, the tables below say when" in name for name in roles["slider"])
        assert {"main", "heading", "list", "contentinfo", "searchbox", "row", "cell"} <= set(roles)


def test_the_keyboard_reaches_everything(browser: Browser, page: Path) -> None:
    """The first tab is the way past all else; each link leads somewhere; focus can be seen."""
    browser.open(page, 360, "light")
    browser.press("Tab")
    assert browser.value("document.activeElement.textContent") == "Skip to the devices"
    assert browser.value("document.activeElement.getBoundingClientRect().top >= 0")
    assert browser.value("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    missing = "[...document.querySelectorAll('a')].filter(a => !document.querySelector(a.getAttribute('href')))"
    assert browser.value(f"{missing}.length") == 0
    assert browser.value("document.querySelectorAll('a').length") > 10


def test_it_can_be_printed(browser: Browser, page: Path) -> None:
    """On paper all is black on white, by night too, as wide as on a desktop, and all that is folded is there."""
    browser.open(page, 1600, "dark")
    browser.value("for (const each of document.querySelectorAll('details')) each.open = false")
    browser.call("Emulation.setDeviceMetricsOverride", width=718, height=1000, deviceScaleFactor=1, mobile=False)
    browser.call("Emulation.setEmulatedMedia", media="print")
    try:
        assert browser.value("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        assert browser.value("getComputedStyle(document.body).color") == "rgb(0, 0, 0)"
        assert browser.value("getComputedStyle(document.querySelector('.entries td')).display") == "table-cell"
        assert browser.value("getComputedStyle(document.querySelector('#controls .fields')).display") == "none"
        assert browser.value("document.documentElement.scrollWidth") == 718
        assert browser.value(OVERFLOW) == []
    finally:
        browser.call("Emulation.setEmulatedMedia", media="")
    folded = browser.value("document.querySelectorAll('details:not([open])').length")
    for script in (True, False):
        browser.call("Emulation.setScriptExecutionDisabled", value=not script)
        printed = base64.b64decode(browser.call("Page.printToPDF", paperWidth=8.27, paperHeight=11.69)["data"])
        done = subprocess.run(["pdftotext", "-layout", "-", "-"], input=printed, capture_output=True, check=True)
        assert done.stdout.count(b"start, stop") == 35, script
        assert b"Recorded by" in done.stdout
    browser.call("Emulation.setScriptExecutionDisabled", value=False)
    assert browser.value("document.body.textContent.split('start, stop').length") == 36
    assert browser.value("document.querySelectorAll('details:not([open])').length") == folded > 5


def test_without_script_everything_is_there(browser: Browser, page: Path) -> None:
    """Rows, lines and details; only what needs the script is not shown."""
    browser.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.open(page, 1400, "light")
        assert browser.value("getComputedStyle(document.getElementById('controls')).display") == "none"
        assert browser.value("document.querySelectorAll('.entries tbody tr').length") == 61
        assert browser.value("[...document.querySelectorAll('.lane use')].every(use => use.getBBox())")
        assert browser.value("document.querySelectorAll('[role=slider], [tabindex=\"0\"]').length") == 0
    finally:
        browser.call("Emulation.setScriptExecutionDisabled", value=False)


@pytest.mark.parametrize("width", [360, 800, 1400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nobody_is_kept_from_using_it(browser: Browser, page: Path, width: int, scheme: str) -> None:
    """axe-core finds nothing, with all that is folded open, and with what is said of an entry."""
    browser.open(page, width, scheme)
    browser.value(SHOW_ALL)
    browser.value("document.querySelector('svg.lane').focus()")
    browser.press("ArrowRight")
    assert browser.value("document.getElementById('tip').hidden") is False
    assert violations(browser) == []


def test_axe_finds_what_is_wrong(browser: Browser, page: Path) -> None:
    """A field without a label, for example."""
    browser.open(page, 1400, "light")
    browser.value("document.querySelector('label').replaceWith(document.getElementById('text'))")
    browser.value("document.getElementById('text').removeAttribute('placeholder')")
    assert [rule for rule, _ in violations(browser)] == ["label"]
