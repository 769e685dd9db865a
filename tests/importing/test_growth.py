# SPDX-License-Identifier: LGPL-2.1-or-later
"""What scripts make large costs time by its size: a long line, many comparisons, many files."""

import resource
from pathlib import Path

import pytest
from growth import grows_with
from plainhost import plain

from libhook.importing import importer, sources, trace

SECONDS = 150
"""Of the CPU: far more than it takes; a square of these sizes takes hours."""
HEAD = '#!/bin/bash\n[ "$2" = prepare ] || exit 0\n'


def _used() -> float:
    """By this process and by its children that have ended."""
    used = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(by.ru_utime + by.ru_stime for by in used)


def _seconds(folder: Path, text: str) -> float:
    """How long the CPUs are at work for the import of this script."""
    (folder / "qemu").write_text(f"{HEAD}{text}\n")
    begun = _used()
    importer.run(sources.read([str(folder)]), [], ["x"], plain())
    return _used() - begun


@pytest.mark.parametrize(
    "text",
    ["# " + "systemctl " * 90_000, "# " + "-/etc/" * 150_000, "# " + "modprobe a " * 80_000,
     "# " + "AllowedCPUs=0 " * 60_000, "# " + "umount -l " * 80_000, "# " + "kill $(pidof " * 60_000,
     "# " + "|| exit " * 90_000],
    ids=["units", "paths", "modules", "cpus", "mounts", "processes", "ends"],
)  # fmt: skip
def test_a_long_line_is_read_in_time(tmp_path: Path, text: str) -> None:
    """Patterns look at no more of a line than people write."""
    assert _seconds(tmp_path, text) < SECONDS


@pytest.mark.rest
@pytest.mark.parametrize(
    ("line", "number"),
    [("true\n", 16_000), ("[[ $1 == x ]]\n", 8000), ("true && false\n", 8000), ("f() {\n", 4000)],
    ids=["lines", "comparisons", "lists", "functions"],
)
def test_four_times_the_lines_cost_about_four_times_as_much(tmp_path: Path, line: str, number: int) -> None:
    """And not sixteen."""
    grows_with(lambda size: line * size, lambda text: _seconds(tmp_path, text), number)


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
    begun = _used()
    trace.read(f"{line}\n" * 20, {})
    assert trace.read(f'7 execve({"x" * 70_000}\n7 execve("/a", ["a"], 0x1) = 0\n', {}).done
    assert _used() - begun < SECONDS


def test_processes_that_do_not_end_to_fork_cost_their_number() -> None:
    """Neither time nor memory grows with the square."""
    begun = _used()
    trace.read("".join(f"{pid} clone( <unfinished ...>\n" for pid in range(1, 100_000))
               + "".join(f"{pid} clone() = 7\n" for pid in range(99_999, 0, -1)), {})  # fmt: skip
    assert _used() - begun < SECONDS


def test_what_has_no_end_is_not_joined_for_ever() -> None:
    """One command over many writes."""
    begun = _used()
    lines = ['7 write(9</.trace/lines>, "+\\1/x\\0011\\1true", 9) = 9',
             *['7 write(9</.trace/lines>, "' + "x" * 2000 + '", 9) = 9'] * 10_000]  # fmt: skip
    found = trace.read("\n".join(lines), {})
    assert len(found.commands[0][1]) <= 4000
    assert _used() - begun < SECONDS


def test_no_more_commands_are_kept_than_a_person_could_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor lines; and what is done is still known, up to its own limit."""
    monkeypatch.setattr(trace, "_MOST_COMMANDS", 5)
    monkeypatch.setattr(trace, "_MOST", 50)
    lines = [f'7 write(9</.trace/lines>, "+\\1/x\\001{at}\\1true\\n", 9) = 9\n7 execve("/a", ["a"], 0x1) = 0'
             for at in range(1, 100)]  # fmt: skip
    found = trace.read("\n".join(lines), {})
    assert (len(found.commands), len(found.lines)) == (5, 5)
    assert 50 <= len(found.done) <= 51


def test_what_is_too_much_to_translate_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A guest's effects beyond a number, and guests beyond another."""
    monkeypatch.setattr(importer, "_MOST_EFFECTS", 3)
    monkeypatch.setattr(importer, "_MOST_GUESTS", 2)
    (tmp_path / "qemu").write_text(f"{HEAD}case $1 in a|b|c) for i in {{1..5}}; do foo x$i; done ;; esac\n")
    found = importer.run(sources.read([str(tmp_path)]), [], ["x"], plain())
    assert found.text.count("[domains.") == 6
    assert any("the scripts do more than 3 things for a: the rest is left out" in line for line in found.lines)
    assert any(
        "the scripts name 3 guests: only 2 are imported; name others with --guest" in line for line in found.lines
    )
