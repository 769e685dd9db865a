# SPDX-License-Identifier: LGPL-2.1-or-later
"""``libhook watch`` killed at every point of what it does about one event, and whoever comes next.

As a program it plays one event, at one of so many points, and shows how each ended.
"""

import os
import sys
from collections.abc import Iterator

import disturbing
from aftermath import recover, trails, wrong
from amounts import FULL
from cases import DISK, NIC
from crash_plugs import end_libhook, matters
from disturbing import Point
from plugging import attach, detach, xml
from points import number, some
from scenario import Host, guest, reap
from stage import Stage
from watch_play import Watched

from libhook.simulation import processes
from libhook.simulation.build import scratch
from libhook.simulation.guests import Assigned, Guest
from libhook.simulation.hosts import workstation
from libhook.simulation.hypervisor import Hypervisor
from libhook.story.entries import with_pending_begin

COMERS = ("watch", "went", "release", "recover", "detach")
BEFORE, WITH = guest(DISK), guest(DISK, NIC)
_BEGAN = "began, about to be recorded"
EVENTS: dict[str, tuple[Guest | None, tuple[tuple[str, Guest], ...]]] = {
    _BEGAN: (None, (("began", WITH),)),
    "came unseen": (WITH, ()),
    "added": (BEFORE, (("added", WITH),)),
    "kept": (WITH, (("kept", WITH),)),
    "removed, and there again": (WITH, (("removed", WITH), ("added", WITH))),
    "removed": (WITH, (("removed", BEFORE),)),
    "went unseen": (BEFORE, ()),
}
"""What the guest has when this watch connects, and what it is told then, with what the guest has by that time."""


class Play:
    """A guest to which a card comes, or of which it goes; the points at which the watch is killed meanwhile."""

    def __init__(self, event: str, every: int) -> None:
        """Another watch has seen all that was before."""
        self._event = event
        self._every = every
        self._root = scratch()
        self.host = Host(self._root, workstation())
        self._stage = Stage(self.host)
        before = Watched(self.host)
        before.connect()
        if event == _BEGAN:
            self._begin_unrecorded()
            return
        before.begin(BEFORE)
        if event in ("added", "came unseen"):
            assert self.host.libvirt.attach("win11", Assigned(NIC, True)) == ""
        else:
            attach(self.host, Hypervisor(self.host.libvirt), xml(NIC))
            before.tell("added", "hostdev1", WITH)
        if event in ("removed", "went unseen"):
            self.host.libvirt.unplug("win11", NIC)

    def _begin_unrecorded(self) -> None:
        """Its ``started`` was killed when it was about to send the record."""
        state = self.host.state
        self.host.libvirt.start(WITH)
        (held,) = filter(None, map(state.load, state.uuids()))
        state.save(with_pending_begin(held, {device.key for device in held.devices}))

    def run(self) -> None:
        """Each point with a comer, or with each."""
        self._stage.keep()
        for _, comer, _ in self._stage.kill(self._deed, self._plays()):
            self._stage.tell(self._follow(comer))
        self._stage.close()

    def _plays(self) -> Iterator[tuple[Point, str, str]]:
        points = [point for point in disturbing.points(self.host, self._deed, both=False) if matters(point)]
        for point in some(points, self._every, self._event):
            where = f"watch, {self._event}, {point}"
            for comer in COMERS if FULL else [COMERS[number(where) % len(COMERS)]]:
                yield point, f"{where}, then {comer}", comer

    def _deed(self) -> int:
        """The watch, in a process that the simulated host knows."""
        processes.add(self._root, os.getpid(), "libhook")
        watched = Watched(self.host)
        watched.guest, events = EVENTS[self._event]
        watched.connect()
        for what, now in events:
            watched.tell(what, "hostdev1", now)
        return 0

    def _follow(self, comer: str) -> list[str]:
        end_libhook(self._root)
        assert reap(60)
        held = self.host.state.load(guest().uuid)
        known = [device for device in held.devices if device.address == NIC] if held else []
        pending = {device.pending for device in known}
        getattr(self, f"_{comer}")()
        assert reap(60)
        recover(self.host)
        if self._has_it() and self.host.driver(NIC) != "vfio-pci":
            return ["taken from a guest that runs"]
        for one in list(self.host.libvirt.guests):
            self.host.libvirt.stop(one.name, "shutdown")
        assert reap(60)
        recover(self.host)
        mine = trails(self.host)[f'{guest().uuid} "{NIC}"']
        problems = [] if "attach False" not in mine else [f"it had it, and the trail says that it did not: {mine}"]
        came = "start True" if self._event == _BEGAN else "attach True"
        meant = {"begin": came, "again": "detach True", "kept": "detach False"}
        lost = [what for what in pending if what and meant[what] not in mine]
        problems += [f"{what} was journalled, and is not recorded: {mine}" for what in lost]
        if self._event == _BEGAN and mine.count(came) < 2:  # once before the watch
            problems.append(f"what was about to be recorded is not recorded: {mine}")
        if pending & {"again", "begin"} and self._event == "removed, and there again" and mine.count("attach True") < 2:
            problems.append(f"its second beginning is not recorded: {mine}")
        if comer in ("watch", "went") and came not in mine and (comer == "watch" or pending):
            problems.append(f"the next watch has not recorded that it came: {mine}")
        # Where nobody knows that the card came, its end is all that there is to record.
        never_seen = not known and comer == "detach"
        return problems + [
            problem
            for problem in wrong(self.host)
            if "left over: watched.json" not in problem and not (never_seen and "an end without a beginning" in problem)
        ]

    def _has_it(self) -> bool:
        return any(device.address == NIC for one in self.host.libvirt.guests for device in one.devices)

    def _watch(self) -> None:
        watched = Watched(self.host)
        watched.guest = WITH if self._has_it() else BEFORE
        watched.connect()

    def _went(self) -> None:
        if self._has_it():
            self.host.libvirt.unplug("win11", NIC)
        self._watch()

    def _release(self) -> None:
        self.host.libvirt.stop("win11", "shutdown")

    def _recover(self) -> None:
        recover(self.host)

    def _detach(self) -> None:
        detach(self.host, Hypervisor(self.host.libvirt), xml(NIC))


if __name__ == "__main__":
    Play(sys.argv[1], int(sys.argv[2])).run()
