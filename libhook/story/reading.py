# SPDX-License-Identifier: LGPL-2.1-or-later
"""The guest's XML, parsed by a child while this process imports what it needs to go on: lxml takes as long as all that.

What a child does not say is parsed here instead: a document that is refused, an lxml that is broken, a parser that
crashes or no process to be had are answered as if there had been no child.
"""

from __future__ import annotations

from libhook import plainjson
from libhook.effects import child
from libhook.effects.child import Deadline
from libhook.errors import BadInput, LibhookError
from libhook.facts.address import PciAddress
from libhook.facts.domain import Disk, Domain, HostDevice
from libhook.light import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    Parse = Callable[[bytes], Domain]

_PATIENCE = 10.0
"""Seconds for the child to answer; a document of 16 MiB takes one."""


def parse(document: bytes) -> Domain:
    """Here and now. BadInput as domxml.parse."""
    from libhook.xml import domxml  # lxml is twice a bare start of Python: only for who has something to do

    return domxml.parse(document)


def begin(document: bytes) -> Parse:
    """Let a child begin with it; what comes back is called as ``parse``, with the same document, and waits for it."""

    def tell(say: Callable[[bytes], None]) -> None:
        from libhook.xml import lean

        try:
            lean.load()
            guest = parse(document)
        except (BadInput, ImportError):
            return
        say(plainjson.dumps(guest).encode())

    try:
        speech = child.listen(tell)
    except LibhookError:
        return parse

    def hear(document: bytes) -> Domain:
        said = speech.lines(Deadline.after(_PATIENCE))
        if not said:
            return parse(document)
        name, uuid, virt, devices, warnings, _, doors = plainjson.loads(said[0])
        return Domain(name, uuid, virt, tuple(map(_device, devices)), tuple(warnings), back_doors=tuple(doors))

    return hear


def _device(fields: list[object]) -> HostDevice:
    device = HostDevice(*fields)  # type: ignore[arg-type]
    pci = PciAddress(*device.pci) if device.pci else None
    return device._replace(pci=pci, disks=tuple(Disk(*disk) for disk in device.disks))
