# SPDX-License-Identifier: LGPL-2.1-or-later
"""Kernel modules.

loading.py     load a module so that its driver can take a device
unloading.py   keep a module out of the kernel while any guest needs it out
"""

from __future__ import annotations

from itertools import groupby

from libhook.facts.machine import Machine
from libhook.kinds.kind import Kind, Outcome, Work
from libhook.kinds.module import loading, unloading
from libhook.kinds.module.loading import NAME, Load
from libhook.kinds.module.unloading import BUILT_IN, LOADED, OUT, Out, out, read, resource, state_of, way_back
from libhook.kinds.resource import Resource
from libhook.light import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def carry_out(work: Work, actions: Sequence[Load | Out]) -> list[Outcome]:
    """See Kind."""
    outcomes: list[Outcome] = []
    for taken_out, together in groupby(actions, key=lambda action: isinstance(action, Out)):
        batch = list(together)
        if taken_out:
            outcomes += unloading.carry_out(work, [action for action in batch if isinstance(action, Out)])
        else:
            outcomes += loading.carry_out(work, [action for action in batch if isinstance(action, Load)])
    return outcomes


def _shared(machine: Machine, name: str) -> tuple[str, Resource] | None:
    if not name.startswith(f"{NAME}-"):
        return None
    action = out(name.removeprefix(f"{NAME}-"))
    return action.key, resource(machine, action.module)


KIND = Kind(NAME, read, lambda config: config.write_deadline, carry_out, way_back, shared=_shared)
__all__ = ["BUILT_IN", "KIND", "LOADED", "OUT", "Load", "Out", "carry_out", "out", "resource", "state_of", "way_back"]
