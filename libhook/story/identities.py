# SPDX-License-Identifier: LGPL-2.1-or-later
"""Compares a guest's devices with what it had at their addresses, and notes what they are once it has started.

What is read here was written by libhook as root. Even so a broken note only warns: a guest is not kept from starting by
a file that nobody can read.
"""

from __future__ import annotations

import time

from libhook.children import telling
from libhook.children.child import Deadline
from libhook.effects import files
from libhook.errors import BadInput, LibhookError, TooNew, fault, printable
from libhook.facts.address import PciAddress
from libhook.facts.host import Identity
from libhook.facts.identity import Changed, Note
from libhook.light import TYPE_CHECKING
from libhook.look import sysfs

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

    from libhook.facts.domain import Domain
    from libhook.facts.entry import Held
    from libhook.facts.machine import Machine
    from libhook.story.session import Session

_PATIENCE = 10.0
"""Seconds for a note to be written."""


def changed(session: Session, guest: Domain, path: str, text: str) -> tuple[Changed, ...]:
    """Which of the guest's addresses hold another device than its note says, or none. ``text`` is the note's."""
    machine, state, addresses = session.machine, session.state, guest.addresses
    try:
        files.expect_own(machine.notes)
        note = Note.read(path, guest.uuid, text)
    except (LibhookError, OSError) as error:
        session.log.add("warning", "devices not compared with what the guest had", reason=str(error))
        return ()
    found = list[Changed]()
    for one in compared(machine, note, addresses):
        places = _where(machine, one.was, note, addresses)
        free = tuple(place for place in places if all(has.uuid == guest.uuid for has in state.claims([place]).values()))
        if one.now or free:  # of one that is gone, preflight says more
            found.append(one._replace(elsewhere=free))
    return tuple(found)


def compared(machine: Machine, note: Note, addresses: Iterable[PciAddress]) -> Iterator[Changed]:
    """Each address where something else is than was noted, or nothing."""
    for address in addresses:
        if noted := note.at(str(address)):
            now = sysfs.identity(machine, address) if sysfs.exists(machine, address) else None
            if now is None or now.is_other_than(noted.identity):
                yield Changed(address, noted.identity, now)


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
    """Note what the devices are that the guest has started with. If that fails, the log says so, and nothing else.

    A child writes: /var may hang, and libvirtd may wait.
    """
    own = [one for one in held.devices if one.pci and one.began == "start" and (one.audited or one.named) and one.ids]
    had = {one.address: Identity(one.ids, one.subsystem, one.serial) for one in own if not one.pooled}
    if not had:
        return

    def write(say: Callable[[bytes], None]) -> None:
        try:
            _write(session.machine, held, had, lambda: say(b""))
        except Exception as error:  # noqa: BLE001 - the guest runs, and whatever fails here is not about it
            say(printable(fault(error)).encode())

    try:
        said = telling.lines(write, Deadline.after(_PATIENCE)) or [f"no answer within {_PATIENCE:g} s"]
    except LibhookError as error:
        said = [error.message]
    for reason in filter(None, said):
        session.log.add("warning", "old notes not removed" if said[0] == "" else "devices not noted", reason=reason)


def _write(machine: Machine, held: Held, had: Mapping[str, Identity], saved: Callable[[], None]) -> None:
    """Write the note. After that remove old ones, if this guest is new."""
    from libhook.effects import identities  # of the child alone

    now = time.time()

    def change() -> Note:
        before = None
        try:
            before = identities.load(machine, held.uuid)
        except TooNew:
            raise
        except BadInput:
            pass
        return (before or Note(held.uuid, held.name)).with_start(held.name, had, int(now))

    is_new = identities.update(machine, held.uuid, Deadline.after(_PATIENCE / 2), change)
    saved()
    if is_new:
        from libhook.look import guests

        identities.tidy(machine, now, lambda: guests.uuids(machine))
