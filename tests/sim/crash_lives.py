# SPDX-License-Identifier: LGPL-2.1-or-later
"""Guests' lives in which one call of the hook is killed, at every point there is, and whoever comes next.

As a program it plays one life and prints, a line of JSON each, how every point ended. Small, since it forks a process
for every point, and that process more.
"""

import itertools
import json
import os
import subprocess
import sys
from typing import NamedTuple, NoReturn

import crash
from aftermath import COMERS, RELEASES, WANTS_IT, Aftermath, Comer
from cases import CASES, DISK, NIC, Case
from crash import Point
from scenario import Host, guest

from libhook.simulation import processes
from libhook.simulation.build import scratch
from libhook.simulation.hosts import many, workstation
from libhook.simulation.libvirt import Libvirt


class Life(NamedTuple):
    """How a guest lives, and the events of it that are killed."""

    case: Case
    events: tuple[str, ...] = ("prepare", "start", "started", "release")
    fails: str = ""
    """Where libvirt's own part of the start fails."""
    unplugged: str = ""
    """A device that is taken from the guest while it runs."""
    unwaited: bool = False
    """Nobody waits for ``started``: whatever becomes of it, the guest runs, and its devices are recorded so."""


LIVES = {
    "eight devices": Life(Case(many(8, remove=0), guest(*(f"0000:00:{at:02x}.0" for at in range(8))))),
    "one of a group of three": Life(CASES["one_of_three_siblings_bind"]),
    "one device, taken": Life(CASES["unmanaged"], ("prepare",)),
    "one device, given back": Life(CASES["unmanaged"], ("start", "started", "release")),
    "one device, not waited for": Life(CASES["unmanaged"], ("started",), unwaited=True),
    "eight devices, not waited for": Life(
        Case(many(8, remove=0), guest(*(f"0000:00:{at:02x}.0" for at in range(8)))), ("started",), unwaited=True
    ),
    "with an override not acted on": Life(CASES["override_to_vfio_not_acted_on"]),
    "without autoprobe": Life(CASES["vf_without_autoprobe"], ("release",)),
    "without autoprobe, managed": Life(CASES["vf_without_autoprobe_managed"], ("release",)),
    "managed, taken over": Life(CASES["bind_managed"]),
    "managed, libvirt binds": Life(CASES["managed"]),
    "failed before start": Life(CASES["unmanaged"], ("release",), fails="host"),
    "failed after start": Life(CASES["bind_managed"], ("release",), fails="qemu"),
    "hot-unplugged": Life(Case(workstation(), guest(NIC, DISK)), ("release",), unplugged=NIC),
}


class Play:
    """A life, and at each of its calls all the points at which that is killed."""

    def __init__(self, life: Life, *, full: bool, every: int = 1) -> None:
        """``full``: each point with each comer; otherwise few comers, and one of ``every`` so many that matter."""
        self._life = life
        self._full = full
        self._every = every
        self._turn = itertools.count()
        self._answer = -1
        """In the process of one point: the pipe to tell what was wrong."""
        self._root = scratch()
        self.host = Host(self._root, life.case.world, life.case.config)
        self.host.libvirt = Libvirt(self._root, self._hook)

    def run(self) -> None:
        """All of it. A process of one point in which the hook has lived on gets here as well, and ends here."""
        host, life = self.host, self._life
        begun = host.libvirt.start(life.case.guest, life.fails)
        if life.unplugged and not begun.error:
            host.libvirt.unplug(life.case.guest.name, life.unplugged)
        if not begun.error:
            host.libvirt.stop(life.case.guest.name)
        if self._answer >= 0:
            processes.end(self._root, host.libvirt.pid)
            self._end(Aftermath(host, life.case.guest, "release").end())
        subprocess.run(["/bin/rm", "-r", self._root], check=True)

    def _hook(self, name: str, operation: str, sub: str, extra: str, xml: bytes) -> tuple[int, str]:
        arguments = (name, operation, sub, extra)
        if self._answer < 0 and operation in self._life.events:
            status = self._kill_everywhere(arguments, xml)
            if status is not None:
                return status, "its writer was killed"
        return self.host.hook(*arguments, xml)

    def _kill_everywhere(self, arguments: tuple[str, ...], xml: bytes) -> int | None:
        """Each crash, and what follows, happens in a process of its own, which begins with the host as it is now.

        In one whose hook lives on, its exit status; otherwise None, when all are done.
        """
        now = f"{self._root}.now"
        subprocess.run(["/bin/cp", "-a", self._root, now], check=True)
        points = crash.points(self.host, self._deed(arguments, xml), both=self._full)
        if not self._full:
            points = [point for point in points if point.changes][:: self._every]
        for point in points:
            comers = COMERS if self._full else self._some_comers(point)
            for comer in comers if point.how != "writer" else comers[:1]:
                self._restore(now)
                receiver, self._answer = os.pipe()
                if os.fork() == 0:
                    os.close(receiver)
                    return self._crash(arguments, xml, point, comer)
                os.close(self._answer)
                self._answer = -1
                with os.fdopen(receiver) as pipe:
                    problems = json.loads(pipe.read() or '["the test itself failed"]')
                os.wait()
                print(json.dumps([arguments[1], str(point), str(comer), problems]), flush=True)
        self._restore(now)
        subprocess.run(["/bin/rm", "-r", now], check=True)
        return None

    def _some_comers(self, point: Point) -> tuple[Comer, ...]:
        """One, in turn; between record and claim also the one who could be given what another still has."""
        one = COMERS[next(self._turn) % len(COMERS)]
        if self._life.unwaited and one != RELEASES:
            return (one, RELEASES)
        decides = "/domains/" in point.effect or "/claims/" in point.effect
        return (one, WANTS_IT) if decides and one != WANTS_IT else (one,)

    def _restore(self, now: str) -> None:
        subprocess.run(f"rm -r '{self._root}' && cp -a '{now}' '{self._root}'", shell=True, check=True)  # noqa: S602

    def _crash(self, arguments: tuple[str, ...], xml: bytes, point: Point, comer: Comer) -> int:
        os.environ.clear()
        crash.adopt_orphans()
        status = crash.die(self.host, self._deed(arguments, xml), point)
        if status not in (0, 1):
            reason = "shutdown" if self._life.unwaited else "failed"
            problems = Aftermath(self.host, self._life.case.guest, arguments[1], reason).follow(comer)
            if self._life.unwaited and comer.libvirtd and comer.who in ("release", "recover"):
                problems += self._untrue()
            self._end(problems)
        if point.how != "writer":
            self._end(["was not killed"])
        return status

    def _deed(self, arguments: tuple[str, ...], xml: bytes) -> crash.Deed:
        if self._life.unwaited:
            return crash.unwaited(self.host, arguments, xml, self._life.case.guest.uuid)
        return crash.hook(self.host, arguments, xml)

    def _untrue(self) -> list[str]:
        """What is wrong in the trail of a guest whose ``release`` says that it ran.

        A start is there twice where somebody was killed between sending it and noting so.
        """
        trail, addresses = self.host.trail, [device.address for device in self._life.case.guest.devices]
        own = {address: [line for line in trail if f" {address} " in line] for address in addresses}
        return [
            f"the guest ran, and the trail says: {said}"
            for address, said in own.items()
            if [*dict.fromkeys(said)] != [f"start {address} success", f"stop {address} success"]
            or said[-1].startswith("start")
            or len(said) > 3
        ]

    def _end(self, problems: list[str]) -> NoReturn:
        os.write(self._answer, json.dumps(problems).encode())
        os._exit(0)


if __name__ == "__main__":
    Play(LIVES[sys.argv[1]], full=sys.argv[2] == "full", every=int(sys.argv[3])).run()
