# SPDX-License-Identifier: LGPL-2.1-or-later
"""How each test ended: a line of JSON each, where LIBHOOK_OUTCOMES names a file. A plugin of pytest, and its reader.

tests/run plays again what failed, so it must know which test that was, and whether each one has ended. A junit file has
no ids, and counts a test twice whose teardown fails, too; `--lf` plays everything where nothing was noted.
"""

import json
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pytest

How = Literal["passed", "failed", "skipped"]
_LONGEST = 300
"""Characters of an assertion's line."""


class Outcome(NamedTuple):
    """How one play of a test ended."""

    test: str
    """Its id, as pytest takes it."""
    how: How
    seconds: float
    why: str
    """Of a failure: file, line and what was raised."""
    races: bool
    """The test has the marker ``race``."""


class Outcomes(NamedTuple):
    """What a file says."""

    expected: frozenset[str]
    """The ids of the tests that were to be played."""
    plays: dict[str, list[Outcome]]
    """By id, in the order in which they ended."""
    cut_off: tuple[Outcome, ...] = ()
    """The test that was being played when its machine died, as one that has failed."""

    @property
    def are_whole(self) -> bool:
        """Whether each test that was to be played has an outcome."""
        return bool(self.expected) and self.expected <= self.plays.keys()


def read(path: Path) -> Outcomes:
    """Read the file. One that is not there has nothing. The last line may be half written, by who was killed."""
    expected, plays, begun = set[str](), defaultdict[str, list[Outcome]](list), list[Outcome]()
    for line in path.read_text().splitlines(keepends=True) if path.exists() else ():
        if line.endswith("\n"):
            match json.loads(line):
                case {"expected": ids}:
                    expected |= set(ids)
                case {"begun": test, "races": races}:
                    begun = [Outcome(test, "failed", 0.0, "the machine died while it was played", races)]
                case fields:
                    plays[fields["test"]].append(Outcome(**fields))
                    begun = []
    return Outcomes(frozenset(expected), plays, tuple(begun))


def pytest_configure(config: pytest.Config) -> None:
    """Note the outcomes, but not as a worker of xdist: its controller hears of all."""
    path = os.environ.pop("LIBHOOK_OUTCOMES", "")  # a pytest that a test starts has no part in it
    if path and not hasattr(config, "workerinput"):
        config.pluginmanager.register(_Notes(path))


class _Notes:
    """Writes each line at once, so that what was played before a crash is known."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._reports = defaultdict[str, list[pytest.TestReport]](list)

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """These are to be played."""
        self._expect(item.nodeid for item in session.items)

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: Iterable[str]) -> None:
        """Each worker has collected the same."""
        self._expect(ids)

    def _expect(self, ids: Iterable[str]) -> None:
        if tests := list(ids):
            self._write({"expected": tests})

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """This one begins."""
        self._write({"begun": item.nodeid, "races": "race" in item.keywords})

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """A phase of a test has ended. That of a worker that died, ``???``, is the last of its test."""
        self._reports[report.nodeid].append(report)
        if report.when not in ("setup", "call"):
            self._write(_outcome(self._reports.pop(report.nodeid))._asdict())

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """A file that cannot be collected has failed."""
        if report.failed:
            self._write(Outcome(report.nodeid, "failed", 0.0, _why(report), False)._asdict())

    def _write(self, fields: dict[str, Any]) -> None:
        with open(self._path, "a") as file:
            file.write(json.dumps(fields) + "\n")


def _outcome(reports: list[pytest.TestReport]) -> Outcome:
    bad = next((report for report in reports if report.failed), None)
    how: How = "failed" if bad else "skipped" if any(report.skipped for report in reports) else "passed"
    seconds = sum(report.duration for report in reports)
    return Outcome(reports[-1].nodeid, how, round(seconds, 2), _why(bad) if bad else "", "race" in reports[0].keywords)


def _why(report: pytest.TestReport | pytest.CollectReport) -> str:
    crash = getattr(report.longrepr, "reprcrash", None)
    text = f"{crash.path}:{crash.lineno}: {crash.message}" if crash else str(report.longrepr).strip()
    lines = text.splitlines() or ["no reason given"]
    return (lines[0] if crash else lines[-1])[:_LONGEST]


def slowest(outcomes: Iterable[tuple[str, Outcome]], count: int) -> Iterator[str]:
    """Give a line for each of so many, the slowest first; each with the part that played it."""
    longest = sorted(outcomes, key=lambda one: -one[1].seconds)[:count]
    yield from (f"{outcome.seconds:8.1f} s  {part}: {outcome.test}" for part, outcome in longest)
