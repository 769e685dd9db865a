# SPDX-License-Identifier: LGPL-2.1-or-later
"""Parses the guest's XML in a child, while this process imports its other modules. lxml takes as long as all of them.

If the child gives no answer, this process parses the document itself. So the answer is the same when the document is
refused, lxml is broken, the parser crashes, or no child can be started.
"""

from __future__ import annotations

from libhook import plainjson
from libhook.children import telling
from libhook.children.child import Deadline
from libhook.errors import BadInput, LibhookError
from libhook.facts.address import PciAddress
from libhook.facts.domain import Disk, Domain, HostDevice
from libhook.light import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    Parse = Callable[[bytes], Domain]

_PATIENCE = 10.0
"""Seconds for the child to answer. A document of 16 MiB takes one second."""


def parse(document: bytes) -> Domain:
    """Parse the document in this process. Raises BadInput as domxml.parse does."""
    from libhook.xml import domxml  # lxml takes twice a bare start of Python

    return domxml.parse(document)


def begin(document: bytes) -> Parse:
    """Start a child that parses the document. Call the result like ``parse``, with the same document: it waits."""

    def tell(say: Callable[[bytes], None]) -> None:
        from libhook.xml import lean

        try:
            lean.load()
            guest = parse(document)
        except (BadInput, ImportError):
            return
        say(plainjson.dumps(guest).encode())

    try:
        speech = telling.listen(tell)
    except LibhookError:
        return parse

    def hear(document: bytes) -> Domain:
        said = speech.lines(Deadline.after(_PATIENCE))
        if not said:
            return parse(document)
        name, uuid, virt, devices, warnings, _, *texts = plainjson.loads(said[0])
        return Domain(name, uuid, virt, tuple(map(_device, devices)), tuple(warnings), (), *map(tuple, texts))

    return hear


def _device(fields: list[object]) -> HostDevice:
    device = HostDevice(*fields)  # type: ignore[arg-type]
    pci = PciAddress(*device.pci) if device.pci else None
    return device._replace(pci=pci, disks=tuple(Disk(*disk) for disk in device.disks))
