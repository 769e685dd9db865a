# SPDX-License-Identifier: LGPL-2.1-or-later
"""The clock of the tests: a deadline passes where a test says so, and not because the machine is slow.

A test that is about a deadline gives it a minute or more, and says what must have happened when it passes. Then
``time.monotonic`` goes on by an hour, in this process. ``soon`` is for where nothing need be done in time.
"""

import os
import select
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from unittest import mock

from family import children, rest

from libhook.children.child import Deadline
from libhook.effects import locks

_LOOK = 0.01
_monotonic, _poll = time.monotonic, select.poll


def _never() -> bool:
    return False


_owner = 0
_has_passed: Callable[[], object] = _never
_ahead = _step = 0.0


def soon(seconds: float = 0.05) -> Deadline:
    """Return a deadline that passes so soon. Nothing that must be done before it may need time."""
    return Deadline(time.monotonic() + seconds)


def _now() -> float:
    """Return what time.monotonic() is in a test."""
    global _ahead, _has_passed
    if os.getpid() == _owner and _has_passed():
        _ahead, _has_passed = _ahead + _step, _never
    return _so_far()


def _so_far() -> float:
    """Return the same, and let the clock stay where it is."""
    # In a child time stays as it is for whatever waits there: it hangs, say.
    return _monotonic() + (_ahead if os.getpid() == _owner else 0)


class _Poll:
    """select.poll(), looking at the clock meanwhile."""

    def __init__(self) -> None:
        self._real = _poll()
        self.register = self._real.register

    def poll(self, milliseconds: float | None = None) -> list[tuple[int, int]]:
        """Wait as the real one does, but not beyond what the clock of the tests says."""
        # If the clock went on here, it would do so before the wait, which would then last as long as it may.
        until = float("inf") if milliseconds is None or milliseconds < 0 else _so_far() + milliseconds / 1000
        while True:
            left = until - _now()
            found = self._real.poll(max(0.0, min(left, _LOOK)) * 1000)
            if found or left <= 0:
                return found


def all_asleep() -> Callable[[], bool]:
    """Return what says whether nothing is at work: every child sleeps, and none has run since the look before."""
    before: dict[int, tuple[str, ...]] = {}

    def are() -> bool:
        # Each has slept from one look to the next. So there was a moment at which all of them did.
        nonlocal before
        now = {pid: rest(pid) for pid in children()}
        same, before = now == before, now
        return same and {one[:1] for one in now.values()} <= {("S",), ("Z",), ()}

    return are


def when(has_happened: Callable[[], object], seconds: float = 3600) -> None:
    """Let the clock go on by so much as soon as this has happened, once: every deadline within that time passes."""
    global _has_passed, _owner, _step
    _has_passed, _owner, _step = has_happened, os.getpid(), seconds


@contextmanager
def at_a_lock() -> Iterator[None]:
    """Let every deadline pass once somebody waits for a lock."""
    with mock.patch.object(locks, "time", mock.Mock(sleep=lambda _: when(lambda: True))):
        yield


def reset() -> None:
    """Begin a test: nothing is late."""
    global _has_passed, _ahead
    _has_passed, _ahead = _never, 0.0


def install() -> None:
    """Take the place of the real clock."""
    time.monotonic = _now
    select.poll = _Poll  # type: ignore[misc, assignment]
