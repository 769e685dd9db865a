# SPDX-License-Identifier: LGPL-2.1-or-later
"""Finds what comes from the host, and from no script: numbers, addresses, names. No setting may have these. Pure.

The scripts run on two imagined hosts, which differ only in what each host says otherwise. What they do at the same
line with other words comes from there: as it is read, or as a sum of it.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from libhook.importing import meaning
from libhook.importing.asking import ASKS, only_asks
from libhook.importing.done import Done, Place, Trace
from libhook.importing.effect import Effect
from libhook.importing.inside import own, processes
from libhook.importing.sandbox import Outcome

_PROGRAMS = frozenset([*own.ANSWERS, "pgrep", "pidof", "ps", "lsof", "fuser", "sysctl", "cpupower"])
"""Programs that each host answers otherwise."""
_FILES = re.compile(
    r"/proc/(?:sys/(?!vm/overcommit_memory$)|irq/|(?:interrupts|meminfo)$)"  # malloc() of glibc reads that one
    r"|/sys/(?!bus/|devices/pci|class/vtconsole|module/)"
)
_USERS = "/etc/passwd"
_FOLDERS = re.compile(r"/proc/irq/\S*\*|/run/user/\S*\*")
_NUMBER = re.compile(r"[0-9]{1,18}", re.ASCII)
_MOST_NAMED = 3
_SETTINGS = frozenset(
    ["command", "trigger", "written", "file", "mount", "umount", "down", "up", "restart", "out", "in"]
)

Played = Sequence[tuple[Outcome, Trace]]
Key = tuple[object, ...]


class Varying(NamedTuple):
    """What is otherwise on the other host."""

    done: frozenset[Key] = frozenset()
    paths: frozenset[tuple[str, str]] = frozenset()
    """The files that something else is written to, each with the operation."""
    asked: tuple[str, ...] = ()
    """The files and programs that the scripts ask."""
    elsewhere: frozenset[str] = frozenset()
    """The files that are written to there."""
    values: Mapping[tuple[str, Place, str], str] = {}
    """What is written to each value there."""


def asked(played: Played, texts: Sequence[str]) -> tuple[str, ...]:
    """The files and programs that were asked, and that each host answers otherwise."""
    found = dict[str, None]()
    for _, trace in played:
        found.update(dict.fromkeys(path for path in sorted(trace.read) if _FILES.match(path) and path[-1] != "/"))
        starts = ((one.argv[0].rpartition("/")[2], list(one.argv[1:])) for one in trace.done if one.what == "start")
        found.update(dict.fromkeys(name for name, words in starts
                                   if name in _PROGRAMS and (name in ASKS or only_asks(name, words))))  # fmt: skip
    for text in texts:
        found.update(dict.fromkeys([_USERS] if _USERS in text else []))
        found.update(dict.fromkeys(_FOLDERS.findall(text)))
    return tuple(found)


def compare(one: Played, other: Played, asked: tuple[str, ...]) -> Varying:
    """What was done at the same line with other words. A line that did only more, or less, is no such."""
    effects = (effect for outcome, trace in other
               for effect in meaning.of(trace.done, outcome.call.operation, {}))  # fmt: skip
    values = {(effect.operation, effect.place, effect.target): effect.value for effect in effects
              if effect.kind == "value"}  # fmt: skip
    mine, theirs = _by_line(one), _by_line(other)
    keys = {key for line, some in mine.items() if theirs.get(line, set[Key]()) - some for key in some - theirs[line]}
    paths = frozenset((outcome.call.operation, done.path) for outcome, trace in one for done in trace.done
                      if done.what == "write" and _key(done, outcome.call.operation) in keys)  # fmt: skip
    elsewhere = frozenset(done.path for _, trace in other for done in trace.done)
    return Varying(frozenset(keys), paths, asked, elsewhere, values)


def _by_line(played: Played) -> dict[tuple[str, Place, str], set[Key]]:
    found = dict[tuple[str, Place, str], set[Key]]()
    for outcome, trace in played:
        for done in trace.done:
            what = done.argv[0] if done.what == "start" else "file"
            found.setdefault((outcome.call.operation, done.place, what), set()).add(_key(done, outcome.call.operation))
    return found


def _key(done: Done, operation: str) -> Key:
    data = () if done.what == "start" else (done.data,)  # of a start it is only the folder
    return (operation, done.place, done.what, done.argv, done.path, *data, done.user, done.environment)


def told(effects: Iterable[Effect], varying: Varying, line: Callable[[Place], str]) -> Iterator[Effect]:
    """The effects, and of those that depend on the host, why they become no setting."""
    for one in effects:
        if not _varies(one, varying):
            yield one
            continue
        why = f"it depends on what this host says{_names(one, varying, line(one.place))}"
        if one.kind in ("value", "governor"):
            yield one._replace(varies=f"{_what(one, varying)}: {why}", adds=_adds(one, varying))
        elif one.kind == "bind":
            yield one._replace(kind="needless", value="libhook binds what the guest's XML has, and gives it back")
        elif one.kind in _SETTINGS:
            yield one._replace(kind="left", value=f"{_what(one, varying)}: {why}")
        else:
            yield one


def _what(one: Effect, varying: Varying) -> str:
    """What does it, or is written to; no path that only the imagined host has."""
    if one.done.what == "start":
        return one.done.argv[0].rpartition("/")[2]
    return one.target if one.done.path in varying.elsewhere else "a file that the script finds"


def _varies(one: Effect, varying: Varying) -> bool:
    words = (*one.done.argv[1:], one.target, one.value)
    return (
        _key(one.done, one.operation) in varying.done
        or (one.kind == "written" and (one.operation, one.done.path) in varying.paths)
        or any(processes.USER in word for word in words)
    )


def _adds(one: Effect, varying: Varying) -> bool:
    """Whether it adds huge pages to those that are there: none on the first host, one on the other."""
    there = varying.values.get((one.operation, one.place, one.target), "")
    numbers = [int(text) for text in (one.value, there) if _NUMBER.fullmatch(text)]
    return one.target.endswith("nr_hugepages") and len(numbers) == 2 and numbers[0] > 0 and numbers[1] - numbers[0] == 1


def _names(one: Effect, varying: Varying, line: str) -> str:
    """What the line itself asks, if it does; else all that was asked."""
    names = [
        name for name in varying.asked if name != one.target and not (one.done.argv[:1] or ("",))[0].endswith(name)
    ]
    names = [name for name in names if re.search(rf"(?<![\w/]){re.escape(name)}(?![\w/])", line)] or names
    more = " and others" if len(names) > _MOST_NAMED else ""
    return f" ({', '.join(names[:_MOST_NAMED])}{more})" if names else ""
