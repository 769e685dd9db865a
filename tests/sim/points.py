# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which of a test's points have failed, in the file that LIBHOOK_POINTS names: those alone are played again.

Hundreds of points may be one test. tests/run plays it again five times, and what disturbs one of them would disturb
another each time.
"""

import json
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

_ASKED = "LIBHOOK_TEST_POINTS"
"""Tells a program that plays which it plays."""
_CHANGES = re.compile(r"[.-][0-9a-f]{4,}\b")
"""What is in the name of a point, and another one in the next run: a process's number, or one of chance."""


def failed() -> list[str]:
    """Return the points of this test that failed before; none where it is played for the first time."""
    return _read().get(_test(), [])


def note(points: Iterable[str]) -> None:
    """Note that these of this test have failed."""
    if path := os.environ.get("LIBHOOK_POINTS"):
        Path(path).write_text(json.dumps({_test(): [*map(_name, points)], **_read()}))


def _read() -> dict[str, list[str]]:
    path = Path(os.environ.get("LIBHOOK_POINTS", ""))
    found: dict[str, list[str]] = json.loads(path.read_text()) if path.is_file() else {}
    return found


def _test() -> str:
    return os.environ["PYTEST_CURRENT_TEST"].rpartition(" (")[0]


def environment() -> dict[str, str]:
    """Return what tells a program which points it plays."""
    return {_ASKED: json.dumps(failed())}


def is_asked_for(point: str) -> bool:
    """Return whether a program plays this point."""
    asked = json.loads(os.environ.get(_ASKED, "[]"))
    return not asked or _name(point) in asked


def are_there(points: Sequence[str], names: Iterable[str]) -> bool:
    """Return whether all that were to be played again are among these."""
    return {*names} <= {*map(_name, points)}


def _name(point: str) -> str:
    return _CHANGES.sub("", point)
