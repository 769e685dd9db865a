# SPDX-License-Identifier: LGPL-2.1-or-later
"""A worker: one child that does a device's calls one after another, and nothing that its parent did not ask for."""

import errno
import os
import signal
from pathlib import Path
from unittest import mock

import overdue
import pytest
from errands import MACHINE, Track, crash, do, end, fail, hang, look, note, until

from libhook.children import child
from libhook.children.child import Deadline
from libhook.children.tracks import Late, Order, run
from libhook.children.worker import Worker
from libhook.effects.locks import is_locked


@pytest.fixture
def worker(tmp_path: Path) -> Worker:
    """A worker whose mark is the file ``mark``."""
    return Worker(MACHINE, f"{tmp_path}/mark")


def test_one_child_does_all_calls(worker: Worker, tmp_path: Path) -> None:
    """With whatever bytes they are given, and a failure does not end it."""
    mark, paths = f"{tmp_path}/mark", [f"{tmp_path}/{number}" for number in range(2)]
    assert do(worker, (note, paths[0], "a \udcff\n\0'\""), (fail, "19"), (note, paths[1], "b")) == [0, errno.ENODEV, 0]
    assert worker.lines() == ["b"]
    (first, text), (second, _) = (Path(path).read_bytes().split(b" ", 1) for path in paths)
    assert first == second != str(os.getpid()).encode()
    assert text == b"a \xff\n\0'\""
    assert os.path.exists(mark)
    assert not is_locked(mark), "nothing is on its way"
    worker.abandon()
    assert not os.path.exists(mark)
    os.waitpid(int(first), 0)
    assert do(worker, (note, paths[0])) == [0]
    assert Path(paths[0]).read_text().split()[0] != first.decode()
    worker.abandon()


def test_a_killed_child_is_told_from_one_that_did_its_call(worker: Worker, tmp_path: Path) -> None:
    """And so is one that crashed. The next call has a child again."""
    path = f"{tmp_path}/done"
    assert do(worker, (end,)) == [errno.EINTR]
    assert not os.path.exists(f"{tmp_path}/mark"), "it is dead, and nothing is on its way"
    assert do(worker, (crash,), (note, path)) == [errno.ECHILD, 0]
    os.kill(pid := int(Path(path).read_text().split()[0]), signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    os.unlink(path)
    assert do(worker, (note, path)) == [0], "it was killed while it waited"
    assert os.path.exists(path)
    worker.abandon()


@pytest.mark.parametrize(("code", "answer"), [(errno.EPERM, errno.EPERM), (524, errno.ECHILD), (0, errno.ECHILD)])
def test_an_errno_that_is_no_byte_ends_nobody(worker: Worker, tmp_path: Path, code: int, answer: int) -> None:
    """Drivers answer ENOTSUPP, which is 524; an OSError may have no errno at all."""
    assert do(worker, (fail, str(code)), (note, f"{tmp_path}/a"), (fail, str(code)), (note, f"{tmp_path}/b")) == [
        *(answer, 0),
        *(answer, 0),
    ]
    first, second = (Path(f"{tmp_path}/{name}").read_text() for name in "ab")
    assert first == second
    worker.abandon()


def test_a_look_has_no_mark(worker: Worker, tmp_path: Path) -> None:
    """It changes nothing, so whoever comes next need not wait for it."""
    mark, begun, go = (f"{tmp_path}/{name}" for name in ("mark", "begun", "go"))
    late: list[bool] = []

    def track() -> Track:
        try:
            yield Order(worker, hang, (begun, go), looks=True)
        except Late as error:
            late.append(error.on_its_way)
        return []

    overdue.when(lambda: os.path.exists(begun))
    run([track()], Deadline.after(60))
    assert (late, is_locked(mark)) == ([False], False)
    assert do(worker, (note, f"{tmp_path}/done")) == [0]
    worker.abandon()
    Path(go).touch()


def test_no_call_is_made_once_the_file_of_the_mark_is_gone(tmp_path: Path) -> None:
    """Nobody would see it. Who must go on does."""
    mark, done = f"{tmp_path}/mark", f"{tmp_path}/done"
    for unmarked, code in ((False, errno.ENOENT), (True, 0)):
        worker = Worker(MACHINE, mark, unmarked=unmarked)
        assert do(worker, (note, f"{tmp_path}/first")) == [0]
        os.unlink(mark)
        assert do(worker, (note, done)) == [code]
        assert os.path.exists(done) == unmarked
        worker.abandon()


def test_a_mark_that_was_made_anew_is_another_s(tmp_path: Path) -> None:
    """Somebody removed the file, and another process made its own: no call is made, and that file stays."""
    mark, done = f"{tmp_path}/mark", f"{tmp_path}/done"
    worker = Worker(MACHINE, mark)
    assert do(worker, (note, f"{tmp_path}/first")) == [0]
    os.unlink(mark)
    Path(mark).touch()
    assert do(worker, (note, done)) == [errno.ENOENT]
    worker.abandon()
    assert (os.path.exists(done), os.path.exists(mark)) == (False, True)


def test_the_mark_of_another_process_stays(tmp_path: Path) -> None:
    """Also where this one could not even open its file, and goes on without."""
    mark, begun, go = (f"{tmp_path}/{name}" for name in ("mark", "begun", "go"))
    other = child.spawn(lambda: hang(MACHINE, -1, begun, go), mark)
    worker = Worker(MACHINE, mark, unmarked=True)
    assert do(worker, (note, f"{tmp_path}/done")) == [errno.EAGAIN]
    worker.abandon()
    assert is_locked(mark)
    opening = os.open

    def refuse(path: str, *arguments: int) -> int:
        if path == mark:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return opening(path, *arguments)

    with mock.patch("os.open", side_effect=refuse):
        assert do(worker, (note, f"{tmp_path}/done")) == [0]
    worker.abandon()
    assert is_locked(mark)
    Path(go).touch()
    assert child.ended([other.handle], Deadline.after(200))
    other.result()


def test_who_is_late_is_left_behind_with_its_mark(worker: Worker, tmp_path: Path) -> None:
    """No second call is made, neither by it nor by another, until it is through; and then it ends."""
    mark, begun, go, done = (f"{tmp_path}/{name}" for name in ("mark", "begun", "go", "done"))

    def late() -> Track:
        with pytest.raises(Late) as caught:
            yield Order(worker, hang, (begun, go))
        assert caught.value.on_its_way
        return []

    track = late()
    overdue.when(lambda: os.path.exists(begun))
    run([track], Deadline.after(60))
    worker.abandon()
    assert is_locked(mark)
    assert do(worker, (note, done)) == [errno.EAGAIN]
    worker.abandon()
    Path(go).touch()
    until(lambda: not is_locked(mark))
    assert not os.path.exists(done)


def test_who_is_interrupted_leaves_the_mark_of_a_call_that_has_not_ended(worker: Worker, tmp_path: Path) -> None:
    """By Ctrl-C: the write may still land."""
    mark, begun, go = (f"{tmp_path}/{name}" for name in ("mark", "begun", "go"))
    write = os.write

    def interrupted(descriptor: int, text: bytes) -> int:
        write(descriptor, text)
        raise KeyboardInterrupt

    for call, error in (("select.poll", KeyboardInterrupt), ("os.write", interrupted)):
        with mock.patch(call, side_effect=error), pytest.raises(KeyboardInterrupt):
            do(worker, (hang, begun, go))
        worker.abandon()
        assert is_locked(mark)
        Path(go).touch()
        until(lambda: not is_locked(mark))
        os.unlink(go)


def test_a_child_ends_with_its_parent(tmp_path: Path) -> None:
    """After the call that it is at, since nobody asks for more."""
    mark, begun, go = (f"{tmp_path}/{name}" for name in ("mark", "begun", "go"))

    def parent() -> None:
        worker = Worker(MACHINE, mark)
        worker.begin(hang, (begun, go))
        until(lambda: os.path.exists(begun))
        os.kill(os.getpid(), signal.SIGKILL)

    killed = child.spawn(parent)
    assert child.ended([killed.handle], Deadline.after(200))
    assert killed.result() == errno.EINTR
    assert is_locked(mark)
    Path(go).touch()
    until(lambda: not is_locked(mark))


@pytest.mark.parametrize("call", ["os.pipe2", "os.memfd_create", "os.fork"])
def test_where_no_child_can_be_started_nothing_is_left(worker: Worker, tmp_path: Path, call: str) -> None:
    """Neither a descriptor nor a mark; the call has not been made."""
    open_before = os.listdir("/proc/self/fd")
    with mock.patch(call, side_effect=OSError(errno.EMFILE, os.strerror(errno.EMFILE))):
        assert do(worker, (note, f"{tmp_path}/done")) == [errno.EMFILE]
    assert os.listdir("/proc/self/fd") == open_before
    assert os.listdir(tmp_path) == []


def test_where_the_second_pipe_cannot_be_had_the_first_is_closed(worker: Worker, tmp_path: Path) -> None:
    """Nothing is left open."""
    open_before = os.listdir("/proc/self/fd")
    refused = OSError(errno.EMFILE, os.strerror(errno.EMFILE))
    with mock.patch("os.pipe2", side_effect=[os.pipe2(os.O_CLOEXEC), refused]):
        assert do(worker, (note, f"{tmp_path}/done")) == [errno.EMFILE]
    assert os.listdir("/proc/self/fd") == open_before


def test_without_being_told_otherwise_no_call_is_made_unmarked(tmp_path: Path) -> None:
    """Whoever forgets to say gets the careful way."""
    worker = Worker(MACHINE, f"{tmp_path}/none/mark")
    assert do(worker, (note, f"{tmp_path}/done")) == [errno.ENOENT]
    assert not os.path.exists(f"{tmp_path}/done")


@pytest.mark.parametrize(("unmarked", "code"), [(False, errno.ENOENT), (True, 0)])
def test_without_a_place_for_the_mark_only_who_must_go_on_does(tmp_path: Path, unmarked: bool, code: int) -> None:
    """As with a child for one call."""
    worker = Worker(MACHINE, f"{tmp_path}/none/mark", unmarked=unmarked)
    assert do(worker, (note, f"{tmp_path}/done")) == [code]
    assert os.path.exists(f"{tmp_path}/done") == unmarked
    worker.abandon()


def test_an_order_may_be_larger_than_a_pipe(worker: Worker, tmp_path: Path) -> None:
    """The records of many devices, or a long log: nobody waits for the child to read it."""
    long = "x" * 300_000
    assert do(worker, (note, f"{tmp_path}/long", long), (note, f"{tmp_path}/short", "y")) == [0, 0]
    assert Path(f"{tmp_path}/long").read_text().endswith(f" {long}")
    assert worker.lines() == ["y"], "and nothing of the longer text before it"
    worker.abandon()


def test_a_worker_without_a_mark_only_looks(tmp_path: Path) -> None:
    """A write that nobody could see coming is not begun."""
    worker = Worker(MACHINE)
    assert do(worker, (note, f"{tmp_path}/done")) == [errno.ENOENT]
    assert os.listdir(tmp_path) == []
    code = run([look(worker, f"{tmp_path}/done")], Deadline.after(200))[0]
    assert (code, os.listdir(tmp_path)) == ([0], ["done"])
    worker.abandon()
