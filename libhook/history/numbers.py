# SPDX-License-Identifier: LGPL-2.1-or-later
"""Knows from when to when each host's log goes, and which events are missing in it, by their numbers. Pure.

The kernel numbers audit events within a boot (audit_serial() in kernel/audit.c), and all records of an event have its
number. Some lines come a little out of order. auditd's own events, of the types DAEMON_*, have numbers of auditd's.
Events that the kernel drops because its backlog is full get no number (audit_log_start()); what the rate limit or a
full queue takes has one (audit_log_end()).
"""

import re
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from libhook.history.records import head_of

# Loose, and so twice as fast. What they take for a number and is none follows no other, and is looked at line by line.
_NUMBER = re.compile(rb"\ntype=[^:]+:([^)]+)")
_TIMED = re.compile(rb"\ntype=[^(]+\(([^:]+):([^)]+)")
_OF_NODE = re.compile(rb"\nnode=([^ \n]+) type=[^(]+\(([^:]+):([^)]+)")
_USUAL = b"\ntype=", b"\nnode="
_OWN = b"DAEMON_"
_LATE = 64
"""How many gaps are looked through for a number that comes late."""
_MOST = 20_000
"""Gaps of a host that are remembered. A log that has so many is an excerpt."""
_FEW, _PART = 8, 20
"""An excerpt has more gaps than the first, and one for so many events or fewer. Or it has one for four."""


class Missing(NamedTuple):
    """Events that a host's log does not have: the first number and the last, and the times of what is around them."""

    first: int
    last: int
    after: int
    before: int

    @property
    def number(self) -> int:
        """How many there are."""
        return self.last - self.first + 1


class Host:
    """The log of one host. Times are milliseconds since 1970."""

    def __init__(self) -> None:
        self.first, self.last = 1 << 60, 0
        """When its first record was written, and its last."""
        self.events = self.gaps = 0
        self.missing: list[Missing] = []
        self._number, self._time = -1, 0

    @property
    def is_excerpt(self) -> bool:
        """Whether so much is missing that somebody has chosen what is there, as ausearch does."""
        return self.gaps * 4 > self.events or (self.gaps > _FEW and self.gaps * _PART > self.events)

    def restart(self) -> None:
        """From here on numbers say nothing of those before: auditd has started, perhaps after a boot."""
        self._number = -1

    def saw(self, time: int) -> None:
        """Take the time of a record."""
        self.first, self.last = min(self.first, time), max(self.last, time)

    def follows(self, numbers: list[bytes], times: tuple[bytes, bytes]) -> bool:
        """Take the numbers of several lines, and the times of the first and the last, if no event is missing.

        Else, or where one is no number, do nothing.
        """
        events = set(numbers)
        try:
            low, high, first, last = int(numbers[0]), int(numbers[-1]), *map(_time, times)
        except ValueError:
            return False
        if self._number not in (-1, low, low - 1) or len(events) != high - low + 1:
            return False
        self.events += len(events) - (self._number == low)
        self._number, self._time = high, last
        self.saw(first)
        self.saw(last)
        return True

    def take(self, number: int, time: int) -> None:
        """Take the number of a line."""
        if number == self._number:
            return
        if 0 <= number < self._number:
            self._late(number)
            return
        self.events += 1
        if 0 <= self._number < number - 1:
            self.gaps += 1
            if len(self.missing) < _MOST:
                self.missing.append(Missing(self._number + 1, number - 1, self._time, time))
        self._number, self._time = number, time

    def _late(self, number: int) -> None:
        for at in range(len(self.missing) - 1, max(len(self.missing) - _LATE, 0) - 1, -1):
            gap = self.missing[at]
            if gap.first <= number <= gap.last:
                parts = [gap._replace(last=number - 1), gap._replace(first=number + 1)]
                self.missing[at : at + 1] = [part for part in parts if part.number > 0]
                self.gaps += sum(part.number > 0 for part in parts) - 1
                self.events += 1
                return


class Numbers:
    """Follows the numbers of all hosts, in pieces of whole lines that each begin with the line feed before them."""

    def __init__(self) -> None:
        self.hosts: dict[str | None, Host] = {}

    def log(self) -> None:
        """The next log begins, which does not go on from the one before."""
        for host in self.hosts.values():
            host.restart()

    def take(self, piece: bytes) -> None:
        """Take a piece of a log."""
        if _OWN in piece or not piece.startswith(_USUAL):
            self._slowly(piece)
        elif _USUAL[1] in piece:
            nodes: dict[bytes, list[tuple[bytes, bytes]]] = {}
            for node, time, number in _OF_NODE.findall(piece):
                nodes.setdefault(node, []).append((time, number))
            follow = [self._follows(node, lines) for node, lines in nodes.items()]
            if not all(follow) or b"\ntype=" in piece:
                self._slowly(piece)
        else:
            numbers = _NUMBER.findall(piece)
            first, last = _TIMED.match(piece), _TIMED.match(piece, piece.rfind(b"\n"))
            if not (first and last and numbers and self._host(None).follows(numbers, (first[1], last[1]))):
                self._slowly(piece)

    def _follows(self, node: bytes, lines: list[tuple[bytes, bytes]]) -> bool:
        host = self._host(node.decode("utf-8", "surrogateescape"))
        return host.follows([number for _, number in lines], (lines[0][0], lines[-1][0]))

    def _slowly(self, piece: bytes) -> None:
        for line in piece.split(b"\n"):
            head = head_of(line)
            if head is None:
                continue
            node, time, kind, number = head
            host = self._host(node)
            host.saw(time)
            if kind == "DAEMON_START":
                host.restart()
            elif not kind.startswith("DAEMON_"):
                host.take(number, time)

    def _host(self, node: str | None) -> Host:
        if (host := self.hosts.get(node)) is None:
            host = self.hosts[node] = Host()
        return host

    def saved(self) -> list[Any]:
        """What ``restored`` takes, as JSON can say it."""
        return [
            [node, host.first, host.last, host.events, host.gaps, host.missing] for node, host in self.hosts.items()
        ]

    @classmethod
    def restored(cls, values: Iterable[Any]) -> "Numbers":
        """The same again, of what ``saved`` gave."""
        numbers = cls()
        for node, first, last, events, gaps, missing in values:
            host = numbers._host(node)
            host.first, host.last, host.events, host.gaps = first, last, events, gaps
            host.missing = [Missing(*one) for one in missing]
        return numbers

    def gone(self) -> Iterator[tuple[str | None, Missing]]:
        """What is missing of whole logs, by host."""
        for node, host in self.hosts.items():
            if not host.is_excerpt:
                yield from ((node, one) for one in host.missing)


def _time(text: bytes) -> int:
    """Milliseconds, of ``1764000000.102``. ValueError if it is none."""
    seconds, point, part = text.partition(b".")
    if point and len(part) == 3:
        return int(seconds + part)
    raise ValueError(text)
