# SPDX-License-Identifier: LGPL-2.1-or-later
"""Loads a module so that its driver can take a device."""

from __future__ import annotations

import os

from libhook.children.tracks import Late, Step, run
from libhook.errors import EXHAUSTED, KERNEL_LOG, remedy_of
from libhook.kinds.kind import Failure, Outcome, Work
from libhook.light import TYPE_CHECKING, NamedTuple, partial
from libhook.look import sysfs

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from libhook.children.tracks import Track

NAME = "module"


class Load(NamedTuple):
    """Load the module of a driver that the kernel does not have yet. Never undone: others may use it by then."""

    driver: str
    kind: str = NAME
    needs: tuple[str, ...] = ()
    ours: bool = True
    is_undone: bool = False
    """Others may use the module by the guest's end."""

    @property
    def key(self) -> str:
        """See Action."""
        return f"module {self.module}"

    @property
    def subject(self) -> str:
        """See Action."""
        return f"the module {self.module}"

    @property
    def module(self) -> str:
        """The module's name. It has ``_`` where the driver's name may have ``-``."""
        return self.driver.replace("-", "_")

    @property
    def provides(self) -> tuple[str, ...]:
        """The state that the driver is loaded."""
        return (f"driver {self.driver}",)

    @property
    def summary(self) -> str:
        """See Action."""
        return "loaded"

    def describe(self) -> tuple[str, ...]:
        """See Action."""
        return (f"load the module of {self.driver}",)

    def to_json(self) -> dict[str, Any]:
        """See Action."""
        return {"kind": NAME, "load": self.driver}

    def show(self) -> dict[str, Any]:
        """See Action."""
        return {"action": "load", "driver": self.driver}


def carry_out(work: Work, loads: Sequence[Load]) -> list[Outcome]:
    """See Kind."""
    failures = run((_load(work, load) for load in loads), work.deadline)
    return [Outcome(load, failure, 0.0) for load, failure in zip(loads, failures, strict=True)]


def _load(work: Work, load: Load) -> Track[Failure | None]:
    """Load one module.

    No mark says that the load is on its way. None is needed: a second load waits in the kernel, and a late one moves no
    device.
    """
    module = load.module
    try:
        code = yield Step(partial(work.machine.kernel.load, module))
    except Late as late:
        if not late.on_its_way:
            return Failure(f"the deadline passed before the module {module} was loaded", KERNEL_LOG)
        return Failure(f"loading the module {module} does not end", KERNEL_LOG)
    if code in EXHAUSTED:
        return Failure(f"the module {module} cannot be loaded ({os.strerror(code)})", remedy_of(OSError(code, "")))
    if code or sysfs.driver_name(work.machine, load.driver) is None:
        return Failure(
            f"the driver {load.driver} cannot be loaded", f"to try it by hand and see why, run: modprobe {module}"
        )
    return None
