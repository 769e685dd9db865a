# SPDX-License-Identifier: LGPL-2.1-or-later
"""Knows from when to when one host's log goes, and which events are missing in it, by their numbers. Pure."""

import re
from bisect import bisect_left
from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

HEAD = re.compile(rb"([^ \n]{1,40}) msg=audit\((\d{1,11})\.(\d{3})")
"""The beginning of a line, without the node. Its groups: the type; seconds; thousandths."""
OWN = b"DAEMON_"
"""How the types of auditd's own events begin."""
_BOOTS = ("SYSTEM_BOOT", "KERNEL")
_LATE = 64
"""How many gaps are looked through for a number that comes late, and how much lower than the one before it may be."""
_HOLES = 32
"""In a piece with so many gaps and late numbers, or fewer, they are found together; else line by line."""
_WRAPPED = 1 << 31
"""After 4294967295 comes a low number: the kernel counts in 32 bits."""
_ANEW = 8
"""So many lower numbers in a row, of later events, are those of another boot. One alone may come late."""
_MOST = 20_000
"""Gaps of a log that are remembered."""
_FEW, _PART = 8, 20
"""An excerpt has more gaps than the first, and one for so many events or fewer. Or it has one for four."""


class Missing(NamedTuple):
    """Events that a host's log does not have: the first number and the last, and the times of what is around them."""

    first: int
    """-1, like the last, where numbers begin anew without a start of auditd: nobody knows how many are missing."""
    last: int
    after: int
    before: int

    @property
    def number(self) -> int:
        """How many there are."""
        return self.last - self.first + 1


class Host:
    """One host's part of a log. Times are milliseconds since 1970."""

    def __init__(self) -> None:
        self.first, self.last = 1 << 60, 0
        """When its first record was written, and its last."""
        self.events = self.gaps = 0
        self.missing: list[Missing] = []
        self._number, self._time, self._since = -1, 0, 0
        """The highest number, when its event was written, and the gaps of the boots before."""
        self._lower: list[tuple[int, int]] = []
        """Lower numbers that came last, each higher than the one before, with the times of their later events."""

    @property
    def is_excerpt(self) -> bool:
        """Whether so much is missing that somebody has chosen what is there, as ausearch does."""
        return self.gaps * 4 > self.events or (self.gaps > _FEW and self.gaps * _PART > self.events)

    def saw(self, time: int) -> None:
        """Take the time of a record."""
        self.first, self.last = min(self.first, time), max(self.last, time)

    def follows(self, numbers: list[bytes], times: tuple[int, int]) -> bool:
        """Take the numbers of several lines, the first and the last of these times, if no event is missing.

        Where one is, or they are not all as long, or of several boots, do nothing.
        """
        each = set(numbers)
        low, high, events = int(min(each)), int(max(each)), len(each)
        if events != high - low + 1 or self._number not in (-1, low, low - 1) or len(set(map(len, each))) > 1:
            return False
        if _falls(numbers):
            return False
        self.events += events - (self._number == low)
        self._number, self._time = high, times[1]
        self.saw(times[0])
        self.saw(times[1])
        return True

    def has_holes(self, numbers: list[bytes], when: Callable[[bytes], int | None]) -> bool:
        """Take the numbers of several lines where few are missing or late, as at the ends of a piece.

        ``when`` says when the line of a number was written. Where that is not known, or there are many, do nothing.
        """
        texts = {int(number): number for number in numbers}
        known = sorted(texts)
        at = bisect_left(known, self._number) if self._number >= 0 else 0
        late, following = known[:at], known[at:]
        before = [self._number, *following] if self._number >= 0 else following
        holes = [pair for pair in pairwise(before) if pair[1] - pair[0] > 1]
        anew = _falls(numbers) or self._number - known[0] > _WRAPPED  # perhaps, without a record
        if anew or len(late) + len(holes) > _HOLES:
            return False
        ends = [numbers[0], numbers[-1], texts[known[0]], texts[known[at - 1]], texts[known[-1]]]
        ends += [texts[one] for pair in holes for one in pair if one in texts]
        times = {number: time for number in ends if (time := when(number)) is not None}
        if len(times) < len(set(ends)):
            return False
        if late and max(times[texts[late[0]]], times[texts[late[-1]]]) > self._time:
            return False  # they are not late, but another boot's
        for number in late:
            self._late(number)
        for one, other in holes:
            self._lacks(one, other, times[texts[one]] if one in texts else self._time, times[texts[other]])
        if following:
            self.events += len(following) - (following[0] == self._number)
            self._number, self._time = following[-1], times[texts[following[-1]]]
        self.saw(times[numbers[0]])
        self.saw(times[numbers[-1]])
        return True

    def read(self, lines: list[tuple[bytes, bytes, bytes]]) -> None:
        """Take lines, as numbers.py finds them: together, if little is missing."""
        numbers = [line[2] for line in lines]
        first, last = HEAD.fullmatch(lines[0][1]), HEAD.fullmatch(lines[-1][1])
        if first and last and self.follows(numbers, (time_of(first), time_of(last))):
            return
        heads = {number: text for _, text, number in lines}

        def when(number: bytes) -> int | None:
            head = HEAD.fullmatch(heads[number])
            return time_of(head) if head else None

        if self.has_holes(numbers, when):
            return
        for _, text, number in lines:
            if head := HEAD.fullmatch(text):
                self.take(head[1], int(number), time_of(head))

    def take(self, kind: bytes, number: int, time: int) -> None:
        """Take a line."""
        self.saw(time)
        if kind.startswith(OWN):
            if kind == b"DAEMON_START":
                self._begin_anew()
            return
        if number < self._number and (kind.decode() in _BOOTS or self._number - number > _WRAPPED):
            self._begin_anew()
        if 0 <= number < self._number:
            self._late(number) if time <= self._time else self._later(number, time)
            return
        if number != self._number:
            self.events += 1
            if 0 <= self._number < number - 1:
                self._lacks(self._number, number, self._time, time)
            self._number = number
        self._time = time
        self._lower.clear()

    def _later(self, number: int, time: int) -> None:
        """Take a lower number of a later event. Within a boot there is none, but after the clock was set back."""
        if self._lower and number < self._lower[-1][0]:
            self._lower.clear()
        if not self._lower or number > self._lower[-1][0]:
            self._lower.append((number, time))
        if len(self._lower) == _ANEW:
            lower, self._lower = self._lower, []
            self._lacks(-2, 0, self._time, lower[0][1])
            self._begin_anew()
            for one in lower:
                self.take(b"", *one)

    def _lacks(self, one: int, other: int, after: int, before: int) -> None:
        """Nothing between these numbers has come so far."""
        self.gaps += 1
        if len(self.missing) < _MOST:
            self.missing.append(Missing(one + 1, other - 1, after, before))

    def _begin_anew(self) -> None:
        """From here on numbers say nothing of those before: auditd has started, or the host has booted."""
        self._number, self._since = -1, len(self.missing)

    def _late(self, number: int) -> None:
        for at in range(len(self.missing) - 1, max(len(self.missing) - _LATE, self._since) - 1, -1):
            gap = self.missing[at]
            if gap.first <= number <= gap.last:
                parts = [gap._replace(last=number - 1), gap._replace(first=number + 1)]
                self.missing[at : at + 1] = [part for part in parts if part.number > 0]
                self.gaps += sum(part.number > 0 for part in parts) - 1
                self.events += 1
                return


def _falls(numbers: list[bytes]) -> bool:
    """Whether a row of ``_ANEW`` is lower than what is before it by more than a line may come late."""
    some = numbers[::_ANEW]
    if some == sorted(some) and len(some[0]) == len(some[-1]):
        return False
    return any(one - other > _LATE for one, other in pairwise(map(int, some)))


def time_of(head: re.Match[bytes]) -> int:
    """Return when a line was written that HEAD matches, in milliseconds since 1970."""
    return int(head[2] + head[3])
