# SPDX-License-Identifier: LGPL-2.1-or-later
"""The order of the entries of ``run``: as the scripts do it, and as they undo it. Pure."""

from libhook.importing.draft import Draft


def sort(draft: Draft) -> None:
    """Put the commands in the order of the scripts. Undos run in reverse, so what is only undone stands among them:
    before all that the scripts undo earlier.
    """
    undone = {name: place["undo"] for name, place in draft.places.items() if "undo" in place}
    names = sorted((name for name in draft.run if "command" in draft.run[name]), key=lambda name: _do(draft, name))
    for name in sorted((name for name in draft.run if "command" not in draft.run[name]), key=lambda one: undone[one]):
        earlier = [at for at, other in enumerate(names) if undone.get(other, undone[name]) < undone[name]]
        names.insert(min(earlier, default=len(names)), name)
    entries = {name: draft.run[name] for name in names}
    draft.run.clear()
    draft.run.update(entries)


def _do(draft: Draft, name: str) -> int:
    return draft.places[name].get("command", -1)
