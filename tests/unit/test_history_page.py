# SPDX-License-Identifier: LGPL-2.1-or-later
"""The page of ``libhook history --html``: what it says of guests, devices, times and its sources, and its file."""

import base64
import hashlib
import itertools
import os
import re
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import busy_host
import pytest
from trail_writing import BEGIN, OTHER, ROOT, UUID, History, Trail, life, log_of, sources, zone

from libhook.errors import LibhookError
from libhook.history import drawing, page, reader
from libhook.history.entry import Entry
from libhook.history.evidence import Evidence
from libhook.history.page_names import name_shown, plain, short
from libhook.history.page_parts import Clocks, duration, zones
from libhook.history.timeline import COLUMNS, Share, Span, runs
from libhook.history.wanted import Selection, Wanted
from libhook.naming.name import Name

HOUR = 3_600_000
CARD, SPARE = "0000:01:00.0", "0000:02:00.0"


def _two() -> Trail:
    """Two guests that have a card in turn; the second fails once, and has it still."""
    log = Trail().device("libhook", "start", vm="b").device("libhook", "stop", vm="b", after=2 * HOUR)
    log.device("libhook", "start", False, vm="a", uuid=OTHER, after=HOUR)
    log.device("libvirtd", "start", vm="a", uuid=OTHER).control("start", False, vm="a", uuid=OTHER)
    return log.device("libhook", "start", vm="a", uuid=OTHER, after=HOUR).control("start", vm="a", uuid=OTHER)


def test_an_entry_says_who_from_when_to_when_how_long_and_by_whom(history: History) -> None:
    """Each in a cell, with its first and its last record's number; the letters go by the names of guests."""
    assert history.page(_two()).rows == [
        ["B b", "2026-11-24 18:30:01", "2026-11-24 20:30:01", "2 h 0 min", "start, stop", "libhook 11 \u2026 12"],
        ["A a", "2026-11-24 21:30:01", "", "", "start failed libvirtd: success", "libvirtd, libhook 13 \u2026 14"],
        ["A a", "2026-11-24 22:30:03", "held still", "1 s so far", "start, held", "libhook 17"],
    ]


def test_a_guest_is_seen_with_all_its_devices(history: History) -> None:
    """And with totals: how often and how long it had them, what failed, first and last."""
    log = _two().device("libhook", "start", vm="b", device=SPARE)
    log.device("libhook", "stop", vm="b", device=SPARE, after=30 * HOUR)
    first, second = re.findall(r'<details class="card guest".*?</details>', history.page(log).out, flags=re.S)
    assert all(word in first for word in (">a<", OTHER, "1 device, had 1 time, ", "1 failed"))
    assert all(word in second for word in (">b<", UUID, "2 devices, had 2 times, 1 d 8 h in all", "0000:02:00.0"))
    assert "failed</span>" not in second
    cells = re.search(r'<td class="drawn">.*?</svg></svg>\s*<td>(.*)', second[second.index("0000:01") :], flags=re.S)
    assert cells
    told = " ".join(re.sub("<[^>]*>", " ", cells[1].split("\n")[0]).split())
    assert told == "1 0 2 h 0 min 2026-11-24 18:30:01 2026-11-24 20:30:01"


def test_a_guest_looks_the_same_everywhere(history: History) -> None:
    """Its line is drawn once, and used in the overview, for the guest and for the device. Its UUID chooses the look."""
    text = history.page(_two()).out
    look = dict(re.findall(r'<b class="g(\d+)">([AB])</b>', text))
    assert sorted(look.values()) == ["A", "B"]
    assert {match[1]: match[0] for match in re.findall(r'<tr class="g(\d+)[^"]*"><td><b>([AB])</b>', text)} == {
        letter: number for number, letter in look.items()
    }
    for number in (1, 2):
        assert text.count(f'<g id="l{number}"') == 1
        assert text.count(f'<use href="#l{number}"/>') == 3
    renamed = history.page(bytes(_two()).replace(b'vm="b"', b'vm="c"')).out
    assert dict(re.findall(r'<b class="g(\d+)">([AB])</b>', renamed)) == look


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
    drawn = [list(runs(each)) for each in (share.failures, share.differs, share.open)]
    assert drawn == [[(500, 501)], [(500, 501)], [(800, 801)]]
    assert (share.times, share.failed, share.held, share.first, share.last) == (5, 1, 301_001, 0, None)
    assert list(runs(0)) == []


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59, "59 s"), (61, "1 min 1 s"), (7199, "1 h 59 min"), (90000, "1 d 1 h"), (-5, "0 s")],
)
def test_a_duration_has_two_units(seconds: int, text: str) -> None:
    """The largest two; a clock that was set back makes none."""
    assert duration(seconds * 1000) == text


@pytest.mark.parametrize(
    ("times", "ended", "said"),
    [
        ((10_000, 20_000), "stop", "10 s"), ((10_000, None), None, "1 min 30 s so far"),
        ((None, 20_000), "stop", "20 s or more"), ((10_000, 20_000), None, "10 s at most"),
        ((None, 20_000), None, "unknown"),
    ],
)  # fmt: skip
def test_how_long_says_what_is_not_known(times: tuple[int | None, int | None], ended: str | None, said: str) -> None:
    """Where no start, no end, or only the latest end is recorded."""
    assert Clocks(Span(0, 100_000)).lasting(_entry(*times, ended=ended)) == said


def test_no_time_is_ambiguous(history: History) -> None:
    """Where summer time ends within the trail, each time has its offset. Both are said, and given to the script."""
    end = 1_792_890_000_000  # 2026-10-25T01:00:00Z
    log = Trail(now=end - 1_200_000).device("libhook", "start", after=0).device("libhook", "stop", after=1_800_000)
    with zone("Europe/Berlin"):
        made = history.page(log)
        assert made.rows[0][1:4] == ["2026-10-25 02:40:00 +0200", "2026-10-25 02:10:00 +0100", "30 min 0 s"]
        assert "UTC+02:00 and UTC+01:00" in made.out
        assert made.facts["zones"][-1] == [end // 1000, 3600]
        years = zones(Span(end - 4000 * 24 * HOUR, end))
        assert all(later[0] - before[0] > 100 * 24 * HOUR for before, later in itertools.pairwise(years[1:]))
        assert len(years) == 23
        assert "UTC+01:00)" in history.page(Trail().device("libhook", "start")).out


def test_a_part_of_the_time_is_drawn_as_one(history: History) -> None:
    """What is not asked for must not look as if nobody had the device; how long is of the whole trail all the same."""
    log = _two().raw("USER_LOGIN", "x", after=2 * HOUR)
    made = history.page(log, "-ts", "2026-11-24T19:00:00", "-te", "2026-11-24T23:00:00")
    assert (made.facts["start"], made.facts["end"]) == (BEGIN // 1000 + 1800, BEGIN // 1000 + 4 * 3600 + 1800)
    drawn = made.out.split("</defs>")[0]
    bars = re.findall(r'<path class="bar" d="(.*?)"/>', drawn)
    assert sorted(bars) == ["M0 5h300", "M700 5h100"], "until 20:30, and from 22:30 on"
    assert 'class="open"' not in drawn, "nobody has said what is at 23:00"
    assert [row[3] for row in made.rows] == ["2 h 0 min", "", "2 h 0 min so far"]
    assert ">2026-11-24 18:30:01</time> to <time" in made.out.split("<ul")[0]
    assert history.page(log).facts["end"] == BEGIN // 1000 + 6 * 3600 + 4, "it goes on after a guest's last record"
    nothing = history.page(Trail().raw("USER_LOGIN", "x").raw("USER_LOGIN", "x", after=HOUR)).out.split("<ul")[0]
    assert re.findall("<time.*?>(.*?)</time>", nothing) == ["2026-11-24 18:30:01", "2026-11-24 19:30:01"]


def _silent() -> Trail:
    """The same, and then auditd ends for four hours."""
    return _two().raw("DAEMON_END", "op=terminate", after=HOUR).raw("DAEMON_START", "op=start", after=4 * HOUR)


NO_GAP = "no gap in the trail is recorded."
SAID: dict[str, tuple[Trail, str, list[str]]] = {
    "by which version, where, and with which filter it was made": (
        _two(), "--vm a",
        ["By libhook 0.1.0 on", f">{os.uname().nodename}<", "Made with a filter: 2 of 3 entries match: guest a"],
    ),
    "that it has all": (_two(), "", ["Made without a filter: it has all entries."]),
    "how often a guest had a device, to a screen reader": (
        log_of("hook:start hook:stop hook:start hook:start@2"), "",
        [f'"win11 had pci {CARD} 2 times, failed 0"', f'"win11 had pci {SPARE} 1 time, failed 0"'],
    ),
    "to when a block goes: to its latest end, and not to the last start": (
        Trail().device("libhook", "start", after=0).device("libhook", "stop", after=3 * HOUR), "",
        ["1 entry, 2026-11-24 18:30 to 2026-11-24 21:30 "],
    ),
    "of a time without an entry, that nobody had it, or that it is unknown": (
        _silent(), "--vm c -ts 2026-11-24T20:00:00 -te 2026-11-25T09:00:00",
        ["nobody is recorded to have had what was asked for. For the grey part it is unknown.",
         "what was after is not known", '<svg class="lane"', '<use href="#s1"/>'],
    ),
    "of a time that begins before the trail, where that begins, and that it has no gap": (
        _silent(), "-ts 2026-11-24T18:00:00 -te 2026-11-24T20:00:00",
        ["The trail begins 2026-11-24 18:30:01: what was before is not known.",
         f"From 2026-11-24 18:30:01 to 2026-11-24 20:00:00 {NO_GAP}"],
    ),
    "of a time that ends after the trail, where that ends": (
        _two(), "-ts 2026-11-24T20:30:01 -te 2026-11-30",
        ["The trail ends 2026-11-24 22:30:04: what was after is not known.", '"unknown":""'],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("log", "given", "texts"), SAID.values(), ids=SAID)
def test_it_says(history: History, log: Trail, given: str, texts: list[str]) -> None:
    """To who reads it, looks at it, or has it read aloud."""
    made = history.page(log, *given.split())
    assert [text for text in texts if text not in made.seen and text not in made.out] == []


def test_nothing_but_our_own_script_and_style_may_run(history: History) -> None:
    """The policy names their SHA-256 and nothing else; what a name holds ends neither a tag nor a script."""
    nasty = "</script><script>alert(1)</script><!--\u2028\u202e\udcff&quot;'\"{{ 7*7 }}"
    made = history.page(Trail("host<b>").device("libhook", "start", vm=nasty, bus="scsi", device=nasty))
    policy = re.search(r'Content-Security-Policy" content="(.*?)"', made.out)
    assert policy
    for tag in ("style", "script"):
        (inner,) = re.findall(rf"<{tag}>(.*?)</{tag}>", made.out, flags=re.S)
        digest = base64.b64encode(hashlib.sha256(inner.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}';" in policy[1]
    assert "unsafe" not in policy[1]
    assert policy[1].startswith("default-src 'none'; ")
    assert len(re.findall("<script", made.out)) == 3, "of a block, of the whole, and ours"
    assert "{{ 7*7 }}" in made.out
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in made.out
    assert "http" not in made.out.replace("http-equiv", "")
    assert not set("\u2028\u202e") & set(made.out)
    assert nasty.split("\u2028", maxsplit=1)[0] in made.facts["guests"][0][1]


def test_without_jinja2_it_says_what_to_install(history: History, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before a log is read, and without leaving a page."""
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(LibhookError, match="the page needs jinja2") as caught:
        history(_two(), "--html", f"{history.folder}/page")
    assert "python3-jinja2" in caught.value.hint
    assert not (history.folder / "page").exists()


def test_a_busy_year_is_small(history: History) -> None:
    """20,000 entries take less than 5 MB, so one takes less than 250 bytes, beside what a page has in any case."""
    sizes = [len(history.page(busy_host.log(entries)).out.encode()) for entries in (1_000, 3_000)]
    assert (sizes[1] - sizes[0]) / 2_000 < 200
    assert sizes[0] < 1_000_000


def test_what_is_drawn_does_not_grow_with_the_entries() -> None:
    """However often a guest has a device, its line has no more bars than it has room for."""
    nothing = Wanted(frozenset(), frozenset(), frozenset(), frozenset(), None, None, None)
    made = page.Page(Selection(nothing, ["log"]), lambda _, ids: Name(ids))
    lines = [made.row(_entry(number * 1000, number * 1000 + 1)) for number in range(0, 40_000, 4)]
    ((_, device),) = made._measure(lines, Span(0, 40_000_000)).items()
    assert device.entries == 10_000
    assert len(list(runs(device.shares[-1].had))) <= COLUMNS // 2
    assert max(each.bit_length() for each in (device.shares[-1].had, device.shares[-1].open)) <= COLUMNS + 1


def test_guests_without_letters_keep_their_uuid(history: History, monkeypatch: pytest.MonkeyPatch) -> None:
    """A log may name any number; those beyond are drawn together, and their entries say who they are."""
    monkeypatch.setattr(page, "_MOST_GUESTS", 1)
    made = history.page(_two())
    assert [row[0] for row in made.rows] == [f"b {UUID}", "A a", "A a"]
    assert "There are more guests." in made.out
    assert "1 or more" in made.out
    assert [line[2] for line in made.facts["lines"]] == [0, -1]


def test_the_page_is_for_its_owner(history: History) -> None:
    """Only root may read the trail; also where the file was there, open to all. On stdout it is the same page."""
    made = history.folder / "page.html"
    made.touch(0o644)
    history(life(), "--html", str(made))
    assert stat.S_IMODE(made.stat().st_mode) == 0o600
    shown, text = (
        [line for line in page.splitlines() if "By libhook" not in line]  # it says when it was made
        for page in (history.page(life()).out, made.read_text())
    )
    assert shown == text


def test_an_old_page_stays_until_the_new_one_is_whole(history: History, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page that cannot be made leaves the old one, and nothing beside it. Whoever has the old one open keeps it."""
    folder = history.folder / "pages"
    made = folder / "page.html"
    folder.mkdir()
    made.write_text("the old page")

    def broken(*_: object, **__: object) -> Iterator[str]:
        yield "<!DOCTYPE html>"
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as failing:
        failing.setattr("libhook.history.page.Page.write", broken)
        with pytest.raises(OSError, match="No space left"):
            history(life(), "--html", str(made))
    assert made.read_text() == "the old page"
    with made.open() as old:
        history(life(), "--html", str(made))
        assert old.read() == "the old page"
    assert made.read_text().endswith("</html>")
    assert list(folder.iterdir()) == [made]


def test_a_page_follows_no_link(history: History) -> None:
    """Not to a file, nor to nothing; a device is written to, and stays one."""
    target, nothing = history.folder / "target", history.folder / "nothing"
    target.write_text("other")
    for number, end in enumerate((target, nothing, Path("/proc/self/fd/1"))):
        link = history.folder / f"link{number}"
        link.symlink_to(end)
        with pytest.raises(LibhookError, match="a link"):
            history(life(), "--html", str(link))
        assert link.is_symlink()
    assert (target.read_text(), nothing.exists()) == ("other", False)
    history(life(), "--html", "/dev/null")
    assert stat.S_ISCHR(Path("/dev/null").lstat().st_mode)
    with pytest.raises(OSError, match="No such file or directory") as caught:
        history(life(), "--html", str(history.folder / "no/page.html"))
    assert caught.value.filename == str(history.folder / "no/page.html")


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


def test_what_is_long_is_cut(history: History) -> None:
    """It says so, with the length. A guest's is whole below its heading, a device's as its heading, and only there."""
    assert short("W" * 4000) == "W" * 80 + "\u2026 (4000 characters)"
    assert short("W" * 120) == "W" * 120
    guest, device = "g" * 999, "d" * 999
    log = Trail().device("libhook", "start", vm=guest, uuid=UUID, bus="scsi", device=device)
    made = history.page(log.device("libhook", "start", vm="win11 ", uuid="x", device=device))
    text = made.out.split('<script type="application/json" id="facts">')[0]
    assert text.count(f">{guest}<") == text.count(guest) == 1
    assert text.count(f">{device}</span></h3>") == text.count(device) == 2, "two devices: pci and scsi"
    assert text.count("g" * 80 + "\u2026 (999 characters)") > 5
    assert "win11\\x20</span>" in text
    assert "win11 <" not in text


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("W" * 80 + "a" * 50, "W" * 80 + "b" * 50),
        ("", '""'),
        ("W" * 130, "W" * 80 + "\u2026 (130 characters)"),
        ("b",) * 2,
    ],
    ids=["cut", "empty", "looks cut", "the same"],
)
def test_guests_that_look_alike_have_their_uuids(history: History, one: str, other: str) -> None:
    """Where they hold a device, in each entry, and among a device's guests."""
    log = Trail().device("libhook", "start", vm=one)
    seen = history.page(log.device("libhook", "start", vm=other, uuid=OTHER, device=SPARE)).seen
    shown = name_shown(one)
    assert shown == name_shown(other)
    for uuid in (UUID, OTHER):
        assert f"now: {shown} {uuid} " in seen
        assert f"held by {shown} {uuid} since" in seen
        assert seen.count(f"{shown} {uuid} 2026-") == 1
        assert seen.count(f" {shown} {uuid} ") == 5


ENDS, BEGINS = "The trail ends 2026-11-24 20:30:01.", "The trail begins 2026-11-24 18:30:01."
CLAIMS = "no gap", "nobody is recorded", "what was after", "what was before", "Not all of the logs could"


def _held() -> Trail:
    """A card that was held when the trail began, and one that is held when it ends."""
    log = Trail().device("libhook", "stop", device=SPARE)
    return log.device("libhook", "start").raw("USER_LOGIN", "x", after=2 * HOUR - 1)


@pytest.mark.parametrize("entries", [True, False])
@pytest.mark.parametrize(
    ("given", "trail", "asked"),
    [
        (("-ts", "2026-11-25"), ENDS, "from 2026-11-25 00:00:00 on"),
        (("-ts", "2026-11-25", "-te", "2026-11-26T12:00:00"), ENDS, "from 2026-11-25 00:00:00 to 2026-11-26 12:00:00"),
        (("-te", "2026-11-24T18:00:00"), BEGINS, "until 2026-11-24 18:00:00"),
        (("-ts", "2026-11-23", "-te", "2026-11-23"), BEGINS, "from 2026-11-23 00:00:00 to 2026-11-23 23:59:59"),
        (("-te", "0001-01-02"), BEGINS, "until 1970-01-01 00:00:00"),
        (("-ts", "9999-12-30"), ENDS, "from 5138-11-16 09:46:40 on"),
    ],
)
def test_of_a_time_outside_the_trail_nothing_is_said(
    history: History, given: tuple[str, ...], trail: str, asked: str, entries: bool
) -> None:
    """It is named, with where the trail ends or begins. Nothing is drawn in it but that it is not known.

    An entry without a start, or without an end, matches it. Logs that could not be read do not matter.
    """
    broken = _held().lines[0][:-80] + b"\n" + bytes(_held())
    made = history.page(broken, *given, *([] if entries else ["--vm", "other"]))
    assert made.out.count('<tr class="g') == entries
    whole = f"{trail} Of the time that is asked for, {asked}, nothing is known."
    assert (made.facts["unknown"], made.facts["whole"]) == (whole, [False, False])
    assert made.seen.count(whole) == 1 + (not entries)
    assert f"Times without a trail {whole} {'By guest' if entries else 'By device'} " in made.seen
    assert not [claim for claim in CLAIMS if claim in made.seen]
    assert '<path id="outside" class="silence" d="M0 0h800v10h-800z"/>' in made.out
    lines = made.out.split("<defs>")[1].split("</defs>")[0]
    assert re.findall(r'<path class="(?!rails|grid|silence)\w+" d="[^"]+"/>', lines) == []
    assert made.out.count('<use href="#outside"/>') >= 1


@pytest.mark.parametrize("end", ["2026-11-24T19:00:00", "2026-11-24T19:00:00.500"])
def test_a_moment_is_not_taken_for_the_whole_trail(history: History, end: str) -> None:
    """It says nothing of a time that was not asked for: an entry that began later is left out."""
    given = ("-ts", "2026-11-24T19:00:00", "-te", end)
    made = history.page(_held(), *given)
    assert (made.facts["end"] - made.facts["start"], made.facts["unknown"]) == (1, "")
    assert "From 2026-11-24 19:00:00 to 2026-11-24 19:00:00 no gap in the trail is recorded." in made.seen
    assert '<path class="bar" d="M0 5h800"/>' in made.out
    assert UUID in made.seen
    other = history.page(_held(), *given, "--vm", "other").seen
    assert "No entry matches: from 2026-11-24 19:00:00 to 2026-11-24 19:00:00 nobody is recorded" in other


def test_a_time_in_summer_has_its_own_offset(history: History) -> None:
    """Also where the trail is in winter; the script writes the same."""
    with zone("Europe/Berlin"):
        facts = history.page(_held(), "-ts", "2027-07-01", "-te", "2027-07-02").facts
    assert "from 2027-07-01 00:00:00 +0200 to" in facts["unknown"]
    assert [offset for _, offset in facts["zones"]] == [3600, 7200]


def _sources(text: str) -> list[tuple[str, ...]]:
    times = r"<time[^>]*>[\d-]+ [\d:]+</time>"
    each = rf"<li>.*>(\S+)</span>: (\d+) records?, (\d+) bytes?, {times} to {times}<br>SHA-256 <code>(\w+)</code>"
    return re.findall(each, text)


def test_what_was_read_can_be_checked(history: History) -> None:
    """Each rotated log with its size, records and SHA-256, as sha256sum says it; so that one that grew can be cut."""
    folder = history.folder / "var/log/audit"
    folder.mkdir(parents=True)
    older, live = bytes(life()), bytes(Trail(now=BEGIN + 99 * HOUR).device("libhook", "start"))
    (folder / "audit.log.1").write_bytes(older)
    (folder / "audit.log").write_bytes(live)
    first, second = _sources(history.page(None).out)
    (folder / "audit.log").write_bytes(live * 2)
    assert first[:3] == (str(folder / "audit.log.1"), str(older.count(b"\n")), str(len(older)))
    for shell, told in ((f"sha256sum {first[0]}", first), (f"head -c {second[2]} {second[0]} | sha256sum", second)):
        said = subprocess.run(["sh", "-c", shell], capture_output=True, text=True, check=True).stdout
        assert said.split()[0] == told[3]


def test_a_pipe_is_hashed_as_it_is_read(history: History) -> None:
    """It cannot be read twice, and its first bytes have been read before; the last line has no line feed."""
    log, made = bytes(life())[:-1], history.folder / "page"
    shell = [sys.executable, "-m", "libhook", "history", "-if", "-", "--html", str(made)]
    subprocess.run(shell, cwd=ROOT, input=log, check=True)
    count = str(log.count(b"\n") + 1)
    assert _sources(made.read_text()) == [("stdin", count, str(len(log)), hashlib.sha256(log).hexdigest())]


def test_an_empty_log_is_a_source(tmp_path: Path) -> None:
    """And a line that is too long counts as read."""
    data = bytes(life()) + b"x" * 300_000 + b"\n"
    (tmp_path / "empty").touch()
    (tmp_path / "long").write_bytes(data)
    logs, read = sources(tmp_path / "empty", tmp_path / "long"), Evidence()
    for source in logs:
        list(reader.pieces(source, read, lambda _: None))
    reader.close(logs)
    times = BEGIN + 1000, BEGIN + 2000
    assert {Path(log.name).name: log[1:] for log in read.logs(logs)} == {
        "empty": (0, 0, hashlib.sha256().hexdigest(), None),
        "long": (len(data), data.count(b"\n"), hashlib.sha256(data).hexdigest(), times),
    }
    assert (read.covered, read.bytes) == (times, len(data))
