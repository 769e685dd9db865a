# SPDX-License-Identifier: LGPL-2.1-or-later
"""Ends what has devices open. Who that is, is looked at anew before anything is ended, and again afterwards."""

from __future__ import annotations

import errno
import time

from libhook.children import tracks
from libhook.children.tracks import Late, Step
from libhook.effects import systemd as acting
from libhook.errors import KERNEL_LOG, LibhookError, unanswered
from libhook.facts.address import PciAddress
from libhook.facts.machine import Machine
from libhook.facts.program import SESSIONS
from libhook.kinds.holder import end
from libhook.kinds.holder.end import SETTING, End, ways_of
from libhook.kinds.kind import Failure, Outcome, Work
from libhook.light import TYPE_CHECKING, partial
from libhook.look import holders, nodes, occupants, processes, systemd

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence
    from typing import TypeVar

    from libhook.children.tracks import Track
    from libhook.look.nodes import Node
    from libhook.look.occupants import Occupant

    Result = TypeVar("Result")

_SIGTERM, _SIGKILL = 15, 9
_RETURN_SECONDS = 0.5
"""A service manager starts its process again by then, unless it is told to wait."""
_LOOK_AGAIN = 0.1


def carry_out(work: Work, actions: Sequence[End]) -> list[Outcome]:
    """See Kind. All together: what may be ended is decided once for all devices."""
    begun = time.monotonic()
    devices = list(dict.fromkeys(device for action in actions for device in action.devices))
    ending = _Ending(work, devices)
    try:
        failure = ending.end()
    except LibhookError as error:
        failure = Failure(error.message, error.hint)
    milliseconds = (time.monotonic() - begun) * 1000
    outcomes = [Outcome(action, failure, milliseconds, {"ended": ", ".join(ending.lost)}) for action in actions]
    return [outcomes[0]._replace(lost=tuple(ending.lost)), *outcomes[1:]]


class _Ending:
    """Ends what has these devices open, and looks whether that is gone. ``lost`` says what was told to end."""

    def __init__(self, work: Work, devices: Sequence[PciAddress]) -> None:
        self._work, self._machine = work, work.machine
        self._devices = devices
        self._listed = work.config.actions[SETTING]
        self._nodes: dict[str, str] = {}
        self.lost: list[str] = []

    def end(self) -> Failure | None:
        for device in self._devices:
            found = run(self._work, _nodes(self._machine, device))
            if isinstance(found, int):
                raise unanswered(OSError(found, "its nodes cannot be listed", str(device)))
            self._nodes |= holders.in_the_way(self._machine, device, found).paths
        ways = self._ways()
        if others := [one for one, way in ways.items() if not way]:
            return self._in_use(others)
        failure = self._sessions([one for one, way in ways.items() if way == SESSIONS])
        return failure or self._processes() or self._stay_away()

    def _ways(self) -> dict[Occupant, str]:
        """Who has the devices open now, and how each is ended."""
        pids = [one.pid for one in holders.of_nodes(self._machine, self._nodes, self._work.deadline, must_see=True)]
        if not pids:
            return {}
        return ways_of(run(self._work, occupants.of_pids(self._machine, pids, programs(self._work))), self._listed)

    def _sessions(self, those: Sequence[Occupant]) -> Failure | None:
        """End the sessions of these, and wait for them, for the rest of the sessions, and for logind."""
        sessions = sorted({one.session for one in those if one.session})
        for session in sessions:
            self._do(partial(acting.end_session, self._machine, session.name))  # what is found afterwards counts
            self.lost.append(str(session))
        known = {(one.pid, one.start) for one in those if not one.is_agent}
        until = time.monotonic() + acting.END_SECONDS
        while sessions:
            rest = self._rest(known)
            left = [session for session in sessions if systemd.is_group_populated(self._machine, session.group)]
            if not (rest or left):
                break
            if time.monotonic() > until:
                if left:
                    return Failure(f"{left[0]} does not end", f"this says more: loginctl session-status {left[0].name}")
                return self._in_use(rest, "after the session's end ")
            time.sleep(_LOOK_AGAIN)
        return None

    def _rest(self, known: Collection[tuple[int, int]]) -> list[Occupant]:
        """Those of these processes that still have a device open; then logind, unless it is for another session."""
        now = self._ways()
        rest = [one for one in now if (one.pid, one.start) in known]
        others = [one for one, way in now.items() if way in ("", SESSIONS) and not one.is_agent]
        return rest or [one for one in now if one.is_agent and not others]

    def _processes(self) -> Failure | None:
        """Those that are left: a session's end ends most."""
        alive = [one for one, way in self._ways().items() if way not in ("", SESSIONS)]
        self.lost += map(str, alive)
        for number, seconds in ((_SIGTERM, end.TERM_SECONDS), (_SIGKILL, end.KILL_SECONDS)):
            for one in alive:
                is_it = partial(occupants.is_same, self._machine, one)
                self._do(partial(self._machine.kernel.signal, one.pid, number, is_it))
            until = time.monotonic() + seconds
            while (alive := [one for one in alive if _lives(self._machine, one)]) and time.monotonic() < until:
                time.sleep(_LOOK_AGAIN)
        if not alive:
            return None
        one = alive[0]
        found = processes.stat(self._machine.proc, one.pid)
        if found and found.state == "D":
            return Failure(f"{one} does not end: it sleeps in the kernel (state D)", KERNEL_LOG)
        return Failure(f"{one} does not end, not even by SIGKILL", KERNEL_LOG)

    def _stay_away(self) -> Failure | None:
        until = time.monotonic() + _RETURN_SECONDS
        while True:
            if back := list(self._ways()):
                return self._in_use(back, "again ", "something starts it again: name its unit in units, too")
            if time.monotonic() > until:
                return None
            time.sleep(_LOOK_AGAIN)

    def _do(self, task: Callable[[], None]) -> None:
        run(self._work, _step(task))

    def _in_use(
        self, those: Iterable[Occupant], when: str = "", remedy: str = "stop what has it open first"
    ) -> Failure:
        devices = ", ".join(map(str, self._devices))
        return Failure(f"{devices} is in use {when}by {', '.join(map(str, those))}", remedy)


def programs(work: Work) -> list[str]:
    """The programs that the settings list."""
    return [item for item in work.config.actions[SETTING] if item != SESSIONS]


def _lives(machine: Machine, one: Occupant) -> bool:
    """Whether it has not ended. A zombie has."""
    found = processes.stat(machine.proc, one.pid)
    return found is not None and found.start == one.start and found.state not in "ZX"


def run(work: Work, track: Track[Result]) -> Result:
    """What the track returns, or raises."""
    (result,) = tracks.run([track], work.deadline)
    return result


def _nodes(machine: Machine, device: PciAddress) -> Track[tuple[Node, ...] | int]:
    try:
        return (yield from nodes.below(machine, device))
    except Late:
        return errno.ETIMEDOUT


def _step(task: Callable[[], None]) -> Track[None]:
    try:
        yield Step(task)
    except Late:
        return
