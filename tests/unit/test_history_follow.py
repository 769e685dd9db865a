# SPDX-License-Identifier: LGPL-2.1-or-later
"""``libhook history --follow``: whoever keeps the last line of each entry has what ``libhook history`` shows."""

import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from unittest import mock

import pytest
from amounts import SAMPLED
from following import CARD, NIC, STICK, Desk, Step, busy, nothing
from hypothesis import given
from hypothesis import strategies as st
from trail_writing import OTHER, Trail

from libhook.history import tail
from libhook.history.tail import Tail, _File

WHILE = [nothing] * 4
"""Longer than the time in which nothing is told yet."""
ROOT = Path(__file__).parents[2]
PIPE = 1 << 16
"""What a pipe holds (pipe(7))."""


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """A log that is not there yet."""
    return Desk(tmp_path)


def _lines(desk: Desk, *lines: bytes) -> Step:
    return lambda: desk.append(b"".join(lines))


def test_entries_are_told_as_they_happen(desk: Desk) -> None:
    """Each once when it begins, and once when it ends; both writers' records are in one line."""
    log = Trail().device("libvirtd", "start").control("start").device("libhook", "start", ids="8086:10d3")
    end = Trail(now=log.now + 60_000).device("libhook", "stop").control("stop")
    desk.follow(_lines(desk, bytes(log)), nothing, _lines(desk, bytes(end)))
    began, ended = desk.written
    assert list(began)[:4] == ["event", "id", "entry", "device"]
    assert [began[key] for key in ("event", "to", "ids", "recorded_by")] == [
        "began", None, "8086:10d3", ["libvirtd", "libhook"],
    ]  # fmt: skip
    assert [ended[key] for key in ("event", "entry", "ended")] == ["ended", began["entry"], "stop"]
    assert [line["id"] for line in (began, ended)] == [f"{began['entry']}/1", f"{began['entry']}/2"]
    assert began["entry"] == "1795545001.000:11", "as ausearch -a takes it"
    assert began["entry"] in desk.shown[0]
    assert desk.left == desk.shown


def test_what_failed_is_told_once(desk: Desk) -> None:
    """libvirtd says success of a start that fails, within the time in which nothing is told yet."""
    log = Trail(now=desk.now).device("libhook", "start", False).device("libvirtd", "start").control("start", False)
    desk.follow(*(_lines(desk, line + b"\n") for line in log.lines))
    assert desk.events == [("failed", NIC)]
    assert desk.left == desk.shown


def test_a_late_record_corrects(desk: Desk) -> None:
    """Of a start that turns out to have failed, of a writer who comes late, and of what was another device."""
    now = desk.now
    log = Trail(now=now).device("libvirtd", "start", after=0)
    late = Trail(now=now + 8_000).device("libhook", "start")
    failed = Trail(now=now + 9_000).control("start", False)
    desk.follow(_lines(desk, bytes(log)), *WHILE, _lines(desk, bytes(late)), *WHILE, _lines(desk, bytes(failed)))
    assert desk.events == [("began", NIC), ("changed", NIC), ("ended", NIC)]
    assert desk.left == desk.shown
    usb = Trail(now=now).device("libvirtd", "start", uuid=OTHER, bus="usb", device="000.000")
    ours = Trail(now=now + 9_000).device("libhook", "start", uuid=OTHER, bus="usb", device=STICK)
    ours.control("start", uuid=OTHER)
    desk.follow(_lines(desk, bytes(usb)), *WHILE, _lines(desk, bytes(ours)))
    assert ("withdrawn", "000.000") in desk.events
    assert desk.left == desk.shown


def test_without_a_cursor_it_begins_now(desk: Desk) -> None:
    """What a guest has is told first; what is over is not. -ts begins earlier."""
    over = Trail().device("libhook", "start").device("libhook", "stop").control("stop")
    desk.append(bytes(over) + bytes(Trail(now=over.now).device("libhook", "start", uuid=OTHER, device=CARD)))
    desk.given = ["--json"]
    desk.follow()
    assert desk.events == [("began", CARD)]
    desk.given = ["--json", "-ts", "2026-11-24"]
    desk.follow()
    assert sorted(desk.events) == [("began", NIC), ("began", CARD), ("ended", NIC)]


def test_a_filter_holds_for_what_is_told(desk: Desk) -> None:
    """But what was told of an entry that does not pass any more is corrected."""
    now = desk.now
    log = Trail(now=now).device("libvirtd", "start").device("libvirtd", "start", device=CARD).control("start")
    desk.given += ["--result", "success", "-d", NIC]
    failed = Trail(now=now + 9_000).device("libvirtd", "attach", False, device=NIC, uuid=OTHER)
    desk.follow(_lines(desk, bytes(log)), *WHILE, _lines(desk, bytes(failed)))
    assert desk.events == [("began", NIC)]
    late = Trail(now=desk.now).device("libvirtd", "start", uuid=OTHER)
    refuted = Trail(now=desk.now + 9_000).control("start", False, uuid=OTHER)
    desk.follow(_lines(desk, bytes(late)), *WHILE, _lines(desk, bytes(refuted)))
    assert [event for event, _ in desk.events] == ["began", "began", "failed"]


def test_a_person_gets_lines(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Local time, what happened, which device, its name, the guest; no name can do anything to a terminal."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    desk.append(bytes(Trail("kvm1").device("libhook", "start", False, vm="\x1b[31m", ids="10de:2684")))
    desk.given = ["-ts", "2026-11-24"]
    desk.follow()
    monkeypatch.undo()
    time.tzset()
    line = desk.out.read_text()
    assert line.startswith("2026-11-24 18:30:01 +0000  failed     kvm1:  pci 0000:01:00.0  ")
    assert line.endswith('[10de:2684]  "\\x1b[31m"  start failed  by libhook\n')


@pytest.mark.parametrize("rotations", [0, 2])
def test_no_kill_loses_or_changes_a_line(desk: Desk, rotations: int) -> None:
    """Killed before any line and any write of the cursor, with rotations before it runs again: the lines are the same,
    but for some that come twice. Those are the same letter for letter, and the second is left out by its id.
    """
    lines = list(busy())
    parts = [b"".join(lines[first:last]) for first, last in ((0, 5), (5, 16), (16, 25), (25, len(lines)))]
    for kill_at in range(0, 400, 5 if SAMPLED else 1):
        folder = desk.folder / str(kill_at)
        folder.mkdir()
        one = Desk(folder)
        steps = [_lines(one, part) for part in parts]
        done = one.follow(*steps, kill_at=kill_at)
        killed = one.effects == kill_at
        for step in steps[done : done + 1]:  # the log has grown, and says more of what was being told
            step()
        for _ in range(rotations):
            one.rotate()
        one.follow(*steps[done + 1 :])
        ids = [line["id"] for line in one.written]
        assert len(ids) == len(set(ids)), "a line that comes twice is the same"
        assert one.left == one.shown
        assert len(one.out.read_text().splitlines()) - len(ids) <= len(ids) / 2
        if not killed:
            break
    assert not killed, "each write was a place to be killed at"


@given(data=st.data())
def test_it_does_not_matter_how_the_log_grows(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    """By half lines, with rotations while it is read and while it is not, with ends and kills: nothing is lost, nothing
    comes twice but what was not yet known to be written.
    """
    desk = Desk(tmp_path_factory.mktemp("log"))
    text = b"".join(busy("kvm1" if data.draw(st.booleans()) else ""))
    places = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    parts = [text[a:b] for a, b in zip([0, *places], [*places, len(text)], strict=True)]
    steps: list[Step] = []
    for part in parts:
        steps.append(_lines(desk, part))
        if data.draw(st.booleans()):
            steps.append(lambda: _rotate_whole(desk))
    while steps:
        some = data.draw(st.integers(1, 4))
        done = desk.follow(*steps[:some], kill_at=data.draw(st.none() | st.integers(0, 30)))
        for step in steps[done:some]:  # while nobody follows
            step()
        del steps[:some]
    desk.follow()
    ids = [line["id"] for line in desk.written]
    assert len(ids) == len(set(ids))
    assert desk.left == desk.shown


def _rotate_whole(desk: Desk) -> None:
    """auditd never leaves half a line behind."""
    if desk.log.exists() and desk.log.read_bytes().endswith(b"\n"):
        desk.rotate()


def test_a_log_that_was_copied_and_cut_off_is_gone_on_with(desk: Desk) -> None:
    """As logrotate does it with copytruncate: the rest is read from the copy, then the log from its beginning."""
    lines = list(busy())

    def copytruncate() -> None:
        desk.append(b"".join(lines[5:9]))
        (desk.folder / "audit.log.1").write_bytes(desk.log.read_bytes())
        os.truncate(desk.log, 0)

    desk.follow(_lines(desk, *lines[:5]), copytruncate, _lines(desk, *lines[9:]))
    assert desk.left == desk.shown


def test_what_may_be_missing_is_said(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    """The log that was read last was cut off, or rotated away: what is there is read, and nothing of it twice."""
    one, two = Trail().device("libhook", "start"), Trail(now=1_795_545_090_000).device("libhook", "attach", device=CARD)
    three = Trail(now=1_795_545_180_000).device("libhook", "attach", bus="usb", device=STICK)
    desk.follow(_lines(desk, bytes(one)), lambda: os.truncate(desk.log, 0), _lines(desk, bytes(two)))
    assert "the log that was read last is gone, or was cut off" in capsys.readouterr().err
    assert desk.events == [("began", NIC), ("began", CARD)]
    desk.log.unlink()
    (desk.folder / "audit.log.1").write_bytes(bytes(one))  # older than what was read
    desk.log.write_bytes(bytes(three))
    desk.follow()
    assert "records may be missing" in capsys.readouterr().err
    assert desk.events == [("began", NIC), ("began", CARD), ("began", STICK)]


def test_it_ends_in_the_middle_of_a_long_log_too(desk: Desk) -> None:
    """After any piece of it; nothing that was known by then is forgotten."""
    desk.append(b"".join(busy()))
    with mock.patch.object(tail, "_PIECE", 300):
        for pieces in (1, 1, 2, 3, 5, 8, 0):
            desk.pieces = pieces
            desk.follow()
    assert desk.left == desk.shown


def test_what_is_written_just_before_a_rotation_is_read(desk: Desk) -> None:
    """auditd writes, and rotates, between our look for more and our look whether this is still its log."""
    lines = Trail().device("libhook", "start").device("libhook", "stop").lines
    looks = Tail._is_newest

    def late(reading: Tail, file: _File) -> bool:
        if desk.log.read_bytes().count(b"\n") == 1:
            desk.append(lines[1] + b"\n")
            desk.rotate()
        return looks(reading, file)

    desk.append(lines[0] + b"\n")
    with mock.patch.object(Tail, "_is_newest", late):
        desk.follow()
    assert desk.events == [("began", NIC), ("ended", NIC)]
    assert desk.left == desk.shown


def test_one_file_is_followed_with_what_it_becomes(desk: Desk) -> None:
    """Of -if FILE what lies beside it is not read, until FILE itself was rotated."""
    (desk.folder / "audit.log.1").write_bytes(bytes(Trail().device("libhook", "start", device=CARD)))
    lines = Trail(now=1_795_545_090_000).device("libhook", "start").device("libhook", "stop").lines
    desk.append(lines[0] + b"\n")
    desk.follow(desk.rotate, path=desk.log)
    desk.rotate()
    desk.append(lines[1] + b"\n")
    desk.follow(path=desk.log)
    assert desk.events == [("began", NIC), ("ended", NIC)]


@pytest.mark.parametrize(
    "given",
    [("--cursor", "x"), ("--follow", "--html", "x"), ("--follow", "-te", "now"), ("--follow", "-if", "-"),
     ("--follow", "-if", "a", "-if", "b")],
)  # fmt: skip
def test_what_does_not_go_together_is_a_usage_error(given: tuple[str, ...]) -> None:
    """A cursor without following, an end of what has none, several logs, a pipe."""
    words = [sys.executable, "-m", "libhook", "history", *given]
    assert subprocess.run(words, cwd=ROOT, capture_output=True, timeout=60, check=False).returncode == 2


def _start(*given: str) -> "subprocess.Popen[bytes]":
    words = [sys.executable, "-m", "libhook", "history", *given]
    return subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_process_is_ended_and_goes_on(desk: Desk, how: signal.Signals) -> None:
    """By systemd, by Ctrl-C or by the kernel, after its first line; the next one tells the rest."""
    lines = list(busy())
    given = ("--follow", *desk.given, "-if", str(desk.folder))
    desk.append(b"".join(lines[:9]))
    told = b""
    with _start(*given) as one:
        assert one.stdout
        told += one.stdout.readline()
        one.send_signal(how)
        told += one.communicate(timeout=60)[0]
        assert one.returncode == (0 if how != signal.SIGKILL else -how)
    desk.rotate()
    desk.append(b"".join(lines[9:]))
    desk.out.write_bytes(told)
    desk.follow()
    assert desk.left == desk.shown


def test_it_ends_with_its_reader(desk: Desk) -> None:
    """Even if there is nothing to write: a closed pipe is noticed."""
    desk.append(next(busy()))
    with _start("--follow", "-if", str(desk.folder)) as one:
        assert one.stdout
        one.stdout.close()
        assert one.wait(60) == 0


def test_a_pipe_that_does_not_wait_gets_every_line_once(desk: Desk) -> None:
    """Whoever started us made it so, and reads slowly. Lines may be longer than it takes at once."""
    log = Trail()
    for number in range(40):
        log.device("libhook", "start", vm="\u5b57" * 1000, device=f"0000:{number:02x}:00.0")
    desk.append(bytes(log))
    desk.follow()
    expected, desk.cursor = desk.out.read_bytes(), desk.folder / "another"
    assert max(map(len, expected.splitlines())) > select.PIPE_BUF
    assert len(expected) > 2 * PIPE
    inlet, outlet = os.pipe()
    os.set_blocking(outlet, False)
    words = [sys.executable, "-m", "libhook", "history", "--follow", "--json", "--cursor", str(desk.cursor)]
    with (
        open(inlet, "rb") as reader,
        subprocess.Popen([*words, "-if", str(desk.folder)], cwd=ROOT, stdout=outlet, stderr=subprocess.PIPE) as one,
    ):
        os.close(outlet)
        select.select([reader], [], [], 60)
        told = b"".join(reader.readline() for _ in range(len(expected.splitlines())))
        one.send_signal(signal.SIGTERM)
        assert one.communicate(timeout=60)[1] == b""
        assert (reader.read(), one.returncode) == (b"", 0)
    assert told == expected
