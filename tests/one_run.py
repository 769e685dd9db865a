# SPDX-License-Identifier: LGPL-2.1-or-later
"""One run of some parts: each is played, what failed is played once more, and a last screen says how all ended.

A test that fails is played again alone, with nothing beside it. If it passes then, it is *flaky*: named, and no failure
of the run. So one test that a busy machine disturbs does not decide over ten thousand.
"""

import re
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import nullcontext
from pathlib import Path
from typing import NamedTuple, TextIO

import gaps
import outcomes
from outcomes import Outcome, Outcomes
from parts import TOP, Suite

_MOST_FLAKY = 5
_RACES = 5
"""How often a test with the marker ``race`` must pass then: a race of libhook is no flaky test."""
_BOOTS = 2
"""How often a lab whose machine died is booted."""
_LAB_FAILED = 70
"""Not its tests, and not what they need: install.sh that fails, or a test that hangs, is 71."""
_GRACE = 60.0
"""Seconds that a part has to end by itself when its time is over: the lab fetches its logs."""


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
        self._running: set[subprocess.Popen[bytes]] = set()

    def check(self, name: str, command: Sequence[str]) -> None:
        """Run one part that is a test by itself: a linter."""
        print(f"== {name}", flush=True)
        if self._execute(command, self._folder, self._environment) == 0:
            self._passed += 1
        else:
            self._broken.append(name)

    def tell(self, name: str, command: Sequence[str]) -> None:
        """Run what is shown, and decides nothing."""
        print(f"== {name}", flush=True)
        self._execute(command, self._folder, self._environment)

    def suites(self, *suites: Suite) -> None:
        """Play these parts side by side. What all but the first print is shown when they have ended.

        What failed waits for its second try, unless its part is broken.
        """
        with ThreadPoolExecutor() as pool:
            plays = [pool.submit(self._suite, suite, is_quiet=suite != suites[0]) for suite in suites]
            try:
                wait(plays)
            except BaseException:  # whoever started us wants us to end
                for process in self._running:
                    process.terminate()
                raise
        for play in plays:
            play.result()

    def _suite(self, suite: Suite, *, is_quiet: bool) -> None:
        name = re.sub(r"\W+", "-", suite.name)
        print(f"== {suite.name}{f': see {name}.log' if is_quiet else ''}", flush=True)
        if self._left < suite.minutes * 60:
            left = f"it takes {suite.minutes:g} minutes, and {max(self._left, 0) / 60:.0f} are left"
            self._broken.append(f"{suite.name}: not begun: {left}")
            return
        began = time.monotonic()
        with open(self._folder / f"{name}.log", "w+") if is_quiet else nullcontext() as log:
            (status,), found = self._play(suite, name, log=log)
            if log:
                log.seek(0)
                print(f"== {suite.name}\n{log.read()}", flush=True)
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
        self, suite: Suite, name: str, ids: Sequence[str] = (), times: int = 1, log: TextIO | None = None
    ) -> tuple[list[int | None], Outcomes]:
        """Return how each command ended, and what it played. A lab whose machine died is booted once more.

        What failed before the machine died, and the test that was played then, count as failed, and are played again.
        """
        points = str(self._folder / f"points-{suite.name}")  # tests/sim/points.py
        environment = {**self._environment, "LIBHOOK_POINTS": points, **dict(suite.environment)}
        failed: dict[str, list[Outcome]] = {}
        for boot in range(1, _BOOTS + 1):
            folder = self._folder / (f"{name}-{boot}" if suite.is_lab else name)
            commands = suite.commands(folder, ids, times)
            statuses = [self._execute(command, folder, environment, log) for command in commands]
            found = outcomes.read(folder / "outcomes")
            if not suite.is_lab or statuses != [_LAB_FAILED] or boot == _BOOTS or self._left < suite.minutes * 60:
                break
            failed = {test: plays for test, plays in found.plays.items() if any(one.how == "failed" for one in plays)}
            failed |= {one.test: [one] for one in found.cut_off}
            self._times.append(f"{suite.name} booted again: the lab itself failed after {len(found.plays)} tests")
        return statuses, Outcomes(found.expected, found.plays | failed)

    def _execute(
        self, command: Sequence[str], folder: Path, environment: dict[str, str], log: TextIO | None = None
    ) -> int | None:
        """Run it until the run's end. Return its exit status, or None if it was stopped.

        When a terminal goes, its shell ends, and that or the kernel sends SIGHUP to our process group (drivers/tty,
        disassociate_ctty). Under nohup a part has a session of its own: its tests are born without what nohup does.
        """
        folder.mkdir(exist_ok=True)
        environment = {**environment, "LIBHOOK_OUTCOMES": str(folder / "outcomes")}
        apart = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
        process = subprocess.Popen(
            command, env=environment, cwd=self._top, stdout=log, stderr=log, start_new_session=apart
        )
        self._running.add(process)
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
            self._running.remove(process)


def _broken(status: int | None, found: Outcomes, *, failed: bool) -> str:
    """Why a part says nothing of its tests, or "". What it left out may have failed, too."""
    if status is None:
        return "stopped: the time of the run was over"
    if status not in (0, 1):
        return f"ended with exit status {status}"
    if not found.expected:
        return "ran no test"
    if not found.are_whole:
        return f"{len(found.expected - found.plays.keys())} tests have no outcome"
    if status == 1 and not failed:
        return "failed without a failure"
    return ""
