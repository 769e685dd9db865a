# SPDX-License-Identifier: LGPL-2.1-or-later
"""By which name guests claim a file below /sys or /proc/sys, so that those who set one file meet, however they name it.

It is the name without links (look/samefile.py), but where a guest already claims the file by another one: by that.
"""

from __future__ import annotations

from libhook import plainjson
from libhook.errors import BadInput
from libhook.facts.knob import maximum
from libhook.facts.samefile import File, overlapping
from libhook.facts.shared import Shared, file_name, name_of
from libhook.facts.value import file_below
from libhook.kinds.kind import Work
from libhook.light import TYPE_CHECKING, NamedTuple, suppress
from libhook.look import samefile

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from libhook.effects.state import State

_BEGIN = "value "
_SWAPPED = str.maketrans("/ ", " /")


class Known(NamedTuple):
    """A file that a path leads to."""

    file: File
    claimed: tuple[str, ...] = ()
    """The paths by which guests claim it."""
    rivals: tuple[str, ...] = ()
    """Paths, claimed or asked for, of other files: who sets one of them sets this one, too."""
    bounds: tuple[str, ...] = ()
    """Such paths of a minimum, if this is its maximum, or the other way round: neither may pass the other. Also of a
    port's MTU, if this is its bridge's, or the other way round."""

    @property
    def path(self) -> str:
        """The path by which one more guest claims it."""
        return self.file.name if self.file.name in self.claimed or not self.claimed else self.claimed[0]


def thing(path: str) -> str:
    """The name of the shared thing that is the file with this path."""
    return f"{_BEGIN[:-1]}{path.translate(_SWAPPED)}"


def path_in(thing: str) -> str:
    """The path in such a name. BadInput where it is none."""
    return file_below(thing.removeprefix(_BEGIN[:-1]).translate(_SWAPPED))


def look(work: Work, paths: Iterable[str]) -> dict[str, Known]:
    """What each of these paths leads to. LibhookError where that cannot be seen."""
    wanted = list(dict.fromkeys(paths))
    if not wanted:
        return {}
    claimed = list(_claimed(work.state))
    found = samefile.files(work.machine, list(dict.fromkeys((*wanted, *claimed))), work.deadline)
    same, rivals = dict[str, list[str]](), overlapping(found)
    for path in claimed:
        same.setdefault(found[path].name, []).append(path)
    return {path: _known(found, path, tuple(same.get(found[path].name, ())), rivals[path]) for path in wanted}


def _known(found: Mapping[str, File], path: str, claimed: tuple[str, ...], rivals: tuple[str, ...]) -> Known:
    bounds = {other for other in rivals if _bounds(found[path], found[other]) or _bounds(found[other], found[path])}
    apart = tuple(other for other in rivals if other not in bounds)
    return Known(found[path], claimed, apart, tuple(other for other in rivals if other in bounds))


def _bounds(one: File, other: File) -> bool:
    return other.name == maximum(one.name) or other.name in one.masters


def _claimed(state: State) -> Iterator[str]:
    """The paths by which guests claim files."""
    begin = file_name(_BEGIN)
    for name in sorted(state.names("shared")):
        if name.startswith(begin) and name.endswith(".json"):
            with suppress(BadInput, ValueError, RecursionError):  # who claims it is refused, with this file's name
                yield path_in(name_of(name.removesuffix(".json")) or _long(state, name.removesuffix(".json")))


def _long(state: State, name: str) -> str:
    return Shared.from_json(plainjson.loads(state.read_shared(name) or "null")).resource
