# SPDX-License-Identifier: LGPL-2.1-or-later
"""Carries out moves: all overrides first, then the groups side by side, each write in a child of its own.

The caller has journalled the moves and holds the locks of their groups. Nothing here decides whether a device may be
taken; what it decides, write by write, is whether the write is still needed, from what /sys says at that moment.
"""

import errno
import os
import time
from collections.abc import Iterable
from functools import partial
from typing import NamedTuple

from libhook.effects.child import Deadline
from libhook.effects.state import State
from libhook.effects.tracks import Late, Pause, Step, Track, run
from libhook.errors import LibhookError
from libhook.facts import plan
from libhook.facts.address import PciAddress
from libhook.facts.host import same_driver
from libhook.facts.machine import Machine
from libhook.facts.plan import Load, Move, Write
from libhook.look import holders, nodes, sysfs
from libhook.look.nodes import Node

_LOOK_AGAIN = 0.1
"""Seconds between two looks at a device's holders."""
_TO_NAME = 1
"""Seconds, after the deadline, in which who is in the way is looked for once more to be named."""
_WEDGED = "when its driver lets go, run: libhook recover"


class Failure(NamedTuple):
    """Why something did not succeed, and what would help."""

    reason: str
    remedy: str


class Outcome(NamedTuple):
    """How one move ended, and in what time."""

    move: Move
    failure: Failure | None
    milliseconds: float


class Applier:
    """Applies to one machine, until one deadline."""

    def __init__(
        self, machine: Machine, state: State, deadline: Deadline, holder_wait: float, *, heeds_display: bool = True
    ) -> None:
        """``holder_wait``: seconds that a device's holders are given to let go; a GPU's only with ``heeds_display``."""
        self._machine = machine
        self._state = state
        self._deadline = deadline
        self._holder_wait = holder_wait
        self._heeds_display = heeds_display
        self._nodes: dict[PciAddress, tuple[Node, ...]] = {}
        """What was found below each device that is to come off its driver: once it hangs, nobody can look."""

    def load(self, loads: Iterable[Load]) -> dict[str, Failure]:
        """Load the modules; the drivers that cannot be had."""
        loads = tuple(loads)
        failures = run(map(self._load, loads), self._deadline)
        return {load.driver: failure for load, failure in zip(loads, failures, strict=True) if failure}

    def move(self, moves: Iterable[Move]) -> list[Outcome]:
        """Carry out the moves; the outcome of each, whatever happens to the others."""
        begun = time.monotonic()
        moves = tuple(moves)
        failures = run((self._override(move) for move in moves), self._deadline)
        lanes: dict[int | str, list[Move]] = {}
        outcomes = []
        for move, failure in zip(moves, failures, strict=True):
            if failure:
                outcomes.append(Outcome(move, failure, _since(begun)))
            else:
                group = sysfs.group(self._machine, move.device)
                lanes.setdefault(str(move.device) if group is None else group, []).append(move)
        for lane in run((self._lane(moves) for moves in lanes.values()), self._deadline):
            outcomes += lane
        return outcomes

    def _step(self, move: Move, write: Write) -> Step:
        """A full /run keeps no device from being given back, though then nobody sees that write on its way."""
        device = write.path.split("/")[3] if write.path.endswith("/driver_override") else write.value
        return Step(partial(self._machine.kernel.write, *write), self._state.in_flight_path(device), unmarked=move.back)

    def _load(self, load: Load) -> Track[Failure | None]:
        """Nothing says that it is on its way: a second load waits in the kernel, and one that is late moves nothing."""
        module = load.driver.replace("-", "_")
        try:
            code = yield Step(partial(self._machine.kernel.load, module))
        except Late as late:
            if not late.on_its_way:
                return Failure(f"there is no time left to load the module {module}", "see the kernel's log")
            return Failure(f"loading the module {module} does not end", "see the kernel's log")
        if code or sysfs.driver_name(self._machine, load.driver) is None:
            return Failure(f"the driver {load.driver} cannot be loaded", f"see what modprobe {module} says")
        return None

    def _override(self, move: Move) -> Track[Failure | None]:
        """Only the override, by the name the kernel has for the driver."""
        override = move.override_first
        if override == move.now.override:
            return None
        if override and same_driver(override, move.want.driver):
            override = sysfs.driver_name(self._machine, override) or override
        try:
            code = yield self._step(move, plan.set_override(move.device, override))
        except Late as late:
            return self._late(move, late)
        return self._failed(move, "its driver_override cannot be set", code) if code else None

    def _lane(self, moves: list[Move]) -> Track[list[Outcome]]:
        """The moves of one IOMMU group, in order. One that is late ends the lane."""
        outcomes = []
        for move in moves:
            begun = time.monotonic()
            try:
                failure = yield from self._driver(move)
                if move.override_last and not failure:
                    code = yield self._step(move, plan.set_override(move.device, move.want.override))
                    failure = self._failed(move, "its driver_override cannot be set", code) if code else None
            except Late as late:
                failure = self._late(move, late)
                outcomes.append(Outcome(move, failure, _since(begun)))
                for rest in moves[len(outcomes) :]:
                    reason = f"{rest.device} had to wait for {move.device} of its IOMMU group"
                    outcomes.append(Outcome(rest, Failure(reason, _WEDGED), 0.0))
                return outcomes
            outcomes.append(Outcome(move, failure, _since(begun)))
        return outcomes

    def _driver(self, move: Move) -> Track[Failure | None]:
        """From the driver it has to the one it shall have; read back after each write, since success proves nothing."""
        device, want = move.device, move.want.driver
        current = sysfs.driver(self._machine, device)
        if current is not None and not same_driver(current, want):
            busy = yield from self._wait_for_holders(move)
            if busy:
                return busy
            code = yield self._step(move, plan.unbind(device, current))
            current = sysfs.driver(self._machine, device)
            if current is not None and not same_driver(current, want):
                return self._failed(move, f"it does not come off {current}", code)
        if want is not None and current is None:
            yield self._step(move, plan.probe(device))
            current = sysfs.driver(self._machine, device)
            code = 0
            if current is None and (name := sysfs.driver_name(self._machine, want)):
                code = yield self._step(move, plan.bind(device, name))
                current = sysfs.driver(self._machine, device)
            if move.back and current is None and move.now.override == move.override_first not in ("", want):
                return None  # whoever set the override decides what drives it, if anything does
            if not same_driver(current, want):
                absent = "" if sysfs.driver_name(self._machine, want) else ", which is not loaded"
                return self._failed(move, f"it is on {current or 'no driver'} instead of {want}{absent}", code)
        if want is not None and not move.back and not sysfs.on_vfio(self._machine, device):
            return self._failed(move, f"{want} is not a vfio driver", 0)
        return None

    def _wait_for_holders(self, move: Move) -> Track[Failure | None]:
        """Unbinding a device that is in use is how hosts hang; None as soon as nobody has it open."""
        until = time.monotonic() + self._holder_wait
        found = yield from nodes.below(self._machine, move.device, self._state.in_flight_path(str(move.device)))
        if isinstance(found, int):
            return self._failed(move, "what its driver made of it cannot be looked at", found)
        self._nodes[move.device] = found
        if not self._heeds_display and sysfs.is_display(self._machine, move.device):
            found = tuple(node for node in found if node.path.startswith(nodes.VFIO))  # of an mdev: no consent helps
        wanted = holders.in_the_way(self._machine, move.device, found)
        try:
            while using := (yield from holders.who_is_in_the_way(self._machine, wanted, must_see=not move.back)):
                if time.monotonic() >= until:
                    return Failure(f"{move.device} is in use by {using}", "stop what uses it, then try again")
                yield Pause(_LOOK_AGAIN)
        except LibhookError as error:
            return Failure(f"{move.device}: {error.message}", error.hint)
        return None

    def _late(self, move: Move, late: Late) -> Failure:
        found = self._nodes.get(move.device, ())
        wanted = dict(holders.in_the_way(self._machine, move.device, found).paths)
        if late.on_its_way:  # a driver that hangs may wait for the last close of any of them
            wanted |= {node.device: node.path for node in found if node.device}
        using = ", ".join(map(str, holders.known_now(self._machine, wanted, Deadline.after(_TO_NAME))))
        if not late.on_its_way:
            if using:
                return Failure(f"{move.device} is still in use by {using}", "stop what uses it, then try again")
            return Failure(f"{move.device} was not reached in time", "try again, or allow more with write_deadline")
        hangs = f"{move.device} hangs: its driver does not answer in time"
        if using:
            return Failure(f"{hangs}; it is in use by {using}", "stop what uses it, then run: libhook recover")
        return Failure(hangs, _WEDGED)

    def _failed(self, move: Move, what: str, code: int) -> Failure:
        if not sysfs.exists(self._machine, move.device):
            return Failure(f"{move.device} is gone from the host", "see the kernel's log")
        if code == errno.ENOENT and not self._state.stands:  # it was not the kernel that had no such file
            return Failure(f"{move.device}: {self._state.missing}", "start the guest again")
        return Failure(f"{move.device}: {what}{f' ({os.strerror(code)})' if code else ''}", "see the kernel's log")


def _since(begun: float) -> float:
    return (time.monotonic() - begun) * 1000
