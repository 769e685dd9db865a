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
    before, found, kept = _refused(first), list[Refusal](), list[Otherwise]()
    for one in list(_points(first, active))[:_MOST]:
        played = again([*kept, one])
        after = _refused(played)
        if before is None and after is not None:
            found.append(Refusal(one.kind, one.target, one.there, after, one.place))
        elif before is not None and after is None:
            found.append(Refusal(one.kind, one.target, not one.there, before, one.place))
            kept.append(one)
            before = None
        elif before is not None and after != before:  # it refuses for another reason: this one is settled
            found.append(Refusal(one.kind, one.target, not one.there, before, one.place))
            kept.append(one)
            before = after
    return found, kept


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
