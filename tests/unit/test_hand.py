# SPDX-License-Identifier: LGPL-2.1-or-later
"""A hand: one child that does a device's calls one after another, and nothing that its parent did not ask for."""

import errno
import os
import signal
import time
from collections.abc import Generator
from pathlib import Path
from unittest import mock

import pytest

from libhook.children import child
from libhook.children.child import Deadline
from libhook.children.hand import Hand
from libhook.children.tracks import Late, Order, Pause, Step, run
from libhook.effects.locks import is_locked
from libhook.facts.machine import Machine
from libhook.simulation.kernel import SimulatedKernel

MACHINE = Machine("", SimulatedKernel(""))
Track = Generator[Step | Order | Pause, int, list[int]]


def note(_machine: Machine, sheet: int, path: str, text: str = "") -> None:
    """Write who it is and what it was given, here and there."""
    Path(path).write_text(f"{os.getpid()} {text}", encoding="utf-8", errors="surrogateescape")
    os.write(sheet, f"{text}\n".encode(errors="surrogateescape"))


def fail(_machine: Machine, _sheet: int, code: str) -> None:
    """Fail with this errno."""
    raise OSError(int(code), "told to")


def crash(_machine: Machine, _sheet: int) -> None:
    """Fail with something else."""
    raise KeyError


def end(_machine: Machine, _sheet: int) -> None:
    """Be killed."""
    os.kill(os.getpid(), signal.SIGKILL)


def hang(_machine: Machine, _sheet: int, begun: str, go: str) -> None:
    """Return only when this file is there, or when the test has failed long ago."""
    Path(begun).touch()
    late = Deadline.after(60)
    while not Path(go).exists() and late.left:
        time.sleep(0.005)


def _until(condition: object) -> None:
    deadline = Deadline.after(20)
    while not condition():  # type: ignore[operator]
        assert deadline.left
        time.sleep(0.005)


@pytest.fixture
def hand(tmp_path: Path) -> Hand:
    """A hand whose mark is the file ``mark``."""
    return Hand(MACHINE, f"{tmp_path}/mark")


def _do(hand: Hand, *orders: tuple[object, ...], seconds: float = 20) -> list[int]:
    def track() -> Track:
        codes = []
        try:
            for function, *arguments in orders:
                codes.append((yield Order(hand, function, tuple(arguments))))  # type: ignore[arg-type]
        except Late as late:
            return [*codes, -1 if late.on_its_way else -2]
        return codes

    return run([track()], Deadline.after(seconds))[0]


def test_one_child_does_all_calls(hand: Hand, tmp_path: Path) -> None:
    """With whatever bytes they are given, and a failure does not end it; the mark is there till it rests."""
    mark, paths = f"{tmp_path}/mark", [f"{tmp_path}/{number}" for number in range(2)]
    assert _do(hand, (note, paths[0], "a \udcff\n\0'\""), (fail, "19"), (note, paths[1], "b")) == [0, errno.ENODEV, 0]
    assert hand.lines() == ["b"]
    (first, text), (second, _) = (Path(path).read_bytes().split(b" ", 1) for path in paths)
    assert first == second != str(os.getpid()).encode()
    assert text == b"a \xff\n\0'\""
    assert is_locked(mark)
    hand.rest()
    assert not os.path.exists(mark)
    os.waitpid(int(first), 0)
    assert _do(hand, (note, paths[0])) == [0]
    assert Path(paths[0]).read_text().split()[0] != first.decode()
    hand.rest()


def test_a_killed_child_is_told_from_one_that_did_its_call(hand: Hand, tmp_path: Path) -> None:
    """And so is one that crashed. The next call has a child again."""
    path = f"{tmp_path}/done"
    assert _do(hand, (end,)) == [errno.EINTR]
    assert not os.path.exists(f"{tmp_path}/mark"), "it is dead, and nothing is on its way"
    assert _do(hand, (crash,), (note, path)) == [errno.ECHILD, 0]
    os.kill(int(Path(path).read_text().split()[0]), signal.SIGKILL)
    os.unlink(path)
    _until(lambda: not is_locked(f"{tmp_path}/mark"))
    assert _do(hand, (note, path)) == [0], "it was killed while it waited"
    assert os.path.exists(path)
    hand.rest()


def test_who_is_late_is_left_behind_with_its_mark(hand: Hand, tmp_path: Path) -> None:
    """No second call is made, neither by it nor by another, until it is through; and then it ends."""
    mark, begun, go, done = (f"{tmp_path}/{name}" for name in ("mark", "begun", "go", "done"))

    def late() -> Track:
        with pytest.raises(Late) as caught:
            yield Order(hand, hang, (begun, go))
        assert caught.value.on_its_way
        return []

    track = late()
    run([track], Deadline.after(0.3))
    _until(lambda: os.path.exists(begun))
    hand.rest()
    assert is_locked(mark)
    assert _do(hand, (note, done)) == [errno.EAGAIN]
    Path(go).touch()
    _until(lambda: not is_locked(mark))
    assert not os.path.exists(done)


def test_who_is_interrupted_leaves_the_mark_of_a_call_that_has_not_ended(hand: Hand, tmp_path: Path) -> None:
    """By Ctrl-C: the write may still land."""
    mark, begun, go = (f"{tmp_path}/{name}" for name in ("mark", "begun", "go"))
    with mock.patch("select.poll", side_effect=KeyboardInterrupt), pytest.raises(KeyboardInterrupt):
        _do(hand, (hang, begun, go))
    hand.rest()
    assert is_locked(mark)
    Path(go).touch()
    _until(lambda: not is_locked(mark))


def test_a_child_ends_with_its_parent(tmp_path: Path) -> None:
    """After the call that it is at, since nobody asks for more."""
    mark, begun, go = (f"{tmp_path}/{name}" for name in ("mark", "begun", "go"))

    def parent() -> None:
        hand = Hand(MACHINE, mark)
        hand.begin(hang, (begun, go))
        _until(lambda: os.path.exists(begun))
        os.kill(os.getpid(), signal.SIGKILL)

    killed = child.spawn(parent)
    assert child.ended([killed.handle], Deadline.after(20))
    assert killed.result() == errno.EINTR
    assert is_locked(mark)
    Path(go).touch()
    _until(lambda: not is_locked(mark))


@pytest.mark.parametrize("call", ["os.pipe2", "os.memfd_create", "os.fork"])
def test_where_no_child_can_be_started_nothing_is_left(hand: Hand, tmp_path: Path, call: str) -> None:
    """Neither a descriptor nor a mark; the call has not been made."""
    open_before = os.listdir("/proc/self/fd")
    with mock.patch(call, side_effect=OSError(errno.EMFILE, os.strerror(errno.EMFILE))):
        assert _do(hand, (note, f"{tmp_path}/done")) == [errno.EMFILE]
    assert os.listdir("/proc/self/fd") == open_before
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(("unmarked", "code"), [(False, errno.ENOENT), (True, 0)])
def test_without_a_place_for_the_mark_only_who_must_go_on_does(tmp_path: Path, unmarked: bool, code: int) -> None:
    """As with a child for one call."""
    hand = Hand(MACHINE, f"{tmp_path}/none/mark", unmarked=unmarked)
    assert _do(hand, (note, f"{tmp_path}/done")) == [code]
    assert os.path.exists(f"{tmp_path}/done") == unmarked
    hand.rest()
