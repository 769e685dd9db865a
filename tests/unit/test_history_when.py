# SPDX-License-Identifier: LGPL-2.1-or-later
"""Times as ausearch's users write them, and as ISO 8601 has them."""

import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from libhook.errors import BadInput, named
from libhook.history.when import moment

NOW = (2026, 11, 24, 18, 43, 27)
"""A Tuesday, local time."""
UP = timedelta(days=50)
"""Since before the end of summer time."""


@pytest.fixture(autouse=True)
def _berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A zone that is not UTC."""
    before = os.environ.get("TZ")
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    assert os.environ.get("TZ") == before
    time.tzset()


@pytest.mark.parametrize(
    ("words", "start", "end"),
    [
        ("2026-11-20", "2026-11-19T23:00:00", "2026-11-20T22:59:59.999"),
        ("2026-11-20T10:30", "2026-11-20T09:30:00", "2026-11-20T09:30:00"),
        ("2026-07-20 10:30:05", "2026-07-20T08:30:05", "2026-07-20T08:30:05"),
        ("2026-11-20T10:30:05.512+00:00", "2026-11-20T10:30:05.512", "2026-11-20T10:30:05.512"),
        ("2026-11-20T10:30:05Z", "2026-11-20T10:30:05", "2026-11-20T10:30:05"),
        ("11/20/2026", "2026-11-19T23:00:00", "2026-11-20T22:59:59.999"),
        ("11/20/26 10:30:05", "2026-11-20T09:30:05", "2026-11-20T09:30:05"),
        ("10:30", "2026-11-24T09:30:00", "2026-11-24T09:30:00"),
        ("now", "2026-11-24T17:43:27", "2026-11-24T17:43:27"),
        ("recent", "2026-11-24T17:33:27", "2026-11-24T17:33:27"),
        ("this-hour", "2026-11-24T17:00:00", "2026-11-24T17:00:00"),
        ("boot", "2026-10-05T17:43:27", "2026-10-05T17:43:27"),
        ("today", "2026-11-23T23:00:00", "2026-11-23T23:00:00"),
        ("yesterday", "2026-11-22T23:00:00", "2026-11-22T23:00:00"),
        ("this-week", "2026-11-21T23:00:00", "2026-11-21T23:00:00"),
        ("week-ago", "2026-11-16T23:00:00", "2026-11-16T23:00:00"),
        ("this-month", "2026-10-31T23:00:00", "2026-10-31T23:00:00"),
        ("this-year", "2025-12-31T23:00:00", "2025-12-31T23:00:00"),
    ],
)
def test_a_time_is_understood(words: str, start: str, end: str) -> None:
    """A day alone ends with its last moment; what says no zone is local, in summer too."""
    now = datetime(*NOW).astimezone()
    for expected, last in ((start, False), (end, True)):
        wanted = datetime.fromisoformat(expected).replace(tzinfo=UTC).timestamp() * 1000
        assert moment(words.split(), now, UP, end=last) == wanted


NO_TIMES = (
    "",
    "soon",
    "13/45/2026",
    "25:00",
    "2026-02-30",
    "11/20/2026 noon",
    "a b c",
    "12:00 11",
    "to mend it, run: poweroff",
)


@pytest.mark.parametrize("words", NO_TIMES)
def test_what_is_no_time_is_said(words: str) -> None:
    """With the forms that are."""
    with pytest.raises(BadInput) as caught:
        moment(words.split() or [""], datetime.now(UTC).astimezone(), UP)
    assert caught.value.line.startswith(f"not a time: {named(words)}: write 2026-11-24, ")
