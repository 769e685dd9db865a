# SPDX-License-Identifier: LGPL-2.1-or-later
"""What ``libhook history`` says where it does not show all, and which times it understands; nothing that is false."""

import itertools
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from trail_writing import BEGIN, OTHER, UUID, Trail, entries, zone

from libhook.command import parsing
from libhook.errors import BadInput
from libhook.history import command
from libhook.history.when import moment

CARD, SPARE = "0000:01:00.0", "0000:02:00.0"
Shown = Callable[..., tuple[str, str]]
FILTERS = {
    "device 0000:01:00.0": ("-d", "01:00.0"),
    "guest vm-01": ("--vm", "vm-01"),
    f"UUID {UUID}": ("--uuid", UUID.upper().replace("-", "")),
    "until 2026-11-24 ": ("-te", "2026-11-24T18:31:00+00:00"),
    "since 2026-11-24 ": ("-ts", "2026-11-24T18:30:01+00:00"),
    "only failed": ("--result", "failed"),
    "only success": ("--result", "success"),
}


@pytest.fixture
def shown(tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]) -> Shown:
    """Of a log where vm-01 had the card and failed to get it again, and vm-07 has it: stdout and stderr."""
    log = Trail().device("libhook", "start", vm="vm-01").control("start", vm="vm-01")
    log.device("libhook", "stop", vm="vm-01").control("stop", vm="vm-01")
    log.device("libhook", "start", False, vm="vm-01", after=10_000).control("start", False, vm="vm-01")
    log.device("libhook", "start", vm="vm-01", device=SPARE, after=10_000).control("start", vm="vm-01")
    log.device("libhook", "stop", vm="vm-01", device=SPARE).control("stop", vm="vm-01")
    log.device("libhook", "start", vm="vm-07", uuid=OTHER, after=600_000).control("start", vm="vm-07", uuid=OTHER)
    path = tmp_path / "log"
    path.write_bytes(bytes(log))

    def show(*arguments: str) -> tuple[str, str]:
        options = parsing.parser().parse_args(["history", "-if", str(path), *arguments])
        assert command.run("", options) == 0
        out, err = capsysbinary.readouterr()
        return out.decode(), err.decode().replace(str(path), "LOG")

    return show


def _text(page: str) -> str:
    """A page without its tags."""
    return " ".join(re.sub(r"<[^>]*>", "", page.split("<body>")[1]).split())


def _number(filters: tuple[str, ...]) -> int:
    """How many of the four entries are let through."""
    entries = {
        "a": {"device", "guest", "UUID", "until", "since", "success"},
        "b": {"device", "guest", "UUID", "until", "since", "failed"},
        "c": {"guest", "UUID", "until", "since", "success"},
        "d": {"device", "since", "success"},
    }
    words = {name.removeprefix("only ").split()[0] for name in filters}
    return sum(words <= has for has in entries.values())


@pytest.mark.parametrize("filters", [*itertools.combinations(FILTERS, 1), *itertools.combinations(FILTERS, 2)])
def test_a_part_is_said_to_be_one(shown: Shown, filters: tuple[str, ...]) -> None:
    """By which filters, of how many entries, of which file; in the table, beside the objects, and in the page."""
    arguments = [word for name in filters for word in FILTERS[name]]
    number = _number(filters)
    if {"only failed", "only success"} <= set(filters):  # the last counts
        filters, number = filters[1:], _number(filters[1:])
    out, err = shown("--json", *arguments)
    assert len(entries(out)) == number
    assert err.startswith(f"{number or 'none'} of 4 entries match: ")
    assert err.endswith("; from LOG\n")
    assert all(name in err for name in filters)
    table, nothing = shown(*arguments)
    lines = [line for line in table.splitlines() if not line.startswith("-- the trail is from ")]
    said = err[:-1] if not number else f"-- {err[:-1]}"
    assert re.sub(r"from \S*log$", "from LOG", lines[0]) == said
    assert (len(lines), nothing) == ((number + 2) if number else 1, "")
    page, nothing = shown("--html", "-", *arguments)
    assert f"Filtered: {err[:-5]}" in _text(page)
    assert nothing == ""


@pytest.mark.parametrize("filters", [(), *itertools.combinations(FILTERS, 1), *itertools.combinations(FILTERS, 2)])
def test_who_holds_a_device_is_asked_of_all_entries(shown: Shown, filters: tuple[str, ...]) -> None:
    """Wherever the card is on the page, vm-07 holds it, whatever else is shown."""
    page = _text(shown("--html", "-", *(word for name in filters for word in FILTERS[name]))[0])
    head, *devices = re.split(r"(?=pci 0000:0[12]:00\.0 held)", page.replace("a guest had the device:", "\x00"))
    index = head.split("\x00")[0]
    for device in devices:
        held = "held by vm-07 since" if device.startswith(f"pci {CARD}") else "held by no guest"
        assert device.startswith(f"pci {device[4:16]} {held}")
        who = "vm-07" if device.startswith(f"pci {CARD}") else "nobody"
        assert re.search(rf"pci {device[4:16]} (?:[A-Z] ?(?:vm-0\d ?)?)*now: {who}", index), index
    cards = sum(device.startswith(f"pci {CARD}") for device in devices)
    assert f"{cards}held still" in index
    assert ("Filtered" in page) is bool(filters)


def test_all_of_it_is_not_said_to_be_a_part(shown: Shown) -> None:
    """Without a filter nothing is added."""
    assert len(entries(shown("--json")[0])) == 4
    assert shown("--json")[1] == ""
    assert shown()[0].startswith("FROM ")


def test_none_of_the_entries_is_not_an_empty_trail(shown: Shown, tmp_path: Path) -> None:
    """The trail names devices, just not this one; an empty trail names none, filtered or not."""
    assert shown("-d", "03:00.0")[0].startswith("none of 4 entries match: device 0000:03:00.0; from ")
    page = _text(shown("--html", "-", "-d", "03:00.0")[0])
    assert "No entry matches." in page
    assert "none of 4 entries match" in page
    assert "names no host device" not in page
    empty = tmp_path / "empty"
    empty.touch()
    assert shown("-if", str(empty))[0].startswith("FROM ")
    (tmp_path / "log").write_bytes(bytes(Trail().raw("USER_LOGIN", "x")))
    assert shown("-d", "03:00.0") == ("no host device in the trail\n", "")
    assert "The trail names no host device." in _text(shown("--html", "-", "-d", "03:00.0")[0])


def test_a_filter_can_do_nothing_to_a_terminal_or_a_page(shown: Shown) -> None:
    """What was typed is shown, not obeyed."""
    assert 'guest "x\\x1b[31m<b>"; from' in shown("--vm", "x\x1b[31m<b>")[0]
    assert "guest &#34;x\\x1b[31m&lt;b&gt;&#34;; from" in shown("--html", "-", "--vm", "x\x1b[31m<b>")[0]


@pytest.mark.parametrize("place", ["UTC", "Pacific/Kiritimati", "America/Los_Angeles"])
def test_a_time_may_be_as_far_away_as_there_are_any(shown: Shown, place: str) -> None:
    """Before and after all records, at both ends of what a date can be."""
    far = ("-ts", "0001-01-02T00:00+00:00", "-te", "9999-12-31T10:00+00:00")
    with zone(place):
        said = shown("--json", *far)[1]
    match, covers = said.split("; from LOG; ")
    assert re.fullmatch(r"4 of 4 entries match: since (1970|1969)-\S+ \S+, until 5138-\S+ \S+", match)
    assert re.fullmatch(r"the trail covers \S+ \S+ to \S+ \S+, and nothing before or after\n", covers)


@pytest.mark.parametrize(
    ("option", "text"),
    [
        *(("-d", text) for text in ("", "vm-01", "01:00", "01:00.8", "01:20.0", "0000:1:00.0", "01:00.0 ", "1.4")),
        *(("-d", text) for text in ("pci x", "usb 1-1", "mdev 7", "scsi_host 50014380", "naa.5", "scsi ", UUID[1:])),
        *(("--uuid", text) for text in ("", "vm-01", UUID[1:], f"{UUID}0", UUID.replace("a", "g"), f"{UUID}\n")),
    ],
)
def test_what_cannot_be_one_is_a_usage_error(shown: Shown, option: str, text: str) -> None:
    """A device, a UUID: that nothing matches would be said of a mistake, too."""
    with pytest.raises(SystemExit) as caught:
        shown(option, text)
    assert caught.value.code == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("-ts", "soon"), "argument -ts/--start: not a time: soon: write 2026-11-24, 2026-11-24T13:30, "),
        (("-te", "\x1b[31m"), "argument -te/--end: not a time: \\x1b[31m: write "),
        (("-ts", "2026-11-24", "12:00", "13:00"), "argument -ts/--start: not a time: 2026-11-24 12:00 13:00: "),
        (("-ts", "2026-11-25", "-te", "2026-11-24"), "argument -te/--end: it is before -ts, "),
    ],
)
def test_what_is_no_time_is_a_usage_error(
    shown: Shown, words: tuple[str, ...], said: str, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    """With the forms that are one; and so is an end before the beginning, which nothing can match."""
    with pytest.raises(SystemExit) as caught:
        shown(*words)
    assert caught.value.code == 2
    assert f"libhook history: {said}".encode() in capsysbinary.readouterr().err


def test_a_time_that_the_trail_does_not_cover_is_no_answer(shown: Shown, tmp_path: Path) -> None:
    """That nothing matches may mean that nobody knows: before the first record, and after the last, of any type."""
    log = tmp_path / "log"
    covers = "; the trail covers 2026-11-24 18:30:01+00:00 to 2026-11-24 18:40:"
    beyond = re.compile(re.escape(covers) + r"\d\d\+00:00, and (not the time that is asked for|nothing .+)$")

    def said(*arguments: str) -> str:
        line = shown("--json", *arguments)[1].strip()
        found = beyond.search(line)
        assert shown(*arguments)[0].replace(str(log), "LOG").splitlines()[0].removeprefix("-- ") == line or not line
        assert line in _text(shown("--html", "-", *arguments)[0]).replace(str(log), "LOG")
        return found[1] if found else line.rpartition("; ")[2]

    assert said("-te", "2026-11-23") == said("-ts", "2026-11-25") == "not the time that is asked for"
    assert said("-ts", "2026-11-24") == "nothing before"
    within = ("-ts", "2026-11-24T18:35:00+00:00")
    assert said(*within, "-te", "2026-11-25") == said("-te", "2026-11-25") == "nothing after"
    assert said("-ts", "2026-11-24", "-te", "2026-11-25") == "nothing before or after"
    assert said(*within, "-te", "2026-11-24T18:40:00+00:00") == said(*within) == said("--vm", "vm-07") == "from LOG"
    log.write_bytes(log.read_bytes() + bytes(Trail(now=BEGIN).raw("USER_LOGIN", "x")))
    assert said("-ts", "2026-11-25") == "not the time that is asked for", "the clock was set back by then"
    log.write_bytes(log.read_bytes() + bytes(Trail(now=BEGIN + 10 * 86_400_000).raw("USER_LOGIN", "x")))
    assert said("-ts", "2026-11-25") == said("-te", "2026-11-25") == "from LOG"
    log.write_bytes(bytes(Trail().raw("USER_LOGIN", "x")))
    assert shown("-ts", "2026-11-25")[0].startswith("no host device in the trail; the trail covers 2026-11-24 18:30:01")


def test_a_day_begins_before_it_ends(shown: Shown) -> None:
    """The same day as beginning and end is that day."""
    assert len(entries(shown("--json", "-ts", "2026-11-24", "-te", "2026-11-24")[0])) == 4


@pytest.mark.parametrize(
    ("bus", "device", "given"),
    [
        ("pci", "0000:0a:00.0", "0A:00.0"),
        ("pci", "10000:0a:00.0", "pci 10000:0A:00.0"),
        ("pci", "0000:0a:00.0", "pci 0a:00.0"),
        ("usb", "001.004", "001.004"),
        ("usb", "000.000", "usb 000.000"),
        ("usb", "USB redirdev", "USB redirdev"),
        ("usb", "USB redirdev", "usb USB redirdev"),
        ("scsi", "scsi_host0:0:1:2", "scsi_host0:0:1:2"),
        ("scsi", "iqn.2026-11.example:a b/1", "iqn.2026-11.example:a b/1"),
        ("scsi", "a name", "scsi a name"),
        ("scsi_host", "naa.5001438024000000", "naa.5001438024000000"),
        ("mdev", UUID, UUID),
        ("disk", "/dev/sdf 1", "/dev/sdf 1"),
        ("chardev", "tty", "chardev tty"),
        ("new", "x", "new x"),
    ],
)
def test_every_kind_of_device_can_be_asked_for(tmp_path: Path, shown: Shown, bus: str, device: str, given: str) -> None:
    """As it is recorded, with or without its bus."""
    log = Trail().device("libvirtd", "attach", bus=bus, device=device).device("libvirtd", "attach", device="other")
    (tmp_path / "log").write_bytes(bytes(log))
    assert [entry["device"] for entry in entries(shown("--json", "-d", given)[0])] == [device]


NOW = (2026, 11, 24, 18, 43, 27)
"""A Tuesday, local time."""
UP = timedelta(days=50)
"""Since before the end of summer time."""


@pytest.fixture
def berlin() -> Iterator[None]:
    """A zone that is not UTC."""
    with zone("Europe/Berlin"):
        yield


@pytest.mark.usefixtures("berlin")
@pytest.mark.parametrize(
    ("words", "start", "end"),
    [
        ("2026-11-20", "2026-11-19T23:00:00", "2026-11-20T22:59:59.999"),
        ("2026-11-20T10:30", "2026-11-20T09:30:00", "2026-11-20T09:30:00"),
        ("2026-07-20 10:30:05", "2026-07-20T08:30:05", "2026-07-20T08:30:05"),
        ("2026-11-20T10:30:05.512+00:00", "2026-11-20T10:30:05.512", "2026-11-20T10:30:05.512"),
        ("2026-11-20T10:30:05Z", "2026-11-20T10:30:05", "2026-11-20T10:30:05"),
        ("11/20/2026", "2026-11-19T23:00:00", "2026-11-20T22:59:59.999"),
        ("11/20/26 10:30:05", "2026-11-20T09:30:05", "2026-11-20T09:30:05"),
        ("10:30", "2026-11-24T09:30:00", "2026-11-24T09:30:00"),
        ("now", "2026-11-24T17:43:27", "2026-11-24T17:43:27"),
        ("recent", "2026-11-24T17:33:27", "2026-11-24T17:33:27"),
        ("this-hour", "2026-11-24T17:00:00", "2026-11-24T17:00:00"),
        ("boot", "2026-10-05T17:43:27", "2026-10-05T17:43:27"),
        ("today", "2026-11-23T23:00:00", "2026-11-23T23:00:00"),
        ("yesterday", "2026-11-22T23:00:00", "2026-11-22T23:00:00"),
        ("this-week", "2026-11-21T23:00:00", "2026-11-21T23:00:00"),
        ("week-ago", "2026-11-16T23:00:00", "2026-11-16T23:00:00"),
        ("this-month", "2026-10-31T23:00:00", "2026-10-31T23:00:00"),
        ("this-year", "2025-12-31T23:00:00", "2025-12-31T23:00:00"),
    ],
)
def test_a_time_is_understood(words: str, start: str, end: str) -> None:
    """A day alone ends with its last moment; what says no zone is local, in summer too."""
    now = datetime(*NOW).astimezone()
    for expected, last in ((start, False), (end, True)):
        wanted = datetime.fromisoformat(expected).replace(tzinfo=UTC).timestamp() * 1000
        assert moment(words.split(), now, UP, end=last) == wanted


NO_TIMES = ("", "soon", "13/45/2026", "25:00", "2026-02-30", "11/20/2026 noon", "a b c", "12:00 11")


@pytest.mark.usefixtures("berlin")
@pytest.mark.parametrize("words", NO_TIMES)
def test_what_is_no_time_is_said(words: str) -> None:
    """With the forms that are."""
    with pytest.raises(BadInput) as caught:
        moment(words.split() or [""], datetime.now(UTC).astimezone(), UP)
    assert caught.value.line.startswith(f"not a time: {words}: write 2026-11-24, ")
