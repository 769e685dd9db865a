# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the page says of the logs that were read, so that somebody else can check it."""

import hashlib
import re
import subprocess
import sys
from pathlib import Path

from trail_writing import BEGIN, Trail

from libhook.command import parsing
from libhook.history import command, reader
from libhook.history.evidence import Evidence

HOUR = 3_600_000
ROOT = Path(__file__).parents[2]


def _two() -> Trail:
    return Trail().device("libhook", "start").device("libhook", "stop")


def _made(tmp_path: Path) -> str:
    """The page of the host in tmp_path."""
    made = tmp_path / "page.html"
    assert command.run(str(tmp_path), parsing.parser().parse_args(["history", "--html", str(made)])) == 0
    return made.read_text()


def _sources(text: str) -> list[tuple[str, ...]]:
    times = r"<time[^>]*>[\d-]+ [\d:]+</time>"
    each = rf"<li>.*>(\S+)</span>: (\d+) records?, (\d+) bytes?, {times} to {times}<br>SHA-256 <code>(\w+)</code>"
    return re.findall(each, text)


def test_what_was_read_can_be_checked(tmp_path: Path) -> None:
    """Each rotated log with its size, records and SHA-256, as sha256sum says it; so that one that grew can be cut."""
    folder = tmp_path / "var/log/audit"
    folder.mkdir(parents=True)
    older, live = bytes(_two()), bytes(Trail(now=BEGIN + 99 * HOUR).device("libhook", "start"))
    (folder / "audit.log.1").write_bytes(older)
    (folder / "audit.log").write_bytes(live)
    found = _sources(_made(tmp_path))
    with (folder / "audit.log").open("ab") as file:
        file.write(live)
    assert found[0][:3] == (str(folder / "audit.log.1"), str(older.count(b"\n")), str(len(older)))
    whole = subprocess.run(["sha256sum", found[0][0]], capture_output=True, text=True, check=True).stdout
    cut = subprocess.run(
        ["sh", "-c", f"head -c {found[1][2]} {found[1][0]} | sha256sum"], capture_output=True, text=True, check=True
    ).stdout
    assert [whole.split()[0], cut.split()[0]] == [found[0][3], found[1][3]]


def test_a_pipe_is_hashed_as_it_is_read(tmp_path: Path) -> None:
    """It cannot be read twice, and its first bytes have been read before; the last line has no line feed."""
    log = bytes(_two())[:-1]
    shell = [sys.executable, "-m", "libhook", "history", "-if", "-", "--html", str(tmp_path / "page")]
    subprocess.run(shell, cwd=ROOT, input=log, check=True)
    (source,) = _sources((tmp_path / "page").read_text())
    count = str(log.count(b"\n") + 1)
    assert source == ("stdin", count, str(len(log)), hashlib.sha256(log).hexdigest())


def test_an_empty_log_is_a_source(tmp_path: Path) -> None:
    """And a line that is too long counts as read."""
    (tmp_path / "empty").touch()
    (tmp_path / "long").write_bytes(bytes(_two()) + b"x" * 300_000 + b"\n")
    sources, read = reader.trail([str(tmp_path / "empty"), str(tmp_path / "long")]), Evidence()
    for source in sources:
        list(reader.pieces(source, read, lambda _: None))
    reader.close(sources)
    found = {Path(log.name).name: log[1:] for log in read.logs(sources)}
    assert found["empty"] == (0, 0, hashlib.sha256().hexdigest(), None)
    data = (tmp_path / "long").read_bytes()
    times = BEGIN + 1000, BEGIN + 2000
    assert found["long"] == (len(data), data.count(b"\n"), hashlib.sha256(data).hexdigest(), times)
    assert read.covered == times
    assert read.bytes == len(data)
