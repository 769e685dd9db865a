# SPDX-License-Identifier: LGPL-2.1-or-later
"""The lock on the version that a process runs from: it is had or not, and a child keeps it."""

import errno
import fcntl
import os
import runpy
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import hanging
import pytest

from libhook.children import version
from libhook.children.child import Deadline, ended, spawn

ROOT = Path(__file__).parents[2]


@pytest.fixture(name="locks", autouse=True)
def _locks(monkeypatch: pytest.MonkeyPatch) -> Iterator[set[int]]:
    """What this process has locked, let go of afterwards."""
    locks: set[int] = set()
    monkeypatch.setattr(version, "_locks", locks)
    yield locks
    for lock in locks:
        os.close(lock)


def _is_free(path: Path) -> bool:
    with path.open("rb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def test_a_child_keeps_it_when_its_parent_lets_go(tmp_path: Path, locks: set[int]) -> None:
    """It may import for as long as it lives."""
    (tmp_path / "lock").touch()
    os.mkfifo(tmp_path / "silent")
    assert version.hold(str(tmp_path))
    child = spawn(lambda: os.close(os.open(tmp_path / "silent", os.O_RDONLY)))
    os.close(locks.pop())
    assert not _is_free(tmp_path / "lock")
    hanging.answer(tmp_path / "silent")
    assert ended([child.handle], Deadline.after(60))
    assert child.result() == 0
    assert _is_free(tmp_path / "lock")


def test_a_clone_has_none(tmp_path: Path) -> None:
    """It is there all the same; what is not there at all is not."""
    assert version.hold(str(tmp_path))
    assert not version.hold(str(tmp_path / "gone"))
    assert version.held() == frozenset()


def test_what_is_being_removed_is_not_there(tmp_path: Path) -> None:
    """Whoever removes it has the lock alone."""
    with (tmp_path / "lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert not version.hold(str(tmp_path))


@pytest.mark.parametrize("again", [True, False])
def test_what_was_removed_meanwhile_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, again: bool) -> None:
    """Between its opening and its lock; one of the same name that was made anew since is another."""
    (tmp_path / "lock").touch()
    flock = fcntl.flock

    def late(descriptor: int, mode: int) -> None:
        (tmp_path / "lock").rename(tmp_path / "gone")
        if again:
            (tmp_path / "lock").touch()
        flock(descriptor, mode)

    monkeypatch.setattr(fcntl, "flock", late)
    assert not version.hold(str(tmp_path))


def test_where_a_file_system_has_no_locks_nothing_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does an installation find out there who runs, and leaves it alone."""
    (tmp_path / "lock").touch()

    def no_lock(_descriptor: int, _mode: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", no_lock)
    assert version.hold(str(tmp_path))


def test_a_lock_that_cannot_be_looked_at_is_not_free(tmp_path: Path) -> None:
    """Else an upgrade would remove a version that runs. Where there is none, nobody has it."""
    locked = runpy.run_path(str(ROOT / "packaging/versions.py"))["locked"]
    (tmp_path / "lock").touch()
    for number in (errno.EMFILE, errno.EIO):
        with mock.patch("os.open", side_effect=OSError(number, "")), pytest.raises(BlockingIOError):
            locked(f"{tmp_path}/lock")
    (tmp_path / "link").symlink_to("lock")
    assert [locked(f"{tmp_path}/{name}") for name in ("none", "lock/none", "link")] == [-1, -1, -1]
