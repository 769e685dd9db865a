# SPDX-License-Identifier: LGPL-2.1-or-later
"""Turns what is known of all guests into values for JSON, and back. Pure.

Guest's indexes are not among them: they are made from the entries once they are needed.
"""

from typing import Any

from libhook.history.entry import Entry
from libhook.history.guest import Guest

_ENTRIES = ("held", "recent", "unreturned")
_SETS = ("fresh", "owed")
_PLAIN = ("runs", "began", "unresolved", "controlled", "heard")
Nodes = dict[str | None, dict[str, Guest]]


def saved(nodes: Nodes) -> list[Any]:
    """Return nodes, guests and entries, in their order."""
    return [[node, [[uuid, _guest(guest)] for uuid, guest in guests.items()]] for node, guests in nodes.items()]


def restored(values: list[Any]) -> Nodes:
    """Return what ``saved`` was given. KeyError, TypeError or ValueError if it is something else."""
    return {node: {uuid: _restored(state) for uuid, state in guests} for node, guests in values}


def entry(values: list[Any]) -> Entry:
    """Return an entry from its JSON. TypeError or ValueError if it is none."""
    found = Entry._make(values)
    return found._replace(recorded_by=tuple(found.recorded_by))


def _guest(guest: Guest) -> dict[str, Any]:
    state: dict[str, Any] = {name: getattr(guest, name) for name in (*_ENTRIES, *_PLAIN)}
    return state | {name: sorted(getattr(guest, name)) for name in _SETS} | {"numbers": guest.numbers()}


def _restored(state: dict[str, Any]) -> Guest:
    guest = Guest()
    for name in _PLAIN:
        setattr(guest, name, state[name])
    for name in _SETS:
        setattr(guest, name, set(state[name]))
    for name in _ENTRIES:
        setattr(guest, name, {key: entry(values) for key, values in state[name].items()})
    guest.renumber(state["numbers"])
    return guest
