# SPDX-License-Identifier: LGPL-2.1-or-later
"""Keeps a module out of the kernel while any guest needs it out, and loads it again after the last of these guests.

This is for drivers that never let go of a device in use. An unbind that has begun cannot be taken back, and may never
end. Removing the module fails at once while anything uses it, and has then changed nothing (delete_module() in the
kernel's module/main.c). After that only the module's own exit can hang.

A driver of it may have devices besides the guest's by then. They would lose it, so it is looked again before rmmod.

rmmod removes this one module. The modules that it needed stay. The modules that need it must go first: the actions come
in that order, and are undone in the opposite order. modprobe loads the module again if it was loaded before the first
guest. Its parameters are then what modprobe.d says.
"""

from __future__ import annotations

from libhook.children.child import Deadline
from libhook.children.tracks import Late, Pause
from libhook.errors import KERNEL_LOG, BadInput, printable
from libhook.facts.host import is_driver_name
from libhook.facts.machine import Machine
from libhook.facts.shared import Value
from libhook.kinds import claims
from libhook.kinds.kind import Failure, Outcome, Work
from libhook.kinds.module.loading import NAME
from libhook.kinds.resource import Resource, at_once
from libhook.light import TYPE_CHECKING, NamedTuple, partial
from libhook.look import modules
from libhook.look.modules import BUILT_IN, LOADED, OUT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from libhook.children.tracks import Track

LEAVE_IT = "take it out of modules in the settings; libhook config shows where"
_LOOK_AGAIN = 0.1
"""Seconds between two looks at whether a module is still in use."""


class Out(NamedTuple):
    """Remove a module from the kernel. With ``back``: load it again."""

    module: str
    """The name in /sys/module, with ``_`` for each ``-`` (``out`` converts it)."""
    why: str = ""
    needs: tuple[str, ...] = ()
    """States that must be there first."""
    drivers: tuple[str, ...] = ()
    """Its PCI drivers. A device that was on one of them is home without it, until the module is loaded again."""
    back: bool = False
    is_loaded: bool = True
    """Whether it was in the kernel when the plan was made. Only the plan's text tells."""
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
        """The states that the module is out, and each of its drivers (driver_out in kinds/pci/move.py)."""
        return () if self.back else (f"{self.key} out", *(f"driver {name} is out" for name in self.drivers))

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
        if not self.is_loaded:
            return (f"keep {self.subject} out: it is not loaded",)
        return (printable(f"take {self.subject} out{f' ({self.why})' if self.why else ''}"), f"  rmmod {self.module}")

    def to_json(self) -> dict[str, Any]:
        """See Action."""
        return {"kind": NAME, "out": self.module, "why": self.why, "drivers": list(self.drivers)}

    def show(self) -> dict[str, Any]:
        """See Action."""
        return {"action": NAME, "module": self.module, "out": not self.back, "why": self.why}


def out(module: str, why: str = "", needs: tuple[str, ...] = (), drivers: tuple[str, ...] = ()) -> Out:
    """The action that takes this module out. ``-`` and ``_`` in its name mean the same.

    BadInput for an invalid name, and for vfio's modules: other guests run by those, and this one is about to.
    """
    if not is_driver_name(module):
        raise BadInput(f'"{module}" is not the name of a module', "it has up to 63 letters, digits, _ and -")
    if "vfio" in module.lower():
        raise BadInput(
            f"the module {module} is one of vfio's",
            "guests need it: take it out of modules in the settings; libhook config shows where",
        )
    return Out(module.replace("-", "_"), why, needs, drivers)


def read(value: Mapping[str, Any]) -> Out:
    """See Kind. The name is checked, because root will remove the module that it names."""
    match value:
        case {"out": str(module), "why": str(why), "drivers": [*drivers]} if all(
            isinstance(one, str) for one in drivers
        ):
            return out(module, why, drivers=tuple(drivers))
    raise BadInput("not a module that is out")


def carry_out(work: Work, action: Out) -> Track[Outcome]:
    """Carry it out, under the lock of ``resource``."""
    one = resource(work.machine, action.module)
    if action.back:
        return (yield from claims.carry_out(work, action, one, None))
    if not (yield from _until_unused(work, action.module)):
        return Outcome(action, _failed(work.machine, action.module, OUT, LOADED, 0), 0.0)
    seen = modules.look(work.machine, action.module)
    if seen.state == LOADED and (others := seen.others(_own(work))):
        return Outcome(action, Failure(drives(action.module, others), LEAVE_IT), 0.0)
    return (yield from claims.carry_out(work, action, one, OUT))


def drives(module: str, others: Sequence[str]) -> str:
    """The complaint about a module that drives what the guest does not get. Without the module that has no driver."""
    more = f" and {len(others) - 1} more" if len(others) > 1 else ""
    return f"the module {module} also drives {others[0]}{more}, and the guest does not get that"


def _own(work: Work) -> list[str]:
    """The PCI devices that the guest gets, with those of their groups that are taken along."""
    held = work.state.load(work.guest)
    return [str(address) for address in held.addresses] if held else []


def _until_unused(work: Work, module: str) -> Track[bool]:
    """Wait a moment for whoever still uses the module. Whether it may be tried; rmmod itself has the last word."""
    patience = Deadline.after(work.config.holder_wait)
    try:
        while modules.is_in_use(work.machine, module) and patience.left:
            yield Pause(_LOOK_AGAIN)
    except Late:
        return False
    return True


def resource(machine: Machine, module: str) -> Resource:
    """The module as a thing that guests share."""
    return Resource(
        name=f"{NAME}-{module}",
        says=f"the module {module}",
        read=at_once(partial(modules.state, machine, module)),
        write=partial(_write, machine, module),
        fold=_fold,
        failed=partial(_failed, machine, module),
    )


def built_in(module: str) -> str:
    """The complaint about a module that cannot be taken out."""
    return f"the module {module} is built into the kernel"


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
        return Failure(
            f"the module {module} cannot be loaded again", f"to try it by hand and see why, run: modprobe {module}"
        )
    if now == BUILT_IN:
        return Failure(built_in(module), LEAVE_IT)
    if holders := modules.holders(machine, module):
        return Failure(
            f"the module {module} is in use by {', '.join(holders)}",
            "name them in modules, too; libhook config shows where",
        )
    if modules.is_in_use(machine, module):
        return Failure(f"the module {module} is in use", "stop what uses it, then start the guest again")
    return Failure(f"the module {module} cannot be taken out", KERNEL_LOG)
