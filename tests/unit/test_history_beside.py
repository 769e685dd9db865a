# SPDX-License-Identifier: LGPL-2.1-or-later
"""A file that is replaced by one that was written beside it: what a kill leaves there, and whose files stay."""

import errno
import fcntl
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import pytest
from following import Desk, busy

from libhook.history.beside import name_saved, replaced

ROOT = Path(__file__).parents[2]
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
    done = subprocess.run([sys.executable, "-c", KILLED, str(path)], cwd=ROOT, timeout=60, check=False)
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


def test_a_follower_removes_what_one_before_it_left(tmp_path: Path) -> None:
    """At the first save of its cursor."""
    desk = Desk(tmp_path)
    desk.append(b"".join(busy()))
    _kill(desk.cursor)
    assert len(_names(tmp_path)) == 3
    desk.follow()
    assert _names(tmp_path) == ["audit.log", "cursor", "out"]


def test_what_others_write_stays(tmp_path: Path) -> None:
    """Who writes the same file at the same time, and whatever is called nearly the same, or is no file."""
    page, head = tmp_path / "page", ".page.abcdefg"
    others = [".page.new", ".page.mine.new", f"{head}.new", f"{head}hi.new", f"{head}H.new", f".page{head}h.new"]
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
