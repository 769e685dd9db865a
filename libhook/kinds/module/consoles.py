# SPDX-License-Identifier: LGPL-2.1-or-later
"""Keeps the virtual consoles off the framebuffers while any guest needs that.

fbcon shows the text consoles on a framebuffer, and may hold a reference on the module that drives it. So that module
can be removed only once the consoles are unbound. A PCI driver that lets go of its device needs nothing of this.

A write to ``bind`` always succeeds (store_bind() in the kernel's drivers/tty/vt/vt.c), so it is read back. Both take
the console's lock, and may wait for whoever has that: a child does them. When the last framebuffer goes, so does fbcon,
a little later; and when the first comes back, fbcon comes back, and takes the consoles by itself.
"""

from __future__ import annotations

import os
import time

from libhook.children.tracks import Pause, Step, paper
from libhook.errors import KERNEL_LOG, BadInput, LibhookError
from libhook.facts.machine import Machine
from libhook.facts.shared import Value
from libhook.kinds import claims
from libhook.kinds.kind import Failure, Outcome, Work
from libhook.kinds.module.loading import NAME
from libhook.kinds.resource import Resource
from libhook.light import TYPE_CHECKING, NamedTuple, partial
from libhook.look import attributes, modules

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from libhook.children.tracks import Track

CONSOLES = "consoles"
UNBOUND, ABSENT = "unbound", "absent"
"""The values beside the names of those that are bound. Absent: there is no framebuffer, and so no fbcon."""
_BIND = (
    "to bind them, run: for name in $(grep -l 'frame buffer' /sys/class/vtconsole/*/name); "
    "do echo 1 >${name%name}bind; done"
)
_FOR_FBCON = 2.0
"""Seconds that fbcon may take to come, once there is a framebuffer."""
_LOOK_AGAIN = 0.05


class Consoles(NamedTuple):
    """Unbind the virtual consoles from the framebuffers. With ``back``: bind them again."""

    needs: tuple[str, ...] = ()
    back: bool = False
    kind: str = NAME
    key: str = CONSOLES
    subject: str = "the virtual consoles"
    ours: bool = True
    is_undone: bool = True

    @property
    def provides(self) -> tuple[str, ...]:
        """The state that they are unbound."""
        return () if self.back else (f"{CONSOLES} {UNBOUND}",)

    @property
    def summary(self) -> str:
        """See Action."""
        return "given back" if self.back else UNBOUND

    def describe(self) -> tuple[str, ...]:
        """See Action."""
        if self.back:
            return ("give the virtual consoles back, if they were bound and no other guest needs them unbound",)
        return (
            "unbind the virtual consoles (a module to be taken out drives a framebuffer)",
            '  write "0" to /sys/class/vtconsole/*/bind',
        )

    def to_json(self) -> dict[str, Any]:
        """See Action."""
        return {"kind": NAME, CONSOLES: UNBOUND}

    def show(self) -> dict[str, Any]:
        """See Action."""
        return {"action": CONSOLES, "unbound": not self.back}


def read(value: Mapping[str, Any]) -> Consoles:
    """See Kind."""
    if value.get(CONSOLES) != UNBOUND:
        raise BadInput("not the virtual consoles")
    return Consoles()


def carry_out(work: Work, action: Consoles) -> Track[Outcome]:
    """Carry it out, under the lock of ``resource``."""
    return claims.carry_out(work, action, resource(work.machine), None if action.back else UNBOUND)


def resource(machine: Machine) -> Resource:
    """The consoles as a thing that guests share."""
    return Resource(
        name=CONSOLES,
        says="the virtual consoles",
        read=partial(_now, machine),
        write=partial(_write, machine),
        fold=lambda _base, _wants: UNBOUND,
        failed=_failed,
        reached=_reached,
        gives_up=True,
        follow=_follow,
    )


def _now(machine: Machine) -> Track[Value]:
    """The names of those that are bound, or UNBOUND, or ABSENT. Waits a moment for fbcon, which comes by itself."""
    until = time.monotonic() + _FOR_FBCON
    while True:
        with paper() as sheet:
            code = yield Step(partial(_show, machine, sheet.descriptor), keep=sheet.descriptor, looks=True)
            found = [line.partition(" ") for line in sheet.lines()]
        if code:
            raise LibhookError(f"the virtual consoles cannot be read ({os.strerror(code)})", KERNEL_LOG)
        if not found and not modules.framebuffers(machine):
            return ABSENT
        if found or time.monotonic() > until:
            return "; ".join(sorted(name for bound, _, name in found if bound == "1")) or UNBOUND
        yield Pause(_LOOK_AGAIN)


def _show(machine: Machine, sheet: int) -> None:
    for console, name in modules.consoles(machine):
        os.write(sheet, f"{_bound(machine, console)} {name}\n".encode("utf-8", "surrogateescape"))


def _bound(machine: Machine, console: str) -> str:
    return attributes.text(f"{machine.sys}/class/vtconsole/{console}/bind")


def _write(machine: Machine, value: str) -> None:
    """Bind those that ``value`` names, and unbind the others; only what is otherwise now."""
    wanted = _names(value)
    for console, name in modules.consoles(machine):
        bind = str(int(name in wanted))
        if _bound(machine, console) != bind and (bind == "1" or value == UNBOUND):
            machine.kernel.write(f"class/vtconsole/{console}/bind", bind)


def _names(value: Value) -> set[str]:
    return set() if value in (None, UNBOUND, ABSENT) else set(str(value).split("; "))


def _reached(target: str, now: Value) -> bool:
    """Without a framebuffer there is nothing to bind or unbind."""
    return now == ABSENT or (now == UNBOUND if target == UNBOUND else _names(target) <= _names(now))


def _follow(base: Value, _last: Value, now: Value) -> Value:
    """The kernel binds and unbinds them with the framebuffers, too. So what was bound first is to be bound again."""
    return base if _names(base) else now


def _failed(target: str, _now: Value, code: int) -> Failure:
    why = f" ({os.strerror(code)})" if code else ""
    if target == UNBOUND:
        return Failure(f"the virtual consoles stay bound to a framebuffer{why}", KERNEL_LOG)
    return Failure(f"the virtual consoles are not bound again{why}", _BIND)
