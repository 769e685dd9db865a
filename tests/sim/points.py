# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which of a test's points have failed, in the file that LIBHOOK_POINTS names: those alone are played again.

Hundreds of points may be one test. tests/run plays it again five times, and what disturbs one of them would disturb
another each time.
"""

import itertools
import json
import os
import re
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from amounts import AMOUNTS, sample
from disturbing import Point

_ASKED = "LIBHOOK_TEST_POINTS"
"""Tells a program that plays which it plays."""
_CHANGES = re.compile(r"[.-][0-9a-f]{4,}\b")
"""What is in the name of a point, and another one in the next run: a process's number, or one of chance."""


Call = list[str]
"""A program that plays, and its arguments."""


def failed() -> dict[str, Call]:
    """Return the points of this test that failed before, with what played each; none at the first time."""
    return _read().get(_test(), {})


def note(points: Mapping[str, Call]) -> None:
    """Note that these of this test have failed."""
    if points and (path := os.environ.get("LIBHOOK_POINTS")):
        Path(path).write_text(json.dumps({_test(): {_name(one): call for one, call in points.items()}, **_read()}))


def digest(cases: Iterable[str]) -> str:
    """Return a short sum of these names, the same in each run that plays the same; and list them beside that file."""
    names = "".join(f"{name}\n" for name in sorted(map(_name, cases)))
    if path := os.environ.get("LIBHOOK_POINTS"):
        with Path(path).with_name("names").open("a", encoding="utf-8") as file:
            file.write(names)
    return f"{zlib.crc32(names.encode()):08x}"


def _read() -> dict[str, dict[str, Call]]:
    path = Path(os.environ.get("LIBHOOK_POINTS", ""))
    found: dict[str, dict[str, Call]] = json.loads(path.read_text()) if path.is_file() else {}
    return found


def _test() -> str:
    return os.environ["PYTEST_CURRENT_TEST"].rpartition(" (")[0]


def environment() -> dict[str, str]:
    """Return what tells a program which points it plays."""
    return {_ASKED: json.dumps([*failed()])}


def is_asked_for(point: str) -> bool:
    """Return whether a program plays this point."""
    asked = _asked()
    return not asked or _name(point) in asked


def _asked() -> list[str]:
    found: list[str] = json.loads(os.environ.get(_ASKED, "[]"))
    return found


def some(points: Sequence[Point], every: int, of: str) -> Sequence[Point]:
    """Return one of ``every`` so many points, and at least one; all where some are asked for, by their names."""
    return points if _asked() else sample(points, every, of)


def number(point: str) -> int:
    """Return a number for this point. It is the same in each run, however many points there are before."""
    return zlib.crc32(_name(point).encode())


class Share:
    """The points of one of several programs that play the same."""

    def __init__(self, first: int, every: int) -> None:
        """One of ``every`` so many points, from ``first`` on."""
        self._first, self._every = first, every
        self._turn = itertools.count()

    def has(self, point: str) -> bool:
        """Return whether this program plays the point."""
        # Where all are played each has its program, though one that waits longer has more points before. A sample is
        # counted, so that it has some of each part of what is played.
        turn = number(point) if AMOUNTS.crashes == 0 else next(self._turn)
        return is_asked_for(point) if _asked() else turn % self._every == self._first


def are_there(points: Sequence[str], names: Iterable[str]) -> bool:
    """Return whether all that were to be played again are among these."""
    return {*names} <= {*map(_name, points)}


def _name(point: str) -> str:
    return _CHANGES.sub("", point)
