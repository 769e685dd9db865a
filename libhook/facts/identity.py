# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a guest's devices were at its starts, so that a later start notices another device at the same address.

Types and JSON. effects/identities.py keeps the notes, and story/identities.py compares.
"""

from __future__ import annotations

from libhook import plainjson
from libhook.errors import BadInput, TooNew
from libhook.facts.address import PciAddress
from libhook.facts.host import Identity
from libhook.light import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

FORMAT = 1
"""The format number of what is written. A note of a higher one is left alone."""
REMEDY = "remove the file: the next start of its guest makes a new one"
_LATER = "install that version again, or remove the file"
MOST_DEVICES = 256
"""More devices of a guest are not noted."""
MOST_PAST = 64
"""So many devices that a guest had before are remembered. The oldest go first."""
_LONGEST = 128


class Noted(NamedTuple):
    """A device that the guest had at an address."""

    address: str
    identity: Identity
    since: int
    """When the guest first started with it here, or ``accept`` took it, in seconds since 1970."""
    seen: int
    """When the guest last started with it here; 0 if it has not yet."""


class Note(NamedTuple):
    """What is noted of one guest."""

    uuid: str
    name: str
    devices: tuple[Noted, ...] = ()
    """What it last had at each address: first the devices of its last start, then those that it did without then."""
    past: tuple[Noted, ...] = ()
    """Before, the oldest first: devices that others have replaced, or that have moved."""

    def at(self, address: str) -> Noted | None:
        """What the guest last had at this address."""
        return next((one for one in self.devices if one.address == address), None)

    def with_start(self, name: str, had: Mapping[str, Identity], now: int) -> Note:
        """The note after a start with these devices, by address."""
        devices, new, same = list[Noted](), list[Identity](), set[str]()
        for address, identity in had.items():
            before = self.at(address)
            if before and not identity.is_other_than(before.identity):
                same.add(address)
                # What could not be read this time is as it was.
                known = Identity(*(one or other for one, other in zip(identity, before.identity, strict=True)))
                devices.append(Noted(address, known, before.since, now))
            else:
                devices.append(Noted(address, identity, now, now))
                new.append(identity)
        for one in self.devices:  # what came to another address has left its own
            if one.address in had:
                continue
            if moved := next((other for other in new if _is_like(one.identity, other)), None):
                new.remove(moved)  # of two that are alike only one
            else:
                same.add(one.address)
                devices.append(one)
        return self._with(name, devices, same)

    def with_accepted(self, changes: Iterable[Changed], now: int) -> Note:
        """The note that takes these addresses for what they are now. The guest has not started with that yet."""
        others = {str(one.address): one.now for one in changes}
        devices = list[Noted]()
        for one in self.devices:
            if one.address not in others:
                devices.append(one)
            elif identity := others[one.address]:
                devices.append(Noted(one.address, identity, now, 0))
        return self._with(self.name, devices, {one.address for one in self.devices} - others.keys())

    def _with(self, name: str, devices: list[Noted], same: set[str]) -> Note:
        """The note with these devices. The others go to the past, but for those of ``same``, and what never started."""
        same = same - {one.address for one in devices[MOST_DEVICES:]}
        gone = [one for one in self.devices if one.address not in same and one.seen]
        gone.sort(key=lambda one: one.seen)
        return Note(self.uuid, name, tuple(devices[:MOST_DEVICES]), (*self.past, *gone)[-MOST_PAST:])

    def to_json(self) -> dict[str, Any]:
        """The note as plain data."""
        return {
            "format": FORMAT,
            "uuid": self.uuid,
            "name": self.name,
            "devices": [_to_json(one) for one in self.devices],
            "past": [_to_json(one) for one in self.past],
        }

    @classmethod
    def from_json(cls, value: object) -> Note:
        """Read the note field by field. BadInput where anything is not as ``to_json`` writes it, TooNew as ``read``."""
        match value:
            case {"format": int(number)} if number > FORMAT:
                raise TooNew(f"in format {number}")
            case {"format": 1, "uuid": str(uuid), "name": str(name), "devices": [*devices], "past": [*past]}:
                return cls(uuid, name, tuple(map(_noted, devices)), tuple(map(_noted, past)))
        raise BadInput("not a note of a guest's devices")

    @classmethod
    def read(cls, path: str, uuid: str, text: str) -> Note:
        """Read the text of this guest's file. BadInput where it is broken, TooNew where a later version wrote it."""
        try:
            note = cls.from_json(plainjson.loads(text))
            if note.uuid != uuid:
                raise BadInput(f"it belongs to {note.uuid}")
        except TooNew as error:
            raise TooNew(f"{path}: a later libhook wrote it, {error.message}", _LATER) from None
        except (ValueError, RecursionError, BadInput) as error:
            reason = error.message if isinstance(error, BadInput) else str(error)
            raise BadInput(f"{path} is broken ({reason})", REMEDY) from None
        return note


class Changed(NamedTuple):
    """At an address of the guest there is another device than it last had there, or none."""

    address: PciAddress
    was: Identity
    now: Identity | None
    """None where there is nothing."""
    elsewhere: tuple[PciAddress, ...] = ()
    """Where the old one may be now: models and serial numbers tell. Not where another guest has it."""


def _is_like(one: Identity, other: Identity) -> bool:
    """Whether the two may be one device."""
    return one.ids == other.ids and not one.is_other_than(other)


def _to_json(noted: Noted) -> dict[str, Any]:
    return {"address": noted.address, **noted.identity._asdict(), "since": noted.since, "seen": noted.seen}


def _noted(value: object) -> Noted:
    match value:
        case {
            "address": str(address),
            "ids": str(ids),
            "subsystem": str(subsystem),
            "serial": str(serial),
            "since": int(since),
            "seen": int(seen),
        } if max(map(len, (ids, subsystem, serial))) <= _LONGEST:
            return Noted(str(PciAddress.parse(address)), Identity(ids, subsystem, serial), since, seen)
    raise BadInput("one of its devices is broken")
