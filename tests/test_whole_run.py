# SPDX-License-Identifier: LGPL-2.1-or-later
"""What tests/run makes of how its parts end: what it plays again, what it says, and whether it has passed."""

import fcntl
import os
import signal
import subprocess
import sys
import termios
import time
from argparse import Namespace
from pathlib import Path

import gaps
import outcomes
import parts
import pytest
import whole_run
from family import until
from one_run import Run
from parts import Suite

_TESTS = """
import os, pathlib, pytest
def count(name):
    file = pathlib.Path(__file__).parent / name
    file.write_text(file.read_text() + "." if file.exists() else ".")
    return len(file.read_text())
def test_good(): pass
def test_skipped(): pytest.skip("no reason")
"""
_FLAKY = "def test_flaky(): assert count('flaky') > 1\n"
_BAD = "def test_bad():\n    what = 1\n    assert what == 2\n"
_RACE = "@pytest.mark.race\ndef test_race(): assert count('race') not in (1, {})\n"
_END = "def test_end(): os._exit(3)\n"
_ENDS_A_WORKER = "def test_end():\n    if count('worker') == 1: os._exit(3)\n"
_CLEANS_UP = """
@pytest.fixture
def left():
    yield
    assert count('left') > 1
def test_teardown(left): assert count('both') > 1
"""


class Stage:
    """A project with some tests, and a run of it."""

    def __init__(self, folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
        """``folder`` is empty."""
        self.project, self.left = folder / "project", folder / "left"
        self.project.mkdir()
        self.left.mkdir()
        (self.project / "pytest.ini").write_text("[pytest]\nmarkers = race\n")
        self._capfd = capfd

    def suite(self, *tests: str, first: tuple[str, ...] = (), minutes: float = 0.0) -> Suite:
        """These, besides a test that passes and one that is skipped."""
        (self.project / "test_it.py").write_text(_TESTS + "".join(tests))
        where = ("-c", str(self.project / "pytest.ini"), f"--rootdir={self.project}", "-p", "no:cacheprovider")
        command = (sys.executable, "-m", "pytest", "-q", *where, "-p", "outcomes")
        environment = (("PYTHONPATH", str(Path(__file__).parent)),)
        return Suite("it", minutes, command, (*first, str(self.project)), 0, environment)

    def lab(self, *boots: str, name: str = "lab") -> Suite:
        """A program that does each of these in turn."""
        program = self.project / name
        turns = "".join(f"{number}) {boot} ;;\n" for number, boot in enumerate(boots, 1))
        program.write_text(f'#!/bin/sh\necho >>"$0.boots"\ncase $(wc -l <"$0.boots") in\n{turns}esac\n')
        program.chmod(0o755)
        return Suite(name, 0, (str(program),), start=0, is_lab=True)

    def play(self, *suites: Suite, end: float = 600, again: bool = True) -> tuple[bool, list[str]]:
        """Return whether the run has passed, and the lines of its last screen. The suites run one after the other."""
        run = Run(self.left, time.time() + end, {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}, self.project)
        for suite in suites:
            run.suites(suite)
        run.try_again(may=again)
        passed = run.show()
        said = self._capfd.readouterr().out
        return passed, said[said.index("== the ten slowest") :].splitlines()


@pytest.fixture
def stage(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Stage:
    """Give one for this test."""
    return Stage(tmp_path, capfd)


@pytest.mark.parametrize(
    ("test", "first"),
    [(_FLAKY, ()), (_FLAKY, ("-n", "2")), (_CLEANS_UP, ()), (_CLEANS_UP, ("-n", "2")), (_ENDS_A_WORKER, ("-n", "2"))],
    ids=["one", "one of a worker", "teardown", "teardown of a worker", "a worker"],
)
def test_what_passes_when_played_again_is_flaky(stage: Stage, test: str, first: tuple[str, ...]) -> None:
    """It is counted, named and shown as it first failed, once, though its teardown or its worker failed, too."""
    passed, lines = stage.play(stage.suite(test, first=first))
    assert passed
    assert lines[-1] == "libhook: 2 passed, 0 failed, 1 skipped"
    assert "== flaky: passed when played again alone: 1" in lines
    (shown,) = [number for number, line in enumerate(lines) if line.startswith("it: ")]
    assert "::test_" in lines[shown]
    assert ("test_it.py:" if test is not _ENDS_A_WORKER else "crashed while running") in lines[shown + 1]


_MANY = "@pytest.mark.parametrize('n', range({0}))\ndef test_many(n): assert count(f'many{{n}}') > 1\n"


@pytest.mark.parametrize(
    ("tests", "again", "start", "counts", "note"),
    [
        ((_BAD,), True, 0, (1, 1), "(played again: passed 0 of 1)"),
        ((_FLAKY,), False, 0, (1, 1), ""),
        ((_FLAKY,), True, 3600, (1, 1), "(not played again: no time was left)"),
        ((_RACE.format(9), _FLAKY), True, 0, (3, 0), ""),
        ((_RACE.format(4), _FLAKY), True, 0, (2, 1), "(played again: passed 4 of 5)"),
        ((_MANY.format(5),), True, 0, (6, 0), ""),
        ((_MANY.format(6),), True, 0, (1, 6), ""),
    ],
    ids=["fails twice", "somebody chose it", "no time", "races", "loses a race", "five", "more than five"],
)
def test_how_it_ends(
    stage: Stage, tests: tuple[str, ...], again: bool, start: int, counts: tuple[int, int], note: str
) -> None:
    """What fails is played again, where there is time and nobody chose it, up to five tests; a race five times.

    The failed test is shown with the line of its assertion; the slowest are named, and what the parts left.
    """
    passed, lines = stage.play(stage.suite(*tests)._replace(start=start), again=again)
    assert passed is (counts[1] == 0)
    assert lines[-1] == "libhook: {} passed, {} failed, 1 skipped".format(*counts)
    failed = [line for line in lines if line.endswith(note or "of 5)")]
    assert len(failed) == bool(note)
    assert _BAD not in tests or "test_it.py:11: assert 1 == 2" in failed[0]
    assert sum("test_it.py::test_good" in line for line in lines) == 1
    assert f"what the parts left: {stage.left}" in lines
    if len(tests) == 2:
        assert [(stage.project / name).read_text() for name in ("race", "flaky")] == ["." * 6, ".."]


@pytest.mark.parametrize(
    ("test", "first", "said"),
    [
        (_END + _FLAKY, (), "ended with exit status 3"),
        (_FLAKY + _BAD, ("-x",), "1 tests have no outcome"),
        ("", ("-k", "nothing"), "ended with exit status 5"),
        ("import nothing\n", (), "ended with exit status 2"),
        (
            "def pytest_sessionfinish(session): session.exitstatus = 1\n",
            ("-p", "test_it"),
            "failed without a failure",
        ),
    ],
    ids=["died", "ended early", "none", "not collected", "without a failure"],
)
def test_a_part_that_is_broken_has_failed(stage: Stage, test: str, first: tuple[str, ...], said: str) -> None:
    """Nothing of it is played again."""
    suite = stage.suite(test, first=first)
    path = f"{Path(__file__).parent}:{stage.project}"
    passed, lines = stage.play(suite._replace(environment=(("PYTHONPATH", path),)))
    assert not passed
    assert f"tests/run: failed: it: {said}" in lines
    if (stage.project / "flaky").exists():
        assert (stage.project / "flaky").read_text() == "."


def test_the_run_has_an_end(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """What runs then is stopped, nothing is begun that does not fit, and the last screen is there all the same."""
    waits = stage.suite("def test_late():\n    import time\n    count('late')\n    time.sleep(3600)\n")
    wait, now, end = subprocess.Popen.wait, time.time, 1800

    def late(process: "subprocess.Popen[bytes]", timeout: float) -> int:
        if timeout < end / 2:
            return wait(process, timeout)
        until((stage.project / "late").exists)
        monkeypatch.setattr(time, "time", lambda: now() + end)
        raise subprocess.TimeoutExpired(process.args, timeout)

    monkeypatch.setattr(subprocess.Popen, "wait", late)
    passed, lines = stage.play(waits, waits._replace(name="next", minutes=1), end=end)
    assert not passed
    assert "tests/run: failed: it: stopped: the time of the run was over" in lines
    assert "tests/run: failed: next: not begun: it takes 1 minutes, and 0 are left" in lines
    assert lines[-1] == "libhook: 1 passed, 2 failed, 1 skipped"


def test_under_nohup_it_outlives_its_terminal(stage: Stage) -> None:
    """Though its tests are born as usual. The terminal goes while one runs."""
    suite = stage.suite(
        "import born, time\nborn.as_usual()\n",
        "def test_waits():\n    count('begun')\n    while not os.path.exists('go'): time.sleep(0.1)\n",
    )
    done = stage.left / "done"
    plays = (
        "import os, time; from pathlib import Path; from one_run import Run; from parts import Suite\n"
        f"run = Run(Path({str(stage.left)!r}), time.time() + 600, dict(os.environ), Path({str(stage.project)!r}))\n"
        f"run.suites({suite!r})\nPath({str(done)!r}).write_text(str(run.show()))\n"
    )
    master, terminal = os.openpty()
    with subprocess.Popen(
        ["bash", "-c", 'nohup "$@"; exit', "bash", sys.executable, "-c", plays],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
        preexec_fn=lambda: fcntl.ioctl(terminal, termios.TIOCSCTTY),
        start_new_session=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as shell:
        os.close(terminal)
        until((stage.project / "begun").exists)
        os.close(master)
        assert shell.wait() == -signal.SIGHUP
    (stage.project / "go").touch()
    until(lambda: done.exists() and done.read_text())
    assert done.read_text() == "True"


@pytest.mark.parametrize(
    ("statuses", "boots"), [((70, 3), 2), ((70, 70), 2), ((71,), 1)], ids=["it dies", "it dies twice", "its job hangs"]
)
def test_a_lab_that_failed_itself_is_booted_once_more(stage: Stage, statuses: tuple[int, ...], boots: int) -> None:
    """Each boot leaves what it left in a folder of its own. A job that hangs, or a broken install.sh, is a failure."""
    passed, lines = stage.play(stage.lab(*(f"exit {status}" for status in statuses)))
    assert not passed
    assert f"tests/run: failed: lab: ended with exit status {statuses[-1]}" in lines
    assert sorted(path.name for path in stage.left.iterdir()) == [f"lab-{number + 1}" for number in range(boots)]
    assert any("lab booted again: the lab itself failed after 0 tests" in line for line in lines) is (boots > 1)


_FAILED, _PASSED = (
    f'{{"test": "it", "how": "{how}", "seconds": 0, "why": "", "races": false}}\n' for how in ("failed", "passed")
)
_BEGUN = '{"begun": "it", "races": false}\n'


@pytest.mark.parametrize("last", [_PASSED, _FAILED], ids=["passes", "fails"])
@pytest.mark.parametrize("first", [_FAILED, _BEGUN], ids=["failed", "was cut off"])
def test_what_failed_before_a_lab_died_is_played_again(stage: Stage, first: str, last: str) -> None:
    """So is what was played when it died. Though it passed in the other boot, it is flaky, or has failed."""
    expected = '{"expected": ["it"]}\n'
    notes = [(expected + first, 70), (expected + _BEGUN + _PASSED, 0), (_BEGUN + last, 0)]
    boots = (f"printf %s '{text}' >\"$LIBHOOK_OUTCOMES\"; exit {status}" for text, status in notes)
    passed, lines = stage.play(stage.lab(*boots))
    assert passed is (last == _PASSED)
    assert lines[-1] == f"libhook: {int(passed)} passed, {int(not passed)} failed, 0 skipped"
    number = lines.index("lab: it")
    assert ("the machine died while it was played" in lines[number + 1]) is (first == _BEGUN)


def test_two_labs_are_played_side_by_side(stage: Stage, capfd: pytest.CaptureFixture[str]) -> None:
    """The first ends only when the other has begun. What the other prints is shown when it has ended."""
    note = f"""printf %s '{{"expected": ["it"]}}\n{_BEGUN}{_PASSED}' >"$LIBHOOK_OUTCOMES\""""
    go = stage.project / "go"
    one = stage.lab(f"until [ -e {go} ]; do sleep 0.1; done; {note}")
    other = stage.lab(f"touch {go}; echo said by the other; {note}", name="other")
    run = Run(stage.left, time.time() + 600, dict(os.environ), stage.project)
    run.suites(one, other)
    assert run.show()
    said = capfd.readouterr().out
    assert "== other: see other.log\n" in said
    assert "== other\nsaid by the other\n" in said
    assert said.endswith("libhook: 2 passed, 0 failed, 0 skipped\n")


def test_all_plays_what_has_not_passed_at_this_commit(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A part that is named is played in any case. A name that no part has is an error."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(stage.left))
    monkeypatch.setattr(parts, "_git", lambda command, *_: "" if command == "status" else "1234")
    passes = f"""printf %s '{{"expected": ["it"]}}\n{_BEGUN}{_PASSED}' >"$LIBHOOK_OUTCOMES\""""
    labs = [stage.lab(passes, passes), stage.lab("exit 71", passes, name="other")]
    monkeypatch.setattr(parts, "whole", lambda: [(lab,) for lab in labs])

    def play(*names: str) -> tuple[int, str, list[int]]:
        code = whole_run._all(Namespace(profile="all", arguments=[*names]))
        boots = [len((stage.project / f"{lab.name}.boots").read_text().splitlines()) for lab in labs]
        return code, "".join(capfd.readouterr()).splitlines()[-1].partition(" in ")[0], boots

    assert play() == (1, "other: failed", [1, 1])
    assert play() == (0, "other: passed", [1, 2])
    assert play() == (0, "other: passed", [1, 2])
    assert play("lab") == (0, "other: passed", [2, 2])
    assert play("kitchen")[0] == 2


def test_a_half_written_line_is_no_outcome(tmp_path: Path) -> None:
    """Whoever wrote it was killed."""
    (tmp_path / "it").write_text('{"expected": ["a"]}\n{"test": "a", "how": "pas')
    found = outcomes.read(tmp_path / "it")
    assert (found.plays, found.are_whole) == ({}, False)


def test_a_gap_of_the_machine_is_noted(tmp_path: Path) -> None:
    """Here the process that ticks stands still, as all do on a machine that is paused."""
    path = tmp_path / "gaps"
    assert gaps.told(path) == "the machine never stood still for more than 1 s"
    with subprocess.Popen([sys.executable, gaps.__file__, str(path)]) as ticking:
        while ticking.poll() is None and not (path.exists() and path.stat().st_size):  # it may not tick yet
            ticking.send_signal(signal.SIGSTOP)
            time.sleep(1.5)
            ticking.send_signal(signal.SIGCONT)
            time.sleep(0.5)
        ticking.terminate()
    assert gaps.told(path).startswith("the machine stood still ")
