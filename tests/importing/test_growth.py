# SPDX-License-Identifier: LGPL-2.1-or-later
"""What scripts make large costs time by its size: a long line, many comparisons, many files."""

import time
from pathlib import Path

import pytest
from plainhost import plain

from libhook.importing import importer, sources, trace

SECONDS = 150
"""Far more than it takes on a busy machine; a square of these sizes takes hours."""


@pytest.mark.parametrize(
    "text",
    [
        "# " + "systemctl " * 90_000,
        "# " + "-/etc/" * 150_000,
        "# " + "modprobe a " * 80_000,
        "# " + "AllowedCPUs=0 " * 60_000,
        "true\n" * 100_000,
        "for i in $(seq 20000); do [[ $1$i == x ]]; done",
    ],
    ids=["units", "paths", "modules", "cpus", "lines", "comparisons"],
)
def test_a_large_script_is_read_in_time(tmp_path: Path, text: str) -> None:
    """Patterns look at no more of a line than people write, and at no more comparisons."""
    (tmp_path / "qemu").write_text(f'#!/bin/bash\n[ "$2" = prepare ] || exit 0\n{text}\n')
    begun = time.monotonic()
    importer.run(sources.read([str(tmp_path)]), [], ["x"], plain())
    assert time.monotonic() - begun < SECONDS


@pytest.mark.parametrize(
    "line",
    [
        "7 openat(" + '\\"' * 30_000 + ") = 3",
        '7 write(9</.trace/lines>, "' + "+" * 60_000 + '", 9) = 9',
        "7 x(" + ") " * 30_000,
        '7 write(9</.trace/lines>, "+\\1/x\\1' + "9" * 5000 + '\\1true\\n", 9) = 9',
        "7 clone() = " + "9" * 5000,
        "7" * 60_000 + " x() = 0",
    ],
    ids=["quotes", "signs", "ends", "number", "process", "pid"],
)
def test_a_line_of_the_trace_is_read_in_time(line: str) -> None:
    """A script may write it. One that strace would not write, because it is too long, is passed over."""
    begun = time.monotonic()
    trace.read(f"{line}\n" * 20, {})
    assert trace.read(f'7 execve({"x" * 70_000}\n7 execve("/a", ["a"], 0x1) = 0\n', {}).done
    assert time.monotonic() - begun < SECONDS


def test_processes_that_do_not_end_to_fork_cost_their_number() -> None:
    """Neither time nor memory grows with the square."""
    begun = time.monotonic()
    trace.read("".join(f"{pid} clone( <unfinished ...>\n" for pid in range(1, 100_000))
               + "".join(f"{pid} clone() = 7\n" for pid in range(99_999, 0, -1)), {})  # fmt: skip
    assert time.monotonic() - begun < SECONDS


def test_what_has_no_end_is_not_joined_for_ever() -> None:
    """One command over many writes."""
    begun = time.monotonic()
    lines = ['7 write(9</.trace/lines>, "+\\1/x\\0011\\1true", 9) = 9',
             *['7 write(9</.trace/lines>, "' + "x" * 2000 + '", 9) = 9'] * 10_000]  # fmt: skip
    found = trace.read("\n".join(lines), {})
    assert len(found.commands[0][1]) <= 4000
    assert time.monotonic() - begun < SECONDS
