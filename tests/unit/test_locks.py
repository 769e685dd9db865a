# SPDX-License-Identifier: LGPL-2.1-or-later
"""Locks between processes: in order, with a deadline, and leaving no file."""

import errno
import fcntl
import os
import random
import threading
import time
from pathlib import Path
from unittest import mock

import pytest
from overdue import soon

from libhook.children.child import Deadline
from libhook.effects.locks import SHARED, inherited, is_locked, locked, remove_unused
from libhook.errors import DeadlineExpired


def test_a_lock_excludes_and_leaves_nothing(tmp_path: Path) -> None:
    """Whoever comes second waits until the deadline, and is told which lock it was; then it is free again."""
    folder = str(tmp_path)
    with locked(folder, ["group-1"], soon()):
        assert is_locked(f"{folder}/group-1")
        begun = time.monotonic()
        with pytest.raises(DeadlineExpired, match="group-1 is not free"), locked(folder, ["group-1"], soon()):
            pass
        assert time.monotonic() - begun >= 0.05
        with locked(folder, ["group-2"], soon()):
            pass
    assert not is_locked(f"{folder}/group-1")
    with locked(folder, ["group-1"], soon()):
        pass
    assert list(tmp_path.iterdir()) == []


def test_what_is_shared_is_shared_with_those_who_share(tmp_path: Path) -> None:
    """Two VFs of one PF do not wait for each other; the PF waits for both."""
    folder = str(tmp_path)
    with locked(folder, [f"pf{SHARED}"], soon()):
        with locked(folder, [f"pf{SHARED}"], soon()):
            pass
        with pytest.raises(DeadlineExpired), locked(folder, ["pf"], soon()):
            pass
    with locked(folder, ["pf"], soon()), pytest.raises(DeadlineExpired), locked(folder, [f"pf{SHARED}"], soon()):
        pass
    assert list(tmp_path.iterdir()) == []


def test_one_that_is_not_free_lets_go_of_those_before(tmp_path: Path) -> None:
    """Nothing stays taken by who could not have all."""
    folder = str(tmp_path)
    with locked(folder, ["b"], soon()):
        with pytest.raises(DeadlineExpired), locked(folder, ["c", "b", "a"], soon()):
            pass
        with locked(folder, ["a", "c"], soon()):
            pass
    assert list(tmp_path.iterdir()) == []


def test_an_exception_lets_go(tmp_path: Path) -> None:
    """And passes."""
    with pytest.raises(KeyError), locked(str(tmp_path), ["a"], soon()):
        raise KeyError
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_a_killed_process_left_is_no_lock(tmp_path: Path) -> None:
    """Only flock counts; the file is removed by the next who has it, or by remove_unused."""
    (tmp_path / "a").touch()
    (tmp_path / "b").touch()
    assert not is_locked(str(tmp_path / "a"))
    with locked(str(tmp_path), ["a"], soon()):
        pass
    with (tmp_path / "c").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        remove_unused(str(tmp_path))
        assert [path.name for path in tmp_path.iterdir()] == ["c"]


@pytest.mark.parametrize(
    ("call", "number"), [("os.open", errno.EMFILE), ("os.open", errno.EIO), ("fcntl.flock", errno.ENOLCK)]
)
def test_one_that_cannot_be_looked_at_may_be_locked(tmp_path: Path, call: str, number: int) -> None:
    """Whoever asks must not take a guest at which somebody works, or a write on its way, for idle."""
    (tmp_path / "a").touch()
    with mock.patch(call, side_effect=OSError(number, "")):
        assert is_locked(f"{tmp_path}/a")
    (tmp_path / "b").symlink_to("a")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "fifo")
    assert not any(is_locked(f"{tmp_path}/{name}") for name in ("a", "b", "none", "a/none", "folder", "fifo"))


def test_for_want_of_a_descriptor_no_folder_is_locked_instead(tmp_path: Path) -> None:
    """Another process may have the file, and would not see that."""
    real = os.open

    def want(path: str, flags: int, *rest: int) -> int:
        if flags & os.O_CREAT:
            raise OSError(errno.ENFILE, os.strerror(errno.ENFILE), path)
        return real(path, flags, *rest)

    with locked(str(tmp_path), ["a"], soon()), mock.patch("os.open", want):
        remove_unused(str(tmp_path))
        with pytest.raises(OSError, match="Too many open files in system"), locked(str(tmp_path), ["a"], soon()):
            raise AssertionError
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("what", ["link", "folder", "no room"])
def test_where_no_file_can_be_had_the_folder_is_locked_instead(
    tmp_path: Path, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A link is not followed, and neither it nor a full disk keeps anybody from a lock that keeps others out."""
    folder = tmp_path / "locks"
    folder.mkdir()
    real = os.open
    if what == "link":
        (folder / "a").symlink_to(tmp_path / "target")
    elif what == "folder":
        (folder / "a").mkdir()
    else:

        def full(path: str, flags: int, *rest: int) -> int:
            if flags & os.O_CREAT:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
            return real(path, flags, *rest)

        monkeypatch.setattr(os, "open", full)
    before = sorted(tmp_path.rglob("*"))
    with locked(str(folder), ["a"], soon()), locked(str(folder), ["a", f"b{SHARED}"], soon()):
        descriptor = real(folder, os.O_RDONLY)
        with pytest.raises(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(descriptor)
    assert sorted(tmp_path.rglob("*")) == before


def test_where_not_even_a_folder_is_there_to_lock_it_is_an_error(tmp_path: Path) -> None:
    """Nobody goes on without a lock; what could not be opened is the lock itself."""
    with pytest.raises(FileNotFoundError, match="no/such/a"), locked(f"{tmp_path}/no/such", ["a"], soon()):
        raise AssertionError
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_gone_meanwhile_is_survived(tmp_path: Path) -> None:
    """An uninstall under a running event must not turn its success into an error."""
    folder = tmp_path / "locks"
    folder.mkdir()
    with locked(str(folder), ["a", f"b{SHARED}"], soon()):
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()
    assert not folder.exists()


def test_a_lock_on_a_file_that_was_removed_meanwhile_is_none(tmp_path: Path) -> None:
    """Whoever had it before removed the file between our open and our flock: it is taken anew, where all look."""
    path, real = tmp_path / "a", fcntl.flock
    calls: list[int] = []

    def flock(descriptor: int, mode: int) -> None:
        if not calls:
            path.unlink()
        calls.append(mode)
        real(descriptor, mode)

    with mock.patch("fcntl.flock", flock), locked(str(tmp_path), ["a"], soon()):
        assert is_locked(str(path))


def test_many_processes_never_have_it_at_once(tmp_path: Path) -> None:
    """Removing a lock's file while others wait for it is where such locks break: each one's count arrives."""
    folder, counter, processes, rounds = str(tmp_path), tmp_path.parent / "count", 6, 40
    counter.write_text("0")
    children = []
    for number in range(processes):
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                chance = random.Random(number)  # noqa: S311
                for _ in range(rounds):
                    names = [f"x{chance.randrange(3)}{SHARED}", "count", f"y{chance.randrange(3)}"]
                    with locked(folder, names, Deadline.after(200)):
                        counter.write_text(str(int(counter.read_text()) + 1))
                code = 0
            finally:
                os._exit(code)
        children.append(pid)
    assert [os.waitpid(pid, 0)[1] for pid in children] == [0] * processes
    assert int(counter.read_text()) == processes * rounds
    assert list(tmp_path.iterdir()) == []


def test_two_who_want_both_never_wait_in_a_circle(tmp_path: Path) -> None:
    """Taken in sorted order, whatever the order in which they are named."""
    ended = []

    def work(names: list[str]) -> None:
        for _ in range(30):
            with locked(str(tmp_path), names, Deadline.after(200)):
                pass
        ended.append(names)

    threads = [threading.Thread(target=work, args=(names,)) for names in (["a", "b"], ["b", "a"])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ended) == 2


def _taken(path: Path) -> int:
    """As whoever starts this process takes it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    os.set_inheritable(descriptor, True)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return descriptor


@pytest.mark.parametrize("asked", [True, False])
def test_a_lock_that_this_process_was_started_with_is_had(tmp_path: Path, asked: bool) -> None:
    """It is never free before it is let go of, at the end where nobody has asked for it; no program inherits it."""
    path = tmp_path / "a"
    lock = _taken(path)
    with inherited(str(path), lock):
        assert not os.get_inheritable(lock)
        if asked:
            with locked(str(tmp_path), ["a"], soon()):
                assert is_locked(str(path))
                with pytest.raises(DeadlineExpired), locked(str(tmp_path), ["a"], soon()):
                    pass
            assert not path.exists()
            with locked(str(tmp_path), ["a"], soon()):
                assert is_locked(str(path))
        else:
            with locked(str(tmp_path), ["b"], soon()):
                assert is_locked(str(path))
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(lock)
    assert list(tmp_path.iterdir()) == []


def test_one_whose_file_somebody_removed_is_no_lock(tmp_path: Path) -> None:
    """Whoever asks takes it where all look; the file of who has it there by then stays."""
    path = tmp_path / "a"
    lock = _taken(path)
    path.unlink()
    with inherited(str(path), lock), locked(str(tmp_path), ["a"], soon()):
        assert os.fstat(lock).st_nlink == 0
        assert is_locked(str(path))
    lock = _taken(path)
    path.unlink()
    other = _taken(path)
    with inherited(str(path), lock):
        pass
    assert is_locked(str(path))
    os.close(other)


def test_locks_are_taken_in_the_order_of_their_names(tmp_path: Path) -> None:
    """Whoever asks, and however: two processes put the same names into a set in different orders."""
    names = [f"{kind}-{number:02}" for kind in ("group", "domain", "pf") for number in range(8)]
    random.Random(0).shuffle(names)  # noqa: S311
    taken: list[str] = []
    real = os.open

    def noted(path: str, *rest: int) -> int:
        taken.append(os.path.basename(path))
        return real(path, *rest)

    with mock.patch("os.open", noted), locked(str(tmp_path), names, soon()):
        pass
    assert taken == sorted(names)


def test_a_folder_that_stands_for_a_lock_is_one_s_own_until_the_last_is_let_go(tmp_path: Path) -> None:
    """Also where the lock itself is shared: others who find a file there would not see that one."""
    folder = tmp_path / "locks"
    folder.mkdir()
    for name in ("a", "b"):
        (folder / name).mkdir()
    other = os.open(folder, os.O_RDONLY)
    try:
        for names in (["a"], [f"a{SHARED}"], ["a", "b"]):
            with locked(str(folder), names, soon()):
                for _ in range(2):
                    with locked(str(folder), ["b"], soon()):
                        pass
                    with pytest.raises(BlockingIOError):
                        fcntl.flock(other, fcntl.LOCK_SH | fcntl.LOCK_NB)
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with pytest.raises(DeadlineExpired), locked(str(folder), ["a"], soon()):
                pass
            fcntl.flock(other, fcntl.LOCK_UN)
    finally:
        os.close(other)


def test_nothing_is_tidied_away_through_a_link(tmp_path: Path) -> None:
    """Nor where there is no folder."""
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs/file").touch()
    (tmp_path / "locks").symlink_to(tmp_path / "theirs")
    remove_unused(str(tmp_path / "locks"))
    remove_unused(str(tmp_path / "none"))
    assert (tmp_path / "theirs/file").exists()
