# SPDX-License-Identifier: LGPL-2.1-or-later
"""Turns the hook's argv into an Event, and says what each operation may do.

The contract is libvirt's docs/hooks.rst and src/util/virhook.c. Where they differ, libhook follows the code.
"""

from __future__ import annotations

from libhook.errors import BadInput
from libhook.light import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence


class Operation(NamedTuple):
    """One step of a guest's life, a row of OPERATIONS: what may be done at that step, and what is looked at first."""

    name: str
    may_veto: bool = False
    """True only where a refusal stops a start. A non-zero exit from ``started`` or ``reconnect`` kills a running guest.
    libvirt ignores one from ``stopped`` and ``release``."""
    takes: bool = False
    """Actions are applied. Each action's kind (kinds/) undoes it later, whatever the handlers say by then."""
    adds: bool = False
    """Actions of kinds that say so (Kind.at) are applied once all else is done. One that fails refuses only where the
    operation may."""
    gives_back: bool = False
    """The actions in the guest's journal entry are undone."""
    looks: Literal["all", "devices", "taken", ""] = ""
    """``all``: everything that could stand in the way. ``devices``: only the guest's devices. ``taken``: nothing where
    the guest has a journal entry, else its devices."""
    records: tuple[str, ...] = ()
    """The reasons that audit records may have at this step."""
    acts: bool = True
    """Whether any handler has something to do at this step."""


OPERATIONS = {
    operation.name: operation
    for operation in (
        Operation("prepare", may_veto=True, takes=True, looks="all", records=("start",)),
        Operation("start", may_veto=True, adds=True, looks="devices", records=("start",)),
        Operation("started", adds=True, records=("start",)),
        Operation("stopped", acts=False),
        Operation("release", gives_back=True, looks="taken", records=("start", "attach", "stop")),
        Operation("reconnect", adds=True, looks="devices", records=("start", "attach")),
        Operation("migrate", acts=False),
        Operation("restore", acts=False),
        # Documented, but libvirt 5.5.0 removed it with virDomainQemuAttach.
        Operation("attach", acts=False),
    )
}

ATTACH = Operation("attach", may_veto=True, takes=True, looks="all", records=("attach",))
DETACH = Operation("detach", gives_back=True, looks="taken", records=("detach",))
"""Hot-plug. libvirt calls no hook for it. These two operations are libhook's own (hotplug/)."""


class Event(NamedTuple):
    """One call of the hook."""

    guest: str
    """The guest's name exactly as given. It may be ``--help``, or contain a line feed."""
    operation: Operation
    extra: str
    """The shutoff reason at ``release`` (since libvirt 10.5), otherwise ``-``."""


def parse(arguments: Sequence[str]) -> Event | None:
    """The Event of NAME OPERATION SUBOPERATION EXTRA. None for an operation that this version does not know.

    BadInput when there are not exactly four arguments.
    """
    if len(arguments) != 4:
        raise BadInput(
            f"{len(arguments)} arguments instead of 4", "libvirtd calls its hook with NAME OPERATION SUBOPERATION EXTRA"
        )
    guest, name, _, extra = arguments
    operation = OPERATIONS.get(name)
    return Event(guest, operation, extra) if operation else None
