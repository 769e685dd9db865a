# SPDX-License-Identifier: LGPL-2.1-or-later
"""``libhook history --follow``: what it tells, its cursor and the file beside it, each wait a step of the test."""

import contextlib
import errno
import fcntl
import itertools
import json
import os
import re
import select
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
from amounts import SAMPLED
from hypothesis import given
from hypothesis import strategies as st
from page_stage import trail
from trail_writing import BEGIN, OTHER, PLACES, ROOT, Trail, log_of, zone

from libhook.command import parsing
from libhook.errors import LibhookError
from libhook.history import command, follow, tail
from libhook.history.beside import name_saved, replaced
from libhook.history.cursor import Cursor
from libhook.history.remembered import Remembered, Was
from libhook.history.tail import Tail, _File

Step = Callable[[], None]
NIC, CARD, STICK = "0000:01:00.0", "0000:02:00.0", "001.004"


_MORE = 4
"""How often it looks once the steps are over. After two seconds all is told."""


def nothing() -> None:
    """Only wait."""


class Killed(BaseException):
    """Nothing more runs, and nothing is tidied up that a SIGKILL would leave."""


class Desk:
    """A folder with a log, a cursor and what the follower wrote."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.log, self.out = folder, folder / "audit.log", folder / "out"
        self.cursor = folder / "cursor"
        self.out.touch()
        self.given = ["--json", "--cursor", str(self.cursor)]
        self.notes: list[Was] | None = None
        """What libhook has noted, where its own log is followed."""
        self.clock = 0.0
        """Seconds that the waits have taken."""
        self.effects = 0
        """How often something was written: a line, or the cursor."""
        self.pieces = 0
        """SIGTERM comes after so many pieces of the log; 0 or less: only at a wait."""
        self.synced: list[str] = []
        """What was put on the disk."""

    @property
    def now(self) -> int:
        """In milliseconds since 1970: a day after ``busy`` began, and what was waited since."""
        return BEGIN + 86_400_000 + round(self.clock * 1000)

    def append(self, text: bytes) -> None:
        """auditd writes."""
        with self.log.open("ab") as file:
            file.write(text)

    def rotate(self) -> None:
        """auditd renames its logs, and makes a new one."""
        numbers = sorted((int(path.suffix[1:]) for path in self.folder.glob("audit.log.*")), reverse=True)
        for number in numbers:
            (self.folder / f"audit.log.{number}").rename(self.folder / f"audit.log.{number + 1}")
        if self.log.exists():
            self.log.rename(self.folder / "audit.log.1")
        self.log.touch()

    def follow(self, *steps: Step, kill_at: int | None = None, path: Path | None = None) -> int:
        """Follow: a step at each wait, then as long as it takes to tell all, then SIGTERM. Or be killed before that.

        Return how many steps were taken.
        """
        left = [*steps, *[nothing] * _MORE]

        def ended(seconds: float) -> bool:
            if seconds and left:
                self.clock += 1
                left.pop(0)()
                return False
            self.pieces -= not seconds
            return bool(seconds) or self.pieces == 0

        def synced(descriptor: int) -> None:
            self.synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))

        def counted(do: Callable[..., object]) -> Callable[..., object]:
            def doing(*arguments: object) -> object:
                if self.effects == kill_at:
                    raise Killed
                self.effects += 1
                return do(*arguments)

            return doing

        self.effects = 0
        own, where = self.notes is not None, ["-if", str(path or self.folder)]
        options = parsing.parser().parse_args(["history", "--follow", *where * (not own), *self.given])
        notes = Remembered(os.uname().nodename, lambda _: list(self.notes or [])) if own else None
        clocks = SimpleNamespace(time=lambda: self.now / 1000, monotonic=lambda: self.clock)
        with self.out.open("ab") as out, contextlib.ExitStack() as stack:
            fake = SimpleNamespace(fileno=out.fileno, encoding="utf-8", isatty=lambda: False)
            stack.enter_context(mock.patch.object(sys, "stdout", fake))
            stack.enter_context(mock.patch.object(follow, "_ended", ended))
            stack.enter_context(mock.patch.object(follow, "time", clocks))
            stack.enter_context(mock.patch.object(os, "write", counted(os.write)))
            stack.enter_context(mock.patch.object(os, "replace", counted(os.replace)))
            stack.enter_context(mock.patch.object(os, "fsync", synced))  # else the tests take as long as the disk
            stack.enter_context(contextlib.suppress(Killed))
            command.run(str(self.folder), options, lambda: notes)
        return min(len(steps), len(steps) + _MORE - len(left))

    @property
    def written(self) -> list[dict[str, Any]]:
        """What was written, without the second of two lines that are the same."""
        return [json.loads(line) for line in dict.fromkeys(self.out.read_text().splitlines())]

    @property
    def left(self) -> list[str]:
        """What the last lines of all entries say, as ``history --json`` has it."""
        last: dict[str, dict[str, Any]] = {}
        for line in self.written:
            last[line["entry"]] = line
        kept = [line for line in last.values() if line["event"] != "withdrawn"]
        return sorted(json.dumps({key: line[key] for key in list(line)[2:]}) for line in kept)

    @property
    def shown(self) -> list[str]:
        """What ``history --json`` has, but for where the trail ends: for one that is followed, that is not yet."""
        options = parsing.parser().parse_args(["history", "--json", "-if", str(self.folder)])
        lines: list[bytes] = []
        with mock.patch.object(command, "_write", lines.extend):
            assert command.run(str(self.folder), options) == 0
        return sorted(
            re.sub(r'(?<="known_until": )"[^"]*"', "null", line.decode().rstrip("\n"))
            for line in lines
            if b'"entry"' in line
        )

    @property
    def events(self) -> list[tuple[str, str]]:
        """Event and device of each line."""
        return [(line["event"], line["device"]) for line in self.written]


def busy(node: str = "") -> Iterator[bytes]:
    """The lines of a log with all that may happen to an entry, from a year that is long over."""
    log = Trail(node)
    log.device("libhook", "stop", device="0000:09:00.0").control("stop")  # from before the trail
    log.device("libvirtd", "start", ids="").control("start").device("libhook", "start", ids="8086:10d3", after=4_000)
    log.device("libvirtd", "attach", bus="usb", device="USB redirdev", after=0)
    log.device("libvirtd", "attach", bus="usb", device="USB redirdev", after=0)
    log.device("libvirtd", "attach", device=CARD).device("libhook", "attach", False, device=CARD)
    log.device("libvirtd", "detach", bus="usb", device="USB redirdev")
    log.device("libhook", "stop", False).device("libhook", "stop", device=CARD).control("stop")
    log.device("libhook", "stop", after=20_000)  # back on the host at last
    log.device("libhook", "start", False, uuid=OTHER, vm="b").device("libvirtd", "start", uuid=OTHER, vm="b")
    log.control("start", False, uuid=OTHER, vm="b")
    log.device("libvirtd", "start", bus="usb", device="000.000", after=60_000)
    log.device("libhook", "start", bus="usb", device=STICK, after=5_000).control("start", after=4_000)
    log.device("libvirtd", "start", uuid=OTHER, vm="b").control("start", uuid=OTHER, vm="b")
    log.device("libvirtd", "start", device=NIC, after=60_000).control("start")  # again, and what the other has
    log.raw("DAEMON_END", "op=terminate").raw("DAEMON_START", "op=start")
    log.device("libhook", "attach", device=CARD, after=700_000).raw("SYSTEM_BOOT", "x", after=60_000)
    log.device("libvirtd", "start", after=60_000).device("libhook", "start", ids="10de:2684").control("start")
    yield from (line + b"\n" for line in log.lines)


WHILE = [""] * 4
"""Longer than the time in which nothing is told yet."""


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


STORIES = {
    "what failed is told once, though libvirtd says success at first": (
        [], ["hook:start!", "virt:start", "guest:start!"], ["failed 1"]
    ),
    "a writer who comes late, and a start that turns out to have failed": (
        [], ["virt:start+0", *WHILE, "hook:start+8", *WHILE, "guest:start!"], ["began 1", "changed 1", "ended 1"]
    ),
    "what was another device is withdrawn": (
        [], ["virt:start@none+0", *WHILE, "hook:start@usb+9 guest:start"],
        ["began none", "withdrawn none", "began usb"],
    ),
    "what does not pass a filter is not told": (
        ["--result", "success", "-d", NIC],
        ["virt:start virt:start@2 guest:start", *WHILE, "virt:attach!&+9"], ["began 1"],
    ),
    "what was told of an entry that does not pass any more is corrected": (
        ["--result", "success", "-d", NIC], ["virt:start", *WHILE, "guest:start!+9"], ["began 1", "failed 1"]
    ),
}  # fmt: skip


@pytest.mark.parametrize(("options", "steps", "events"), STORIES.values(), ids=STORIES)
def test_what_is_told_is_corrected(desk: Desk, options: list[str], steps: list[str], events: list[str]) -> None:
    """Of records that come one after the other: which events, of which device. At the end all is told."""
    desk.given += options
    logs = [Trail(now=desk.now)]
    for step in steps:
        logs.append(log_of(step, now=logs[-1].now))
    desk.follow(*(_lines(desk, bytes(log)) for log in logs[1:]))
    places = {device: name or "1" for name, (_, device) in PLACES.items()}
    assert [f"{event} {places[device]}" for event, device in desk.events] == events
    assert desk.left == desk.shown or options


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


def test_a_person_gets_lines(desk: Desk) -> None:
    """Local time, what happened, which device, its name, the guest; no name can do anything to a terminal."""
    desk.append(bytes(Trail("kvm1").device("libhook", "start", False, vm="\x1b[31m", ids="10de:2684")))
    desk.given = ["-ts", "2026-11-24"]
    with zone("UTC"):
        desk.follow()
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
        told += one.communicate(timeout=600)[0]
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


def test_the_cursor_is_for_its_owner_and_one_follower(desk: Desk) -> None:
    """0600, like the trail; a second follower is refused, and so is a file that is something else."""
    errors: list[str] = []

    def again() -> None:
        with pytest.raises(LibhookError) as caught:
            Desk.follow(desk)
        errors.append(caught.value.line)

    desk.append(b"".join(busy()))
    desk.follow(again)
    assert set(desk.synced[1::2]) == {str(desk.folder)}
    assert len(set(desk.synced[::2])) == len(desk.synced[::2]) > 1, "each time under a name that nobody else has"
    assert all(Path(name).name.startswith(".cursor.") for name in desk.synced[::2])
    assert errors == [f"{desk.cursor}: another libhook follows with it: give each its own file"]
    assert stat.S_IMODE(desk.cursor.stat().st_mode) == 0o600
    whole = desk.cursor.read_bytes()
    others = [whole.replace(b'"heard": 1', b'"heard": "1'), whole.replace(b'"position": ["', b'"position": [1, "')]
    for content in (b"x", b"[]", b'{"version": 1}', whole[:-1], whole + b" ", *others):
        assert content != whole
        desk.cursor.write_bytes(content)
        with pytest.raises(LibhookError, match="not a cursor of this libhook") as caught:
            desk.follow()
        assert caught.value.hint == "remove it: then the whole trail is told again"
    desk.cursor.write_bytes(whole)
    desk.follow()
    desk.given = ["--cursor", "/dev/null"]
    with pytest.raises(LibhookError, match="Not a regular file"):
        desk.follow()
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)


@pytest.mark.parametrize("waits", [True, False], ids=["it waits", "it does not wait"])
@pytest.mark.parametrize(
    ("vm", "options", "taken"),
    [
        ("n" * 500, ["--json"], 0),
        ("n" * 9000, ["--json"], 0),
        ("\u5b57" * 3500, [], 0),
        ("\u5b57" * 999, ["--json"], 200),
    ],
    ids=["short", "long", "of three bytes each", "that somebody reads slowly"],
)
def test_a_pipe_gets_every_line_once(desk: Desk, vm: str, options: list[str], taken: int, waits: bool) -> None:
    """SIGTERM ends a follower, also one whose reader has stopped; the next goes on with the very next letter."""
    log = Trail()
    for number in range(200):
        log.device("libhook", "start", vm=vm, device=f"0000:{number:02x}:00.0")
    desk.append(bytes(log))
    desk.given = [*options, "--cursor", str(desk.cursor)]
    desk.follow()
    expected, desk.cursor = desk.out.read_bytes(), desk.folder / "another"
    assert (len(expected.splitlines()[0]) > select.PIPE_BUF) is (len(vm) > 500)
    desk.given = [*options, "--cursor", str(desk.cursor)]
    inlet, outlet = os.pipe()
    os.set_blocking(outlet, waits)
    words = [sys.executable, "-m", "libhook", "history", "--follow", *desk.given, "-if", str(desk.folder)]
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8"}
    with (
        open(inlet, "rb") as reader,
        subprocess.Popen(words, cwd=ROOT, stdout=outlet, stderr=subprocess.PIPE, env=environment) as one,
    ):
        try:
            told = b"".join(reader.readline() for _ in range(taken))
            poll, end = select.poll(), time.monotonic() + 60
            poll.register(outlet, select.POLLOUT)
            while not taken and poll.poll(0) and time.monotonic() < end:
                time.sleep(0.05)
            one.send_signal(signal.SIGTERM)
            assert (one.communicate(timeout=600)[1], one.returncode) == (b"", 0)
        finally:
            one.kill()
            os.close(outlet)
        told += reader.read()
    assert expected.startswith(told)
    assert (told == expected) is bool(taken)
    assert told.endswith(b"\n") is (bool(taken) or len(vm) == 500), "a short line comes as a whole or not at all"
    desk.out.write_bytes(told)
    desk.follow()
    assert desk.out.read_bytes() == expected


def test_nothing_is_waited_for_once_the_end_has_come(desk: Desk) -> None:
    """SIGTERM came in the middle of the log, and no second one will: what finds no room is kept for the next."""
    desk.append(b"".join(busy()))
    desk.pieces = 1

    def full(milliseconds: int) -> list[tuple[int, int]]:
        assert milliseconds == 0, "it would wait for ever"
        return []

    poll = SimpleNamespace(register=lambda *_: None, poll=full)
    with mock.patch.object(select, "poll", return_value=poll):
        desk.follow()
    assert desk.out.read_bytes() == b""
    kept = json.loads(desk.cursor.read_bytes().partition(b"\n")[2])["lines"]
    assert kept
    desk.follow()
    assert desk.out.read_text().startswith("".join(kept))
    assert desk.left == desk.shown


def test_room_that_another_takes_is_waited_for(desk: Desk) -> None:
    """A pipe may be shared: what had room a moment ago may have none."""
    desk.append(b"".join(busy()))
    desk.follow()
    expected, desk.cursor = desk.out.read_bytes(), desk.folder / "another"
    desk.out.write_bytes(b"")
    desk.given = ["--json", "--cursor", str(desk.cursor)]
    write, calls = os.write, itertools.count()

    def taken(descriptor: int, data: bytes) -> int:
        if next(calls) % 2:
            raise BlockingIOError
        return write(descriptor, data)

    with mock.patch.object(os, "write", taken):
        desk.follow(*[nothing] * len(expected.splitlines()))
    assert desk.out.read_bytes() == expected


def test_a_cursor_that_cannot_be_saved_stays(desk: Desk) -> None:
    """And nothing is left beside it."""
    desk.append(b"".join(busy()))
    desk.follow()
    before = desk.cursor.read_bytes()
    failing = mock.patch.object(os, "replace", side_effect=OSError(28, "No space left on device"))
    with failing, pytest.raises(OSError, match="No space left"):
        desk.follow()
    assert desk.cursor.read_bytes() == before
    assert _names(desk.folder) == ["audit.log", "cursor", "out"]


def test_a_cursor_that_the_disk_may_not_know_is_locked_all_the_same(desk: Desk, tmp_path: Path) -> None:
    """Where its folder cannot be put on the disk, the new one is in place. It is the follower's until it ends."""
    cursor, synced = Cursor(str(desk.cursor)), os.fsync

    def failing(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(5, "Input/output error")
        synced(descriptor)

    with mock.patch.object(os, "fsync", failing), pytest.raises(OSError, match="Input/output error") as caught:
        cursor.save({"lines": ["x"]})
    assert caught.value.filename == str(desk.cursor)
    with pytest.raises(LibhookError, match="another libhook follows with it"):
        Cursor(str(desk.cursor))
    cursor.close()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    other = Cursor(str(desk.cursor))
    assert other.load() == {"lines": ["x"]}
    other.close()


@pytest.mark.parametrize("terminal", [True, False])
@pytest.mark.parametrize("there", [True, False])
def test_it_says_what_it_waits_for(
    desk: Desk, terminal: bool, there: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one line; how to end it is for who sits at a terminal. A service says only that there is no log yet."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    if there:
        desk.log.touch()
    desk.follow()
    said = f"{'following' if there else 'waiting for'} {desk.log}{'; Ctrl-C ends it' if terminal else ''}\n"
    assert capsys.readouterr().err == ("" if there and not terminal else said)


KILLED = """
import os, signal, sys
from libhook.history.beside import replaced
with replaced(sys.argv[1]) as new:
    os.write(new, b"half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def _replace(path: Path, content: bytes = b"new") -> None:
    with replaced(str(path)) as new:
        os.write(new, content)
    name_saved(str(path))


def _kill(path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, str(path)], cwd=ROOT, timeout=600, check=False)
    assert done.returncode == -9


@pytest.mark.parametrize("name", ["page.html", "\u65e5" * 84], ids=["short", "long"])
def test_what_a_kill_leaves_is_removed_by_the_next(tmp_path: Path, name: str) -> None:
    """However often it is killed, one file is left; and none once it was not."""
    page = tmp_path / name
    page.write_bytes(b"old")
    for _ in range(3):
        _kill(page)
        assert len(_names(tmp_path)) == 2
        assert page.read_bytes() == b"old"
    _replace(page)
    assert _names(tmp_path) == [name]
    assert page.read_bytes() == b"new"


def test_what_others_write_stays(tmp_path: Path) -> None:
    """Who writes the same file at the same time, and whatever is called nearly the same, or is no file."""
    page, head = tmp_path / "page", ".page.abcdefg"
    others = ["page.new", ".page.new", ".page.mine.new"]
    others += [f"{head}.new", f"{head}hi.new", f"{head}H.new", f".page{head}h.new"]
    for name in others:
        (tmp_path / name).touch()
    (tmp_path / f"{head}1.new").mkdir()
    (tmp_path / f"{head}2.new").symlink_to(tmp_path / ".page.new")
    os.mkfifo(tmp_path / f"{head}3.new")
    before = _names(tmp_path)
    with replaced(str(page)) as slow:
        os.write(slow, b"slow")
        _replace(page, b"fast")
        assert page.read_bytes() == b"fast"
    assert page.read_bytes() == b"slow"
    assert _names(tmp_path) == sorted([*before, "page"])


def test_a_file_that_is_removed_before_it_is_locked_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another that begins at this very moment takes it for one that was left."""
    made: list[str] = []
    make: Callable[..., tuple[int, str]] = tempfile.mkstemp

    def taken(*given: str) -> tuple[int, str]:
        descriptor, path = make(*given)
        if not made:
            os.unlink(path)
        made.append(path)
        return descriptor, path

    monkeypatch.setattr(tempfile, "mkstemp", taken)
    _replace(tmp_path / "page")
    assert len(made) == 2
    assert _names(tmp_path) == ["page"]


@pytest.mark.parametrize(("module", "call"), [(os, "listdir"), (fcntl, "flock")], ids=["unread", "without locks"])
def test_where_nothing_can_be_removed_it_is_replaced_all_the_same(tmp_path: Path, module: object, call: str) -> None:
    """A folder that may not be read, or a file system without locks: what was left stays."""
    _kill(tmp_path / "page")
    with mock.patch.object(module, call, side_effect=OSError(errno.EACCES, "Permission denied")):
        _replace(tmp_path / "page")
    assert len(_names(tmp_path)) == 2
    assert (tmp_path / "page").read_bytes() == b"new"


@pytest.mark.parametrize(
    "base",
    [b"a" * 255, "\u65e5".encode() * 85, b"a" + "\u65e5".encode() * 84, b"\xff" * 255],
    ids=["letters", "three bytes each", "cut within one", "no text"],
)
def test_any_legal_name_will_do(tmp_path: Path, base: bytes) -> None:
    """The limit is 255 bytes, not letters, and a name need not be text."""
    _replace(tmp_path / os.fsdecode(base))
    assert os.listdir(os.fsencode(tmp_path)) == [base]


def test_the_lines_of_the_page_are_what_is_printed(desk: Desk) -> None:
    """Of a guest's life, and of a start that failed."""
    desk.given = ["-ts", "2026-11-24"]
    desk.append(bytes(trail()))
    with zone("UTC"):
        desk.follow()
    block = re.findall(r"```console\n(.*?)```", (ROOT / "docs/follow.md").read_text(), flags=re.S)[0]
    assert block.splitlines()[1:] == desk.out.read_text().splitlines()[:3]


def test_a_follower_uses_the_notes_too(desk: Desk) -> None:
    """As they are when it tells: a guest is noted when it starts. Its fields are those of ``--json``."""
    (desk.folder / "etc/audit").mkdir(parents=True)
    (desk.folder / "etc/audit/auditd.conf").write_text("log_file = /audit.log\n")
    ids, desk.notes = "1002:747e", []
    log = log_of("virt:start guest:start", now=desk.now)
    desk.given += ["-d", ids]
    noted = Was(NIC, ids, log.now // 1000, log.now // 1000)

    def start() -> None:
        desk.append(bytes(log))
        desk.notes = [noted]

    desk.follow(nothing, start)
    (told,) = desk.written
    assert [told[name] for name in ("event", "ids", "ids_from")] == ["began", ids, "notes"]
    assert list(told)[2:] == list(json.loads(desk.shown[0]))
    desk.follow(_lines(desk, bytes(log_of("guest:stop", now=desk.now))))
    assert [(line["event"], line["ids"]) for line in desk.written] == [("began", ids), ("ended", ids)]
