# SPDX-License-Identifier: LGPL-2.1-or-later
"""What ``libhook history`` says where it does not show all, and which times it understands; nothing that is false."""

import re
import shlex
from datetime import UTC, datetime, timedelta

import pytest
from trail_writing import BEGIN, OTHER, UUID, History, Trail, zone

from libhook.errors import named
from libhook.history.when import moment

CARD, SPARE = "0000:01:00.0", "0000:02:00.0"


def _log() -> Trail:
    """vm-01 had the card (a), failed to get it again (b) and had the spare (c); vm-07 has the card (d)."""
    log = Trail().device("libhook", "start", vm="vm-01").control("start", vm="vm-01")
    log.device("libhook", "stop", vm="vm-01").control("stop", vm="vm-01")
    log.device("libhook", "start", False, vm="vm-01", after=10_000).control("start", False, vm="vm-01")
    log.device("libhook", "start", vm="vm-01", device=SPARE, after=10_000).control("start", vm="vm-01")
    log.device("libhook", "stop", vm="vm-01", device=SPARE).control("stop", vm="vm-01")
    return log.device("libhook", "start", vm="vm-07", uuid=OTHER, after=600_000).control(
        "start", vm="vm-07", uuid=OTHER
    )


COVERS = "the trail covers 2026-11-24 18:30:01+00:00 to 2026-11-24 18:40:29+00:00"
ASKED = {
    "nothing is asked for": ("", "abcd", ""),
    "a device": ("-d 01:00.0", "abd", "device 0000:01:00.0; from LOG"),
    "two devices, one with its bus": (
        f"-d {CARD} --device 'pci {SPARE}'", "abcd", f'device {CARD} or "pci {SPARE}"; from LOG'
    ),
    "a guest": ("-vm vm-01", "abc", "guest vm-01; from LOG"),
    "two guests": ("--vm vm-07 --vm 'd b'", "d", 'guest "d b" or vm-07; from LOG'),
    "a UUID": (f"--uuid {UUID.upper().replace('-', '')}", "abc", f"UUID {UUID}; from LOG"),
    "another UUID": (f"-uu {OTHER}", "d", f"UUID {OTHER}; from LOG"),
    "a host": ("-n kvm2", "", "host kvm2; from LOG"),
    "what failed": ("--result failed", "b", "only failed; from LOG"),
    "the last result counts": ("--result failed --result success", "acd", "only success; from LOG"),
    "since": ("-ts 2026-11-24T18:30:14+00:00", "bcd", "since 2026-11-24 18:30:14+00:00; from LOG"),
    "until": ("-te 2026-11-24T18:30:25+00:00", "abc", "until 2026-11-24 18:30:25+00:00; from LOG"),
    "from when to when, with what a guest had at some moment of it": (
        "--start 11/24/2026 18:30:02 --end 11/24/26 18:30:14", "ab",
        "since 2026-11-24 18:30:02+00:00, until 2026-11-24 18:30:14+00:00; from LOG",
    ),
    "a day begins before it ends": (
        "-ts 2026-11-24 -te 2026-11-24", "abcd",
        ("since 2026-11-24 00:00:00+00:00, until 2026-11-24 23:59:59+00:00; from LOG; "
         f"{COVERS}, and nothing before or after"),
    ),
    "a time that is not covered": (
        "-ts 2026-11-25", "d",
        f"since 2026-11-25 00:00:00+00:00; from LOG; {COVERS}, and not the time that is asked for",
    ),
    "a device and a guest": ("-d 02:00.0 --vm vm-07", "", "device 0000:02:00.0, guest vm-07; from LOG"),
    "a device and a result": ("-d 02:00.0 --result success", "c", "device 0000:02:00.0, only success; from LOG"),
    "a guest and a time": (
        "--vm vm-01 -ts 2026-11-24T18:30:15Z", "c", "guest vm-01, since 2026-11-24 18:30:15+00:00; from LOG"
    ),
    "all of it": (
        f"-d 01:00.0 --vm vm-01 --uuid {UUID} -ts 2026-11-24T18:30:01Z -te 2026-11-24T18:31Z --result success", "a",
        (f"device {CARD}, guest vm-01, UUID {UUID}, "
         "since 2026-11-24 18:30:01+00:00, until 2026-11-24 18:31:00+00:00, only success; from LOG"),
    ),
    "a function that the card has not": ("-d 01:00.1", "", "device 0000:01:00.1; from LOG"),
}  # fmt: skip


@pytest.mark.parametrize(("words", "left", "said"), ASKED.values(), ids=ASKED)
def test_a_part_is_said_to_be_one(history: History, words: str, left: str, said: str) -> None:
    """How many of how many entries, by which filters, of which file: on stderr, in the table, on the page.

    Who holds a device is asked of all entries: wherever the page has the card, vm-07 holds it, whatever else is shown.
    """
    every, asked = [one["entry"] for one in history(_log(), "--json").entries], shlex.split(words)
    line = f"{len(left) or 'none'} of 4 entries match: {said}".replace("LOG", str(history.log)) if said else ""
    found = history(_log(), "--json", *asked)
    assert ("".join("abcd"[every.index(one["entry"])] for one in found.entries), found.err.rstrip("\n")) == (left, line)
    table = history(_log(), *asked)
    assert table.lines[0] == f"{'-- ' * bool(left)}{line}" if said else table.lines[0].startswith("FROM ")
    assert (sum(" libhook" in each for each in table.lines), table.err) == (len(left), "")
    page = history.page(_log(), *asked)
    assert (f"Filtered: {line.partition('; from')[0]}" in page.seen) is ("Filtered" in page.seen) is bool(said)
    assert (page.err, "No entry matches." in page.seen) == ("", not left)
    slots = {"2" if one == "c" else "1" for one in left}
    now = dict(re.findall(r"pci 0000:0([12]):00\.0 (?:[A-Z] (?:vm-0\d )?)*now: (\S+)", page.seen))
    held = dict(re.findall(r"pci 0000:0([12]):00\.0 held by (vm-07 since|no guest)", page.seen))
    assert now == {slot: {"1": "vm-07", "2": "nobody"}[slot] for slot in slots}
    assert held == {slot: {"1": "vm-07 since", "2": "no guest"}[slot] for slot in slots}
    assert f" {len(slots & {'1'})} held still" in page.seen or not left


def test_none_of_the_entries_is_not_an_empty_trail(history: History) -> None:
    """The trail names devices, just not this one; an empty trail names none, filtered or not."""
    assert "names no host device" not in history.page(_log(), "-d", "03:00.0").seen
    empty = Trail().raw("USER_LOGIN", "x")
    assert history(empty, "-d", "03:00.0")[:2] == ("no host device in the trail\n", "")
    assert "The trail names no host device." in history.page(empty, "-d", "03:00.0").seen
    said = "no host device in the trail; the trail covers 2026-11-24 18:30:01"
    assert history(empty, "-ts", "2026-11-25").out.startswith(said)


def test_a_filter_can_do_nothing_to_a_page(history: History) -> None:
    """What was typed is shown, not obeyed."""
    assert "guest &#34;x\\x1b[31m&lt;b&gt;&#34;; from" in history.page(_log(), "--vm", "x\x1b[31m<b>").out


@pytest.mark.parametrize("place", ["UTC", "Pacific/Kiritimati", "America/Los_Angeles"])
def test_a_time_may_be_as_far_away_as_there_are_any(history: History, place: str) -> None:
    """Before and after all records, at both ends of what a date can be."""
    with zone(place):
        said = history(_log(), "--json", "-ts", "0001-01-02T00:00+00:00", "-te", "9999-12-31T10:00+00:00").err
    match, _, covers = said.split("; ")
    assert re.fullmatch(r"4 of 4 entries match: since (1970|1969)-\S+ \S+, until 5138-\S+ \S+", match)
    assert re.fullmatch(r"the trail covers \S+ \S+ to \S+ \S+, and nothing before or after\n", covers)


@pytest.mark.parametrize(
    ("words", "more", "end"),
    [
        ("-te 2026-11-23", [], "not the time that is asked for"), ("-ts 2026-11-24", [], "nothing before"),
        ("-ts 2026-11-24T18:35Z -te 2026-11-25", [], "nothing after"), ("-te 2026-11-25", [], "nothing after"),
        ("-ts 2026-11-24T18:35Z -te 2026-11-24T18:40Z", [], ""), ("-ts 2026-11-24T18:35Z", [], ""),
        ("-ts 2026-11-25", [0], "not the time that is asked for"),
        ("-ts 2026-11-25", [10], ""), ("-te 2026-11-25", [10], ""),
    ],
)  # fmt: skip
def test_a_time_that_the_trail_does_not_cover_is_no_answer(
    history: History, words: str, more: list[int], end: str
) -> None:
    """That nothing matches may mean that nobody knows: before the first record, and after the last, of any type.

    ``more``: so many days later somebody logs in. With 0 the clock was set back by then.
    """
    log = bytes(_log()) + b"".join(bytes(Trail(now=BEGIN + day * 86_400_000).raw("USER_LOGIN", "x")) for day in more)
    said = history(log, "--json", *words.split()).err.strip()
    assert said.rpartition(", and ")[2] == end if end else said.endswith("/log")


NO_DEVICES = ("", "vm-01", "01:00", "01:00.8", "01:20.0", "0000:1:00.0", "01:00.0 ", "1.4", "pci x", "usb 1-1",
              "mdev 7", "scsi_host 50014380", "naa.5", "scsi ", UUID[1:])  # fmt: skip
NO_UUIDS = "", "vm-01", UUID[1:], f"{UUID}0", UUID.replace("a", "g"), f"{UUID}\n"
NO_TIMES = ("", "soon", "13/45/2026", "25:00", "2026-02-30", "11/20/2026 noon", "a b c", "12:00 11",
            "to mend it, run: poweroff")  # fmt: skip
USAGE = [
    *((["-d", no], "-d/--device: ") for no in NO_DEVICES), *((["--uuid", no], "-uu/--uuid: ") for no in NO_UUIDS),
    *((["-ts", *no.split(" ")], f"-ts/--start: not a time: {named(no)}: write 2026-11-24, ") for no in NO_TIMES),
    (["-te", "\x1b[31m"], '-te/--end: not a time: "\\x1b[31m": write '),
    (["-ts", "2026-11-25", "-te", "2026-11-24"], "-te/--end: it is before -ts, "),
    (["--cursor", "x"], "--cursor: it needs --follow"), (["--follow", "--html", "x"], "--html: not allowed "),
    (["--follow", "-te", "now"], "-te/--end: not allowed with "), (["--follow", "-if", "-"], "-if/--input: with "),
    (["--follow", "-if", "a", "-if", "b"], "-if/--input: with --follow, one log, "),
]  # fmt: skip


@pytest.mark.parametrize(("words", "said"), USAGE, ids=[repr(" ".join(words)) for words, _ in USAGE])
def test_what_cannot_be_is_a_usage_error(history: History, words: list[str], said: str) -> None:
    """A device, a UUID or a time that is none: that nothing matches would be said of a mistake, too. Of a time the
    forms are said that are one. An end before the beginning; what does not go together with following.
    """
    with pytest.raises(SystemExit) as caught:
        history(None, *words)
    assert caught.value.code == 2
    assert f"libhook history: argument {said}" in history.captured.readouterr()[1].decode()


@pytest.mark.parametrize(
    ("bus", "device", "given"),
    [
        ("pci", "0000:0a:00.0", "0A:00.0"), ("pci", "10000:0a:00.0", "pci 10000:0A:00.0"),
        ("pci", "0000:0a:00.0", "pci 0a:00.0"), ("usb", "001.004", "001.004"), ("usb", "000.000", "usb 000.000"),
        ("usb", "USB redirdev", "USB redirdev"), ("usb", "USB redirdev", "usb USB redirdev"),
        ("scsi", "scsi_host0:0:1:2", "scsi_host0:0:1:2"), ("scsi", "a name", "scsi a name"),
        ("scsi", "iqn.2026-11.example:a b/1", "iqn.2026-11.example:a b/1"), ("mdev", UUID, UUID),
        ("scsi_host", "naa.5001438024000000", "naa.5001438024000000"), ("disk", "/dev/sdf 1", "/dev/sdf 1"),
        ("chardev", "tty", "chardev tty"), ("new", "x", "new x"),
    ],
)  # fmt: skip
def test_every_kind_of_device_can_be_asked_for(history: History, bus: str, device: str, given: str) -> None:
    """As it is recorded, with or without its bus."""
    log = Trail().device("libvirtd", "attach", bus=bus, device=device).device("libvirtd", "attach", device="other")
    assert history(log, "--json", "-d", given).devices == [device]


@pytest.mark.parametrize(
    ("words", "start", "end"),
    [
        ("2026-11-20", "2026-11-19T23:00:00", "2026-11-20T22:59:59.999"),
        ("2026-11-20T10:30", "2026-11-20T09:30:00", ""),
        ("2026-07-20 10:30:05", "2026-07-20T08:30:05", ""),
        ("2026-11-20T10:30:05.512+00:00", "2026-11-20T10:30:05.512", ""),
        ("2026-11-20T10:30:05Z", "2026-11-20T10:30:05", ""),
        ("11/20/2026", "2026-11-19T23:00:00", "2026-11-20T22:59:59.999"),
        ("11/20/26 10:30:05", "2026-11-20T09:30:05", ""),
        ("10:30", "2026-11-24T09:30:00", ""),
        ("now", "2026-11-24T17:43:27", ""),
        ("recent", "2026-11-24T17:33:27", ""),
        ("this-hour", "2026-11-24T17:00:00", ""),
        ("boot", "2026-10-05T17:43:27", ""),
        ("today", "2026-11-23T23:00:00", ""),
        ("yesterday", "2026-11-22T23:00:00", ""),
        ("this-week", "2026-11-21T23:00:00", ""),
        ("week-ago", "2026-11-16T23:00:00", ""),
        ("this-month", "2026-10-31T23:00:00", ""),
        ("this-year", "2025-12-31T23:00:00", ""),
    ],
)
def test_a_time_is_understood(words: str, start: str, end: str) -> None:
    """A day alone ends with its last moment; what says no zone is local, in summer too. It is a Tuesday, and the host
    has been up since before summer time ended.
    """
    with zone("Europe/Berlin"):
        now = datetime(2026, 11, 24, 18, 43, 27).astimezone()
        for expected, last in ((start, False), (end or start, True)):
            wanted = datetime.fromisoformat(expected).replace(tzinfo=UTC).timestamp() * 1000
            assert moment(words.split(), now, timedelta(days=50), end=last) == wanted
