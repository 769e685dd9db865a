# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where libhook history gets its lines: pipes, files, order, what is no log, and how far it has got."""

import errno
import gzip
import io
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO

import pytest
from disturbing import refusing
from hypothesis import given
from hypothesis import strategies as st
from trail_writing import BEGIN, UUID, Trail

from libhook.command import parsing
from libhook.errors import LibhookError
from libhook.history import command
from libhook.history.order import Sorted
from libhook.history.overlap import Overlap
from libhook.history.reading import Progress
from libhook.history.records import Parser

ROOT = Path(__file__).parents[2]


def _life(device: str, now: int = 0, vm: str = "win11", uuid: str = UUID, node: str = "") -> Trail:
    log = Trail(node, now=BEGIN + now)
    return log.device("libhook", "start", device=device, vm=vm, uuid=uuid).device(
        "libhook", "stop", device=device, vm=vm, uuid=uuid
    )


def test_what_logs_have_in_common_is_remembered_within_bounds() -> None:
    """Beyond, it is let through, and known to be; of logs that follow each other nothing is kept."""
    records = list(Parser().records(b"\n" + bytes(_life("a")) + bytes(_life("b", 60_000))))
    overlap = Overlap(most=1)
    overlap.log(records[0].time)
    assert list(overlap.new(records)) == records
    overlap.log(1 << 60)
    assert list(overlap.new(records)) == records[1:]
    assert (overlap.twice, overlap.full) == (1, True)
    overlap = Overlap()
    for part, following in ((records[:2], records[2].time), (records[2:], 1 << 60)):
        overlap.log(following)
        assert list(overlap.new(part)) == part
    assert (overlap.twice, overlap.full) == (0, False)


def test_stdin_and_standard_tools() -> None:
    """``-if -`` reads a pipe; a reader that goes away is no error."""
    log = b"".join(bytes(_life("0000:01:00.0", number * 5000)) for number in range(5000))
    shell = f"{sys.executable} -m libhook history --json -if - | head -n 1"
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {shell}"], input=log, cwd=ROOT, capture_output=True, check=False
    )
    assert (done.returncode, done.stderr, done.stdout.count(b"\n")) == (0, b"", 1)


def _failure(tmp_path: Path, *arguments: str) -> str:
    with pytest.raises(LibhookError) as caught:
        command.run(str(tmp_path), parsing.parser().parse_args(["history", *arguments]))
    return caught.value.line.replace(str(tmp_path), "")


def test_failures_say_what_to_do(tmp_path: Path) -> None:
    """No log, no file, no right to read it. That auditd is to be installed is said only where it is not."""
    log, configuration = "/var/log/audit/audit.log", "/etc/audit/auditd.conf"

    def said() -> str:
        return (
            _failure(tmp_path)
            .removeprefix(f"{log}: No such file or directory: ")
            .removesuffix(", or give a log with -if FILE")
        )

    assert said() == "install auditd"
    (tmp_path / "usr/sbin").mkdir(parents=True)
    (tmp_path / "usr/sbin/auditd").touch()
    assert said() == f"see with which folder auditd runs (-c), since there is no {configuration}"
    (tmp_path / "etc/audit").mkdir(parents=True)
    (tmp_path / "etc/audit/auditd.conf").write_text("write_logs = no\n")
    assert said() == f"see whether auditd runs, and write_logs in {configuration}"
    with refusing("open", errno.EACCES, lambda path, *_: str(path).endswith("auditd.conf")):
        assert said() == f"run it as root, since {configuration} may name another"
    named = "No such file or directory: give an audit log, a folder with one, or - for stdin"
    assert _failure(tmp_path, "-if", f"{tmp_path}/none") == f"/none: {named}"
    with refusing("open", errno.EACCES):
        assert _failure(tmp_path) == f"{log}: Permission denied: run it as root, or give a copy of the log with -if"


@pytest.mark.parametrize(
    ("content", "hint"),
    [
        (gzip.compress(b"\n".join(_life("first").lines), mtime=0), "unpack it: zcat FILE | libhook history -if -"),
        (b"type=VIRT_RESOURCE msg=audit(11/24/26 18:30:00.000:1) : vm=win11\n", "use --raw)"),
        (b"Nov 24 18:30:00 host kernel: no trail\n", "give a log as auditd writes it (from ausearch, use --raw)"),
    ],
    ids=["compressed", "in words", "another log"],
)
def test_what_is_no_audit_log_is_not_called_an_empty_one(tmp_path: Path, content: bytes, hint: str) -> None:
    """A log that is compressed, or put into words by ausearch, holds devices that would not be shown."""
    (tmp_path / "log").write_bytes(content)
    line = _failure(tmp_path, "-if", f"{tmp_path}/log")
    assert line.startswith("/log: no audit record in it: ")
    assert line.endswith(hint)


@given(st.lists(st.binary(max_size=4).map(lambda raw: raw.replace(b"\n", b"") + b"\n")), st.integers(1, 5))
def test_what_does_not_fit_is_sorted_all_the_same(lines: list[bytes], most: int) -> None:
    """In memory, or in as many files as it takes; and can be asked for again."""
    with Sorted(most) as ordered:
        for line in lines:
            ordered.add(line)
        assert list(ordered) == list(ordered) == sorted(lines)


def test_long_lines_wait_in_files_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is bounded in bytes: a name in the log may be long."""
    files: list[IO[bytes]] = []
    make = tempfile.TemporaryFile

    def kept() -> IO[bytes]:
        files.append(make())
        return files[-1]

    monkeypatch.setattr(tempfile, "TemporaryFile", kept)
    lines = [bytes([65 + number]) * (3 << 20) + b"\n" for number in range(24)]
    with Sorted() as ordered:
        for line in reversed(lines):
            ordered.add(line)
        assert len(files) == 2
        assert list(ordered) == lines


def test_progress_is_for_terminals_and_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bar once a second has gone by, nothing before or elsewhere; it is wiped away."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    for stream, shown in ((Terminal(), True), (io.StringIO(), False)):
        monkeypatch.setattr(sys, "stderr", stream)
        progress = Progress(200)
        progress.show(50)
        assert stream.getvalue() == ""
        now[0] += 2
        progress.show(100)
        progress.clear()
        assert (" 50%" in stream.getvalue()) is shown
        assert stream.getvalue().endswith("\r\033[K") is shown
