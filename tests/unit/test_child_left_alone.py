# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a child is given, what marks it, and what becomes of one that nobody waits for."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import pytest
from family import until
from overdue import soon

from libhook.children import child, telling
from libhook.children.child import Deadline
from libhook.children.tracks import Step, run
from libhook.effects.locks import is_locked
from libhook.errors import LibhookError
from libhook.look import patient

if TYPE_CHECKING:
    from libhook.children.tracks import Track
pytestmark = pytest.mark.usefixtures("childless")


def _wait(started: child.Child) -> int:
    assert child.ended([started.handle], Deadline.after(200)) == {started.handle}
    return started.result()


@pytest.mark.parametrize("number", [40, 64, 200])
def test_a_child_keeps_what_it_was_given_and_its_mark(tmp_path: Path, number: int) -> None:
    """Whatever the numbers are; also where it becomes a program, as modprobe."""
    mark, given = str(tmp_path / "mark"), os.memfd_create("given")
    os.dup2(given, number, inheritable=False)
    try:
        say = f"echo kept >/proc/self/fd/{number}; while [ ! -e {tmp_path}/go ]; do sleep 0.01; done"
        started = child.spawn(lambda: os.execv("/bin/sh", ["sh", "-c", say]), mark, keep=number)
        until = time.monotonic() + 200
        while not os.fstat(given).st_size and time.monotonic() < until:
            time.sleep(0.005)
        assert os.pread(given, 100, 0) == b"kept\n"
        assert is_locked(mark)
        (tmp_path / "go").touch()
        assert _wait(started) == 0
        assert not is_locked(mark)
    finally:
        os.close(given)
        os.close(number)


def test_a_child_has_none_of_the_three_streams() -> None:
    """Not even stdin, on which libvirtd may wait to be read."""

    def look(say: Callable[[bytes], None]) -> None:
        for stream in (0, 1, 2):
            say(os.readlink(f"/proc/self/fd/{stream}").encode())

    reader, writer = os.pipe()
    before = os.dup(0)
    try:
        os.dup2(reader, 0)
        streams = telling.lines(look, Deadline.after(200))
    finally:
        os.dup2(before, 0)
        for descriptor in (before, reader, writer):
            os.close(descriptor)
    assert streams == ["/dev/null"] * 3


def test_a_mark_is_made_through_no_link(tmp_path: Path) -> None:
    """Somebody else's file is not made, and none is locked; who must go on does, unmarked."""
    for target in ("none", "there"):
        mark = tmp_path / f"to {target}"
        mark.symlink_to(tmp_path / target)
        if target == "there":
            (tmp_path / target).touch()
        with pytest.raises(OSError, match=os.strerror(errno.ELOOP)):
            child.spawn((tmp_path / "done").touch, str(mark))
        assert not (tmp_path / "done").exists()
        assert _wait(child.spawn((tmp_path / "done").touch, str(mark), unmarked=True)) == 0
        (tmp_path / "done").unlink()
    assert not (tmp_path / "none").exists()


def test_who_only_looks_at_a_mark_is_in_no_writer_s_way(tmp_path: Path) -> None:
    """He has it for an instant; so a writer tries again before it says that another write is on its way."""
    mark, tries = str(tmp_path / "mark"), 0
    real = fcntl.flock

    def flock(descriptor: int, mode: int) -> None:
        nonlocal tries
        tries += 1
        if tries <= 3:
            raise BlockingIOError
        real(descriptor, mode)

    with mock.patch("fcntl.flock", flock):
        assert _wait(child.spawn(lambda: None, mark)) == 0
    assert tries == 4


def _children() -> int:
    with open(f"/proc/self/task/{os.getpid()}/children", encoding="ascii") as file:
        return len(file.read().split())


def test_those_that_were_left_behind_and_have_ended_are_buried(tmp_path: Path) -> None:
    """Nobody waits for one that still works, unless it is said for how long."""
    for _ in range(3):
        ended = child.spawn(lambda: None)
        assert child.ended([ended.handle], Deadline.after(200))
        ended.abandon()
    go = tmp_path / "go"
    working = child.spawn(lambda: until(go.exists))
    child.reap()
    assert _children() == 1
    child.reap(soon())
    assert _children() == 1
    go.touch()
    working.abandon()
    child.reap(Deadline.after(200))
    assert _children() == 0
    child.reap()


def test_a_step_whose_mark_cannot_be_had_is_not_done(tmp_path: Path) -> None:
    """Else nobody would see a write on its way; who must go on says so."""

    def write(*, unmarked: bool | None) -> Track[int]:
        mark = f"{tmp_path}/none/mark"
        done = (tmp_path / "done").touch
        return (yield Step(done, mark) if unmarked is None else Step(done, mark, unmarked=unmarked))

    for unmarked in (None, False):
        assert run([write(unmarked=unmarked)], Deadline.after(200)) == [errno.ENOENT]
        assert not (tmp_path / "done").exists()
    assert run([write(unmarked=True)], Deadline.after(200)) == [0]
    assert (tmp_path / "done").exists()


def test_a_child_that_is_listened_to_has_its_mark(tmp_path: Path) -> None:
    """As long as it lives; one that has none where there is no place for it speaks all the same."""
    mark, go = str(tmp_path / "mark"), tmp_path / "go"

    def speak(say: Callable[[bytes], None]) -> None:
        say(b"begun")
        while not go.exists():
            time.sleep(0.005)
        say(b"\xff")

    speech = telling.listen(speak, mark)
    assert is_locked(mark)
    go.touch()
    assert speech.lines(Deadline.after(200)) == ["begun", "\udcff"]
    assert not is_locked(mark)
    assert telling.listen(speak, f"{tmp_path}/none/mark").lines(Deadline.after(200)) == ["begun", "\udcff"]


@pytest.mark.parametrize("call", ["os.fork", "os.pipe2"])
def test_where_no_child_is_to_be_had_that_is_said(call: str) -> None:
    """And no descriptor stays open."""
    refusal = OSError(errno.EMFILE, os.strerror(errno.EMFILE))
    with (
        mock.patch(call, side_effect=refusal),
        pytest.raises(LibhookError, match=r"no child process can be started .Too"),
    ):
        telling.lines(lambda _: None, Deadline.after(200))


def test_a_signal_to_who_listens_is_not_swallowed() -> None:
    """The child goes on, and is heard no more."""
    speech = telling.listen(lambda _: time.sleep(0.5))
    poll = mock.Mock(poll=mock.Mock(side_effect=LibhookError("ended by a signal")))
    with mock.patch("select.poll", return_value=poll), pytest.raises(LibhookError, match="ended by a signal"):
        speech.lines(Deadline.after(200))
    assert _children() == 1
    child.reap(Deadline.after(200))


@pytest.mark.parametrize("times", [0, 1, 2])
def test_a_reader_that_is_killed_once_is_not_the_attribute_s_fault(tmp_path: Path, times: int) -> None:
    """Another goes on where it was; the second time memory may be short, and nobody goes on for ever."""
    for name in ("a", "b"):
        (tmp_path / name).write_text(f"{name}\nmore\n")
    left = [0] * times
    me, reading = os.getpid(), os.read
    spawn = child.spawn

    def killed(descriptor: int, size: int) -> bytes:
        if os.getpid() != me and left and size > 1:
            os.kill(os.getpid(), 9)
        return reading(descriptor, size)

    def counted(*arguments: Any, **options: Any) -> child.Child:  # noqa: ANN401 - whatever it takes
        started = spawn(*arguments, **options)
        if left:
            left.pop()
        return started

    paths = [str(tmp_path / name) for name in ("a", "b")]
    with mock.patch("os.read", killed), mock.patch.object(telling, "spawn", counted):
        if times < 2:
            assert patient.read_all(paths, Deadline.after(200), 200) == ["a", "b"]
        else:
            with pytest.raises(LibhookError, match=r"the process that reads .*/a was killed"):
                patient.read_all(paths, Deadline.after(200), 200)
