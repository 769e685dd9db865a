# SPDX-License-Identifier: LGPL-2.1-or-later
"""Parses the times of -ts and -te: as ausearch takes them, and ISO 8601. Pure."""

import re
from datetime import datetime, timedelta

from libhook.errors import BadInput, named

_KEYWORDS = "now, recent, this-hour, boot, today, yesterday, this-week, week-ago, this-month, this-year"
_DATE = re.compile(r"(\d{1,2})/(\d{1,2})/(\d{4}|\d{2})")
_TIME = re.compile(r"(\d{1,2}):(\d{2})(?::(\d{2}))?")


def moment(words: list[str], now: datetime, up: timedelta, end: bool = False) -> int:
    """Parse the words of -ts or -te to milliseconds since 1970. BadInput if they are no time.

    ``now`` is local and has its zone; ``up`` is how long the host has been up. As with ausearch, a date alone means
    midnight, or with ``end`` the last moment of that day. A time alone is today's. MM/DD/YYYY holds in every locale.
    """
    text = " ".join(words)
    found = _keyword(text, now, up) if len(words) == 1 else None
    if found is None:
        found = _iso(text, end) or _ausearch(words, now, end)
    if found is None:
        raise BadInput(
            f"not a time: {named(text)}",
            f"write 2026-11-24, 2026-11-24T13:30, 11/24/2026 13:30:00, 13:30, or {_KEYWORDS}",
        )
    try:
        return round(found.timestamp() * 1000)
    except (OverflowError, ValueError):
        raise BadInput(f"not a time: {named(text)}", "it is too far from now") from None


def _keyword(text: str, now: datetime, up: timedelta) -> datetime | None:
    naive = now.replace(tzinfo=None)
    day = naive.replace(hour=0, minute=0, second=0, microsecond=0)
    known = {
        "now": naive,
        "recent": naive - timedelta(minutes=10),
        "this-hour": naive.replace(minute=0, second=0, microsecond=0),
        "boot": now - up,
        "today": day,
        "yesterday": day - timedelta(days=1),
        "this-week": day - timedelta(days=(day.weekday() + 1) % 7),  # since Sunday, as with ausearch
        "week-ago": day - timedelta(days=7),
        "this-month": day.replace(day=1),
        "this-year": day.replace(month=1, day=1),
    }
    return known.get(text)


def _iso(text: str, end: bool) -> datetime | None:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    if end and re.fullmatch(r"[\d-]{8,10}", text):
        found += timedelta(days=1, milliseconds=-1)
    return found


def _ausearch(words: list[str], now: datetime, end: bool) -> datetime | None:
    found = now.replace(tzinfo=None, microsecond=0)
    if date := _DATE.fullmatch(words[0]):
        month, day, year = (int(part) for part in date.groups())
        try:
            found = datetime(year + 2000 if year < 100 else year, month, day)  # noqa: DTZ001 - local time, as the user means it
        except ValueError:
            return None
        words = words[1:]
        if not words and end:
            found += timedelta(days=1, milliseconds=-1)
    if words:
        time = _TIME.fullmatch(words[0])
        if time is None or len(words) > 1:
            return None
        try:
            found = found.replace(hour=int(time[1]), minute=int(time[2]), second=int(time[3] or 0))
        except ValueError:
            return None
    return found
