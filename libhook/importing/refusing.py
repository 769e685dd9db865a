# SPDX-License-Identifier: LGPL-2.1-or-later
"""Finds out what makes the scripts refuse a start: the host is made otherwise in one point, and they run again."""

import re
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from libhook.importing.done import Place, Trace
from libhook.importing.sandbox import Outcome

_FILE = re.compile(r"(?:\[\[|\[|test)'? (?:'?!'? )?-([efdsrLh]) '?(/[^\s'\]]+)'?")
_UNIT = re.compile(r"systemctl\b.* is-active(?: --quiet| -q)* (?:-- )?([\w@.:-]+)")
_NOT = ("/sys", "/proc", "/dev", "/run/systemd", "/usr/", "/bin/", "/etc/libvirt/hooks/qemu")
_BROKEN = re.compile(r": unbound variable|syntax error|: command not found|unexpected end of file")
_SAYING = frozenset(
    ["exit", "return", "echo", "printf", "logger", "log", "local", "die", "error", "fail", "cat", "true"]
)
_MOST = 8
_LONGEST = 400


class Otherwise(NamedTuple):
    """One point in which the host is otherwise."""

    kind: str
    """``file`` or ``unit``."""
    target: str
    there: bool
    """Whether the file is there, or the unit is active, then."""
    place: Place
    is_folder: bool = False


class Refusal(NamedTuple):
    """What must be so, or the start is refused."""

    kind: str
    target: str
    absent: bool
    reason: str
    """What the script said."""
    place: Place


Played = Sequence[tuple[Outcome, Trace]]
Again = Callable[[Sequence[Otherwise]], Played]
"""Runs the calls of ``prepare`` on a host that is otherwise."""


def find(first: Played, active: Callable[[str], bool], again: Again) -> tuple[list[Refusal], list[Otherwise]]:
    """Return what refuses, and what must be otherwise for the start not to be refused here."""
    now, before, found, kept = first, _refused(first), list[Refusal](), list[Otherwise]()
    tried = set[str]()
    while len(tried) < _MOST and (points := [one for one in _points(now, active) if one.target not in tried]):
        one = points[0] if before is None else points[-1]  # what refuses is tested right before
        tried.add(one.target)
        played = again([*kept, one])
        after = _refused(played)
        if before is None and after is not None and not _is_input(one, played, after):
            found.append(Refusal(one.kind, one.target, one.there, after, one.place))
        elif before is not None and after != before and not _is_switch(now, played):
            # If it refuses for another reason now, this one is settled.
            found.append(Refusal(one.kind, one.target, not one.there, before, one.place))
            kept.append(one)
            now, before = played, after
    return found, kept


def _is_input(one: Otherwise, played: Played, said: str) -> bool:
    """Whether a script reads the file that was made, or is only broken by it: an empty one proves nothing."""
    reads = any(one.target in trace.read for _, trace in played)
    return one.kind == "file" and (reads or bool(_BROKEN.search(said)))


def _is_switch(before: Played, after: Played) -> bool:
    """Whether a script does less than before: what is tested turns it off, and does not refuse."""
    had, has = _acting(before), _acting(after)
    return bool(had - has) and not has - had


def _acting(played: Played) -> frozenset[Place]:
    """The lines that do, or test, something. Those that only say why, and end it, are those of a refusal."""
    return frozenset(place for _, trace in played for place, command in trace.commands
                     if command.partition(" ")[0] not in _SAYING)  # fmt: skip


def _refused(played: Played) -> str | None:
    """What a refusal said last; None if there was none."""
    for outcome, trace in played:
        if outcome.call.operation in ("prepare", "start") and outcome.ended and trace.code:
            said = [line.strip() for line in outcome.output.splitlines() if line.strip()]
            return said[-1][:200] if said else ""
    return None


def _points(first: Played, active: Callable[[str], bool]) -> Iterator[Otherwise]:
    seen = set[str]()
    made = {done.path for _, trace in first for done in trace.done if done.what in ("open", "make")}
    for outcome, trace in first:
        if outcome.call.operation not in ("prepare", "start"):
            continue
        for place, command in dict.fromkeys(one for one in trace.commands if len(one[1]) < _LONGEST):
            file = _FILE.search(command)
            if file and file[2].count("/") > 1 and not file[2].startswith(_NOT) and file[2] not in seen | made:
                seen.add(file[2])
                yield Otherwise("file", file[2], there=True, place=place, is_folder=file[1] == "d")
            elif (unit := _UNIT.search(command)) and unit[1] not in seen:
                seen.add(unit[1])
                yield Otherwise("unit", unit[1], there=not active(unit[1]), place=place)
