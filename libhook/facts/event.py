# SPDX-License-Identifier: LGPL-2.1-or-later
"""What libvirtd calls the hook with: argv to Event, and what each operation may do.

The hook's contract is libvirt's docs/hooks.rst and src/util/virhook.c; where they differ the code is followed.
"""

from collections.abc import Sequence
from typing import NamedTuple

from libhook.errors import BadInput


class Operation(NamedTuple):
    """One step of a guest's life, as a row of OPERATIONS."""

    name: str
    may_veto: bool
    """Only where a refusal stops a start. A non-zero exit from ``started`` or ``reconnect`` kills a guest that runs;
    from ``stopped`` and ``release`` it is ignored."""
    acts: bool = True
    """Whether any handler has something to do there."""


OPERATIONS = {
    operation.name: operation
    for operation in (
        Operation("prepare", may_veto=True),
        Operation("start", may_veto=True),
        Operation("started", may_veto=False),
        Operation("stopped", may_veto=False, acts=False),
        Operation("release", may_veto=False),
        Operation("reconnect", may_veto=False),
        Operation("migrate", may_veto=False, acts=False),
        Operation("restore", may_veto=False, acts=False),
        # Documented, but gone since libvirt 5.5.0 with virDomainQemuAttach.
        Operation("attach", may_veto=False, acts=False),
    )
}


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
