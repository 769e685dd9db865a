# SPDX-License-Identifier: LGPL-2.1-or-later
"""Waits until no process has a device open, and names those that have: unbinding a device in use is how hosts hang."""

from __future__ import annotations

import time

from libhook.children.child import Deadline
from libhook.children.tracks import Pause
from libhook.children.worker import Worker
from libhook.facts.address import PciAddress
from libhook.facts.machine import Machine
from libhook.light import TYPE_CHECKING
from libhook.look import holders, nodes, sysfs
from libhook.look.nodes import Node

if TYPE_CHECKING:
    from libhook.children.tracks import Track

_LOOK_AGAIN = 0.1
"""Seconds between two looks."""
_TO_NAME = 1
"""Seconds after the deadline for one more look, to name who is in the way."""


class Waiting:
    """Waits for the devices of one hand-over. It remembers their nodes: once a device hangs, nobody can look."""

    def __init__(self, machine: Machine, seconds: float, *, heeds_display: bool = True) -> None:
        """``seconds`` is how long to wait for a device. Without ``heeds_display`` a GPU's own nodes may stay open."""
        self._machine = machine
        self._seconds = seconds
        self._heeds_display = heeds_display
        self._nodes: dict[PciAddress, tuple[Node, ...]] = {}

    def until_free(self, device: PciAddress, worker: Worker, *, must_see: bool) -> Track[str | int]:
        """Return "" once no process has the device open, else who has it; an errno if the look fails.

        The device's ``worker`` looks at what may hang with it. With ``must_see``, LibhookError when it cannot be seen
        who has the device open.
        """
        until = time.monotonic() + self._seconds
        found = yield from nodes.below(self._machine, device, worker)
        if isinstance(found, int):
            return found
        self._nodes[device] = found
        if not self._heeds_display and sysfs.is_display(self._machine, device):
            found = tuple(node for node in found if node.path.startswith(nodes.VFIO))  # of an mdev: no consent helps
        wanted = holders.in_the_way(self._machine, device, found)
        while using := (yield from holders.who_is_in_the_way(self._machine, wanted, worker, must_see=must_see)):
            if time.monotonic() >= until:
                return using
            yield Pause(_LOOK_AGAIN)
        return ""

    def who_is_left(self, device: PciAddress, *, hangs: bool) -> str:
        """Who is in the way after the deadline. A driver that ``hangs`` may wait for the last close of any node."""
        found = self._nodes.get(device, ())
        wanted = dict(holders.in_the_way(self._machine, device, found).paths)
        if hangs:
            wanted |= {node.device: node.path for node in found if node.device}
        return ", ".join(map(str, holders.known_now(self._machine, wanted, Deadline.after(_TO_NAME))))
