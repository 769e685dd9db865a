# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a guest's devices were when it last started, so that a later start notices another device at the same address.

Types and JSON. effects/identities.py keeps the notes, and story/identities.py compares.
"""

from __future__ import annotations

from libhook.errors import BadInput
from libhook.facts.address import PciAddress
from libhook.facts.host import Identity
from libhook.light import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

MOST_DEVICES = 256
"""More devices of a guest are not noted."""
MOST_PAST = 64
"""So many devices that a guest had before are remembered. The oldest go first."""
_LONGEST = 128


class Noted(NamedTuple):
    """A device that the guest had at its last start, or at an earlier one."""

    address: str
    identity: Identity
    since: int
    """When the guest first started with it here, in seconds since 1970."""
    seen: int
    """When it last did, or was accepted there."""


class Note(NamedTuple):
    """What is noted of one guest."""

    uuid: str
    name: str
    devices: tuple[Noted, ...] = ()
    """At its last start."""
    past: tuple[Noted, ...] = ()
    """Before, the oldest first: devices that it has no more, or that are others by now."""

    def at(self, address: str) -> Noted | None:
        """What the guest had at this address at its last start."""
        return next((one for one in self.devices if one.address == address), None)

    def with_start(self, name: str, had: Mapping[str, Identity], now: int) -> Note:
        """The note after a start with these devices, by address."""
        devices, same = list[Noted](), set[str]()
        for address, identity in list(had.items())[:MOST_DEVICES]:
            before = self.at(address)
            if before and not identity.is_other_than(before.identity):
                same.add(address)
                # What could not be read this time is as it was.
                known = Identity(*(one or other for one, other in zip(identity, before.identity, strict=True)))
                devices.append(Noted(address, known, before.since, now))
            else:
                devices.append(Noted(address, identity, now, now))
        gone = (one for one in self.devices if one.address not in same)
        return Note(self.uuid, name, tuple(devices), (*self.past, *gone)[-MOST_PAST:])

    def to_json(self) -> dict[str, Any]:
        """The note as plain data."""
        return {
            "format": 1,
            "uuid": self.uuid,
            "name": self.name,
            "devices": [_to_json(one) for one in self.devices],
            "past": [_to_json(one) for one in self.past],
        }

    @classmethod
    def from_json(cls, value: object) -> Note:
        """Read the note field by field. BadInput where anything is not as ``to_json`` writes it."""
        match value:
            case {"format": 1, "uuid": str(uuid), "name": str(name), "devices": [*devices], "past": [*past]}:
                return cls(uuid, name, tuple(map(_noted, devices)), tuple(map(_noted, past)))
        raise BadInput("not a note of a guest's devices")


class Changed(NamedTuple):
    """At an address of the guest there is another device than at its last start, or none."""

    address: PciAddress
    was: Identity
    now: Identity | None
    """None where there is nothing."""
    elsewhere: tuple[PciAddress, ...] = ()
    """Where the old one is now, as far as one can tell: models and serial numbers decide."""


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
