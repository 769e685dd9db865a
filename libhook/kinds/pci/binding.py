# SPDX-License-Identifier: LGPL-2.1-or-later
"""Carries out moves: first all overrides, then the IOMMU groups side by side. Each device has a child for its writes.

The caller has journalled the moves, and holds the locks of their groups. This module does not decide whether a device
may be taken. Before each write it decides from what /sys says then whether the write is still needed.
"""

from __future__ import annotations

import errno
import os
import time

from libhook.children.tracks import Late, Order, run
from libhook.children.worker import Crew, Worker
from libhook.effects import pci
from libhook.effects.locks import is_locked
from libhook.effects.pci import Write, bind, probe, set_override, unbind
from libhook.errors import BUSY, MORE_TIME, WHEN_IT_ANSWERS, LibhookError, kernel_log, remedy_of
from libhook.facts.host import same_driver
from libhook.kinds.kind import Failure, Outcome, Work
from libhook.kinds.pci.move import Move
from libhook.light import TYPE_CHECKING
from libhook.look import sysfs
from libhook.look.waiting import Waiting

if TYPE_CHECKING:
    from collections.abc import Sequence

    from libhook.children.tracks import Track

_STOP_IT = "stop what uses it, then start the guest again"


def carry_out(work: Work, moves: Sequence[Move]) -> list[Outcome]:
    """See Kind. First all overrides, then the devices of each IOMMU group in order."""
    if work.crew:
        return _Hands(work, work.crew).move(moves)
    with Crew(work.machine, work.state.in_flight_path) as crew:
        return _Hands(work, crew).move(moves)


class _Hands:
    """Carries out the moves of one event."""

    def __init__(self, work: Work, crew: Crew) -> None:
        self._work = work
        self._crew = crew
        self._machine = work.machine
        heeds_display = work.config.preflight_display == "refuse"
        self._waiting = Waiting(work.machine, work.config.holder_wait, heeds_display=heeds_display)

    def move(self, moves: Sequence[Move]) -> list[Outcome]:
        begun = time.monotonic()
        failures = run(map(self._override, moves), self._work.deadline)
        lanes: dict[int | str, list[Move]] = {}
        outcomes = []
        for move, failure in zip(moves, failures, strict=True):
            if failure:
                outcomes.append(self._outcome(move, failure, begun))
            else:
                group = sysfs.group(self._machine, move.device)
                lanes.setdefault(str(move.device) if group is None else group, []).append(move)
        for lane in run(map(self._lane, lanes.values()), self._work.deadline):
            outcomes += lane
        return outcomes

    def _outcome(self, move: Move, failure: Failure | None, begun: float) -> Outcome:
        log_fields = {
            "device": str(move.device),
            "driver_before": move.now.driver or "none",
            "driver_after": sysfs.driver(self._machine, move.device) or "none",
            "why": move.why,
        }
        return Outcome(move, failure, (time.monotonic() - begun) * 1000, log_fields, "moved")

    def _worker(self, move: Move) -> Worker:
        """The child for a device.

        A full /run does not stop a give-back, though then nobody sees that a write is on its way.
        """
        return self._crew.worker(str(move.device), unmarked=move.back)

    def _order(self, move: Move, write: Write) -> Order:
        return Order(self._worker(move), pci.carry_out, write)

    def _override(self, move: Move) -> Track[Failure | None]:
        """Set only the override, by the kernel's name for the driver."""
        override = move.override_first
        if override == move.now.override:
            return None
        if override and same_driver(override, move.want.driver):
            override = sysfs.driver_name(self._machine, override) or override
        try:
            code = yield self._order(move, set_override(move.device, override))
        except Late as late:
            return self._late(move, late)
        return self._failed(move, "its driver_override cannot be set", code) if code else None

    def _lane(self, moves: list[Move]) -> Track[list[Outcome]]:
        """The moves of one IOMMU group, in order. After a move that is late, the rest of the group is not moved."""
        outcomes = []
        for move in moves:
            begun = time.monotonic()
            try:
                failure = yield from self._driver(move)
                if move.override_last and not failure:
                    code = yield self._order(move, set_override(move.device, move.want.override))
                    failure = self._failed(move, "its driver_override cannot be set", code) if code else None
            except Late as late:
                outcomes.append(self._outcome(move, self._late(move, late), begun))
                for rest in moves[len(outcomes) :]:
                    reason = (
                        f"{rest.device} was left as it was, because {move.device} of its IOMMU group does not answer"
                    )
                    outcomes.append(self._outcome(rest, Failure(reason, WHEN_IT_ANSWERS), time.monotonic()))
                return outcomes
            outcomes.append(self._outcome(move, failure, begun))
        return outcomes

    def _driver(self, move: Move) -> Track[Failure | None]:
        """Take the device from its driver to the wanted one.

        The driver is read back after each write, because a write's success proves nothing.
        """
        device, want = move.device, move.want.driver
        current = sysfs.driver(self._machine, device)
        if current is not None and not same_driver(current, want):
            if busy := (yield from self._free(move)):
                return busy
            code = yield self._order(move, unbind(device, current))
            current = sysfs.driver(self._machine, device)
            if current is not None and not same_driver(current, want):
                return self._failed(move, f"{current} does not let go of it", code)
        if move.later and current is None and sysfs.driver_name(self._machine, move.want.driver or "") is None:
            return None
        if want is not None and current is None:
            yield self._order(move, probe(device))
            current = sysfs.driver(self._machine, device)
            code = 0
            if current is None and (name := sysfs.driver_name(self._machine, want)):
                code = yield self._order(move, bind(device, name))
                current = sysfs.driver(self._machine, device)
            if move.back and current is None and move.now.override == move.override_first not in ("", want):
                return None  # the override that somebody set decides which driver gets the device, if any
            if not same_driver(current, want):
                absent = "" if sysfs.driver_name(self._machine, want) else ", which is not loaded"
                return self._failed(move, f"it is on {current or 'no driver'} instead of {want}{absent}", code)
        if want is not None and not move.back and not sysfs.on_vfio(self._machine, device):
            return self._failed(move, f"{want} is not a vfio driver", 0)
        return None

    def _free(self, move: Move) -> Track[Failure | None]:
        """Wait until nobody has the device open. Returns None then, else why it may not be unbound."""
        try:
            using = yield from self._waiting.until_free(move.device, self._worker(move), must_see=not move.back)
        except LibhookError as error:
            return Failure(f"{move.device}: {error.message}", error.hint)
        if isinstance(using, int):
            return self._failed(move, "its nodes cannot be listed", using)
        return Failure(f"{move.device} is in use by {using}", _STOP_IT) if using else None

    def _late(self, move: Move, late: Late) -> Failure:
        using = self._waiting.who_is_left(move.device, hangs=late.on_its_way)
        if not late.on_its_way:
            if using:
                return Failure(f"{move.device} is still in use by {using}", _STOP_IT)
            return Failure(f"{move.device} was not reached in time", MORE_TIME)
        hangs = f"{move.device} hangs: its driver does not answer in time"
        if using:
            return Failure(f"{hangs}; it is in use by {using}", "stop what uses it, then run: libhook recover")
        return Failure(hangs, WHEN_IT_ANSWERS)

    def _failed(self, move: Move, what: str, code: int) -> Failure:
        if not sysfs.exists(self._machine, move.device):
            return Failure(f"{move.device} is gone from the host", kernel_log(move.device))
        if code == errno.ENOENT and not self._work.state.stands:  # the file of the mark was missing, not the kernel's
            return Failure(f"{move.device}: {self._work.state.missing}", "start the guest again")
        if code == errno.EAGAIN and is_locked(self._work.state.in_flight_path(str(move.device))):
            return Failure(f"{move.device}{BUSY}", WHEN_IT_ANSWERS)
        why = f" ({os.strerror(code)})" if code else ""
        remedy = kernel_log(move.device) if self._worker(move).is_there else remedy_of(OSError(code, ""))
        return Failure(f"{move.device}: {what}{why}", remedy)
