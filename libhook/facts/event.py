# SPDX-License-Identifier: LGPL-2.1-or-later
"""What libvirtd calls the hook with: argv to Event, and what each operation may do.

The hook's contract is libvirt's docs/hooks.rst and src/util/virhook.c; where they differ the code is followed.
"""

from __future__ import annotations

from libhook.errors import BadInput
from libhook.light import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence


class Operation(NamedTuple):
    """One step of a guest's life, as a row of OPERATIONS: what may be done there, and what is looked at for it."""

    name: str
    may_veto: bool = False
    """Only where a refusal stops a start. A non-zero exit from ``started`` or ``reconnect`` kills a guest that runs;
    from ``stopped`` and ``release`` it is ignored."""
    takes: bool = False
    """Actions are applied. What is taken is given back by its kind (kinds/), whatever the handlers say by then."""
    gives_back: bool = False
    """What the guest's journal entry holds is undone."""
    looks: Literal["all", "devices", "taken", ""] = ""
    """At everything that could stand in the way; at the guest's devices alone; at what the entry holds."""
    records: tuple[str, ...] = ()
    """The reasons of the audit records that may be sent."""
    acts: bool = True
    """Whether any handler has something to do there."""


OPERATIONS = {
    operation.name: operation
    for operation in (
        Operation("prepare", may_veto=True, takes=True, looks="all", records=("start",)),
        Operation("start", may_veto=True, looks="devices", records=("start",)),
        Operation("started", records=("start",)),
        Operation("stopped", acts=False),
        Operation("release", gives_back=True, looks="taken", records=("start", "attach", "stop")),
        Operation("reconnect", looks="devices", records=("start", "attach")),
        Operation("migrate", acts=False),
        Operation("restore", acts=False),
        # Documented, but gone since libvirt 5.5.0 with virDomainQemuAttach.
        Operation("attach", acts=False),
    )
}

ATTACH = Operation("attach", may_veto=True, takes=True, looks="all", records=("attach",))
DETACH = Operation("detach", gives_back=True, looks="taken", records=("detach",))
"""Hot-plug. libvirt calls no hook there: these are libhook's own (hotplug/)."""


class Event(NamedTuple):
    """One call of the hook."""

    guest: str
    """The guest's name, exactly as given: it may be ``--help`` or hold a line feed."""
    operation: Operation
    extra: str
    """At ``release`` the reason of the shutoff (since libvirt 10.5), ``-`` otherwise."""


def parse(arguments: Sequence[str]) -> Event | None:
    """NAME OPERATION SUBOPERATION EXTRA to an Event; None for an operation this version does not know.

    BadInput when the number of arguments is not four.
    """
    if len(arguments) != 4:
        raise BadInput(
            f"{len(arguments)} arguments instead of 4", "libvirtd calls its hook with NAME OPERATION SUBOPERATION EXTRA"
        )
    guest, name, _, extra = arguments
    operation = OPERATIONS.get(name)
    return Event(guest, operation, extra) if operation else None
