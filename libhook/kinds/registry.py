# SPDX-License-Identifier: LGPL-2.1-or-later
"""The list of kinds, and what is asked of all of them. A new kind is one line here and one file.

A kind's file is imported when it is first asked for, since somebody waits for each import.
"""

from __future__ import annotations

from itertools import groupby

from libhook.children.child import Deadline
from libhook.errors import BadInput, LibhookError, TooNew, unanswered
from libhook.facts.config import Config
from libhook.facts.domain import HostDevice
from libhook.facts.entry import Held, Process
from libhook.facts.event import Event
from libhook.facts.host import Host
from libhook.facts.machine import Machine
from libhook.facts.plan import Action, Limit, Stays, Warn
from libhook.kinds.kind import Failure, Kind, Outcome, Work
from libhook.light import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
    from typing import Any

    from libhook.kinds.resource import Resource

_SETTINGS: dict[str, tuple[str, ...]] = {
    "pci": ("take_along",),
    "run": ("run",),  # compacting memory comes before the value that reserves huge pages
    "value": ("values",),
    "unit": ("units",),
    "legacy": ("legacy",),  # an old script may need what units end, and free what modules need
    "module": ("modules",),
}
"""The kinds, each with the keys of the settings that ask for its actions; none where only handlers ask. What
"take_along" names counts among the guest's devices, and the handlers ask for it as for those.

Their order is that of the actions, where no action needs another: the most disruptive come last."""
_TOLD = ("legacy",)
"""The kinds with ``Kind.told``. Others need not be imported for that."""


class _Kinds(dict[str, Kind]):
    """The kinds that were asked for, by name."""

    def __missing__(self, name: str) -> Kind:
        _SETTINGS[name]  # KeyError, and no import of what a journal entry may name
        found: Kind = __import__(f"{__package__}.{name}", globals(), fromlist=("KIND",)).KIND
        self[name] = found
        return found


KINDS = _Kinds()


def is_kind(name: str) -> bool:
    """Whether there is a kind of this name."""
    return name in KINDS or name in _SETTINGS


def in_settings(config: Config, operation: str = "prepare") -> list[Kind]:
    """The kinds that these settings ask for at this operation."""
    found = [KINDS[name] for name, keys in _SETTINGS.items() if not config.actions.keys().isdisjoint(keys)]
    return [kind for kind in found if operation in kind.at]


def in_entry(held: Held, operation: str) -> list[Kind]:
    """The kinds of the entry's actions that have something to do at this operation."""
    found = (KINDS[name] for name in dict.fromkeys(action.kind for action in held.actions))
    return [kind for kind in found if operation in kind.at]


def left_out(config: Config, operation: str) -> list[str]:
    """The keys of these settings that ask for something, but not at this operation."""
    left = [keys for name, keys in _SETTINGS.items() if operation not in KINDS[name].at]
    return [key for keys in left for key in keys if key in config.actions]


def look(work: Work, operation: str) -> dict[str, Any]:
    """What each kind that the settings ask for at this operation must know of the host, by its name."""
    return {kind.name: kind.look(work) for kind in in_settings(work.config, operation)}


def are_told(config: Config) -> bool:
    """Whether a kind that these settings ask for is told of every operation."""
    return bool(_told(config))


def told(config: Config, event: Event, held: Held | None) -> list[Action]:
    """What such kinds do at this operation beside the plan. ``held``: the guest's entry as it was before the event."""
    return [action for name in _told(config) for action in KINDS[name].told(config, event, held)]


def _told(config: Config) -> list[str]:
    return [name for name in _TOLD if not config.actions.keys().isdisjoint(_SETTINGS[name])]


def _every() -> list[Kind]:
    return [KINDS[name] for name in {**_SETTINGS, **KINDS}]


def read(value: object) -> Action:
    """An action from the journal. BadInput where it is none. TooNew for a kind that only a later version has."""
    match value:
        case {"kind": str(name), **fields}:
            if not is_kind(name):
                raise TooNew(f"with an action of the kind {name}, which this version does not know")
            return KINDS[name].read({str(key): field for key, field in fields.items()})
    raise BadInput("not an action")


def _within(work: Work, kind: Kind, batch: Sequence[Action]) -> Work:
    """The same work with the batch's own time limit. An event may take the sum of these limits."""
    entries = {} if work.entries is None else work.entries
    return work._replace(deadline=Deadline.after(_seconds(work.config, kind, batch)), entries=entries)


def limits(config: Config, actions: Sequence[Action]) -> list[Limit]:
    """How long these actions may take, by kind."""
    found: dict[str, float] = {}
    for name, batch in groupby(actions, key=lambda action: action.kind):
        found[name] = found.get(name, 0) + _seconds(config, KINDS[name], list(batch))
    return [Limit(name, seconds) for name, seconds in found.items()]


def _seconds(config: Config, kind: Kind, batch: Sequence[Action]) -> float:
    return min(kind.seconds(config, batch), kind.max_seconds)


def carry_out(work: Work, actions: Sequence[Action]) -> list[Outcome]:
    """Carry out the actions in order. Actions of one kind that follow each other are one batch.

    After a batch with a failure no other batch is begun.
    """
    outcomes: list[Outcome] = []
    for name, together in groupby(actions, key=lambda action: action.kind):
        outcomes += _carried_out(work, name, list(together))
        if any(outcome.failure for outcome in outcomes):
            break
    return outcomes


def way_back(work: Work, held: Held) -> Iterator[Action | Stays | Warn]:
    """What undoes the journalled actions, the last batch first."""
    return _of_each(held, lambda kind, batch: kind.way_back(_within(work, kind, batch), held, batch))


def again(work: Work, held: Held, failed: Collection[str]) -> Iterator[Action | Stays | Warn]:
    """What is left to do once these actions are undone. ``failed``: the keys of those that are not."""
    return _of_each(held, lambda kind, batch: kind.again(_within(work, kind, batch), held, batch, failed))


def _of_each(
    held: Held, ask: Callable[[Kind, list[Action]], Iterable[Action | Stays | Warn]]
) -> Iterator[Action | Stays | Warn]:
    """What each kind says about its batches, the last batch first."""
    for name, together in groupby(reversed(held.actions), key=lambda action: action.kind):
        kind, batch = KINDS[name], list(together)[::-1]
        try:
            yield from list(ask(kind, batch))
        except (LibhookError, OSError) as error:  # what one kind cannot see stops none of the others
            reason = _as_ours(error).message
            yield from (
                Stays(action, reason, f"{action.subject}: {reason}: libhook recover will give it back")
                for action in batch
            )


def go_back(work: Work, actions: Sequence[Action]) -> list[Outcome]:
    """Undo these actions. Like ``carry_out``, but a failure does not stop the rest."""
    outcomes: list[Outcome] = []
    for name, together in groupby(actions, key=lambda action: action.kind):
        outcomes += _carried_out(work, name, list(together))
    return outcomes


def _carried_out(work: Work, name: str, batch: Sequence[Action]) -> list[Outcome]:
    """Carry out one batch. If the kind fails as a whole, each of its actions has failed."""
    kind = KINDS[name]
    try:
        return kind.carry_out(_within(work, kind, batch), batch)
    except (LibhookError, OSError) as error:
        ours = _as_ours(error)
        failure = Failure(ours.message, ours.hint)
        return [Outcome(action, failure, 0.0) for action in batch]


def _as_ours(error: LibhookError | OSError) -> LibhookError:
    return unanswered(error) if isinstance(error, OSError) else error


def shared(machine: Machine, name: str) -> tuple[str, Resource] | None:
    """The shared thing with this name, and the key of the actions that claim it. None where no kind knows it."""
    return next((found for kind in _every() if (found := kind.shared(machine, name))), None)


def noticed(work: Work, device: HostDevice, daemon: Process) -> Action | None:
    """What this libvirtd did with a device without libhook seeing it, as an action. None: nothing."""
    return next((action for kind in _every() if (action := kind.noticed(work, device, daemon))), None)


def is_back(work: Work, action: Action, held: Held) -> None:
    """Tell the kind that the action is undone."""
    KINDS[action.kind].is_back(work, action, held)


def after(host: Host, actions: Sequence[Action]) -> Host:
    """The host as it will be after these actions."""
    for action in actions:
        host = KINDS[action.kind].after(host, action)
    return host
