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

from libhook.history.gaps import HEAD, OWN, Host, Missing, time_of
from libhook.history.records import head_of

# Every repeat has a bound: a log may hold anything. A class of one character is read twice as fast as one of two. So
# this one may run over the end of a line without a number, or take for a number what is none, which is then seen. It
# finds b"" in each other line without one: counting the lines takes two thirds as long as this. D is for DAEMON_.
_NUMBER = re.compile(rb"\n(?:type=[^D][^:]{1,60}:([^)]{1,10})\)|)")
_LINE = re.compile(rb"\n(?:node=([^ ]{1,255}) )?type=([^ ]{1,40} msg=audit\([^:]{1,20}):([^)]{1,10})\)")
"""The groups: the node; all from the type to the time; the number."""
_APART = re.compile(rb"\n(?:node=[^ \n]{1,255} )?type=(DAEMON_|SYSTEM_BOOT|KERNEL)(START)?[^\n]*")
"""A line of auditd's own, or of a boot. The groups: what it is; whether auditd starts."""
_HOPELESS = 1_000
"""An excerpt with so many gaps is read no further."""


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
            if found[2] or found[1] != OWN:  # numbers may begin anew
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
        first, last = (HEAD.fullmatch(line[2]) if line else None for line in lines)
        if first is None or last is None:
            return False
        host = self._host(None)
        texts: list[bytes] = []

        def when(number: bytes) -> int | None:
            texts[:] = texts or piece.split(b"\n")
            head = head_of(texts[numbers.index(number) + 1])
            return head[1] if head and head[3] == int(number) else None

        return host.follows(numbers, (time_of(first), time_of(last))) or (
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


def _name(node: bytes) -> str | None:
    return node.decode("utf-8", "surrogateescape") or None


def _has(host: Host, gap: Missing) -> bool:
    """Whether this log has all that another one lacks: it is of that time, and lacks none of it."""
    if host.is_excerpt or not (host.first <= gap.after and gap.before <= host.last):
        return False
    return not any(one.first <= gap.last and gap.first <= one.last for one in host.missing)
