# SPDX-License-Identifier: LGPL-2.1-or-later
"""``libhook history`` says what it shows that no record says, what it could not read, and which guest it means."""

import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from html import unescape
from pathlib import Path

import pytest
from trail_writing import BEGIN, OTHER, UUID, Trail, entries

from libhook.command import parsing
from libhook.history import command
from libhook.history.remembered import Remembered, Was

CARD, SPARE = "0000:01:00.0", "0000:02:00.0"
IDS = "1002:747e"
NOTES = Remembered(os.uname().nodename, lambda _: [Was(CARD, IDS, BEGIN // 1000, BEGIN // 1000 + 3600)])
Run = Callable[..., tuple[str, str]]


@pytest.fixture
def run(tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """Run it on this host's own trail, with libhook's notes: stdout and stderr."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    log = tmp_path / "var/log/audit/audit.log"
    log.parent.mkdir(parents=True)

    def ran(trail: Trail | bytes, *arguments: str) -> tuple[str, str]:
        log.write_bytes(bytes(trail))
        options = parsing.parser().parse_args(["history", *arguments])
        assert command.run(str(tmp_path), options, lambda: NOTES) == 0
        out, err = capsysbinary.readouterr()
        return out.decode(), err.decode()

    yield ran
    monkeypatch.undo()
    time.tzset()


def _text(page: str) -> str:
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", page.split("<body>")[1].split("<script>")[0])).split())


def _narrow(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setattr(os, "get_terminal_size", lambda _: os.terminal_size((width, 24)))
    monkeypatch.setattr(sys.stdout, "fileno", lambda: 1)


def _named() -> Trail:
    """Of three entries, one has its ids from a record, one from a note, and one has none."""
    log = Trail().device("libhook", "start", ids=IDS).device("libhook", "stop", ids=IDS)
    return log.device("libhook", "start").device("libhook", "stop").device("libhook", "start", device=SPARE)


def test_a_name_from_the_notes_is_marked(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the table, in the page, and in JSON; what a record says is not marked, and no mark is explained in vain."""
    objects = entries(run(_named(), "--json")[0])
    assert [(one["ids"], one["ids_from"]) for one in objects] == [(IDS, "record"), (IDS, "notes"), (None, None)]
    _, recorded, noted, unknown, _, explained = run(_named())[0].splitlines()
    assert (f"[{IDS}]  " in recorded, f"[{IDS}]* " in noted, "[" in unknown) == (True, True, False)
    assert explained == "-- * by libhook's notes, not by a record"
    alone = Trail().device("libhook", "start", ids=IDS)
    assert "*" not in run(alone)[0]
    _narrow(monkeypatch, 60)
    assert run(_named())[0].splitlines()[-1] == explained
    assert f"  [{IDS}]*" in run(_named())[0].splitlines()


def test_the_page_says_which_names_no_record_has(run: Run) -> None:
    """At the device from when to when, and in the foot with the number of entries."""
    page = _text(run(_named(), "--html", "-")[0])
    foot = page.split("How this page was made")[1]
    assert "Names with a * are no part of the trail: in 1 of 3 entries no record says what the device was." in foot
    assert (
        f"[{IDS}] *, by libhook\u2019s notes and no record, in 1 of 2 entries"
        " from 2026-11-24 18:30:03 to 2026-11-24 18:30:04"
    ) in page
    assert f"[{IDS}] , recorded from 2026-11-24 18:30:01 to 2026-11-24 18:30:02" in page
    assert f"{CARD} [{IDS}] " in page, "in the overview it is the name, since a record has it, too"
    noted = _text(run(Trail().device("libhook", "start"), "--html", "-")[0])
    assert f"{CARD} [{IDS}]* " in noted
    recorded = _text(run(Trail().device("libhook", "start", ids=IDS), "--html", "-")[0])
    assert "All names of devices are made from vendor and product as the records have them." in recorded
    assert "*" not in recorded
    assert "Names with" not in _text(run(Trail().device("libhook", "start", device=SPARE), "--html", "-")[0])


def _two_of_a_name() -> Trail:
    """Two guests that are called the same, one after the other, and one with a name of its own."""
    log = Trail().device("libhook", "start", vm="build").device("libhook", "stop", vm="build")
    log.device("libhook", "start", vm="build", uuid=OTHER).device(
        "libhook", "start", device=SPARE, uuid=UUID[:-1] + "0"
    )
    return log


def test_guests_with_one_name_are_told_apart(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """By their UUIDs, in a table that is too wide and wherever the page has a name; others are not burdened."""
    apart = Trail().device("libhook", "start", vm="build").device("libhook", "start", vm="other", uuid=OTHER)
    page = _text(run(_two_of_a_name(), "--html", "-")[0])
    assert f"now: build {OTHER} " in page
    assert f"held by build {OTHER} since" in page
    assert page.count(f"build {UUID} 2026-") == page.count(f"build {OTHER} 2026-") == 1, "at their entries"
    assert f"B build {OTHER} " in page.split("By device")[1].split("oldest first")[0]
    assert "win11 2026-" in page
    assert "build 2026-" in _text(run(apart, "--html", "-")[0])
    _narrow(monkeypatch, 120)
    assert all(uuid in run(_two_of_a_name())[0] for uuid in (UUID, OTHER))
    assert UUID not in run(apart)[0]
    nodes = bytes(Trail("a").device("libhook", "start")) + bytes(Trail("b").device("libhook", "start", uuid=OTHER))
    _narrow(monkeypatch, 100)
    assert UUID not in run(nodes)[0], "the column of hosts tells them apart"


def test_more_names_than_are_remembered_have_their_uuids(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not known to stand for one guest may stand for several, as may what was remembered."""
    monkeypatch.setattr("libhook.history.page._MOST_UUIDS", 1)
    page = _text(run(_two_of_a_name(), "--html", "-")[0])
    assert all(f"build {uuid} 2026-" in page for uuid in (UUID, OTHER))
    assert f"win11 {UUID[:-1]}0 2026-" in page
    monkeypatch.setattr("libhook.history.table._MOST", 0)
    _narrow(monkeypatch, 115)
    assert UUID in run(Trail().device("libhook", "start", device=SPARE))[0]


def test_what_could_not_be_read_is_on_the_page(run: Run, tmp_path: Path) -> None:
    """At its top and in its foot, in the words of stderr; where nothing is missing, that is said."""
    broken = bytes(_named()) + _named().lines[0][:-80] + b"\n"
    page, err = run(broken, "--html", "-")
    said = "1 record could not be read: cut off, or not as auditd writes them (from ausearch, use --raw)"
    assert err == f"{said}\n"
    head, foot = _text(page).split("How this page was made")
    assert f"Not all of the logs is on this page: {said}" in head
    assert f"{said}." in foot
    unread = "Not all of the logs could be read, as said at the top."
    assert f"no gap in the trail is recorded. {unread}" in head
    assert '"missing":true' in page, "the script says it in its answer"
    whole = _text(run(_named(), "--html", "-")[0])
    assert "No record was unreadable." in whole
    assert "Not all of the logs" not in whole
    assert '"missing":false' in run(_named(), "--html", "-")[0]
    (tmp_path / "var/log/audit/audit.log.2.gz").touch()
    assert "audit.log.2.gz: unpack what is packed" in _text(run(_named(), "--html", "-")[0])


def test_objects_do_not_hide_that_the_trail_was_silent(run: Run) -> None:
    """Each such time is an object, where it was silent within the time that is asked for; the table has each, too."""
    log = _named().raw("DAEMON_END", "op=terminate").raw("DAEMON_START", "op=start", after=600_000)
    out, err = run(log, "--json")
    assert (len(entries(out)), out.count('"silence"'), err) == (3, 1, "")
    assert '"silence"' not in run(log, "--json", "-te", "2026-11-24T18:30:04+00:00")[0]
    log.raw("DAEMON_END", "op=terminate").raw("DAEMON_START", "op=start", after=600_000)
    assert run(log, "--json")[0].count('"silence": "auditd did not run", "node": null, ') == 2
    assert run(log)[0].count("-- no trail from") == 2


def test_a_narrow_terminal_says_the_zone(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the headings of the table do."""
    assert run(_named())[0].startswith("FROM (UTC)")
    _narrow(monkeypatch, 40)
    assert run(_named())[0].splitlines()[0] == "-- times are UTC"
    silent = Trail().raw("DAEMON_END", "op=terminate").raw("DAEMON_START", "op=start", after=600_000)
    zone, silence, *trail, nothing = run(silent)[0].splitlines()
    assert zone == "-- times are UTC"
    assert silence == "-- no trail from 2026-11-24 18:30:01 to 2026-11-24 18:40:01: auditd did not run"
    assert trail == ["-- the trail is from 2026-11-24 18:30:01", "   to 2026-11-24 18:40:01"]
    assert nothing == "no host device in the trail"


def test_once_is_one_time(run: Run) -> None:
    """What a screen reader is told of a line."""
    page = run(_named(), "--html", "-")[0]
    assert f'aria-label="win11 had pci {SPARE} 1 time, failed 0"' in page
    assert f'aria-label="win11 had pci {CARD} 2 times, failed 0"' in page
