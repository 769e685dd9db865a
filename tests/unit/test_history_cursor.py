# SPDX-License-Identifier: LGPL-2.1-or-later
"""The file of ``libhook history --follow --cursor``: whose it is, and what it may hold."""

import itertools
import json
import os
import select
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import pytest
from following import Desk, busy, nothing
from trail_writing import Trail

from libhook.errors import LibhookError
from libhook.history.cursor import Cursor

ROOT = Path(__file__).parents[2]


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """A log that is not there yet."""
    return Desk(tmp_path)


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


@pytest.mark.parametrize("waits", [True, False])
@pytest.mark.parametrize(
    ("vm", "options"),
    [("n" * 500, ["--json"]), ("n" * 9000, ["--json"]), ("\u5b57" * 3500, [])],
    ids=["short", "long", "of three bytes each"],
)
def test_what_nobody_takes_is_kept_for_the_next(desk: Desk, vm: str, options: list[str], waits: bool) -> None:
    """SIGTERM ends a follower whose reader has stopped, and the next one goes on with the very next letter."""
    log = Trail()
    for number in range(200):
        log.device("libhook", "start", vm=vm, device=f"0000:{number:02x}:00.0")
    desk.append(bytes(log))
    desk.given = [*options, "--cursor", str(desk.cursor)]
    desk.follow()
    expected, desk.cursor = desk.out.read_bytes(), desk.folder / "another"
    assert (len(expected.splitlines()[0]) > select.PIPE_BUF) is (len(vm) > 500)
    inlet, outlet = os.pipe()
    os.set_blocking(outlet, waits)
    words = [sys.executable, "-m", "libhook", "history", "--follow", *options, "--cursor", str(desk.cursor)]
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8"}
    with subprocess.Popen([*words, "-if", str(desk.folder)], cwd=ROOT, stdout=outlet, env=environment) as one:
        try:
            poll, end = select.poll(), time.monotonic() + 60
            poll.register(outlet, select.POLLOUT)
            while poll.poll(0) and time.monotonic() < end:
                time.sleep(0.05)
            one.send_signal(signal.SIGTERM)
            assert one.wait(60) == 0
        finally:
            one.kill()
    os.close(outlet)
    with open(inlet, "rb") as reader:
        told = reader.read()
    assert expected.startswith(told)
    assert b"" < told < expected
    assert told.endswith(b"\n") is (len(vm) == 500), "a short line comes as a whole or not at all"
    desk.out.write_bytes(told)
    desk.given = [*options, "--cursor", str(desk.cursor)]
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


def test_the_cursor_touches_no_other_file(desk: Desk) -> None:
    """Whatever stands beside it, and nothing is left beside it; where it cannot be saved, the old one stays."""
    other = desk.folder / "cursor.new"
    other.write_text("somebody's")
    desk.append(b"".join(busy()))
    desk.follow()
    assert other.read_text() == "somebody's"
    before = desk.cursor.read_bytes()
    failing = mock.patch.object(os, "replace", side_effect=OSError(28, "No space left on device"))
    with failing, pytest.raises(OSError, match="No space left"):
        desk.follow()
    assert desk.cursor.read_bytes() == before
    assert sorted(path.name for path in desk.folder.iterdir()) == ["audit.log", "cursor", "cursor.new", "out"]


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
