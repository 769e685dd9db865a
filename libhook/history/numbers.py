# SPDX-License-Identifier: LGPL-2.1-or-later
"""Knows from when to when each host's log goes, and which events are missing in it, by their numbers. Pure.

The kernel numbers audit events within a boot (audit_serial() in kernel/audit.c), and all records of an event have its
number. Some lines come a little out of order. auditd's own events, of the types DAEMON_*, have numbers of auditd's.
Events that the kernel drops because its backlog is full get no number (audit_log_start()); what the rate limit or a
full queue takes has one (audit_log_end()).
"""

import re
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Set
from itertools import pairwise
from typing import Any, NamedTuple

from libhook.history.records import head_of

# Every repeat has a bound: a log may hold anything. A class of one character is read twice as fast as one of two. So
# this one may run over the end of a line without a number, or take for a number what is none, which is then seen. It
# finds b"" in each other line without one: counting the lines takes two thirds as long as this. D is for DAEMON_.
_NUMBER = re.compile(rb"\n(?:type=[^D][^:]{1,60}:([^)]{1,10})\)|)")
_LINE = re.compile(rb"\n(?:node=([^ ]{1,255}) )?type=([^ ]{1,40} msg=audit\([^:]{1,20}):([^)]{1,10})\)")
"""The groups: the node; all from the type to the time; the number."""
_HEAD = re.compile(rb"([^ \n]{1,40}) msg=audit\((\d{1,11})\.(\d{3})")
"""The second of these. Its groups: the type; seconds; thousandths."""
_APART = re.compile(rb"\n(?:node=[^ \n]{1,255} )?type=(DAEMON_|SYSTEM_BOOT|KERNEL)(START)?[^\n]*")
"""A line of auditd's own, or of a boot. The groups: what it is; whether auditd starts."""
_OWN = b"DAEMON_"
_BOOTS = ("SYSTEM_BOOT", "KERNEL")
_LATE = 64
"""How many gaps are looked through for a number that comes late."""
_HOLES = 32
"""In a piece with so many gaps and late numbers, or fewer, they are found together; else line by line."""
_WRAPPED = 1 << 31
"""After 4294967295 comes a low number: the kernel counts in 32 bits."""
_MOST = 20_000
"""Gaps of a log that are remembered."""
_HOPELESS = 1_000
"""An excerpt with so many gaps is read no further."""
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
    """One host's part of a log. Times are milliseconds since 1970."""

    def __init__(self) -> None:
        self.first, self.last = 1 << 60, 0
        """When its first record was written, and its last."""
        self.events = self.gaps = 0
        self.missing: list[Missing] = []
        self._number, self._time, self._since = -1, 0, 0

    @property
    def is_excerpt(self) -> bool:
        """Whether so much is missing that somebody has chosen what is there, as ausearch does."""
        return self.gaps * 4 > self.events or (self.gaps > _FEW and self.gaps * _PART > self.events)

    def saw(self, time: int) -> None:
        """Take the time of a record."""
        self.first, self.last = min(self.first, time), max(self.last, time)

    def follows(self, numbers: Set[bytes], times: tuple[int, int]) -> bool:
        """Take the numbers of several lines, the first and the last of these times, if no event is missing.

        Where one is, or they are not all as long, do nothing.
        """
        low, high, events = int(min(numbers)), int(max(numbers)), len(numbers)
        if events != high - low + 1 or self._number not in (-1, low, low - 1) or len(set(map(len, numbers))) > 1:
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
        anew = known[-1] - int(numbers[-1]) > _HOLES or self._number - known[0] > _WRAPPED  # perhaps, without a record
        if anew or len(late) + len(holes) > _HOLES:
            return False
        ends = [numbers[0], numbers[-1], *(texts[one] for pair in holes for one in pair if one in texts)]
        times = {number: time for number in ends if (time := when(number)) is not None}
        if len(times) < len(set(ends)):
            return False
        for number in late:
            self._late(number)
        for one, other in holes:
            self._lacks(one, other, times[texts[one]] if one in texts else self._time, times[texts[other]])
        if following:
            self.events += len(following) - (following[0] == self._number)
            self._number = following[-1]
        self._time = times[numbers[-1]]
        self.saw(times[numbers[0]])
        self.saw(self._time)
        return True

    def read(self, lines: list[tuple[bytes, bytes, bytes]]) -> None:
        """Take lines, as _LINE finds them: together, if little is missing."""
        numbers = [line[2] for line in lines]
        first, last = _HEAD.fullmatch(lines[0][1]), _HEAD.fullmatch(lines[-1][1])
        if first and last and self.follows(set(numbers), (_time(first), _time(last))):
            return
        heads = {number: text for _, text, number in lines}

        def when(number: bytes) -> int | None:
            head = _HEAD.fullmatch(heads[number])
            return _time(head) if head else None

        if self.has_holes(numbers, when):
            return
        for _, text, number in lines:
            if head := _HEAD.fullmatch(text):
                self.take(head[1], int(number), _time(head))

    def take(self, kind: bytes, number: int, time: int) -> None:
        """Take a line."""
        self.saw(time)
        if kind.startswith(_OWN):
            if kind == b"DAEMON_START":
                self._begin_anew()
            return
        if number < self._number and (kind.decode() in _BOOTS or self._number - number > _WRAPPED):
            self._begin_anew()
        if 0 <= number < self._number:
            self._late(number)
        elif number != self._number:
            self.events += 1
            if 0 <= self._number < number - 1:
                self._lacks(self._number, number, self._time, time)
            self._number = number
        self._time = time

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


class Log(NamedTuple):
    """A log with what was rotated of it: its name, and its hosts."""

    name: str
    hosts: dict[str | None, Host]


class Numbers:
    """Follows the numbers of all hosts, in pieces of whole lines that each begin with the line feed before them."""

    def __init__(self) -> None:
        self.logs: list[Log] = []

    def log(self, name: str) -> None:
        """Begin another log, unless it is the last one's, and goes on."""
        if not self.logs or self.logs[-1].name != name:
            self.logs.append(Log(name, {}))

    def take(self, piece: bytes) -> None:
        """Take a piece of the log."""
        hosts = self.logs[-1].hosts
        if len(hosts) == 1 and all(host.gaps > _HOPELESS and host.is_excerpt for host in hosts.values()):
            for line in (piece[1:].partition(b"\n")[0], piece.rpartition(b"\n")[2]):
                if head := head_of(line):
                    self._host(head[0]).saw(head[1])
            return
        if self._alone(piece):
            return
        parts, at = [], 0
        for found in _APART.finditer(piece):
            parts.append(piece[at : found.start()])
            if found[2] or found[1] != _OWN:  # numbers may begin anew
                self._part(b"".join(parts))
                parts.clear()
            self._by_line(found[0])
            at = found.end()
        self._part(b"".join([*parts, piece[at:]]))

    def _part(self, piece: bytes) -> None:
        """Take lines between those of auditd's own, and boots."""
        if not piece or self._alone(piece):
            return
        lines = _LINE.findall(piece)
        if len(lines) != piece.count(b"\n") or not b"".join([line[2] for line in lines]).isdigit():
            self._by_line(piece)
            return
        own: dict[bytes, list[tuple[bytes, bytes, bytes]]] = {}  # hosts take turns where a collector mixes their lines
        for found in lines:
            own.setdefault(found[0], []).append(found)
        for node, lines in own.items():
            self._host(_name(node)).read(lines)

    def _by_line(self, piece: bytes) -> None:
        for head in map(head_of, piece.split(b"\n")):
            if head:
                self._host(head[0]).take(head[2].encode(), head[3], head[1])

    def _alone(self, piece: bytes) -> bool:
        """Take a piece without the name of a host, without lines of auditd's own, and with few gaps. Else do nothing.

        Nearly all are such pieces.
        """
        numbers = [] if piece.startswith(b"\nnode=") else _NUMBER.findall(piece)
        each = set(numbers)
        if b"" in each or not b"".join(each).isdigit():
            return False
        lines = _LINE.match(piece), _LINE.match(piece, piece.rfind(b"\n"))
        first, last = (_HEAD.fullmatch(line[2]) if line else None for line in lines)
        if first is None or last is None:
            return False
        host = self._host(None)
        texts: list[bytes] = []

        def when(number: bytes) -> int | None:
            texts[:] = texts or piece.split(b"\n")
            head = head_of(texts[numbers.index(number) + 1])
            return head[1] if head and head[3] == int(number) else None

        return host.follows(each, (_time(first), _time(last))) or (
            not _APART.search(piece) and host.has_holes(numbers, when)
        )

    def _host(self, node: str | None) -> Host:
        hosts = self.logs[-1].hosts
        if (host := hosts.get(node)) is None:
            host = hosts[node] = Host()
        return host

    def saved(self) -> list[Any]:
        """What ``restored`` takes, as JSON can say it."""
        return [
            (name, [(node, one.first, one.last, one.events, one.gaps, one.missing) for node, one in hosts.items()])
            for name, hosts in self.logs
        ]

    @classmethod
    def restored(cls, values: Iterable[Any]) -> "Numbers":
        """The same again, of what ``saved`` gave."""
        numbers = cls()
        for name, hosts in values:
            numbers.logs.append(Log(name, {}))
            for node, first, last, events, gaps, missing in hosts:
                host = numbers._host(node)
                host.first, host.last, host.events, host.gaps = first, last, events, gaps
                host.missing = [Missing(*one) for one in missing]
        return numbers

    def times(self) -> dict[str | None, tuple[int, int]]:
        """From when to when each host's trail goes, through all logs."""
        found: dict[str | None, tuple[int, int]] = {}
        for _, hosts in self.logs:
            for node, host in hosts.items():
                if host.first <= host.last:
                    first, last = found.get(node, (host.first, host.last))
                    found[node] = min(first, host.first), max(last, host.last)
        return found

    def gone(self) -> Iterator[tuple[str | None, Missing]]:
        """What is missing of whole logs, by host, once. What another whole log has is not missing."""
        told = set[tuple[str | None, Missing]]()
        for _, hosts in self.logs:
            for node, host in hosts.items():
                others = [more[node] for _, more in self.logs if node in more and more[node] is not host]
                for one in [] if host.is_excerpt else host.missing:
                    if (node, one) not in told and not any(_has(other, one) for other in others):
                        told.add((node, one))
                        yield node, one


def _time(head: re.Match[bytes]) -> int:
    return int(head[2] + head[3])


def _name(node: bytes) -> str | None:
    return node.decode("utf-8", "surrogateescape") or None


def _has(host: Host, gap: Missing) -> bool:
    """Whether this log has all that another one lacks: it is of that time, and lacks none of it."""
    if host.is_excerpt or not (host.first <= gap.after and gap.before <= host.last):
        return False
    return not any(one.first <= gap.last and gap.first <= one.last for one in host.missing)
