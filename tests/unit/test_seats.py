# SPDX-License-Identifier: LGPL-2.1-or-later
"""Who is at a seat, by what logind says or does not say."""

import errno

import pytest

from libhook.children.child import Deadline
from libhook.errors import LibhookError
from libhook.facts.machine import Machine
from libhook.look import seats
from libhook.look.linux import LinuxKernel

SEAT = ("show-seat", "--property=ActiveSession", "--value", "--", "seat0")
SESSION = ("show-session", "--property=Name", "--value", "--", "c2")


class Logind(LinuxKernel):
    """One whose loginctl answers as a test says."""

    def __init__(self, answers: dict[tuple[str, ...], tuple[int, str]]) -> None:
        """By the arguments."""
        self._answers = answers

    def loginctl(self, arguments: tuple[str, ...], seconds: float) -> tuple[int, str]:
        """See Kernel."""
        assert seconds > 0
        return self._answers[arguments]


@pytest.mark.parametrize(
    ("answers", "user"),
    [
        ({SEAT: (0, "c2\n"), SESSION: (0, "tim\n")}, "tim"),
        ({SEAT: (0, "c2\n"), SESSION: (1, "")}, ""),
        ({SEAT: (0, "c2\n"), SESSION: (0, "root\n")}, ""),
        ({SEAT: (0, "c2\n"), SESSION: (0, "a/b\n")}, ""),
        ({SEAT: (0, "\n")}, ""),
        ({SEAT: (0, "-H evil\n")}, ""),
        ({SEAT: (1, "")}, ""),
    ],
)
def test_who_is_there(answers: dict[tuple[str, ...], tuple[int, str]], user: str) -> None:
    """Nobody, where there is no such seat, no session, or one that has just ended."""
    assert seats.user_on(Machine("", Logind(answers)), "seat0", Deadline.after(200)) == user


@pytest.mark.parametrize(
    ("answers", "seconds"),
    [
        ({SEAT: (errno.ETIMEDOUT, "")}, 20),
        ({SEAT: (0, "c2\n"), SESSION: (errno.ETIMEDOUT, "")}, 20),
        ({SEAT: (0, "\n")}, 0),
    ],
)
def test_who_does_not_answer_is_not_taken_for_nobody(
    answers: dict[tuple[str, ...], tuple[int, str]], seconds: float
) -> None:
    """In logind's time or in ours."""
    with pytest.raises(LibhookError, match="logind does not say who is at seat0"):
        seats.user_on(Machine("", Logind(answers)), "seat0", Deadline.after(seconds))
