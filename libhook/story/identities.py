# SPDX-License-Identifier: LGPL-2.1-or-later
"""Compares a guest's devices with those of its last start, and notes what they are once it has started.

What is read here was written by libhook as root. Even so a broken note only warns: a guest is not kept from starting by
a file that nobody can read.
"""

from __future__ import annotations

import time

from libhook.effects import identities
from libhook.errors import BadInput
from libhook.facts.address import PciAddress
from libhook.facts.host import Identity
from libhook.facts.identity import Changed, Note
from libhook.light import TYPE_CHECKING, suppress
from libhook.look import sysfs

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator

    from libhook.facts.entry import Held
    from libhook.facts.machine import Machine
    from libhook.story.session import Session


def changed(session: Session, uuid: str, text: str, addresses: Collection[PciAddress]) -> tuple[Changed, ...]:
    """Which of these addresses hold another device than the guest's note says, or none. ``text`` is the note's."""
    machine = session.machine
    try:
        note = identities.parse(identities.path_of(machine, uuid), uuid, text, machine)
    except (BadInput, OSError) as error:
        session.log.add("warning", "devices not compared with the last start", reason=str(error))
        return ()
    return tuple(compared(machine, note, addresses))


def compared(machine: Machine, note: Note, addresses: Collection[PciAddress]) -> Iterator[Changed]:
    """Each address where something else is than was noted."""
    for address in addresses:
        noted = note.at(str(address))
        if noted is None:
            continue
        now = sysfs.identity(machine, address) if sysfs.exists(machine, address) else None
        if now is None or now.is_other_than(noted.identity):
            where = tuple(_where(machine, noted.identity, note, addresses))
            if now or where:  # of one that is gone, preflight says more
                yield Changed(address, noted.identity, now, where)


def _where(machine: Machine, wanted: Identity, note: Note, addresses: Collection[PciAddress]) -> Iterable[PciAddress]:
    """Where on this host such a device is, but for addresses at which the guest has its own."""
    for address in sysfs.addresses(machine):
        here = sysfs.identity(machine, address)
        if here.ids != wanted.ids or here.is_other_than(wanted):
            continue
        own = note.at(str(address)) if address in addresses else None
        if own is None or here.is_other_than(own.identity):
            yield address


def note_start(session: Session, held: Held) -> None:
    """Note what the devices are that the guest has started with. If that fails, the log says so, and nothing else."""
    machine = session.machine
    own = [one for one in held.devices if one.pci and one.began == "start" and (one.audited or one.named) and one.ids]
    had = {one.address: Identity(one.ids, one.subsystem, one.serial) for one in own}
    try:
        before = None
        with suppress(BadInput):
            before = identities.load(machine, held.uuid)
        if had or before:
            note = before or Note(held.uuid, held.name)
            now = time.time()
            identities.save(machine, note.with_start(held.name, had, int(now)))
            identities.tidy(machine, now, _defined(machine))
    except Exception as error:  # noqa: BLE001 - the guest runs, and whatever fails here is not about it
        session.log.add("warning", "devices not noted", reason=f"{type(error).__name__}: {error}")


def _defined(machine: Machine) -> Callable[[], set[str]]:
    def ask() -> set[str]:
        from libhook.look import guests  # reads libvirt's files, which is rarely needed

        return guests.uuids(machine)

    return ask
