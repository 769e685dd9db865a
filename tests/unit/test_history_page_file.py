# SPDX-License-Identifier: LGPL-2.1-or-later
"""The file that ``libhook history --html`` writes: whose it is, and what stays as it was."""

import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from trail_writing import Trail

from libhook.command import parsing
from libhook.errors import LibhookError
from libhook.history import command

Run = Callable[..., list[str]]


@pytest.fixture
def run(tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]) -> Run:
    """Run it on the host in tmp_path; its lines."""

    def ran(*arguments: str) -> list[str]:
        assert command.run(str(tmp_path), parsing.parser().parse_args(["history", *arguments])) == 0
        return capsysbinary.readouterr().out.decode().splitlines()

    return ran


def _life(device: str, vm: str = "win11") -> Trail:
    return Trail().device("libhook", "start", device=device, vm=vm).device("libhook", "stop", device=device, vm=vm)


def test_the_page_is_for_its_owner(tmp_path: Path, run: Run) -> None:
    """Only root may read the trail; names in it are text."""
    (tmp_path / "log").write_bytes(bytes(_life("0000:01:00.0", vm="<script>alert(1)</script>")))
    page = tmp_path / "page.html"
    page.touch(0o644)  # also where it was there, open to all
    run("-if", str(tmp_path / "log"), "--html", str(page))
    assert stat.S_IMODE(page.stat().st_mode) == 0o600
    text = page.read_text()
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "alert(1)" not in text.replace("&lt;script&gt;alert(1)", "").replace("\\u003cscript>alert(1)", "")
    assert "http" not in text.replace("http-equiv", "")
    shown = [line for line in run("-if", str(tmp_path / "log"), "--html", "-") if "By libhook" not in line]
    assert shown == [line for line in text.splitlines() if "By libhook" not in line]  # it says when it was made


def test_an_old_page_stays_until_the_new_one_is_whole(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page that cannot be made leaves the old one, and nothing beside it. Whoever has the old one open keeps it."""
    folder, log, page = tmp_path / "pages", tmp_path / "log", tmp_path / "pages/page.html"
    folder.mkdir()
    log.write_bytes(bytes(_life("0000:01:00.0")))
    page.write_text("the old page")
    (folder / "page.html.new").write_text("somebody's")

    def broken(*_: object, **__: object) -> Iterator[str]:
        yield "<!DOCTYPE html>"
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as failing:
        failing.setattr("libhook.history.page.Page.write", broken)
        with pytest.raises(OSError, match="No space left"):
            run("-if", str(log), "--html", str(page))
    assert page.read_text() == "the old page"
    with page.open() as old:
        run("-if", str(log), "--html", str(page))
        assert old.read() == "the old page"
    assert page.read_text().endswith("</html>")
    assert sorted(path.name for path in folder.iterdir()) == ["page.html", "page.html.new"]
    assert (folder / "page.html.new").read_text() == "somebody's"


def test_a_page_follows_no_link(tmp_path: Path, run: Run) -> None:
    """Not to a file, nor to nothing; a device is written to, and stays one."""
    log, target = tmp_path / "log", tmp_path / "target"
    log.write_bytes(bytes(_life("0000:01:00.0")))
    target.write_text("other")
    for number, end in enumerate((target, tmp_path / "nothing", Path("/proc/self/fd/1"))):
        link = tmp_path / f"link{number}"
        link.symlink_to(end)
        with pytest.raises(LibhookError, match="a link"):
            run("-if", str(log), "--html", str(link))
        assert link.is_symlink()
    assert target.read_text() == "other"
    assert not (tmp_path / "nothing").exists()
    run("-if", str(log), "--html", "/dev/null")
    assert stat.S_ISCHR(Path("/dev/null").lstat().st_mode)
    with pytest.raises(OSError, match="No such file or directory") as caught:
        run("-if", str(log), "--html", str(tmp_path / "no/page.html"))
    assert caught.value.filename == str(tmp_path / "no/page.html")
