# SPDX-License-Identifier: LGPL-2.1-or-later
"""Keeps a module out of the kernel while any guest needs it out, and loads it again after the last of these guests.

This is for drivers that never let go of a device in use. An unbind that has begun cannot be taken back, and may never
end. Removing the module fails at once while anything uses it, and has then changed nothing (delete_module() in the
kernel's module/main.c). After that only the module's own exit can hang.

rmmod removes this one module. The modules that it needed stay. The modules that need it must go first: the actions come
in that order, and are undone in the opposite order. modprobe loads the module again if it was loaded before the first
guest. Its parameters are then what modprobe.d says.
"""

from __future__ import annotations

import os

from libhook.children import tracks
from libhook.errors import BadInput, LibhookError, printable
from libhook.facts.host import is_driver_name
from libhook.facts.machine import Machine
from libhook.facts.shared import Value
from libhook.kinds import claims
from libhook.kinds.kind import Failure, Outcome, Work
from libhook.kinds.module.loading import NAME
from libhook.kinds.resource import Resource, at_once
from libhook.light import TYPE_CHECKING, NamedTuple, partial
from libhook.look import attributes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any

    from libhook.children.tracks import Track

OUT, LOADED, BUILT_IN = "out", "loaded", "built in"
"""The states of a module. A module that is being loaded or removed still counts as loaded."""


class Out(NamedTuple):
    """Remove a module from the kernel. With ``back``: load it again."""

    module: str
    """The name in /sys/module, with ``_`` for each ``-`` (``out`` converts it)."""
    why: str = ""
    needs: tuple[str, ...] = ()
    """States that must be there first."""
    back: bool = False
    kind: str = NAME
    ours: bool = True
    is_undone: bool = True

    @property
    def key(self) -> str:
        """See Action: ``module nvidia``."""
        return f"module {self.module}"

    @property
    def subject(self) -> str:
        """See Action."""
        return f"the module {self.module}"

    @property
    def provides(self) -> tuple[str, ...]:
        """The state that the module is out."""
        return () if self.back else (f"{self.key} out",)

    @property
    def summary(self) -> str:
        """See Action."""
        return "given back" if self.back else "taken out"

    def describe(self) -> tuple[str, ...]:
        """A line of what and why, then the command."""
        if self.back:
            return (
                f"give {self.subject} back, if it was loaded and no other guest needs it out",
                f"  modprobe {self.module}",
            )
        return (printable(f"take {self.subject} out{f' ({self.why})' if self.why else ''}"), f"  rmmod {self.module}")

    def to_json(self) -> dict[str, Any]:
        """See Action."""
        return {"kind": NAME, "out": self.module, "why": self.why}

    def show(self) -> dict[str, Any]:
        """See Action."""
        return {"action": NAME, "module": self.module, "out": not self.back, "why": self.why}


def out(module: str, why: str = "", needs: tuple[str, ...] = ()) -> Out:
    """The action that takes this module out. ``-`` and ``_`` in its name mean the same.

    BadInput for an invalid name, and for vfio's modules: other guests run by those, and this one is about to.
    """
    if not is_driver_name(module):
        raise BadInput(f'"{module}" is not the name of a module', "it has up to 63 letters, digits, _ and -")
    if "vfio" in module.lower():
        raise BadInput(f"the module {module} is one of vfio's", "guests run by it: leave it where it is")
    return Out(module.replace("-", "_"), why, needs)


def read(value: Mapping[str, Any]) -> Out:
    """See Kind. The name is checked, because root will remove the module that it names."""
    match value:
        case {"out": str(module), "why": str(why)}:
            return out(module, why)
    raise BadInput("not a module that is out")


def carry_out(work: Work, actions: Sequence[Out]) -> list[Outcome]:
    """See Kind. One module after the other, in this order: a module cannot go before those that need it.

    After a module that cannot be removed, no more are removed, and the guest is refused. Giving back goes on after a
    failure as long as there is time left.
    """
    resources = [resource(work.machine, action.module) for action in actions]
    try:
        with claims.locked(work, resources):
            (outcomes,) = tracks.run([_lane(work, actions, resources)], work.deadline)
    except LibhookError as error:
        return [Outcome(action, Failure(error.message, error.hint), 0.0) for action in actions]
    return outcomes


def way_back(_work: Work, _held: object, actions: Sequence[Out]) -> Iterator[Out]:
    """See Kind. In the opposite order, so that what a module needs is there first.

    The claims know whether there is anything to do.
    """
    for action in reversed(actions):
        yield Out(action.module, "give back", back=True)


def resource(machine: Machine, module: str) -> Resource:
    """The module as a thing that guests share."""
    return Resource(
        name=f"{NAME}-{module}",
        says=f"the module {module}",
        read=at_once(partial(state_of, machine, module)),
        write=partial(_write, machine, module),
        fold=_fold,
        failed=partial(_failed, machine, module),
    )


def state_of(machine: Machine, module: str) -> str:
    """The module's state now. Only a loadable module has an ``initstate``. A built-in one has a folder at most."""
    folder = f"{machine.sys}/module/{module}"
    if not os.path.isdir(folder):
        return OUT
    return LOADED if os.path.exists(f"{folder}/initstate") else BUILT_IN


def _lane(work: Work, actions: Sequence[Out], resources: Sequence[Resource]) -> Track[list[Outcome]]:
    outcomes: list[Outcome] = []
    stopped = ""
    for action, one in zip(actions, resources, strict=True):
        if stopped:
            reason = f"{action.subject} was not reached: {stopped} is in the way"
            outcomes.append(Outcome(action, Failure(reason, "see the message about that module"), 0.0))
            continue
        outcome = yield from claims.carry_out(work, action, one, None if action.back else OUT)
        outcomes.append(outcome)
        if outcome.failure and not (action.back and work.deadline.left):
            stopped = action.subject
    return outcomes


def _write(machine: Machine, module: str, value: str) -> None:
    if value == OUT:
        machine.kernel.unload(module)
    else:
        machine.kernel.load(module)


def _fold(_base: Value, _wants: Mapping[str, str]) -> Value:
    """Out while any guest needs it out. No guest can want anything else."""
    return OUT


def _failed(machine: Machine, module: str, target: str, now: Value, _code: int) -> Failure:
    """Why a module was not removed or loaded. The commands say only that they failed; /sys may show the reason."""
    if target != OUT:
        return Failure(f"the module {module} cannot be loaded again", f"see what modprobe {module} says")
    if now == BUILT_IN:
        return Failure(f"the module {module} is built into the kernel", "it cannot be taken out: do without that")
    folder = f"{machine.sys}/module/{module}"
    if holders := attributes.entries(f"{folder}/holders"):
        return Failure(f"the module {module} is in use by {', '.join(holders)}", "have those taken out before it")
    if attributes.text(f"{folder}/refcnt") not in ("", "0"):
        return Failure(f"the module {module} is in use", "stop what uses it, then try again")
    return Failure(f"the module {module} cannot be taken out", f"see what rmmod {module} says")
