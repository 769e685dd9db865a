# SPDX-License-Identifier: LGPL-2.1-or-later
"""``libhook history``: where it finds the trail, how it shows it, what it says that it does not know, how it fails."""

import errno
import gzip
import os
import re
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest
from disturbing import refusing
from trail_writing import BEGIN, NOWHERE, OTHER, ROOT, UUID, History, Trail, entries, life, read, terminal, zone

from libhook.errors import TO_PASTE, LibhookError
from libhook.history import reader
from libhook.history.colour import coloured, plain, wanted
from libhook.history.events import Event
from libhook.history.names import lookup
from libhook.history.remembered import Remembered, Was
from libhook.history.table import Table
from libhook.history.telling import AsText

ELSEWHERE = ("-if", "elsewhere")
WHERE: dict[str, tuple[str, tuple[str, ...], str]] = {
    "auditd's own folder, oldest log first": ("mkdir -p var/log; mv elsewhere var/log/audit", (), "first second third"),
    "a folder that is given": ("", ELSEWHERE, "first second third"),
    "the folder that auditd.conf names": (
        r"mkdir -p etc/audit; printf '#\nlocal_events = yes\nlog_file = /elsewhere/audit.log\n' >etc/audit/auditd.conf",
        (), "first second third",
    ),
    "a log that was rotated between two opens is met twice, and is one set": (
        "ln -f elsewhere/audit.log elsewhere/audit.log.1", ELSEWHERE, "first third"
    ),
    "a log that somebody removed hides nothing else": ("rm elsewhere/audit.log.1", ELSEWHERE, "first third"),
    "files, the younger first": (
        "", ("-if", "elsewhere/audit.log", "--input", "elsewhere/audit.log.2"), "first third"
    ),
}  # fmt: skip


def _rotated(folder: Path) -> None:
    folder.mkdir()
    long = Trail().device("libvirtd", "start", device="long", uuid=OTHER).control("start", uuid=OTHER)
    (folder / "audit.log.2").write_bytes(bytes(long) + bytes(life("first", 10_000)))
    (folder / "audit.log.1").write_bytes(bytes(life("second", 20_000)))
    end = Trail(now=BEGIN + 40_000).control("stop", uuid=OTHER)
    (folder / "audit.log").write_bytes(bytes(life("third", 30_000)) + bytes(end))


@pytest.mark.parametrize(("before", "given", "devices"), WHERE.values(), ids=WHERE)
def test_all_of_the_trail_is_read_in_order_of_time(
    history: History, monkeypatch: pytest.MonkeyPatch, before: str, given: tuple[str, ...], devices: str
) -> None:
    """A guest that began in the oldest log ends in the newest, and is shown where it began."""
    _rotated(history.folder / "elsewhere")
    monkeypatch.chdir(history.folder)
    subprocess.run(["sh", "-c", before], check=True)
    said = history(None, "--json", *given)
    assert said.devices == ["long", *devices.split()]
    assert said.entries[0]["to"] == "2026-11-24T18:30:41.000+00:00"


def test_pipes_are_read_in_order_of_time(tmp_path: Path) -> None:
    """The older log comes through a pipe, as of zcat, and the younger is a file."""
    _rotated(tmp_path / "logs")
    shell = f"cat logs/audit.log.2 | {sys.executable} -m libhook history --json -if logs/audit.log -if -"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(["sh", "-c", shell], cwd=tmp_path, env=environment, capture_output=True, check=True)
    assert [(one["device"], one["ended"]) for one in entries(done.stdout.decode())] == [
        (device, "stop") for device in ("long", "first", "third")
    ]


def test_a_reader_that_goes_away_is_no_error() -> None:
    """As head does, when it has what it wants."""
    log = b"".join(bytes(life("0000:01:00.0", number * 5000)) for number in range(5000))
    shell = f"set -o pipefail; {sys.executable} -m libhook history --json -if - | head -n 1"
    done = subprocess.run(["bash", "-c", shell], input=log, cwd=ROOT, capture_output=True, check=False)
    assert (done.returncode, done.stderr, done.stdout.count(b"\n")) == (0, b"", 1)


def test_what_is_not_read_is_said(history: History) -> None:
    """Logs that others than auditd have rotated, in one line; not those that are named besides."""
    folder = history.folder / "logs"
    _rotated(folder)
    for name in ("audit.log.3.gz", "audit.log-20261124", "another"):
        (folder / name).touch()
    end = ": unpack what is packed, and give each with -if\n"
    said = history(None, "--json", "-if", str(folder)).err
    assert said == f"not read: {folder}/audit.log-20261124 and 1 more{end}"
    said = history(None, "--json", "-if", str(folder), "-if", f"{folder}/audit.log-20261124").err
    assert said == f"not read: {folder}/audit.log.3.gz{end}"


def test_a_log_counts_once_however_often_it_is_named(history: History) -> None:
    """By the same name, by another, as a copy, as a part; a host's boot in it ends nothing that is younger."""
    log = Trail().device("libvirtd", "start").raw("SYSTEM_BOOT", "x").device("libvirtd", "start", after=60_000)
    log.control("start").device("libvirtd", "attach", bus="usb", device="USB redirdev", after=0)
    log.device("libvirtd", "attach", bus="usb", device="USB redirdev", after=0).control("stop", uuid=OTHER)
    expected = history(log, "--json").entries
    assert [one["device"] for one in expected] == ["0000:01:00.0"] * 2 + ["USB redirdev"] * 2
    (history.folder / "link").symlink_to(history.log)
    for name in ("log", "link"):
        assert history(log, "--json", "-if", f"{history.folder}/{name}").entries == expected
    whole, head, tail = bytes(log), b"\n".join(log.lines[:4]), b"\n".join(log.lines[1:])
    for logs in ([whole, whole], [tail, head], [tail, whole], [head, whole]):
        assert history(logs, "--json").entries == expected


@pytest.mark.parametrize("piece", [50, 333, 1 << 18])
def test_where_the_log_is_cut_into_pieces_does_not_matter(
    history: History, piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lines that are longer than any record are passed over, what is cut off at the end too; both are said, once."""
    monkeypatch.setattr(reader, "_PIECE", piece)
    long = b"type=VIRT_RESOURCE msg=audit(1.000:1): " + b"x" * (1 << 20)
    cut = Trail(now=BEGIN + 30_000).device("libhook", "start", device="cut").lines[0][:-80]
    said = history(b"\n".join([*life("first").lines, long, *life("second", 10_000).lines, cut]), "--json")
    assert (said.devices, said.err) == (
        ["first", "second"],
        "2 records could not be read: cut off, or not as auditd writes them (from ausearch, use --raw)\n",
    )


@pytest.mark.parametrize("more", [[], [b""]], ids=["alone", "beside an empty log"])
def test_a_trail_without_devices_is_no_error(history: History, more: list[bytes]) -> None:
    """That is said to people, and nothing to programs."""
    log = Trail().raw("USER_LOGIN", "x")
    assert history([log, *more], "--json").entries == []
    assert history([log, *more]).lines == ["no host device in the trail"]


USE_RAW = "give a log as auditd writes it (from ausearch, use --raw)"
NO_LOGS = {
    "empty": (b"", ": give a log as auditd writes it; ausearch may have found nothing"),
    "blank": (b"\n \n", ": give a log as auditd writes it; ausearch may have found nothing"),
    "compressed": (
        gzip.compress(bytes(life()), mtime=0), "unpack it: zcat FILE | libhook history -if -"
    ),
    "in words": (b"type=VIRT_RESOURCE msg=audit(11/24/26 18:30:00.000:1) : vm=win11\n", "use --raw)"),
    "another log": (b"Nov 24 18:30:00 host kernel: no trail\n", USE_RAW),
}  # fmt: skip


@pytest.mark.parametrize(("content", "said"), NO_LOGS.values(), ids=NO_LOGS)
@pytest.mark.parametrize("how", [["--json"], ["--html", "page"], []], ids=["json", "page", "table"])
def test_what_is_no_audit_log_is_no_answer(
    history: History, monkeypatch: pytest.MonkeyPatch, content: bytes, said: str, how: list[str]
) -> None:
    """It may hold devices that would not be shown: nobody must take it for a log in which no guest had a device."""
    monkeypatch.chdir(history.folder)
    with pytest.raises(LibhookError) as caught:
        history(content, *how)
    assert caught.value.line.startswith(f"{history.log}: {'no audit record in it' if content.strip() else 'empty'}: ")
    assert caught.value.line.endswith(said)
    assert not Path("page").exists()


def test_failures_say_what_to_do(history: History) -> None:
    """No log, no file, no right to read it. That auditd is to be installed is said only where it is not."""
    log, configuration = f"{history.folder}/var/log/audit/audit.log", "/etc/audit/auditd.conf"

    def said(*arguments: str) -> str:
        with pytest.raises(LibhookError) as caught:
            history(None, *arguments)
        begin, end = f"{log}: No such file or directory: ", ", or give a log with -if FILE"
        return caught.value.line.removeprefix(begin).removesuffix(end)

    assert said() == "install auditd"
    (history.folder / "usr/sbin").mkdir(parents=True)
    (history.folder / "usr/sbin/auditd").touch()
    assert said() == f"see with which folder auditd runs (-c), since there is no {configuration}"
    (history.folder / "etc/audit").mkdir(parents=True)
    (history.folder / "etc/audit/auditd.conf").write_text("write_logs = no\n")
    assert said() == f"see whether auditd runs, and write_logs in {configuration}"
    with refusing("open", errno.EACCES, lambda path, *_: str(path).endswith("auditd.conf")):
        assert said() == f"run it as root, since {configuration} may name another"
    named = "No such file or directory: give an audit log, a folder with one, or - for stdin"
    assert said("-if", "/none") == f"/none: {named}"
    with refusing("open", errno.EACCES):
        assert said() == f"{log}: Permission denied: run it as root, or give a copy of the log with -if"


def test_wide_letters_line_up(history: History) -> None:
    """And what is shown of those that cannot be."""
    heading, first, second, _ = history(bytes(life("a", vm="x\n")) + bytes(life("b", 10_000, vm="\u5b57"))).lines
    assert first.index(UUID) == heading.index("UUID") == second.index(UUID) + 1


def test_summer_time_does_not_turn_an_entry_around(history: History) -> None:
    """From 02:40 to 02:10 is half an hour in the night in which it ends; what does not span it is as ever."""
    end = 1_792_890_000_000  # 2026-10-25T01:00:00Z
    log = Trail(now=end - 1_200_000).device("libhook", "start", after=0).device("libhook", "stop", after=1_800_000)
    with zone("Europe/Berlin"):
        _, first, second, _ = history(bytes(log) + bytes(life("b"))).lines
    assert first.startswith("2026-10-25 02:40:00 +0200  2026-10-25 02:10:00 +0100  pci 0000:01:00.0  ")
    assert second.startswith("2026-11-24 19:30:01        2026-11-24 19:30:02        pci b ")


def test_a_device_that_is_held_again_is_shown_as_held(history: History) -> None:
    """After a boot ended the same guest's hold of it, of which nothing else differs."""
    _, first, second, trail = history(Trail().device("libhook", "start").raw("SYSTEM_BOOT", "x").device(
        "libhook", "start")).lines  # fmt: skip
    assert ("start, end unknown" in first, "start, held" in second) == (True, True)
    assert trail == "-- the trail is from 2026-11-24 18:30:01 to 2026-11-24 18:30:03"


@pytest.mark.parametrize("width", [20, 40, 72, 110])
def test_a_narrow_terminal_cuts_nothing_off(history: History, width: int) -> None:
    """Lines are as wide as it at most, and every letter is there."""
    with terminal(width):
        lines = history(life("0000:01:00.0", vm="n" * 50)).lines
    assert max(map(len, lines)) <= width
    assert all(name in "".join(lines).replace(" ", "") for name in ("n" * 50, UUID))


CARD, SPARE = "0000:01:00.0", "0000:02:00.0"
IDS, OLD, STICK = "1002:747e", "8086:10d3", "0951:1666"


def _named() -> Trail:
    """Of three entries, one has its ids from a record, one from a note, and one has none."""
    log = Trail().device("libhook", "start", ids=IDS).device("libhook", "stop", ids=IDS)
    return log.device("libhook", "start").device("libhook", "stop").device("libhook", "start", device=SPARE)


@pytest.fixture
def noted(history: History) -> History:
    """The command, on a host with notes of the card."""
    history.notes = Remembered(os.uname().nodename, lambda _: [Was(CARD, IDS, BEGIN // 1000, BEGIN // 1000 + 3600)])
    return history


def test_a_name_from_the_notes_is_marked(noted: History) -> None:
    """In the table and in JSON; what a record says is not marked, and no mark is explained in vain."""
    objects = noted.own(_named(), "--json").entries
    assert [(one["ids"], one["ids_from"]) for one in objects] == [(IDS, "record"), (IDS, "notes"), (None, None)]
    _, recorded, remembered, unknown, _, explained = noted.own(_named()).lines
    assert (f"[{IDS}]  " in recorded, f"[{IDS}]* " in remembered, "[" in unknown) == (True, True, False)
    assert explained == "-- * by libhook's notes, not by a record"
    assert "*" not in noted.own(Trail().device("libhook", "start", ids=IDS)).out
    with terminal(60):
        lines = noted.own(_named()).lines
    assert (lines[-1], f"  [{IDS}]*" in lines) == (explained, True)


def test_the_page_says_which_names_no_record_has(noted: History) -> None:
    """At the device from when to when, and in the foot with the number of entries."""
    seen = noted.own(_named(), "--html", "-").seen
    foot = seen.split("How this page was made")[1]
    assert "Names with a * are no part of the trail: in 1 of 3 entries no record says what the device was." in foot
    noted_at = "in 1 of 2 entries from 2026-11-24 18:30:03 to 2026-11-24 18:30:04"
    assert f"[{IDS}] *, by libhook\u2019s notes and no record, {noted_at}" in seen
    assert f"[{IDS}] , recorded from 2026-11-24 18:30:01 to 2026-11-24 18:30:02" in seen
    assert f"{CARD} [{IDS}] " in seen, "in the overview it is the name, since a record has it, too"
    assert f"{CARD} [{IDS}]* " in noted.own(Trail().device("libhook", "start"), "--html", "-").seen
    recorded = noted.own(Trail().device("libhook", "start", ids=IDS), "--html", "-").seen
    assert "All names of devices are made from vendor and product as the records have them." in recorded
    assert "*" not in recorded
    assert "Names with" not in noted.own(Trail().device("libhook", "start", device=SPARE), "--html", "-").seen


def _two_of_a_name() -> Trail:
    """Two guests that are called the same, one after the other, and one with a name of its own."""
    log = Trail().device("libhook", "start", vm="build").device("libhook", "stop", vm="build")
    log.device("libhook", "start", vm="build", uuid=OTHER)
    return log.device("libhook", "start", device=SPARE, uuid=UUID[:-1] + "0")


def test_guests_with_one_name_are_told_apart(history: History) -> None:
    """By their UUIDs, in a table that is too wide and at the entries of the page; others are not burdened."""
    apart = Trail().device("libhook", "start", vm="build").device("libhook", "start", vm="other", uuid=OTHER)
    nodes = bytes(Trail("a").device("libhook", "start")) + bytes(Trail("b").device("libhook", "start", uuid=OTHER))
    seen = history.page(_two_of_a_name()).seen
    assert seen.count(f"build {UUID} 2026-") == seen.count(f"build {OTHER} 2026-") == 1
    assert ("win11 2026-" in seen, "build 2026-" in history.page(apart).seen) == (True, True)
    with terminal(120):
        assert all(uuid in history(_two_of_a_name()).out for uuid in (UUID, OTHER))
        assert UUID not in history(apart).out
    with terminal(100):
        assert UUID not in history(nodes).out, "the column of hosts tells them apart"


def test_more_names_than_are_remembered_have_their_uuids(history: History, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not known to stand for one guest may stand for several, as may what was remembered."""
    monkeypatch.setattr("libhook.history.page._MOST_UUIDS", 1)
    seen = history.page(_two_of_a_name()).seen
    assert all(f"{who} 2026-" in seen for who in (f"build {UUID}", f"build {OTHER}", f"win11 {UUID[:-1]}0"))
    monkeypatch.setattr("libhook.history.table._MOST", 0)
    with terminal(115):
        assert UUID in history(Trail().device("libhook", "start", device=SPARE)).out


def test_what_could_not_be_read_is_on_the_page(history: History) -> None:
    """At its top and in its foot, in the words of stderr; where nothing is missing, that is said."""
    page = history.own(bytes(_named()) + _named().lines[0][:-80] + b"\n", "--html", "-")
    said = "1 record could not be read: cut off, or not as auditd writes them (from ausearch, use --raw)"
    assert page.err == f"{said}\n"
    head, foot = page.seen.split("How this page was made")
    assert f"Not all of the logs is on this page: {said}" in head
    assert f"{said}." in foot
    assert "no gap in the trail is recorded. Not all of the logs could be read, as said at the top." in head
    whole = history.own(_named(), "--html", "-")
    assert ("No record was unreadable." in whole.seen, "Not all of the logs" in whole.seen) == (True, False)
    assert (page.facts["missing"], whole.facts["missing"]) == (True, False), "the script says it in its answer"
    (history.audit / "audit.log.2.gz").touch()
    assert "audit.log.2.gz: unpack what is packed" in history.own(_named(), "--html", "-").seen


def test_objects_do_not_hide_that_the_trail_was_silent(history: History) -> None:
    """Each such time is an object, where it was silent within the time that is asked for; the table has each, too."""
    log = _named()
    for number in (1, 2):
        log.raw("DAEMON_END", "op=terminate").raw("DAEMON_START", "op=start", after=600_000)
        said = history(log, "--json")
        assert said.out.count('"silence": "auditd did not run", "node": null, ') == number
        assert (len(said.entries), said.err, history(log).out.count("-- no trail from")) == (3, "", number)
    assert '"silence"' not in history(log, "--json", "-te", "2026-11-24T18:30:04+00:00").out


def test_a_narrow_terminal_says_the_zone(history: History) -> None:
    """As the headings of the table do."""
    assert history(_named()).out.startswith("FROM (UTC)")
    with terminal(40):
        assert history(_named()).lines[0] == "-- times are UTC"
        assert history(Trail().raw("DAEMON_END", "x").raw("DAEMON_START", "x", after=600_000)).lines == [
            "-- times are UTC",
            "-- no trail from 2026-11-24 18:30:01 to 2026-11-24 18:40:01: auditd did not run",
            "-- the trail is from 2026-11-24 18:30:01",
            "   to 2026-11-24 18:40:01",
            "no host device in the trail",
        ]


RADEON = "Advanced Micro Devices, Inc. [AMD/ATI]", "Navi 32 [Radeon RX 7700 XT / 7800 XT]"
LISTS = {
    "pci": f"1002  {RADEON[0]}\n\t747e  {RADEON[1]}\n8086  Intel\x1b[31m Corporation\n",
    "usb": "0951  Kingston Technology\n\t1666  DataTraveler 100 G3\n",
}
SHOWN = f"AMD Radeon RX 7700 XT / 7800 XT [{IDS}]"


@pytest.fixture
def listed(history: History) -> History:
    """The command, on a host with lists of names."""
    (history.folder / "usr/share/hwdata").mkdir(parents=True)
    for bus, content in LISTS.items():
        (history.folder / f"usr/share/hwdata/{bus}.ids").write_text(content)
    return history


def _two_cards() -> Trail:
    """At one address: the old card, until another was put in. And a stick."""
    log = Trail().device("libhook", "start", ids=OLD).device("libhook", "stop", ids=OLD)
    log.device("libhook", "start", ids=IDS, after=60_000).device("libvirtd", "start", after=50).control("start")
    log.device("libvirtd", "attach", bus="usb", device="001.002")
    return log.device("libhook", "attach", bus="usb", device="001.002", ids=STICK)


def test_a_card_is_called_what_it_was(listed: History) -> None:
    """Two cards at one address have their own names, by libhook's word alone; a stick has its name from usb.ids. In a
    narrow terminal the name has a line of its own, which is broken where it must be. The page has each with its time.
    """
    assert [tuple(one.values())[-4:] for one in listed(_two_cards(), "--json").entries] == [
        (OLD, "Intel\x1b[31m Corporation", None, "record"), (IDS, *RADEON, "record"),
        (STICK, "Kingston Technology", "DataTraveler 100 G3", "record"),
    ]  # fmt: skip
    heading, *rows, _ = listed(_two_cards()).lines
    names = f"Intel\\x1b[31m [{OLD}]  ", f"{SHOWN}  win11  ", f"Kingston DataTraveler 100 G3 [{STICK}]  "
    at = heading.index("  NAME  ") + 2
    assert [row[at:].startswith(name) for row, name in zip(rows, names, strict=True)] == [True] * 3
    with terminal(60):
        assert f"  {SHOWN}" in listed(_two_cards()).lines
    again = _two_cards().device("libhook", "stop", ids=IDS).device("libhook", "start", ids=IDS, after=60_000)
    page = listed.page(again.device("libhook", "stop", ids=IDS))
    assert re.findall(r"\[(\S+)\] ?, recorded from (.{19}) to (.{19})", page.seen)[:2] == [
        (OLD, "2026-11-24 18:30:01", "2026-11-24 18:30:02"), (IDS, "2026-11-24 18:31:02", "2026-11-24 18:32:07"),
    ]  # fmt: skip
    assert page.facts["devices"] == [
        f"pci {CARD} Intel\\x1b[31m [{OLD}], then {SHOWN}", f"usb 001.002 Kingston DataTraveler 100 G3 [{STICK}]"
    ]  # fmt: skip


def test_what_is_not_known_of_a_name_is_not_made_up(history: History) -> None:
    """Without lists the ids are shown. Without ids there is no column, whatever is at that address today; in JSON the
    fields are null.
    """
    assert f"  [{IDS}]  win11" in history(_two_cards()).lines[2]
    assert [one["vendor"] for one in history(_two_cards(), "--json").entries] == [None] * 3
    slot = history.folder / "sys/bus/pci/devices" / CARD
    slot.mkdir(parents=True)
    for name, content in (("vendor", "0x1002\n"), ("device", "0x747e\n")):
        (slot / name).write_text(content)
    log = Trail().device("libvirtd", "start").control("start")
    ((*_, ids, vendor, model, by),) = (one.values() for one in history(log, "--json").entries)
    assert ([ids, vendor, model, by], "NAME" in history(log).lines[0]) == ([None] * 4, False)


def test_a_device_is_found_by_its_ids(history: History) -> None:
    """Wherever it was, and in capitals too; what has no ids is not found so."""
    log = _two_cards().device("libhook", "attach", device="0000:09:00.0", ids=IDS).device("libvirtd", "attach")
    assert history(log, "--json", "-d", IDS.upper()).devices == [CARD, "0000:09:00.0"]
    assert history(log, "--json", "-d", OLD, "-d", "001.002").devices == [CARD, "001.002"]
    assert history(log, "--json", "-d", "ffff:ffff").devices == []


RED, GREEN, YELLOW, DIM, END = (f"\033[{code}m" for code in (31, 32, 33, 2, 0))


def _painted(width: int | None, paint: Callable[[str, str], str]) -> list[str]:
    """One that ended, one that failed and on which the records differ, a silence, one that is held."""
    log = Trail().device("libvirtd", "start").control("start").device("libhook", "stop").control("stop")
    log.device("libhook", "start", False, vm="\u5b57").device("libvirtd", "start", vm="\u5b57").control("start", False)
    log.raw("DAEMON_END", "op=terminate").raw("DAEMON_START", "op=start")
    log.device("libvirtd", "attach", uuid=OTHER, vm="\x1b[31m, held", device=SPARE)
    entries, silences, _ = read([bytes(log)])
    table = Table(lookup(NOWHERE))
    rows = [(entry.start or 0, table.row(entry)) for entry in entries]
    rows += [(silence.start, table.silence(silence)) for silence in silences]
    return list(table.lines((row for _, row in sorted(rows)), width, paint=paint))


@pytest.mark.parametrize("width", [None, 200, 60, 20])
def test_colours_change_no_text(width: int | None) -> None:
    """Without its codes, each line is the one that a pipe gets; and each code is ended on its line."""
    for painted, text in zip(_painted(width, coloured), _painted(width, plain), strict=True):
        assert re.sub(r"\033\[\d+m", "", painted) == text
        assert painted.count("\033[") == 2 * painted.count(END)


def test_what_matters_is_coloured() -> None:
    """What failed, where records differ, silences, what is held, and nothing else; in a paragraph its line of that."""
    _, ended, failed, silent, held = _painted(None, coloured)
    assert "\033" not in ended
    assert f"  {RED}start failed{END}  " in failed
    assert failed.endswith(f"  {YELLOW}libvirtd: success{END}")
    assert silent.startswith(f"{DIM}-- no trail from ")
    assert f"  {GREEN}attach, held{END}  libvirtd" in held
    assert '"\\x1b[31m, held"  ' in held
    narrow = _painted(60, coloured)
    assert f"{RED}  start failed  by libvirtd, libhook  libvirtd: success{END}" in narrow
    assert f"{GREEN}  attach, held  by libvirtd{END}" in narrow


@pytest.mark.parametrize(
    ("terminal", "environment", "paint"),
    [
        (True, {"TERM": "xterm"}, coloured), (True, {"TERM": "xterm", "NO_COLOR": ""}, coloured),
        (True, {"TERM": "xterm", "NO_COLOR": "1"}, plain), (True, {"TERM": "dumb"}, plain), (True, {}, plain),
        (False, {"TERM": "xterm"}, plain),
    ],
)  # fmt: skip
def test_who_gets_colours(terminal: bool, environment: dict[str, str], paint: Callable[[str, str], str]) -> None:
    """A terminal that has them, unless its user does not want them."""
    assert wanted(terminal, environment) is paint


ADVICE = f"{TO_PASTE} poweroff\n\x1b[1m\t\u202e\udcff"


def _advising(node: str, now: int = BEGIN) -> Trail:
    """Each name that a record may bring is advice. A host's has no blank."""
    log = Trail(node, now=now).device("libhook", "start", vm=ADVICE, bus="scsi", device=ADVICE)
    log.device(f"/tmp/{TO_PASTE}x", "start", vm="b", uuid=f"x{TO_PASTE}", bus=TO_PASTE, device="c")
    return log.raw("DAEMON_END", "x").raw("DAEMON_START", "x", after=60_000)


@pytest.mark.parametrize("width", [None, 40])
@pytest.mark.parametrize(
    "more", [(), ("-ts", "2026-11-24T18:00+00:00"), ("--vm", ADVICE)], ids=["all", "a time", "a guest"]
)
def test_no_name_reads_as_advice_in_the_table(history: History, width: int | None, more: tuple[str, ...]) -> None:
    """Nor in what is said above it, below it and on stderr: of hosts, times without a trail, filters and files."""
    logs = [history.folder / name for name in (f"a {TO_PASTE} x", f"b {TO_PASTE} x")]
    logs[0].write_bytes(bytes(_advising(TO_PASTE)) + bytes(_advising("kvm2", BEGIN + 3_600_000)))
    logs[1].write_bytes(bytes(_advising("kvm3")).replace(b":12)", b":20)"))
    with terminal(width) if width else nullcontext():
        said = history(None, *(word for log in logs for word in ("-if", str(log))), *more)
    assert r"run\x3apoweroff\n\x1b[1m\t\u202e\udcff" in "".join(said.out.split())
    assert "excerpt" in said.err
    assert [line for line in (said.out + said.err).splitlines() if TO_PASTE in line or not line.isprintable()] == []


def test_no_name_reads_as_advice_in_what_is_followed() -> None:
    """The line of an entry."""
    telling = AsText(lookup(NOWHERE), plain)
    for entry in read([bytes(_advising(TO_PASTE))])[0]:
        line = telling.line(Event("began", "x", 1, entry))
        assert ("run\\x3a" in line, TO_PASTE in line) == (True, False)
