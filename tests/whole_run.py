# SPDX-License-Identifier: LGPL-2.1-or-later
"""What tests/run does once all is installed: one part after the other, what failed once more, and a last screen.

A test that fails is played again alone, with nothing beside it. If it passes then, it is *flaky*: named, and no failure
of the run. So one test that a busy machine disturbs does not decide over ten thousand.
"""

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import gaps
import outcomes
from outcomes import Outcome, Outcomes

TOP = Path(__file__).parent.parent
_MINUTES = 80
"""The run's end. Whoever takes a change in may stop a run after 90."""
_MOST_FLAKY = 20
_RACES = 5
"""How often a test with the marker ``race`` must pass then: a race of libhook is no flaky test."""
_BOOTS = 2
"""How often a lab whose machine died is booted."""
_LAB_FAILED = 70
"""Not its tests, and not what they need: install.sh that fails, or a test that hangs, is 71."""
_KEPT = 5
"""Runs whose artifacts are kept."""
_GRACE = 60.0
"""Seconds that a part has to end by itself when its time is over: the lab fetches its logs."""


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


class Failure(NamedTuple):
    """A test that failed."""

    suite: Suite
    first: Outcome
    note: str = ""
    """Why it was not played again, or how that went."""


class Run:
    """One run. It counts, and remembers what the last screen shows."""

    def __init__(self, folder: Path, end: float, environment: dict[str, str], top: Path = TOP) -> None:
        """``folder`` gets what the parts leave. ``end`` is the run's, by time.time(). The parts run in ``top``."""
        self._top = top
        self._folder = folder
        self._end = end
        self._environment = environment
        self._passed = 0
        self._skipped = 0
        self._played: list[tuple[str, Outcome]] = []
        self._to_try: list[Failure] = []
        self._failed: list[Failure] = []
        self._flaky: list[Failure] = []
        self._broken: list[str] = []
        self._times: list[str] = []

    def check(self, name: str, command: Sequence[str]) -> None:
        """Run one part that is a test by itself: a linter."""
        print(f"== {name}", flush=True)
        if self._execute(command, self._folder, self._environment) == 0:
            self._passed += 1
        else:
            self._broken.append(name)

    def suite(self, suite: Suite) -> None:
        """Play one part. What failed in it waits for its second try, unless the part itself is broken."""
        print(f"== {suite.name}", flush=True)
        if self._left < suite.minutes * 60:
            left = f"it takes {suite.minutes:g} minutes, and {max(self._left, 0) / 60:.0f} are left"
            self._broken.append(f"{suite.name}: not begun: {left}")
            return
        began = time.monotonic()
        (status,), found = self._play(suite, re.sub(r"\W+", "-", suite.name))
        self._times.append(f"{suite.name} {(time.monotonic() - began) / 60:.1f} minutes")
        last = [plays[-1] for plays in found.plays.values()]
        count = Counter(one.how for one in last)
        self._passed += count["passed"]
        self._skipped += count["skipped"]
        self._played += ((suite.name, one) for one in last)
        failures = [Failure(suite, one) for one in last if one.how == "failed"]
        if reason := _broken(status, found, failed=bool(failures)):
            self._broken.append(f"{suite.name}: {reason}")
            self._failed += (one._replace(note="not played again: its part is broken") for one in failures)
        else:
            self._to_try += failures

    def try_again(self, *, may: bool = True) -> None:
        """Play what failed once more, alone: what races five times. If it ``may`` not, it has failed."""
        if not may or len(self._to_try) > _MOST_FLAKY:
            note = f"not played again: more than {_MOST_FLAKY} failed" if may else ""
            self._failed += (one._replace(note=note) for one in self._to_try)
            return
        for suite in dict.fromkeys(one.suite for one in self._to_try):
            name = re.sub(r"\W+", "-", suite.name)
            for races, times, what in ((False, 1, "again"), (True, _RACES, "again-races")):
                if failures := [one for one in self._to_try if (one.suite, one.first.races) == (suite, races)]:
                    self._try(suite, failures, times, f"{name}-{what}")

    def _try(self, suite: Suite, failures: list[Failure], times: int, name: str) -> None:
        ids = [one.first.test for one in failures]
        print(f"== {suite.name}: again, {f'{times} times' if times > 1 else 'alone'}: {' '.join(ids)}", flush=True)
        if self._left < suite.start:  # how long they took to fail says nothing: they may have waited in vain
            self._failed += (one._replace(note="not played again: no time was left") for one in failures)
            return
        statuses, found = self._play(suite, name, ids, times)
        for one in failures:
            mine = found.plays.get(one.first.test, [])
            passed = sum(play.how == "passed" for play in mine)
            if passed == len(mine) == times and set(statuses) <= {0, 1}:
                self._flaky.append(one)
            else:
                self._failed.append(one._replace(note=f"played again: passed {passed} of {times}"))

    def show(self) -> bool:
        """Print the last screen. Return whether the run has passed."""
        print("\n== the ten slowest")
        for line in outcomes.slowest(self._played, 10):
            print(line)
        print(f"== the machine\n{gaps.told(self._folder / 'gaps')}")
        print(", ".join(self._times))
        print(f"what the parts left: {self._folder}")
        for title, failures in (("flaky: passed when played again alone", self._flaky), ("failed", self._failed)):
            print(f"== {title}: {len(failures)}")
            for suite, first, note in failures:
                print(f"{suite.name}: {first.test}\n    {first.why}{f' ({note})' if note else ''}")
        for reason in self._broken:
            print(f"tests/run: failed: {reason}")
        passed, failed = self._passed + len(self._flaky), len(self._failed) + len(self._broken)
        print(f"libhook: {passed} passed, {failed} failed, {self._skipped} skipped", flush=True)
        return failed == 0

    @property
    def _left(self) -> float:
        return self._end - time.time()

    def _play(
        self, suite: Suite, name: str, ids: Sequence[str] = (), times: int = 1
    ) -> tuple[list[int | None], Outcomes]:
        """Return how each command ended, and what it played. A lab whose machine died is booted once more.

        What failed before the machine died, and the test that was played then, count as failed, and are played again.
        """
        environment = {**self._environment, **dict(suite.environment)}
        failed: dict[str, list[Outcome]] = {}
        for boot in range(1, _BOOTS + 1):
            folder = self._folder / (f"{name}-{boot}" if suite.is_lab else name)
            statuses = [self._execute(command, folder, environment) for command in suite.commands(folder, ids, times)]
            found = outcomes.read(folder / "outcomes")
            if not suite.is_lab or statuses != [_LAB_FAILED] or boot == _BOOTS or self._left < suite.minutes * 60:
                break
            failed = {test: plays for test, plays in found.plays.items() if any(one.how == "failed" for one in plays)}
            failed |= {one.test: [one] for one in found.cut_off}
            self._times.append(f"{suite.name} booted again: the lab itself failed after {len(found.plays)} tests")
        return statuses, Outcomes(found.expected, found.plays | failed)

    def _execute(self, command: Sequence[str], folder: Path, environment: dict[str, str]) -> int | None:
        """Run it until the run's end. Return its exit status, or None if it was stopped."""
        folder.mkdir(exist_ok=True)
        environment = {**environment, "LIBHOOK_OUTCOMES": str(folder / "outcomes")}
        process = subprocess.Popen(command, env=environment, cwd=self._top)
        try:
            return process.wait(max(self._left, 0))
        except subprocess.TimeoutExpired:
            return None
        finally:
            process.terminate()
            try:
                process.wait(_GRACE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _broken(status: int | None, found: Outcomes, *, failed: bool) -> str:
    """Why a part says nothing of its tests, or "". What it left out may have failed, too."""
    if status is None:
        return f"stopped: the run ends after {_MINUTES} minutes"
    if status not in (0, 1):
        return f"ended with exit status {status}"
    if not found.expected:
        return "ran no test"
    if not found.are_whole:
        return f"{len(found.expected - found.plays.keys())} tests have no outcome"
    if status == 1 and not failed:
        return "failed without a failure"
    return ""


def main() -> int:
    """Do what the command line says, which tests/run has made."""
    options = _parse()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    is_long = options.all or options.profile == "long"
    end = float("inf") if is_long else options.began + _MINUTES * 60
    environment = {**os.environ, "LIBHOOK_TEST_PROFILE": options.profile}
    if is_long:
        environment["LIBHOOK_TEST_REST"] = "played"
    with _folder() as folder, _noting(folder / "gaps"):
        run = Run(folder, end, environment)
        for name, command in _checks(options.venv):
            run.check(name, command)
        lines = folder / "lines"
        is_counted = options.profile != "quick" and not options.arguments
        for suite in _suites(options, str(lines) if is_counted else "", is_long=is_long):
            run.suite(suite)
        run.try_again(may=not options.arguments)  # who chooses tests wants to know how these end
        if is_counted:
            run.check("coverage", [sys.executable, "tests/lines.py", str(lines)])
        return 0 if run.show() else 1


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--began", type=float, required=True, metavar="SECONDS", help="when, since the epoch")
    parser.add_argument("--venv", type=Path, required=True, help="the folder with what Debian does not have")
    parser.add_argument("--profile", required=True, choices=("quick", "default", "long"))
    parser.add_argument("--all", action="store_true")
    parser.add_argument("arguments", nargs="*")
    return parser.parse_args()


def _checks(venv: Path) -> Iterator[tuple[str, list[str]]]:
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
        if not path.is_file() or path.is_relative_to(TOP / "tests/importing/setups"):  # these have people's mistakes
            continue
        if path.suffix in (".sh", ".bash"):
            yield str(path)
        elif "." not in path.name:
            with path.open("rb") as file:
                if re.match(rb"#!.*\b(ba|da)?sh$", file.readline().rstrip()):
                    yield str(path)


def _suites(options: argparse.Namespace, lines: str, *, is_long: bool) -> Iterator[Suite]:
    pytest = (sys.executable, "-m", "pytest", "-q")
    counted = (("LIBHOOK_LINES", lines), ("PYTHONPATH", f"{TOP}/tests/site:{TOP}/tests")) if lines else ()
    # Two for each CPU: many tests wait for a deadline, or for a driver that takes its time.
    workers = ("-n", str(2 * (os.cpu_count() or 1)))
    yield Suite("pytest", 6 if options.profile == "quick" else 14, pytest, (*workers, *options.arguments), 10, counted)
    if options.profile == "quick":
        return
    yield Suite("browser", 1, pytest, ("tests/browser",))
    some = () if is_long else ("-m", "not rest", "--maxfail=10")
    yield Suite("lab", 16, ("tests/lab/run",), some, start=120, is_lab=True)
    yield Suite("lab with systemd", 15, ("tests/lab/run", "--systemd"), some, start=240, is_lab=True)


@contextmanager
def _folder() -> Iterator[Path]:
    """Give a folder for what this run leaves; afterwards ``last`` has the same, and old ones go."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "libhook-tests"
    folder = base / "runs" / f"{time.strftime('%FT%H-%M-%SZ', time.gmtime())}-{os.getpid()}"
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        (folder / "lines").unlink(missing_ok=True)
        shutil.rmtree(base / "last", ignore_errors=True)
        shutil.copytree(folder, base / "last")
        for old in sorted((base / "runs").iterdir())[:-_KEPT]:
            shutil.rmtree(old, ignore_errors=True)


@contextmanager
def _noting(path: Path) -> Iterator[None]:
    """Note when the machine stands still meanwhile."""
    with subprocess.Popen([sys.executable, str(TOP / "tests/gaps.py"), str(path)]) as process:
        try:
            yield
        finally:
            process.terminate()


if __name__ == "__main__":
    sys.exit(main())
