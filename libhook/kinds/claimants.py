# SPDX-License-Identifier: LGPL-2.1-or-later
"""The file of a thing that guests share: whose claims count in it, and which are given up."""

from __future__ import annotations

from libhook import plainjson
from libhook.effects.locks import is_locked
from libhook.effects.state import State
from libhook.errors import BadInput, LibhookError, TooNew, pasted
from libhook.errors import named as unpasted
from libhook.facts.shared import Shared
from libhook.kinds.resource import Resource
from libhook.light import TYPE_CHECKING, suppress
from libhook.look import libvirtd

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Container

    Alive = Callable[[str], bool]
"""Whether the guest with this UUID has a journal entry that names an action."""


def in_entries(state: State, key: str, known: dict[str, Collection[str] | None] | None = None) -> Alive:
    """For an action with this key.

    A broken entry names nothing that anybody could read. So its guest's claims count as long as libvirt may have the
    guest, or a libhook process works on it.

    ``known`` keeps what each entry names, for other keys and guests; None for one that counts for each. What it does
    not name is looked up again. What it names holds good for as long as the claim is in the file: an entry names a
    thing before its claim is made, and until that is given up. Whoever removes an entry is seen by the next look.
    """
    running = list[frozenset[str] | None]()

    def may_live(uuid: str) -> bool:
        if not running:
            running.append(libvirtd.running(state.machine))
        return running[0] is None or uuid in running[0] or state.is_busy(uuid)

    def names(uuid: str) -> Collection[str] | None:
        try:
            held = state.load(uuid)
        except LibhookError as error:
            is_broken = isinstance(error, BadInput) and not isinstance(error, TooNew)
            return None if not is_broken or may_live(uuid) else ()
        return held.actions_by_key() if held else ()

    def alive(uuid: str) -> bool:
        keys = known.get(uuid, ()) if known else ()
        if keys is not None and key not in keys:
            keys = names(uuid)
            if known is not None:
                known[uuid] = keys
        return keys is None or key in keys

    return alive


def read(state: State, resource: Resource) -> Shared | None:
    """The content of the file. None where there is none. BadInput where it is broken, or TooNew."""
    text = state.read_shared(resource.file)
    if text is None:
        return None
    try:
        shared = Shared.from_json(plainjson.loads(text))
        if shared.resource != resource.name:
            raise BadInput(f"it is of {shared.resource}")
    except TooNew as error:
        path = state.shared_path(resource.file)
        raise TooNew(
            f"{path}: a later libhook wrote it, {error.message}",
            "install that version again, as only it knows what to give back",
        ) from None
    except (ValueError, RecursionError, BadInput) as error:
        reason = error.message if isinstance(error, BadInput) else str(error)
        path = state.shared_path(resource.file)
        raise BadInput(f"{path} is broken ({reason})", set_by_hand(state, resource)) from None
    return shared


def claimants(state: State, resource: Resource) -> tuple[str, ...]:
    """Who has a claim to the thing, by UUID. BadInput where the file is broken, or TooNew."""
    found = read(state, resource)
    return tuple(found.wants) if found else ()


def give_up(state: State, resource: Resource, uuids: Container[str]) -> None:
    """Drop the claims of these guests. The thing stays as it is. Under its lock.

    OSError where that cannot be noted; LibhookError where the file is broken, or a later version wrote it.
    """
    found = read(state, resource)
    wants = {uuid: want for uuid, want in found.wants.items() if uuid not in uuids} if found else {}
    if not is_locked(state.in_flight_path(resource.lock)):  # else nobody touches the thing until that has ended
        state.remove("in-flight", resource.lock)
    if found and wants:
        state.save_shared(resource.file, plainjson.dumps(found._replace(wants=wants).to_json()))
    else:
        state.forget_shared(resource.file)


def named(state: State, uuid: str) -> str:
    """The guest with this UUID as a message names it."""
    with suppress(LibhookError):
        if held := state.load(uuid):
            return f"{unpasted(held.name)} ({uuid})"
    return uuid


def set_by_hand(state: State, resource: Resource) -> str:
    """What to do where nobody knows what the thing was."""
    return f"set {resource.says} by hand, then run: rm {pasted(state.shared_path(resource.file))}"
