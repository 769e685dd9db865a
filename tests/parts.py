# SPDX-License-Identifier: LGPL-2.1-or-later
"""The parts of a test run, and what is known of those of `tests/run --all` that were played before."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

TOP = Path(__file__).parent.parent
_HANGS = 1200
"""Seconds after which a test hangs, and has failed. The longest takes a minute on a quiet machine."""


class Suite(NamedTuple):
    """A part of the run that plays tests."""

    name: str
    minutes: float
    """That it takes on a quiet machine. Where less is left it is not begun."""
    command: tuple[str, ...]
    """Plays the tests whose ids follow, or all."""
    first: tuple[str, ...] = ()
    """What follows where all are played."""
    start: float = 10
    """Seconds until the first test of a second try begins."""
    environment: tuple[tuple[str, str], ...] = ()
    is_lab: bool = False

    def commands(self, folder: Path, ids: Sequence[str] = (), times: int = 1) -> list[list[str]]:
        """Return what plays all tests, or these alone so many times. ``folder`` is for what it leaves."""
        if self.is_lab:
            return [[*self.command, "--artifacts", str(folder), "--times", str(times), *(ids or self.first)]]
        return [[*self.command, *(ids or self.first)]] * times


def checks(venv: Path) -> Iterator[tuple[str, list[str]]]:
    """Give the linters, with their names."""
    ruff = f"{venv}/bin/ruff"
    yield "ruff check", [ruff, "check", "--quiet"]
    yield "ruff format (tests/run --fix does it)", [ruff, "format", "--check", "--quiet"]
    yield "mypy", ["mypy", "--python-executable", f"{venv}/bin/python", "--no-error-summary"]
    yield "shellcheck", ["shellcheck", "-x", *_shell_files()]


def _shell_files() -> Iterator[str]:
    """Give every tracked or new file that is shell, by name or by its first line."""
    command = ["git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=TOP, capture_output=True, text=True, check=True).stdout.split("\0")
    for path in (TOP / name for name in listed if name):
        if not path.is_file():
            continue
        if path.suffix in (".sh", ".bash"):
            yield str(path)
        elif "." not in path.name:
            with path.open("rb") as file:
                if re.match(rb"#!.*\b(ba|da)?sh$", file.readline().rstrip()):
                    yield str(path)


def sample(arguments: Sequence[str] = (), *, is_quick: bool) -> Iterator[tuple[Suite, ...]]:
    """Give what plays tests in an ordinary run, together what is played side by side."""
    yield (_pytest(8, *arguments),)
    if not is_quick:
        yield (_BROWSER,)
        yield _labs(13, "lab")


def whole() -> Iterator[tuple[Suite, ...]]:
    """Give the parts of `tests/run --all` in the same way. None is meant to take more than an hour."""
    yield (_pytest(25),)
    yield (_crashes("crashes", "not of_the_host and not for_everything"),)
    yield (_crashes("crashes-host", "of_the_host"),)
    for third in range(3):
        yield (_crashes(f"crashes-all-{third + 1}", f"for_everything and {third}"),)
    yield (_BROWSER,)
    for suite in SUITES:
        for half, others in enumerate(_HALVES, 1):
            yield _labs(35, f"lab-{suite}-{half}", ("--suite", suite, "--total", "7200"), f"--ignore-glob={others}")


def counted(suite: Suite, lines: Path) -> Suite:
    """Return the suite so that it counts the lines of libhook that run, in this file."""
    return suite._replace(environment=(("LIBHOOK_LINES", str(lines)), ("PYTHONPATH", f"{TOP}/tests/site:{TOP}/tests")))


def _pytest(minutes: float, *arguments: str) -> Suite:
    # Two for each CPU: many tests wait for a deadline, or for a driver that takes its time.
    workers = ("-n", str(2 * (os.cpu_count() or 1)))
    return Suite("pytest", minutes, _PYTEST, (*workers, *arguments), 10)


def _crashes(name: str, which: str) -> Suite:
    """Return what plays every crash point, with as many processes as there are CPUs."""
    some = ("tests/sim/test_crash_points.py", "tests/sim/test_faults.py", "-k", which)
    return Suite(name, 55, (*_PYTEST, "--timeout=0"), some, environment=(("LIBHOOK_TEST_CRASHES", "every"),))


def _labs(minutes: float, name: str, options: Sequence[str] = (), *some: str) -> tuple[Suite, ...]:
    """Return both labs of a generation of Debian, with what pytest is told. Each is one thread that computes."""
    command, some = (str(TOP / "tests/lab/run"), *options), ("--maxfail=10", *some)
    return (
        Suite(name, minutes, command, some, start=120, is_lab=True),
        Suite(f"{name}-systemd", minutes, (*command, "--systemd"), some, start=240, is_lab=True),
    )


_PYTEST = (sys.executable, "-m", "pytest", "-q", f"--timeout={_HANGS}")
_BROWSER = Suite("browser", 1, _PYTEST, ("tests/browser",))
SUITES = ("trixie", "bookworm", "sid")
"""Generations of Debian: those that tests/lab/run has."""


_HALVES = ("test_[l-z]*", "test_[a-k]*")
"""Files of the lab that are in the other half, which takes about as long."""


class Kept:
    """How each part of `tests/run --all` ended, by commit."""

    def __init__(self, cache: Path, profile: str) -> None:
        """Nothing is kept of a tree that has changes which no commit has."""
        commit = "" if _git("status", "--porcelain") else _git("rev-parse", "HEAD")
        self._file = cache / profile / commit if commit else None

    def said(self) -> dict[str, str]:
        """Return how each part ended."""
        found: dict[str, str] = {}
        if self._file and self._file.exists():
            found = json.loads(self._file.read_text())
        return found

    @property
    def passed(self) -> set[str]:
        """The parts that have passed."""
        return {part for part, how in self.said().items() if how.startswith("passed")}

    def keep(self, how: Mapping[str, str]) -> None:
        """Note how these ended."""
        if self._file:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            self._file.write_text(json.dumps({**self.said(), **how}, indent=1))


def seed() -> int:
    """Return the number by which a sample is chosen: what LIBHOOK_TEST_SEED says, or the tree's, so that it has one."""
    asked = os.environ.get("LIBHOOK_TEST_SEED")
    return int(asked) if asked else int(_git("rev-parse", "HEAD^{tree}")[:8] or "0", 16)


def _git(*arguments: str) -> str:
    """Return what git prints, or "" where there is none."""
    command = ["git", "-c", "safe.directory=*", *arguments]
    try:
        return subprocess.run(command, cwd=TOP, capture_output=True, text=True, check=True).stdout.strip()
    except (FileNotFoundError, subprocess.CalledProcessError):
        return ""
