# SPDX-License-Identifier: LGPL-2.1-or-later
"""``libhook accept GUEST``: a guest's devices are what they are now. Its next start compares with that."""

import os
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import NamedTuple

from libhook.children.child import Deadline
from libhook.command.usage import meant
from libhook.effects import identities
from libhook.effects.log import Log
from libhook.errors import BadInput, LibhookError, TooNew, named
from libhook.facts.address import PciAddress
from libhook.facts.host import Identity
from libhook.facts.identity import Changed, Note
from libhook.facts.machine import Machine
from libhook.look import guests
from libhook.naming.devices import Names
from libhook.story.identities import compared
from libhook.story.session import Session
from libhook.xml import domxml

_PATIENCE = 10.0
"""Seconds for whoever writes the note at that moment."""


class Accepted(NamedTuple):
    """What an address held when the guest last had it, and what it holds now, with their names."""

    address: str
    was: str
    now: str | None
    """None where there is nothing."""

    @property
    def line(self) -> str:
        """The line for a terminal."""
        return f"{self.address}: was {self.was}; is {self.now or 'not on this host any more'}"


def accept(machine: Machine, guest: str, *, dry_run: bool = False) -> tuple[Note, list[Accepted]]:
    """Write the guest's note anew, and return what it was, and what it says differently. LibhookError without one."""
    note = _note(machine, guest)
    changes = list(compared(machine, note, _addresses(machine, note)))
    if changes and not dry_run:

        def change() -> Note:
            return (identities.load(machine, note.uuid) or note).with_accepted(changes, int(time.time()))

        identities.update(machine, note.uuid, Deadline.after(_PATIENCE), change)
    return note, _accepted(machine, changes)


def _addresses(machine: Machine, note: Note) -> Iterable[PciAddress]:
    """The addresses that the guest's next start names. All that it ever had, where libvirt's files have no such guest.

    What is at an address that it has no more is no business of the guest's.
    """
    if found := guests.find(machine, note.uuid, live=False):
        domain = domxml.parse(found.xml)
        return Session.open(machine, Log(machine), os.getppid(), domain).strict().with_along(domain).addresses
    return [PciAddress.parse(one.address) for one in note.devices]


def _accepted(machine: Machine, changes: list[Changed]) -> list[Accepted]:
    names = Names(machine)

    def text(identity: Identity) -> str:
        short = names.of_ids("pci", identity.ids).short
        return f"{short} {identity}".strip()

    return [Accepted(str(one.address), text(one.was), text(one.now) if one.now else None) for one in changes]


def _note(machine: Machine, guest: str) -> Note:
    """The note of the guest with this name or UUID."""
    if guest.lower() in identities.names(machine) and (note := identities.load(machine, guest.lower())):
        return note
    notes, later = list[Note](), list[TooNew]()
    for uuid in identities.names(machine):
        with suppress(LibhookError):  # another guest's note, which may be anything
            try:
                notes += filter(None, [identities.load(machine, uuid)])
            except TooNew as error:
                later.append(error)
    found = [note for note in notes if guest == note.name]
    if len(found) > 1:
        raise BadInput(
            f"{len(found)} guests were called {named(guest)}: {', '.join(note.uuid for note in found)}",
            "give the UUID; virsh domuuid says the one of today",
        )
    if not found and later:  # it may be this guest's
        raise later[0]
    if not found:
        near = meant(guest, sorted({*guests.names(machine), *(note.name for note in notes)}))
        raise LibhookError(
            f"nothing is noted of a guest {named(guest)}, so there is nothing to accept",
            f"{near.removeprefix(': ')} libhook notes a guest's devices when the guest has started".strip(),
        )
    return found[0]
