# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where the same act is played again and again, each time disturbed at another point.

Each time the host is as it was before, in a process of its own. What plays is a program, so that it is small: it forks
a process for every point, and that process more. It prints a line of JSON for each.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import disturbing
import points
from disturbing import Deed, Point
from scenario import Host, adopt_orphans

Played = tuple[Any, Any]
"""A case, and what was wrong, or how it ended."""
if TYPE_CHECKING:
    import pytest

_HERE = Path(__file__).parent
_called: dict[str, points.Call] = {}
"""What has played each case."""


class Stage:
    """A host that is put back as it was."""

    def __init__(self, host: Host) -> None:
        """``host`` may change until it is kept."""
        self._host = host
        self._root = host.root
        self._answer = -1
        """In the process of one point: the pipe to tell what was wrong."""
        self.renew: Callable[[], object] = lambda: None
        """What a copy of the host needs to be as the host was: its files have other inodes."""

    @property
    def is_apart(self) -> bool:
        """Whether this is the process of one point."""
        return self._answer >= 0

    def keep(self) -> None:
        """From now on the host as it is now is put back."""
        subprocess.run(["/bin/rm", "-rf", f"{self._root}.now"], check=True)
        subprocess.run(["/bin/cp", "-a", self._root, f"{self._root}.now"], check=True)

    def put_back(self) -> None:
        """As it was kept."""
        subprocess.run(f"rm -r '{self._root}' && cp -a '{self._root}.now' '{self._root}'", shell=True, check=True)  # noqa: S602
        self.renew()

    def close(self) -> None:
        """The host goes, with what was kept of it."""
        subprocess.run(["/bin/rm", "-rf", self._root, f"{self._root}.now"], check=True)

    def kill(self, deed: Deed, plays: Iterable[tuple[Point, str, Any]]) -> Iterator[tuple[Point, Any, int]]:
        """Kill the deed at each point. ``plays``: the point, the name of the case, and who comes next.

        In the process of each point, and nowhere else, that is given, with the status of the deed. That process must
        end by ``tell``.
        """
        for point, name, comer in plays:
            if not points.is_asked_for(name):
                continue
            self.put_back()
            receiver, self._answer = os.pipe()
            if not (pid := os.fork()):
                os.close(receiver)
                os.environ.clear()
                adopt_orphans()
                status = disturbing.die(self._host, deed, point)
                if status in (0, 1) and point.how != "writer":
                    self.tell(["was not killed"])
                yield point, comer, status
                raise AssertionError("the process of one point has gone on to the next")
            os.close(self._answer)
            self._answer = -1
            with os.fdopen(receiver) as pipe:
                show(name, json.loads(pipe.read() or '["the test itself failed"]'))
            os.waitpid(pid, 0)  # whatever else a test has left may end first
        self.put_back()

    def tell(self, problems: list[str]) -> NoReturn:
        """What was wrong at this point; and its process ends."""
        os.write(self._answer, json.dumps(problems).encode())
        os._exit(0)


def show(case: object, outcome: object) -> None:
    """One line of a program that plays."""
    print(json.dumps([case, outcome]), flush=True)


def played(*calls: tuple[object, ...]) -> list[Played]:
    """What such programs show: each beside this file, with its arguments, two at once for each CPU.

    One of two waits: for what it has forked, or for the disk.
    """
    environment = {**os.environ, "PYTHONPATH": f"{_HERE.parents[1]}:{_HERE.parent}", **points.environment()}

    def play(call: points.Call) -> list[Played]:
        program, *arguments = call
        command = [sys.executable, str(_HERE / program), *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        found = [(case, outcome) for case, outcome in map(json.loads, done.stdout.splitlines())]
        _called.update((str(case), call) for case, _ in found)
        return found

    again = [*points.failed().values()]
    wanted = [call for call in ([*map(str, call)] for call in calls) if not again or call in again]
    with ThreadPoolExecutor(2 * (os.cpu_count() or 1)) as pool:
        return [one for found in pool.map(play, wanted) for one in found]


def survived(capsys: pytest.CaptureFixture[str], what: str, outcomes: list[Played], least: Mapping[str, int]) -> None:
    """All of them, or the test fails. There are at ``least`` so many whose names have such words in them.

    Where some have failed before, those alone have been played.
    """
    failed = {str(case): problems for case, problems in outcomes if problems}
    cases, again = [str(case) for case, _ in outcomes], points.failed()
    with capsys.disabled():
        print(f"\n{what}: {len(cases) - len(failed)} of {len(cases)} survived, sum of names {points.digest(cases)}")
    if failed.keys() <= _called.keys():
        points.note({case: _called[case] for case in failed})
    assert not failed, "\n".join(f"{case}: {problems}" for case, problems in failed.items())
    assert points.are_there(cases, again)
    for words, count in least.items() if not again else ():
        assert sum(words in case for case in cases) >= count, words
