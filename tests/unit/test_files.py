# SPDX-License-Identifier: LGPL-2.1-or-later
"""Files that root trusts: read where nobody else could have written them, and on disk before anybody counts on them."""

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import pytest

from libhook.effects import files
from libhook.errors import BadInput, LibhookError

MINE, NOBODY = os.geteuid(), 65534


def _another_s(real: Callable[..., os.stat_result], uid: int) -> Callable[..., os.stat_result]:
    """As stat, of what is that user's: a test that is not root can give nothing away."""

    def status(what: object) -> os.stat_result:
        return os.stat_result([uid if at == stat.ST_UID else field for at, field in enumerate(real(what))])

    return status


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o622, 0o660, 0o606, 0o666, 0o777])
def test_what_others_may_write_to_is_not_read(tmp_path: Path, mode: int) -> None:
    """The group is somebody else, too."""
    path = tmp_path / "file"
    path.write_text("text")
    path.chmod(mode)
    with pytest.raises(BadInput, match="file is not a file that only root may write to"):
        files.read(str(path))


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o400, 0o755])
def test_what_others_may_only_read_is_read(tmp_path: Path, mode: int) -> None:
    """A configuration is anybody's to read."""
    path = tmp_path / "file"
    path.write_text("text")
    path.chmod(mode)
    assert files.read(str(path)) == "text"


@pytest.mark.parametrize(("uid", "trusted"), [(0, True), (MINE, True), (NOBODY, False), (MINE + 1, False)])
def test_only_root_s_file_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uid: int, trusted: bool) -> None:
    """And one's own; whoever else owns a file may write to it at any time, whatever its mode is now."""
    path = tmp_path / "file"
    path.write_text("text")
    path.chmod(0o400)
    monkeypatch.setattr(os, "fstat", _another_s(os.fstat, uid))
    if trusted:
        assert files.read(str(path)) == "text"
    else:
        with pytest.raises(BadInput, match="file is not a file that only root may write to"):
            files.read(str(path))


def test_what_is_no_file_is_not_read(tmp_path: Path) -> None:
    """Nobody waits for a FIFO, or follows a link; where there is nothing, that is said."""
    (tmp_path / "target").write_text("text")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    os.mkfifo(tmp_path / "fifo", 0o600)
    (tmp_path / "folder").mkdir(0o700)
    with pytest.raises(BadInput, match="link is a symbolic link"):
        files.read(str(tmp_path / "link"))
    for name in ("fifo", "folder"):
        with pytest.raises(BadInput, match=f"{name} is not a file that only root may write to"):
            files.read(str(tmp_path / name))
    assert files.read(str(tmp_path / "none")) is None


@pytest.mark.parametrize(
    ("uid", "mode", "own"),
    [
        (MINE, 0o700, True),
        (MINE, 0o755, True),
        (MINE, 0o720, False),
        (MINE, 0o702, False),
        (NOBODY, 0o700, False),
        (MINE + 1, 0o700, False),
    ],
)
def test_only_a_folder_of_our_own_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uid: int, mode: int, own: bool
) -> None:
    """Whoever may write to it could put a link where libhook writes."""
    folder = tmp_path / "folder"
    folder.mkdir()
    folder.chmod(mode)
    monkeypatch.setattr(os, "lstat", _another_s(os.lstat, uid))
    if own:
        files.expect_own(str(folder))
    else:
        with pytest.raises(LibhookError, match="folder is not a folder that only root may write to"):
            files.expect_own(str(folder))


def test_whoever_is_not_root_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the folder's mode is: that user could not mend it."""
    (folder := tmp_path / "folder").mkdir()
    folder.chmod(0o777)
    monkeypatch.setattr(os, "lstat", _another_s(os.lstat, 0))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(LibhookError, match=f"only root may look into {folder}"):
        files.expect_own(str(folder))


class _Order:
    """What is done to a folder's files, in the order in which it is done."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.done: list[tuple[str, str]] = []
        self._fsync, self._rename = os.fsync, os.rename
        monkeypatch.setattr(os, "fsync", self._synced)
        monkeypatch.setattr(os, "rename", self._renamed)

    def _synced(self, descriptor: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        self.done.append((path.name, path.read_text() if path.is_file() else "on disk"))
        self._fsync(descriptor)

    def _renamed(self, old: str, new: str) -> None:
        self.done.append((Path(old).name, f"is now {Path(new).name}"))
        self._rename(old, new)


def test_a_new_entry_is_on_disk_before_it_takes_the_old_one_s_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a host that loses its power has an empty file instead of either; the folder is next, with the name."""
    (tmp_path / "entry").write_text("old")
    order = _Order(monkeypatch)
    files.replace(str(tmp_path / "entry"), "new")
    assert order.done == [("entry.new", "new"), ("entry.new", "is now entry"), (tmp_path.name, "on disk")]
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("entry", "new")]


def test_an_entry_that_is_overwritten_is_on_disk_afterwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole, with blanks where the old one was longer."""
    (tmp_path / "entry").write_text("before")
    order = _Order(monkeypatch)
    files.overwrite(str(tmp_path / "entry"), "now")
    assert order.done == [("entry", "now   ")]


def test_a_new_file_is_root_s_alone(tmp_path: Path) -> None:
    """What a guest has is nobody's to read; and a link that waits under the new one's name is not written through."""
    (tmp_path / "target").write_text("old")
    (tmp_path / "entry.new").symlink_to(tmp_path / "target")
    files.replace(str(tmp_path / "entry"), "new")
    assert stat.S_IMODE((tmp_path / "entry").lstat().st_mode) == 0o600
    assert (tmp_path / "target").read_text() == "old"


def test_a_link_that_comes_just_then_is_not_written_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the old one under that name was removed, or in the place of an entry that is overwritten."""
    (tmp_path / "target").write_text("old")
    monkeypatch.setattr(os, "unlink", mock.Mock(side_effect=FileNotFoundError))
    for name in ("entry.new", "there"):
        (tmp_path / name).symlink_to(tmp_path / ("target" if name == "there" else "nothing"))
    with pytest.raises(FileExistsError):
        files.replace(str(tmp_path / "entry"), "new")
    with pytest.raises(OSError, match=os.strerror(errno.ELOOP)):
        files.overwrite(str(tmp_path / "there"), "new")
    assert (tmp_path / "target").read_text() == "old"
    assert not (tmp_path / "nothing").exists()


def test_bytes_that_are_no_text_come_back_as_they_were(tmp_path: Path) -> None:
    """An override, or a name, is whatever bytes somebody wrote."""
    path = str(tmp_path / "entry")
    files.replace(path, "a\udcff\u00e9")
    assert files.read(path) == "a\udcff\u00e9"
    files.overwrite(path, "b\udcfe")
    assert files.read(path) == "b\udcfe  "
    assert (tmp_path / "entry").read_bytes() == b"b\xfe  "


@pytest.mark.parametrize("where", ["open", "fdopen"])
@pytest.mark.parametrize(("code", "broken"), [(errno.EIO, True), (errno.ENFILE, False), (errno.ENOMEM, False)])
def test_a_file_is_not_to_blame_for_what_is_used_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, code: int, broken: bool
) -> None:
    """An entry that cannot be read now may be good: only one that is broken may be gone on without."""
    (tmp_path / "file").write_text("text")
    real = os.fdopen

    def fail(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    def fail_later(descriptor: int, mode: str) -> None:
        real(descriptor, mode).close()
        fail()

    monkeypatch.setattr(os, where, fail if where == "open" else fail_later)
    with pytest.raises(LibhookError, match=r"/file.*") as failure:
        files.read(str(tmp_path / "file"), "mend it")
    assert isinstance(failure.value, BadInput) is broken
    assert os.strerror(code) in failure.value.message
    assert (failure.value.hint == "mend it") is broken


def _folders(tmp_path: Path) -> tuple[str, str]:
    """A root, and a folder below it whose way leads through two more."""
    folder = tmp_path / "etc/libhook/more"
    folder.mkdir(parents=True)
    return str(tmp_path), str(folder)


@pytest.mark.parametrize("at", ["", "/etc", "/etc/libhook", "/etc/libhook/more"])
@pytest.mark.parametrize(
    ("uid", "mode", "remedy"),
    [
        (0, 0o755, None),
        (MINE, 0o700, None),
        (0, 0o775, "check what is in it, then run: chmod go-w {}"),
        (0, 0o757, "check what is in it, then run: chmod go-w {}"),
        (NOBODY, 0o755, "check what is in it, then run: chown root:root {}"),
        (MINE + 1, 0o755, "check what is in it, then run: chown root:root {}"),
        (NOBODY, 0o777, "check what is in it, then run: chown root:root {}; chmod go-w {}"),
    ],
)
def test_every_folder_on_the_way_is_root_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str, uid: int, mode: int, remedy: str | None
) -> None:
    """Whoever may write to one of them could take away what is below; what helps is said of that one."""
    root, folder = _folders(tmp_path)
    Path(root + at).chmod(mode)
    real, another_s = os.lstat, _another_s(os.lstat, uid)
    monkeypatch.setattr(os, "lstat", lambda path: another_s(path) if path == root + at else real(path))
    if remedy is None:
        files.expect_trusted(folder, root)
    else:
        with pytest.raises(BadInput, match=f"^{root}{at} is not a folder that only root may write to") as refused:
            files.expect_trusted(folder, root)
        assert refused.value.hint == remedy.replace("{}", root + at)


@pytest.mark.parametrize("what", ["link", "file"])
def test_no_link_is_followed_on_the_way(tmp_path: Path, what: str) -> None:
    """It may be turned to anywhere."""
    root, folder = _folders(tmp_path)
    above = Path(folder).parent
    above.rename(tmp_path / "elsewhere")
    if what == "link":
        above.symlink_to(tmp_path / "elsewhere")
    else:
        above.touch()
    with pytest.raises(BadInput, match=f"^{above} is not a folder") as refused:
        files.expect_trusted(folder, root)
    assert refused.value.hint == "put a real folder there: links are not followed"
    with pytest.raises(LibhookError, match=f"^{above} is not a folder"):
        files.expect_own(str(above))


def test_a_folder_that_nobody_else_could_make_need_not_be_there(tmp_path: Path) -> None:
    """Where the one above it is root's."""
    files.expect_trusted(f"{tmp_path}/none/such", str(tmp_path))
    tmp_path.chmod(0o757)
    with pytest.raises(BadInput, match=f"^{tmp_path} is not a folder"):
        files.expect_trusted(f"{tmp_path}/none/such", str(tmp_path))
