# SPDX-License-Identifier: LGPL-2.1-or-later
"""``libhook history``: where it finds the trail, how it shows it, what it says that it does not know, how it fails."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from trail_writing import BEGIN, OTHER, ROOT, UUID, Said, Trail, entries, life, terminal, zone

from libhook.command import parsing
from libhook.errors import LibhookError
from libhook.history import command, reader
from libhook.history.remembered import Remembered, Was

Run = Callable[..., list[Any]]


@pytest.fixture
def run(tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]) -> Iterator[Run]:
    """Run it on the host in tmp_path; lines of text, or with --json what they say."""

    def ran(*arguments: str) -> list[Any]:
        options = parsing.parser().parse_args(["history", *arguments])
        assert command.run(str(tmp_path), options) == 0
        out = capsysbinary.readouterr().out.decode()
        return entries(out) if "--json" in arguments else out.splitlines()

    with zone("UTC"):
        yield ran


def _devices(found: list[dict[str, Any]]) -> list[str]:
    return [entry["device"] for entry in found]


def _rotated(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    long = Trail().device("libvirtd", "start", device="long", uuid=OTHER).control("start", uuid=OTHER)
    (folder / "audit.log.2").write_bytes(bytes(long) + bytes(life("first", 10_000)))
    (folder / "audit.log.1").write_bytes(bytes(life("second", 20_000)))
    end = Trail(now=BEGIN + 40_000).control("stop", uuid=OTHER)
    (folder / "audit.log").write_bytes(bytes(life("third", 30_000)) + bytes(end))


def test_rotated_logs_are_read_oldest_first(tmp_path: Path, run: Run) -> None:
    """A guest that began in the oldest ends in the newest, and is shown where it began."""
    _rotated(tmp_path / "var/log/audit")
    found = run("--json")
    assert _devices(found) == ["long", "first", "second", "third"]
    assert found[0]["to"] == "2026-11-24T18:30:41.000+00:00"
    assert list(found[0]) == [
        "entry", "device", "bus", "vm", "uuid", "began",
        "ended", "from", "to", "known_until", "result", "recorded_by", "disagree", "node",
        "ids", "vendor", "model", "ids_from",
    ]  # fmt: skip
    assert _devices(run("--json", "-if", str(tmp_path / "var/log/audit"))) == _devices(found)


def test_auditd_says_where_its_log_is(tmp_path: Path, run: Run) -> None:
    """In auditd.conf."""
    _rotated(tmp_path / "elsewhere")
    (tmp_path / "etc/audit").mkdir(parents=True)
    (tmp_path / "etc/audit/auditd.conf").write_text("#\nlocal_events = yes\nlog_file = /elsewhere/audit.log\n")
    assert len(run("--json")) == 4


def test_a_log_that_is_rotated_meanwhile_is_read_once(tmp_path: Path, run: Run) -> None:
    """Between two opens the log became log.1: it is met twice, and its records are one set."""
    _rotated(tmp_path / "var/log/audit")
    log = tmp_path / "var/log/audit/audit.log"
    (tmp_path / "var/log/audit/audit.log.1").unlink()
    os.link(log, tmp_path / "var/log/audit/audit.log.1")
    assert _devices(run("--json")) == ["long", "first", "third"]


def test_files_are_read_in_order_of_time_however_they_are_named(tmp_path: Path, run: Run) -> None:
    """Two pieces of a host's log, the younger first."""
    _rotated(tmp_path)
    files = [str(tmp_path / name) for name in ("audit.log", "audit.log.2")]
    found = run("--json", "-if", files[0], "--input", files[1])
    assert _devices(found) == ["long", "first", "third"]
    assert found[0]["ended"] == "stop"


def test_a_gap_in_the_numbers_hides_nothing(tmp_path: Path, run: Run) -> None:
    """Somebody removed one log in between."""
    _rotated(tmp_path)
    (tmp_path / "audit.log.1").unlink()
    assert _devices(run("--json", "-if", str(tmp_path))) == ["long", "first", "third"]


def test_what_is_not_read_is_said(tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Logs that others than auditd have rotated, in one line; not those that are named besides."""
    _rotated(tmp_path)
    for name in ("audit.log.3.gz", "audit.log-20261124", "another"):
        (tmp_path / name).write_bytes(b"")
    errors: list[str] = []
    monkeypatch.setattr(sys.stderr, "write", errors.append)
    run("--json", "-if", str(tmp_path))
    run("--json", "-if", str(tmp_path), "-if", str(tmp_path / "audit.log-20261124"))
    end = ": unpack what is packed, and give each with -if\n"
    assert errors == [
        f"not read: {tmp_path}/audit.log-20261124 and 1 more{end}",
        f"not read: {tmp_path}/audit.log.3.gz{end}",
    ]


def test_a_log_counts_once_however_often_it_is_named(tmp_path: Path, run: Run) -> None:
    """By the same name, by another, as a copy, as a part; a host's boot in it ends nothing that is younger."""
    log = Trail().device("libvirtd", "start").raw("SYSTEM_BOOT", "x").device("libvirtd", "start", after=60_000)
    log.control("start").device("libvirtd", "attach", bus="usb", device="USB redirdev", after=0)
    log.device("libvirtd", "attach", bus="usb", device="USB redirdev", after=0).control("stop", uuid=OTHER)
    whole, copy, head, tail = (tmp_path / name for name in ("whole", "copy", "head", "tail"))
    whole.write_bytes(bytes(log))
    copy.write_bytes(bytes(log))
    (tmp_path / "link").symlink_to(whole)
    head.write_bytes(b"\n".join(log.lines[:4]))
    tail.write_bytes(b"\n".join(log.lines[1:]))
    expected = run("--json", "-if", str(whole))
    assert _devices(expected) == ["0000:01:00.0", "0000:01:00.0", "USB redirdev", "USB redirdev"]
    for files in ((whole, whole), (whole, tmp_path / "link"), (whole, copy), (tail, head), (tail, whole), (head, copy)):
        assert run("--json", *(word for file in files for word in ("-if", str(file)))) == expected


@pytest.mark.parametrize(
    ("arguments", "left"),
    [
        ((), "abcd"),
        (("-d", "01:00.0"), "ac"),
        (("-d", "0000:01:00.0", "--device", "pci 0000:02:00.0"), "abc"),
        (("-vm", "win11"), "ab"),
        (("--vm", "win11", "--vm", "d b"), "abc"),
        (("-uu", OTHER.upper()), "c"),
        (("-n", "kvm2"), "d"),
        (("--result", "failed"), "d"),
        (("--result", "success", "--device", "0000:02:00.0"), "b"),
        (("-ts", "2026-11-24T18:31:00+00:00"), "cd"),
        (("-te", "2026-11-24T18:30:30+00:00"), "ab"),
        (("-ts", "2026-11-24T18:30:15+00:00", "-te", "2026-11-24T18:30:30+00:00"), "b"),
        (("--start", "11/24/2026", "18:31:00", "--end", "11/24/2026"), "cd"),
        (("-d", "02:00.1"), ""),
    ],
)
def test_filters(tmp_path: Path, run: Run, arguments: tuple[str, ...], left: str) -> None:
    """Each lets through what it names; a time lets through what a guest had at some moment of it."""
    log = bytes(life("0000:01:00.0")) + bytes(life("0000:02:00.0", 20_000))
    log += bytes(life("0000:01:00.0", 60_000, "d b", OTHER))
    log += bytes(
        Trail("kvm2", now=BEGIN + 80_000).device("libhook", "attach", False, vm="x", bus="usb", device="001.002")
    )
    (tmp_path / "log").write_bytes(log)
    found = run("--json", "-if", str(tmp_path / "log"), *arguments)
    assert "".join("abcd"[[2, 22, 62, 81].index(_seconds(entry["to"]))] for entry in found) == left


def _seconds(text: str) -> int:
    """After BEGIN."""
    hours, minutes, seconds = text[11:19].split(":")
    return int(hours) * 3600 + int(minutes) * 60 + int(seconds) - 18 * 3600 - 30 * 60


@pytest.mark.parametrize("piece", [50, 333, 1 << 18])
def test_where_the_log_is_cut_into_pieces_does_not_matter(
    tmp_path: Path, run: Run, piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lines that are longer than any record are passed over, what is cut off at the end too; both are said, once."""
    monkeypatch.setattr(reader, "_PIECE", piece)
    long = b"type=VIRT_RESOURCE msg=audit(1.000:1): " + b"x" * (1 << 20)
    cut = Trail(now=BEGIN + 30_000).device("libhook", "start", device="cut").lines[0][:-80]
    log = b"\n".join([*life("first").lines, long, *life("second", 10_000).lines, cut])
    (tmp_path / "log").write_bytes(log)
    errors: list[str] = []
    monkeypatch.setattr(sys.stderr, "write", errors.append)
    assert _devices(run("--json", "-if", str(tmp_path / "log"))) == ["first", "second"]
    assert errors == ["2 records could not be read: cut off, or not as auditd writes them (from ausearch, use --raw)\n"]


def test_a_trail_without_devices_is_no_error(tmp_path: Path, run: Run) -> None:
    """That is said to people, and nothing to programs. Beside it an empty log is none either."""
    (tmp_path / "log").write_bytes(bytes(Trail().raw("USER_LOGIN", "x")))
    (tmp_path / "empty").touch()
    for more in ((), ("-if", str(tmp_path / "empty"))):
        assert run("--json", "-if", str(tmp_path / "log"), *more) == []
        assert run("-if", str(tmp_path / "log"), *more) == ["no host device in the trail"]


@pytest.mark.parametrize("content", [b"", b"\n \n"])
def test_a_trail_without_any_record_is_no_answer(tmp_path: Path, run: Run, content: bytes) -> None:
    """As a log of something else is none: nobody must take it for one in which no guest had a device."""
    (tmp_path / "log").write_bytes(content)
    for how in (("--json",), ("--html", str(tmp_path / "page")), ()):
        with pytest.raises(LibhookError, match="log: empty") as caught:
            run(*how, "-if", str(tmp_path / "log"))
        assert caught.value.hint == "give a log as auditd writes it; ausearch may have found nothing"
    assert not (tmp_path / "page").exists()


def test_a_name_can_do_nothing_to_a_terminal(tmp_path: Path, run: Run) -> None:
    """Line feeds, escapes, tabs and marks that turn text around are shown, not obeyed; wide letters line up."""
    log = bytes(life("a", vm="x\n\x1b[31m\t\u202e\udcff")) + bytes(life("b", 10_000, vm="\u5b57"))
    (tmp_path / "log").write_bytes(log)
    heading, first, second, _ = run("-if", str(tmp_path / "log"))
    assert r'  "x\n\x1b[31m\t\u202e\udcff"  ' in first
    assert first.index(UUID) == heading.index("UUID") == second.index(UUID) + 1


def test_summer_time_does_not_turn_an_entry_around(tmp_path: Path, run: Run) -> None:
    """From 02:40 to 02:10 is half an hour in the night in which it ends; what does not span it is as ever."""
    end = 1_792_890_000_000  # 2026-10-25T01:00:00Z
    log = Trail(now=end - 1_200_000).device("libhook", "start", after=0).device("libhook", "stop", after=1_800_000)
    (tmp_path / "log").write_bytes(bytes(log) + bytes(life("b")))
    with zone("Europe/Berlin"):
        _, first, second, _ = run("-if", str(tmp_path / "log"))
    assert first.startswith("2026-10-25 02:40:00 +0200  2026-10-25 02:10:00 +0100  pci 0000:01:00.0  ")
    assert second.startswith("2026-11-24 19:30:01        2026-11-24 19:30:02        pci b ")


def test_a_device_that_is_held_again_is_shown_as_held(tmp_path: Path, run: Run) -> None:
    """After a boot ended the same guest's hold of it, of which nothing else differs."""
    log = Trail().device("libhook", "start").raw("SYSTEM_BOOT", "x").device("libhook", "start")
    (tmp_path / "log").write_bytes(bytes(log))
    _, first, second, trail = run("-if", str(tmp_path / "log"))
    assert "start, end unknown" in first
    assert "start, held" in second
    assert trail == "-- the trail is from 2026-11-24 18:30:01 to 2026-11-24 18:30:03"


@pytest.mark.parametrize("width", [20, 40, 72, 110])
def test_a_narrow_terminal_cuts_nothing_off(tmp_path: Path, run: Run, width: int) -> None:
    """Lines are as wide as it at most, and every letter is there."""
    name = "n" * 50
    (tmp_path / "log").write_bytes(bytes(life("0000:01:00.0", vm=name)))
    with terminal(width):
        lines = run("-if", str(tmp_path / "log"))
    assert max(map(len, lines)) <= width
    text = "".join(lines).replace(" ", "")
    assert name in text
    assert UUID in text


def test_pipes_are_read_in_order_of_time(tmp_path: Path) -> None:
    """The older log comes through a pipe, as of zcat, and the younger is a file."""
    _rotated(tmp_path)
    shell = f"cat {tmp_path}/audit.log.2 | {sys.executable} -m libhook history --json -if {tmp_path}/audit.log -if -"
    done = subprocess.run(["sh", "-c", shell], cwd=ROOT, capture_output=True, text=True, check=True)
    found = entries(done.stdout)
    assert [(entry["device"], entry["ended"]) for entry in found] == [
        ("long", "stop"),
        ("first", "stop"),
        ("third", "stop"),
    ]


CARD, SPARE = "0000:01:00.0", "0000:02:00.0"
IDS = "1002:747e"
NOTES = Remembered(os.uname().nodename, lambda _: [Was(CARD, IDS, BEGIN // 1000, BEGIN // 1000 + 3600)])
Own = Callable[..., tuple[str, str]]


@pytest.fixture
def own(tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]) -> Iterator[Own]:
    """Run it on this host's own trail, with libhook's notes: stdout and stderr."""
    log = tmp_path / "var/log/audit/audit.log"
    log.parent.mkdir(parents=True)

    def ran(trail: Trail | bytes, *arguments: str) -> tuple[str, str]:
        log.write_bytes(bytes(trail))
        options = parsing.parser().parse_args(["history", *arguments])
        assert command.run(str(tmp_path), options, lambda: NOTES) == 0
        out, err = capsysbinary.readouterr()
        return out.decode(), err.decode()

    with zone("UTC"):
        yield ran


def _named() -> Trail:
    """Of three entries, one has its ids from a record, one from a note, and one has none."""
    log = Trail().device("libhook", "start", ids=IDS).device("libhook", "stop", ids=IDS)
    return log.device("libhook", "start").device("libhook", "stop").device("libhook", "start", device=SPARE)


def test_a_name_from_the_notes_is_marked(own: Own) -> None:
    """In the table, in the page, and in JSON; what a record says is not marked, and no mark is explained in vain."""
    objects = entries(own(_named(), "--json")[0])
    assert [(one["ids"], one["ids_from"]) for one in objects] == [(IDS, "record"), (IDS, "notes"), (None, None)]
    _, recorded, noted, unknown, _, explained = own(_named())[0].splitlines()
    assert (f"[{IDS}]  " in recorded, f"[{IDS}]* " in noted, "[" in unknown) == (True, True, False)
    assert explained == "-- * by libhook's notes, not by a record"
    alone = Trail().device("libhook", "start", ids=IDS)
    assert "*" not in own(alone)[0]
    with terminal(60):
        assert own(_named())[0].splitlines()[-1] == explained
        assert f"  [{IDS}]*" in own(_named())[0].splitlines()


def test_the_page_says_which_names_no_record_has(own: Own) -> None:
    """At the device from when to when, and in the foot with the number of entries."""
    page = Said(*own(_named(), "--html", "-")).seen
    foot = page.split("How this page was made")[1]
    assert "Names with a * are no part of the trail: in 1 of 3 entries no record says what the device was." in foot
    assert (
        f"[{IDS}] *, by libhook\u2019s notes and no record, in 1 of 2 entries"
        " from 2026-11-24 18:30:03 to 2026-11-24 18:30:04"
    ) in page
    assert f"[{IDS}] , recorded from 2026-11-24 18:30:01 to 2026-11-24 18:30:02" in page
    assert f"{CARD} [{IDS}] " in page, "in the overview it is the name, since a record has it, too"
    noted = Said(*own(Trail().device("libhook", "start"), "--html", "-")).seen
    assert f"{CARD} [{IDS}]* " in noted
    recorded = Said(*own(Trail().device("libhook", "start", ids=IDS), "--html", "-")).seen
    assert "All names of devices are made from vendor and product as the records have them." in recorded
    assert "*" not in recorded
    assert "Names with" not in Said(*own(Trail().device("libhook", "start", device=SPARE), "--html", "-")).seen


def _two_of_a_name() -> Trail:
    """Two guests that are called the same, one after the other, and one with a name of its own."""
    log = Trail().device("libhook", "start", vm="build").device("libhook", "stop", vm="build")
    log.device("libhook", "start", vm="build", uuid=OTHER).device(
        "libhook", "start", device=SPARE, uuid=UUID[:-1] + "0"
    )
    return log


def test_guests_with_one_name_are_told_apart(own: Own) -> None:
    """By their UUIDs, in a table that is too wide and wherever the page has a name; others are not burdened."""
    apart = Trail().device("libhook", "start", vm="build").device("libhook", "start", vm="other", uuid=OTHER)
    page = Said(*own(_two_of_a_name(), "--html", "-")).seen
    assert f"now: build {OTHER} " in page
    assert f"held by build {OTHER} since" in page
    assert page.count(f"build {UUID} 2026-") == page.count(f"build {OTHER} 2026-") == 1, "at their entries"
    assert f"B build {OTHER} " in page.split("By device")[1].split("oldest first")[0]
    assert "win11 2026-" in page
    assert "build 2026-" in Said(*own(apart, "--html", "-")).seen
    with terminal(120):
        assert all(uuid in own(_two_of_a_name())[0] for uuid in (UUID, OTHER))
        assert UUID not in own(apart)[0]
        nodes = bytes(Trail("a").device("libhook", "start")) + bytes(Trail("b").device("libhook", "start", uuid=OTHER))
    with terminal(100):
        assert UUID not in own(nodes)[0], "the column of hosts tells them apart"


def test_more_names_than_are_remembered_have_their_uuids(own: Own, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not known to stand for one guest may stand for several, as may what was remembered."""
    monkeypatch.setattr("libhook.history.page._MOST_UUIDS", 1)
    page = Said(*own(_two_of_a_name(), "--html", "-")).seen
    assert all(f"build {uuid} 2026-" in page for uuid in (UUID, OTHER))
    assert f"win11 {UUID[:-1]}0 2026-" in page
    monkeypatch.setattr("libhook.history.table._MOST", 0)
    with terminal(115):
        assert UUID in own(Trail().device("libhook", "start", device=SPARE))[0]


def test_what_could_not_be_read_is_on_the_page(own: Own, tmp_path: Path) -> None:
    """At its top and in its foot, in the words of stderr; where nothing is missing, that is said."""
    broken = bytes(_named()) + _named().lines[0][:-80] + b"\n"
    page, err = own(broken, "--html", "-")
    said = "1 record could not be read: cut off, or not as auditd writes them (from ausearch, use --raw)"
    assert err == f"{said}\n"
    head, foot = Said(page, "").seen.split("How this page was made")
    assert f"Not all of the logs is on this page: {said}" in head
    assert f"{said}." in foot
    unread = "Not all of the logs could be read, as said at the top."
    assert f"no gap in the trail is recorded. {unread}" in head
    assert '"missing":true' in page, "the script says it in its answer"
    whole = Said(*own(_named(), "--html", "-")).seen
    assert "No record was unreadable." in whole
    assert "Not all of the logs" not in whole
    assert '"missing":false' in own(_named(), "--html", "-")[0]
    (tmp_path / "var/log/audit/audit.log.2.gz").touch()
    assert "audit.log.2.gz: unpack what is packed" in Said(*own(_named(), "--html", "-")).seen


def test_objects_do_not_hide_that_the_trail_was_silent(own: Own) -> None:
    """Each such time is an object, where it was silent within the time that is asked for; the table has each, too."""
    log = _named().raw("DAEMON_END", "op=terminate").raw("DAEMON_START", "op=start", after=600_000)
    out, err = own(log, "--json")
    assert (len(entries(out)), out.count('"silence"'), err) == (3, 1, "")
    assert '"silence"' not in own(log, "--json", "-te", "2026-11-24T18:30:04+00:00")[0]
    log.raw("DAEMON_END", "op=terminate").raw("DAEMON_START", "op=start", after=600_000)
    assert own(log, "--json")[0].count('"silence": "auditd did not run", "node": null, ') == 2
    assert own(log)[0].count("-- no trail from") == 2


def test_a_narrow_terminal_says_the_zone(own: Own) -> None:
    """As the headings of the table do."""
    assert own(_named())[0].startswith("FROM (UTC)")
    with terminal(40):
        assert own(_named())[0].splitlines()[0] == "-- times are UTC"
        silent = Trail().raw("DAEMON_END", "op=terminate").raw("DAEMON_START", "op=start", after=600_000)
        zone, silence, *trail, nothing = own(silent)[0].splitlines()
        assert zone == "-- times are UTC"
        assert silence == "-- no trail from 2026-11-24 18:30:01 to 2026-11-24 18:40:01: auditd did not run"
        assert trail == ["-- the trail is from 2026-11-24 18:30:01", "   to 2026-11-24 18:40:01"]
        assert nothing == "no host device in the trail"


def test_once_is_one_time(own: Own) -> None:
    """What a screen reader is told of a line."""
    page = own(_named(), "--html", "-")[0]
    assert f'aria-label="win11 had pci {SPARE} 1 time, failed 0"' in page
    assert f'aria-label="win11 had pci {CARD} 2 times, failed 0"' in page
