# SPDX-License-Identifier: LGPL-2.1-or-later
"""The page of ``libhook history --html``: what it says of guests, devices and its sources, and how long it is."""

import base64
import hashlib
import itertools
import json
import os
import re
import sys
import time
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any

import busy_host
import pytest
from trail_writing import BEGIN, OTHER, UUID, Trail

from libhook.command import parsing
from libhook.errors import LibhookError
from libhook.history import command, drawing, page
from libhook.history.entry import Entry
from libhook.history.evidence import Made
from libhook.history.page_parts import Clocks, duration, zones
from libhook.history.timeline import COLUMNS, Share, Span, runs
from libhook.history.wanted import Selection, Wanted
from libhook.naming.name import Name

HOUR = 3_600_000


@pytest.fixture(autouse=True)
def _utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def _made(tmp_path: Path, *arguments: str, log: Trail | bytes | None = None) -> str:
    """The page of a log, as the command writes it."""
    if log is not None:
        (tmp_path / "log").write_bytes(bytes(log))
        arguments = ("-if", str(tmp_path / "log"), *arguments)
    made = tmp_path / "page.html"
    options = parsing.parser().parse_args(["history", "--html", str(made), *arguments])
    assert command.run(str(tmp_path), options) == 0
    return made.read_text()


def _facts(text: str) -> dict[str, Any]:
    found = re.search('<script type="application/json" id="facts">(.*?)</script>', text)
    assert found
    facts: dict[str, Any] = json.loads(found[1])
    return facts


def _rows(text: str) -> list[list[str]]:
    """The cells of all entries."""
    rows = re.findall(r'<tr class="g\d+[^"]*">(.*)', text)
    return [[unescape(re.sub("<[^>]*>", "", cell)).strip() for cell in row.split("<td>")[1:]] for row in rows]


def _two() -> Trail:
    """Two guests that have a card in turn; the second fails once, and has it still."""
    log = Trail().device("libhook", "start", vm="b").device("libhook", "stop", vm="b", after=2 * HOUR)
    log.device("libhook", "start", False, vm="a", uuid=OTHER, after=HOUR).device(
        "libvirtd", "start", vm="a", uuid=OTHER
    )
    log.control("start", False, vm="a", uuid=OTHER)
    return log.device("libhook", "start", vm="a", uuid=OTHER, after=HOUR).control("start", vm="a", uuid=OTHER)


def test_an_entry_says_who_from_when_to_when_how_long_and_by_whom(tmp_path: Path) -> None:
    """Each in a cell, with its first and its last record's number; the letters go by the names of guests."""
    assert _rows(_made(tmp_path, log=_two())) == [
        ["B b", "2026-11-24 18:30:01", "2026-11-24 20:30:01", "2 h 0 min", "start, stop", "libhook 11 \u2026 12"],
        ["A a", "2026-11-24 21:30:01", "", "", "start failed libvirtd: success", "libvirtd, libhook 13 \u2026 14"],
        ["A a", "2026-11-24 22:30:03", "held still", "1 s so far", "start, held", "libhook 17"],
    ]


def test_a_guest_is_seen_with_all_its_devices(tmp_path: Path) -> None:
    """And with totals: how often and how long it had them, what failed, first and last."""
    log = _two().device("libhook", "start", vm="b", device="0000:02:00.0")
    log.device("libhook", "stop", vm="b", device="0000:02:00.0", after=30 * HOUR)
    text = _made(tmp_path, log=log)
    first, second = re.findall(r'<details class="card guest".*?</details>', text, flags=re.S)
    assert all(word in first for word in (">a<", OTHER, "1 device, had 1 time, ", "1 failed"))
    assert all(word in second for word in (">b<", UUID, "2 devices, had 2 times, 1 d 8 h in all", "0000:02:00.0"))
    assert "failed</span>" not in second
    cells = re.search(r'<td class="drawn">.*?</svg></svg>\s*<td>(.*)', second[second.index("0000:01") :], flags=re.S)
    assert cells
    assert re.sub("<[^>]*>", " ", cells[1].split("\n")[0]).split() == [
        "1", "0", "2", "h", "0", "min", "2026-11-24", "18:30:01", "2026-11-24", "20:30:01",
    ]  # fmt: skip


def test_a_guest_looks_the_same_everywhere(tmp_path: Path) -> None:
    """Its line is drawn once, and used in the overview, for the guest and for the device. Its UUID chooses the look."""
    text = _made(tmp_path, log=_two())
    look = dict(re.findall(r'<b class="g(\d+)">([AB])</b>', text))
    assert sorted(look.values()) == ["A", "B"]
    assert {match[1]: match[0] for match in re.findall(r'<tr class="g(\d+)[^"]*"><td><b>([AB])</b>', text)} == {
        letter: number for number, letter in look.items()
    }
    for number in (1, 2):
        assert text.count(f'<g id="l{number}"') == 1
        assert text.count(f'<use href="#l{number}"/>') == 3
    renamed = bytes(_two()).replace(b'vm="b"', b'vm="c"')
    assert dict(re.findall(r'<b class="g(\d+)">([AB])</b>', _made(tmp_path, log=renamed))) == look


def test_looks_differ_as_long_as_there_are_any() -> None:
    """24 guests have 24; one more has the look that it has on other pages, too."""
    uuids = [f"{number:08x}" for number in range(25)]
    found = drawing.looks(uuids)
    assert len({found[uuid] for uuid in uuids[:24]}) == drawing.LOOKS == 24
    assert found[uuids[24]] == drawing.looks([uuids[24]])[uuids[24]]
    assert [drawing.letters(number) for number in (0, 25, 26, 701, 702)] == ["A", "Z", "AA", "ZZ", "AAA"]


def _entry(start: int | None, end: int | None, **more: Any) -> Entry:  # noqa: ANN401 - as the fields
    base = Entry(None, "a", UUID, "pci", "x", "start", "stop" if end else None, start, end, True, ("libhook",))
    return base._replace(**more)


def test_a_line_keeps_what_falls_apart_apart() -> None:
    """A short use stays visible, also at the end; what touches is one bar; a failure, a difference, an open end."""
    share, span = Share(1), Span(0, COLUMNS * 1000)
    for start, end in ((0, 100_000), (100_000, 101_000), (400_000, 400_001), (800_000, 800_000)):
        share.add(_entry(start, end), span)
    assert list(runs(share.had)) == [(0, 102), (400, 402), (798, 800)]
    share.add(_entry(500_000, 500_000, success=False, disagree=True), span)
    share.add(_entry(600_000, None), span)
    assert [list(runs(each)) for each in (share.failures, share.differs, share.open)] == [
        [(500, 501)], [(500, 501)], [(800, 801)],
    ]  # fmt: skip
    assert (share.times, share.failed, share.held, share.first, share.last) == (5, 1, 301_001, 0, None)
    assert list(runs(0)) == []


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59, "59 s"), (61, "1 min 1 s"), (7199, "1 h 59 min"), (90000, "1 d 1 h"), (-5, "0 s")],
)
def test_a_duration_has_two_units(seconds: int, text: str) -> None:
    """The largest two; a clock that was set back makes none."""
    assert duration(seconds * 1000) == text


def test_no_time_is_ambiguous(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where summer time ends within the trail, each time has its offset. Both are said, and given to the script."""
    end = 1_792_890_000_000  # 2026-10-25T01:00:00Z
    log = Trail(now=end - 1_200_000).device("libhook", "start", after=0).device("libhook", "stop", after=1_800_000)
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    text = _made(tmp_path, log=log)
    assert _rows(text)[0][1:4] == ["2026-10-25 02:40:00 +0200", "2026-10-25 02:10:00 +0100", "30 min 0 s"]
    assert "UTC+02:00 and UTC+01:00" in text
    assert _facts(text)["zones"][-1] == [end // 1000, 3600]
    years = zones(Span(end - 4000 * 24 * HOUR, end))
    assert all(later[0] - before[0] > 100 * 24 * HOUR for before, later in itertools.pairwise(years[1:]))
    assert len(years) == 23
    assert "UTC+01:00)" in _made(tmp_path, log=Trail().device("libhook", "start"))


def test_how_long_says_what_is_not_known() -> None:
    """Where no start, no end, or only the latest end is recorded."""
    clocks = Clocks(Span(0, 100_000))
    known = {"all": (10_000, 20_000), "held": (10_000, None), "before": (None, 20_000)}
    assert {name: clocks.lasting(_entry(*times)) for name, times in known.items()} == {
        "all": "10 s", "held": "1 min 30 s so far", "before": "20 s or more",
    }  # fmt: skip
    assert clocks.lasting(_entry(10_000, 20_000, ended=None)) == "10 s at most"
    assert clocks.lasting(_entry(None, 20_000, ended=None)) == "unknown"


def test_a_device_is_called_what_it_was() -> None:
    """Two cards in one slot, one after the other: each with its time. What no record says is not made up."""
    selection = Selection(Wanted(frozenset(), frozenset(), frozenset(), frozenset(), None, None, None), ["log"])
    made = page.Page(selection, lambda bus, ids: Name(ids, "", f"<{bus}> card {ids}"))
    rows = []
    for number, ids in enumerate(("1002:747e", "1002:747e", "10de:2684")):
        times = BEGIN + number * HOUR, BEGIN + number * HOUR + HOUR // 2
        entry = Entry(None, "a", UUID, "pci", "0000:01:00.0", "start", "stop", *times, True, ("libhook",), ids=ids)
        rows += [entry, entry._replace(device="0000:02:00.0", ids="")]
    lines = sorted(made.row(entry) for entry in rows)
    text = "".join(made.write(lambda: lines, Made(BEGIN + 9 * HOUR, "kvm1", "1"), []))
    names = [
        " ".join(re.sub("<[^>]*>", "", unescape(name)).split()) for name in re.findall(r"<p>.*recorded from.*", text)
    ]
    assert names == [
        "card 1002:747e [1002:747e], recorded from 2026-11-24 18:30:00 to 2026-11-24 20:00:00",
        "card 10de:2684 [10de:2684], recorded from 2026-11-24 20:30:00 to 2026-11-24 21:00:00",
    ]
    assert "&lt;pci&gt; card 1002:747e [1002:747e], then &lt;pci&gt; card 10de:2684 [10de:2684]" in text
    assert _facts(text)["devices"] == [
        "pci 0000:01:00.0 <pci> card 1002:747e [1002:747e], then <pci> card 10de:2684 [10de:2684]",
        "pci 0000:02:00.0",
    ]


def test_a_part_of_the_time_is_drawn_as_one(tmp_path: Path) -> None:
    """What is not asked for must not look as if nobody had the device; how long is of the whole trail all the same."""
    log = _two().raw("USER_LOGIN", "x", after=2 * HOUR)
    text = _made(tmp_path, "-ts", "2026-11-24T19:00:00", "-te", "2026-11-24T23:00:00", log=log)
    facts = _facts(text)
    assert (facts["start"], facts["end"]) == (BEGIN // 1000 + 1800, BEGIN // 1000 + 4 * 3600 + 1800)
    drawn = text.split("</defs>")[0]
    bars = re.findall(r'<path class="bar" d="(.*?)"/>', drawn)
    assert sorted(bars) == ["M0 5h300", "M700 5h100"], "until 20:30, and from 22:30 on"
    assert 'class="open"' not in drawn, "nobody has said what is at 23:00"
    assert [row[3] for row in _rows(text)] == ["2 h 0 min", "", "2 h 0 min so far"]
    assert ">2026-11-24 18:30:01</time> to <time" in text.split("<ul")[0]
    whole = _made(tmp_path, log=log)
    assert _facts(whole)["end"] == BEGIN // 1000 + 6 * 3600 + 4, "the trail goes on after the last record of a guest"
    nothing = _made(tmp_path, log=Trail().raw("USER_LOGIN", "x").raw("USER_LOGIN", "x", after=HOUR)).split("<ul")[0]
    assert re.findall("<time.*?>(.*?)</time>", nothing) == ["2026-11-24 18:30:01", "2026-11-24 19:30:01"]


def test_the_foot_says_how_the_page_was_made(tmp_path: Path) -> None:
    """By which version, where, when, and with which filter."""
    foot = _made(tmp_path, "--vm", "a", log=_two()).split("<footer")[1]
    assert "By libhook 0.1.0 on" in foot
    assert f">{os.uname().nodename}<" in foot
    assert "Made with a filter: " in foot
    assert "2 of 3 entries match: guest a" in foot
    assert "Made without a filter: it has all entries." in _made(tmp_path, log=_two()).split("<footer")[1]


def test_a_time_without_an_entry_is_no_empty_page(tmp_path: Path) -> None:
    """It has a line with the times without a trail; what is not known is said. Without a gap, that is said, too."""
    log = _two().raw("DAEMON_END", "op=terminate", after=HOUR).raw("DAEMON_START", "op=start", after=4 * HOUR)
    text = _made(tmp_path, "--vm", "c", "-ts", "2026-11-24T20:00:00", "-te", "2026-11-25T09:00:00", log=log)
    assert text.count('<svg class="lane"') == 1
    assert '<use href="#s1"/>' in text
    assert "nobody is recorded to have had what was asked for. For the grey part it is unknown." in text
    assert "what was after is not known" in text
    text = _made(tmp_path, "-ts", "2026-11-24T18:00:00", "-te", "2026-11-24T20:00:00", log=log)
    said = re.sub("<[^>]*>", "", text)
    assert "The trail begins 2026-11-24 18:30:01: what was before is not known." in said
    assert "From 2026-11-24 18:30:01 to 2026-11-24 20:00:00 no gap in the trail is recorded." in said


def test_a_block_goes_to_its_latest_end(tmp_path: Path) -> None:
    """And not to the last start."""
    log = Trail().device("libhook", "start", after=0).device("libhook", "stop", after=3 * HOUR)
    assert "1 entry, 2026-11-24 18:30 to 2026-11-24 21:30<" in _made(tmp_path, log=log)


def test_nothing_but_our_own_script_and_style_may_run(tmp_path: Path) -> None:
    """The policy names their SHA-256 and nothing else; what a name holds ends neither a tag nor a script."""
    nasty = "</script><script>alert(1)</script><!--\u2028\u202e\udcff&quot;'\"{{ 7*7 }}"
    log = Trail("host<b>").device("libhook", "start", vm=nasty, bus="scsi", device=nasty)
    text = _made(tmp_path, log=log)
    policy = re.search(r'Content-Security-Policy" content="(.*?)"', text)
    assert policy
    for name, tag in (("style", "style"), ("script", "script")):
        (inner,) = re.findall(rf"<{tag}>(.*?)</{tag}>", text, flags=re.S)
        digest = base64.b64encode(hashlib.sha256(inner.encode()).digest()).decode()
        assert f"{name}-src 'sha256-{digest}';" in policy[1]
    assert "unsafe" not in policy[1]
    assert policy[1].startswith("default-src 'none'; ")
    assert len(re.findall("<script", text)) == 3, "of a block, of the whole, and ours"
    assert "{{ 7*7 }}" in text
    assert not set("\u2028\u202e") & set(text)
    assert nasty.split("\u2028", maxsplit=1)[0] in _facts(text)["guests"][0][1]


def test_without_jinja2_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before a log is read, and without leaving a page."""
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(LibhookError, match="the page needs jinja2") as caught:
        _made(tmp_path, log=_two())
    assert "python3-jinja2" in caught.value.hint
    assert not (tmp_path / "page.html").exists()


def test_a_busy_year_is_small(tmp_path: Path) -> None:
    """20,000 entries take less than 5 MB, so one takes less than 250 bytes, beside what a page has in any case."""
    sizes = [len(_made(tmp_path, log=busy_host.log(entries)).encode()) for entries in (1_000, 3_000)]
    assert (sizes[1] - sizes[0]) / 2_000 < 200
    assert sizes[0] < 1_000_000


def test_what_is_drawn_does_not_grow_with_the_entries() -> None:
    """However often a guest has a device, its line has no more bars than it has room for."""
    selection = Selection(Wanted(frozenset(), frozenset(), frozenset(), frozenset(), None, None, None), ["log"])
    made = page.Page(selection, lambda _, ids: Name(ids))
    lines = [made.row(_entry(number * 1000, number * 1000 + 1)) for number in range(0, 40_000, 4)]
    span = Span(0, 40_000_000)
    ((_, device),) = made._measure(lines, span).items()
    assert device.entries == 10_000
    assert len(list(runs(device.shares[-1].had))) <= COLUMNS // 2
    assert max(each.bit_length() for each in (device.shares[-1].had, device.shares[-1].open)) <= COLUMNS + 1


def test_guests_without_letters_keep_their_uuid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A log may name any number; those beyond are drawn together, and their entries say who they are."""
    monkeypatch.setattr(page, "_MOST_GUESTS", 1)
    text = _made(tmp_path, log=_two())
    assert [row[0] for row in _rows(text)] == [f"b {UUID}", "A a", "A a"]
    assert "There are more guests." in text
    assert "1 or more" in text
    assert [line[2] for line in _facts(text)["lines"]] == [0, -1]
