# SPDX-License-Identifier: LGPL-2.1-or-later
"""Settles claims to shared things that no journal entry names, for ``libhook recover``.

A guest's end gives up its claims. If somebody has removed the guest's journal entry, nobody else does.
"""

from __future__ import annotations

from libhook import plainjson
from libhook.children import tracks
from libhook.children.child import Deadline
from libhook.errors import BadInput, LibhookError, TooNew, pasted
from libhook.facts.shared import Shared
from libhook.kinds import claimants, claims
from libhook.kinds import registry as kinds
from libhook.kinds.kind import Failure, Work
from libhook.light import TYPE_CHECKING, suppress

if TYPE_CHECKING:
    from collections.abc import Container, Iterator


def settle_orphans(work: Work, *, dry_run: bool) -> Iterator[tuple[str, bool]]:
    """Drop such claims, and make each thing what the other guests want, or what it was. Or only say what would be done.

    Yields a line for each of these things, and whether it says that something could not be done.
    """
    named, entries = set[str](), work.entries or {}
    for uuid in work.state.uuids():
        with suppress(LibhookError):  # whose entry is broken has nothing that it names
            held = work.state.load(uuid)
            named |= {action.key for action in held.actions} if held else set()
    for name in sorted(work.state.names("shared")):
        if name.endswith(".json"):
            path = work.state.shared_path(name.removesuffix(".json"))
            try:
                if said := _settle(work._replace(entries=entries), name.removesuffix(".json"), named, dry_run):
                    yield said
            except TooNew as error:
                yield f"{path}: a later libhook wrote it, {error.message}: install that version again", True
            except (ValueError, RecursionError, BadInput) as error:
                reason = error.message if isinstance(error, BadInput) else error
                yield f"{path} is broken ({reason}): nobody knows what it was about: rm {pasted(path)}", True
            except LibhookError as error:
                yield f"{path}: {error.message}: {error.hint}", True


def _settle(work: Work, file: str, named: Container[str], dry_run: bool) -> tuple[str, bool] | None:
    text = work.state.read_shared(file)
    if text is None:  # its last guest has ended meanwhile
        return None
    shared = Shared.from_json(plainjson.loads(text))
    found = kinds.shared(work.machine, shared.resource)
    if found is None:
        raise TooNew("for a thing that this version does not know")
    key, resource = found
    alive = claimants.in_entries(work.state, key, work.entries)
    if all(map(alive, shared.wants)) and (shared.wants or key in named):
        return None  # without a claim it is on its way back, and an entry that names it says how far that came
    if dry_run:
        return f"{resource.says}: what a guest without a journal entry wanted would be undone", False
    work = work._replace(deadline=Deadline.after(work.config.write_deadline))  # of its own, as each guest has
    alive = claimants.in_entries(work.state, key)
    with claims.locked(work, [resource]):
        (result,) = tracks.run([claims.settle(work, resource, alive)], work.deadline)
    if isinstance(result, Failure):
        return f"{result.reason}: {result.remedy}", True
    return result or f"{resource.says}: what a guest without a journal entry wanted is undone", False
