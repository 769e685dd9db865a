# SPDX-License-Identifier: LGPL-2.1-or-later
"""What may never return is done by a child that can be left behind; several side by side."""

import errno
import os
import select
import time
from collections.abc import Callable, Generator
from contextlib import suppress
from functools import partial
from pathlib import Path
from unittest import mock

import hanging
import overdue
import pytest
from family import until
from overdue import soon

from libhook.children import child
from libhook.children.child import Deadline
from libhook.children.tracks import Late, Pause, Step, run
from libhook.effects.locks import is_locked
from libhook.look import patient

pytestmark = pytest.mark.usefixtures("childless")


def _fails(number: int) -> Callable[[], None]:
    def task() -> None:
        raise OSError(number, "told to")

    return task


def _wait(started: child.Child, seconds: float = 60) -> int:
    assert child.ended([started.handle], Deadline.after(seconds)) == {started.handle}
    return started.result()


def test_the_result_is_the_errno() -> None:
    """0 for success; a task that crashes otherwise is not taken for one that succeeded."""
    assert _wait(child.spawn(lambda: None)) == 0
    assert _wait(child.spawn(_fails(errno.ENODEV))) == errno.ENODEV

    def crash() -> None:
        raise KeyError

    assert _wait(child.spawn(crash)) == errno.ECHILD
    assert _wait(child.spawn(lambda: os.kill(os.getpid(), 9))) == errno.EINTR
    assert _wait(child.spawn(lambda: os._exit(3))) == 3


def test_a_child_has_nothing_of_ours(tmp_path: Path) -> None:
    """No pipe that somebody waits on, no lock, no terminal: only /dev/null and what it was given."""
    found = tmp_path / "found"
    reader, writer = os.pipe()
    os.set_inheritable(writer, True)

    def look() -> None:
        links = {name: os.readlink(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd") if name != "3"}
        session = os.getsid(0) == os.getpid()
        found.write_text(repr((sorted(links.values()), session)))

    try:
        assert _wait(child.spawn(look)) == 0
        links, session = eval(found.read_text(), {})  # noqa: S307
        assert [link for link in links if link != "/dev/null" and "/fd" not in link] == []
        assert session is True
        os.close(writer)
        writer = -1
        hanging = child.spawn(lambda: time.sleep(60))
        assert os.read(reader, 1) == b""
        os.kill(hanging.pid, 9)
        assert hanging.result() == errno.EINTR
    finally:
        os.close(reader)
        if writer >= 0:
            os.close(writer)


def test_a_deadline_that_passes_as_the_wait_begins_is_over() -> None:
    """By the clock of the tests."""
    overdue.when(lambda: True)
    begun = time.perf_counter()
    assert select.poll().poll(600_000) == []
    assert time.perf_counter() - begun < 300


def test_the_mark_of_a_write_on_its_way_is_there_before_and_as_long_as_the_child(tmp_path: Path) -> None:
    """Also when the parent stops waiting; a second write to the device is refused meanwhile."""
    mark, go = str(tmp_path / "mark"), tmp_path / "go"

    def hang() -> None:
        while not go.exists():
            time.sleep(0.005)

    started = child.spawn(hang, mark)
    assert is_locked(mark)
    with pytest.raises(BlockingIOError):
        child.spawn(lambda: None, mark)
    assert child.ended([started.handle], soon()) == set()
    started.abandon()
    assert is_locked(mark)
    go.touch()
    os.waitpid(started.pid, 0)
    assert not is_locked(mark)
    assert _wait(child.spawn(lambda: None, mark)) == 0


def test_a_child_that_cannot_be_waited_for_does_nothing(tmp_path: Path) -> None:
    """The last descriptor went to somebody else: whoever asked undoes, and no write may land after that."""
    refusal = OSError(errno.EMFILE, os.strerror(errno.EMFILE))
    with mock.patch("os.pidfd_open", side_effect=refusal), pytest.raises(OSError, match="Too many open files"):
        child.spawn((tmp_path / "done").touch, str(tmp_path / "mark"))
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, 0)
    assert not (tmp_path / "done").exists()
    assert not is_locked(str(tmp_path / "mark"))


def test_read_all_reads_in_order(tmp_path: Path) -> None:
    """Each attribute's text without its line feed, None for one that is not there."""
    (tmp_path / "a").write_text("vfio-pci\n")
    (tmp_path / "b").write_bytes(b"\xff\n")
    paths = [str(tmp_path / name) for name in ("a", "none", "b")]
    assert patient.read_all(paths, Deadline.after(60), 60) == ["vfio-pci", None, "\udcff"]
    assert patient.read_all([], Deadline.after(60), 60) == []


def test_read_all_passes_over_what_does_not_answer(tmp_path: Path) -> None:
    """And leaves the child behind rather than sleep with it: the others are read all the same."""
    for name in ("a", "c"):
        (tmp_path / name).write_text("x\n")
    os.mkfifo(tmp_path / "b")
    paths = [str(tmp_path / name) for name in ("a", "b", "c")]
    hanging.late_at_a_pipe()
    assert patient.read_all(paths, Deadline.after(36_000), 60) == ["x", patient.SILENT, "x"]
    hanging.answer(tmp_path / "b")
    os.waitpid(-1, 0)


Track = Generator[Step | Pause, int, str]


def _track(tmp_path: Path, name: str, *tasks: Callable[[], None], told: list[str] | None = None) -> Track:
    answers = []
    for task in tasks:
        try:
            answers.append((yield Step(task, str(tmp_path / name))))
        except Late as late:
            return f"{name} late {late.on_its_way}"
        if told is not None:
            told.append(name)
    return f"{name} {answers}"


def test_tracks_answer_in_their_order(tmp_path: Path) -> None:
    """Whoever ends first; each step is told its errno; no mark stays."""
    tracks = [
        _track(tmp_path, "slow", lambda: time.sleep(0.1), _fails(errno.EIO)),
        _track(tmp_path, "none"),
        _track(tmp_path, "quick", lambda: None),
    ]
    assert run(tracks, Deadline.after(60)) == [f"slow [0, {errno.EIO}]", "none []", "quick [0]"]
    assert list(tmp_path.iterdir()) == []


def test_tracks_run_side_by_side(tmp_path: Path) -> None:
    """Each of eight ends only when all have begun."""

    def meet(number: int) -> None:
        (tmp_path / f"{number} is there").touch()
        until(lambda: len([*tmp_path.glob("* is there")]) == 8)

    results = run((_track(tmp_path, str(n), partial(meet, n)) for n in range(8)), Deadline.after(100))
    assert results == [f"{n} [0]" for n in range(8)]


def test_steps_of_one_track_are_in_order(tmp_path: Path) -> None:
    """The next begins when the one before has ended."""
    path = tmp_path.parent / "order"

    def note(what: str) -> Callable[[], None]:
        def task() -> None:
            with path.open("a") as file:
                file.write(what)

        return task

    run([_track(tmp_path, "a", note("1"), note("2"), note("3"))], Deadline.after(60))
    assert path.read_text() == "123"


def test_a_late_track_ends_and_the_others_have_their_results(tmp_path: Path) -> None:
    """The deadline passes: the child stays, with its mark; a track that only waits is told so."""
    go = tmp_path.parent / "go"

    def hang() -> None:
        while not go.exists():
            time.sleep(0.005)

    def waits() -> Track:
        try:
            while True:
                yield Pause(0.01)
        except Late as late:
            return f"waited {late.on_its_way}"

    told: list[str] = []
    overdue.when(lambda: told)
    tracks = [_track(tmp_path, "hangs", hang), waits(), _track(tmp_path, "quick", lambda: None, told=told)]
    assert run(tracks, Deadline.after(60)) == ["hangs late True", "waited False", "quick [0]"]
    assert is_locked(str(tmp_path / "hangs"))
    (refused,) = run([_track(tmp_path, "hangs", lambda: None)], Deadline.after(60))
    assert refused == f"hangs [{errno.EAGAIN}]"
    go.touch()
    os.waitpid(-1, 0)
    assert not is_locked(str(tmp_path / "hangs"))


def test_nothing_is_begun_after_the_deadline(tmp_path: Path) -> None:
    """A track that only then asks for its next step is told that it is late, with nothing of its own on its way."""
    begun = tmp_path / "begun"

    def dawdles() -> Track:
        yield Step(lambda: None)
        overdue.when(lambda: True)
        try:
            yield Step(begun.touch)
        except Late as late:
            return f"late {late.on_its_way}"
        return "begun"

    assert run([dawdles()], Deadline.after(60)) == ["late False"]
    assert not begun.exists()


def test_a_track_may_not_go_on_after_its_deadline() -> None:
    """That would be a bug of ours, and is one loudly."""

    def stubborn() -> Track:
        while True:
            with suppress(Late):
                yield Pause(0.01)

    with pytest.raises(RuntimeError, match="yields more"):
        run([stubborn()], soon())


def test_no_tracks_are_no_work() -> None:
    """And take no time."""
    assert run([], Deadline.after(0)) == []
