# SPDX-License-Identifier: LGPL-2.1-or-later
"""Guests' lives in which one call of the hook is killed, at every point there is, and whoever comes next.

As a program it plays one life, at one of so many points, and shows how each ended.
"""

import sys
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import disturbing
from aftermath import COMERS, OTHER, RELEASES, WANTS_IT, Aftermath, Comer, trails
from amounts import FULL
from cases import CASES, DISK, NIC, Case
from disturbing import Deed, Point
from mounting import DATA, INDEX, MOUNTS, SUB, TARGET, mount
from old_scripts import PATH
from points import number, some
from scenario import Host, guest
from stage import Stage
from units import CUPS

from libhook.simulation import commands, processes, systemd
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
    units: tuple[tuple[str, str], ...] = ()
    """Units of the host, each with its state, which it must have again in the end."""
    unwaited: bool = False
    """Nobody waits for ``started``: whatever becomes of it, the guest runs, and its devices are recorded so."""
    unrecorded: bool = False
    """No hook is there at ``started``, since libvirtd ends; the next libvirtd calls ``reconnect``."""
    mounted: bool = False
    """Its disk is mounted."""
    script: bool = False
    """The settings name an old script. Each ``prepare`` of it must have its ``release``."""


_ALONG = f'take_along = ["{DISK}"]'
LIVES = {
    "eight devices": Life(Case(many(8, remove=0), guest(*(f"0000:00:{at:02x}.0" for at in range(8))))),
    "one of a group of three": Life(CASES["one_of_three_siblings_bind"]),
    "one device, taken": Life(CASES["unmanaged"], ("prepare",)),
    "one device, given back": Life(CASES["unmanaged"], ("start", "started", "release")),
    "one device, not waited for": Life(CASES["unmanaged"], ("started",), unwaited=True),
    "eight devices, not waited for": Life(
        Case(many(8, remove=0), guest(*(f"0000:00:{at:02x}.0" for at in range(8)))), ("started",), unwaited=True
    ),
    "one device, recorded by the next libvirtd": Life(CASES["unmanaged"], ("reconnect",), unrecorded=True),
    "one that is taken along": Life(
        Case(workstation(), guest(NIC), f"[domains.win11]\n{_ALONG}\n[domains.{OTHER}]\n{_ALONG}\n"),
    ),
    "with an override not acted on": Life(CASES["override_to_vfio_not_acted_on"]),
    "without autoprobe": Life(CASES["vf_without_autoprobe"], ("release",)),
    "without autoprobe, managed": Life(CASES["vf_without_autoprobe_managed"], ("release",)),
    "managed, taken over": Life(CASES["bind_managed"]),
    "managed, libvirt binds": Life(CASES["managed"]),
    "failed before start": Life(CASES["unmanaged"], ("release",), fails="host"),
    "failed after start": Life(CASES["bind_managed"], ("release",), fails="qemu"),
    "with units": Life(
        Case(workstation(), guest(NIC), f'[units]\n"{CUPS}" = "down"\n'),
        ("prepare", "release"),
        units=((CUPS, "active"),),
    ),
    "with a mounted disk": Life(
        Case(workstation(), guest(DISK), MOUNTS),
        ("prepare", "release"),
        units=((DATA, "active"), (SUB, "active"), (INDEX, "active"), (TARGET, "active")),
        mounted=True,
    ),
    "with an old script": Life(
        Case(workstation(), guest(NIC), f'legacy.path = "{PATH}"\n'), ("prepare", "start", "release"), script=True
    ),
    "hot-unplugged": Life(Case(workstation(), guest(NIC, DISK)), ("release",), unplugged=NIC),
}


class Play:
    """A life, and at each of its calls all the points at which that is killed."""

    def __init__(self, name: str, *, full: bool, every: int = 1) -> None:
        """``full``: each point with each comer; otherwise few comers, and one of ``every`` so many that matter."""
        self._name = name
        self._life = LIVES[name]
        self._full = full
        self._every = every
        root = scratch()
        self.host = Host(root, self._life.case.world, self._life.case.config)
        self.host.libvirt = Libvirt(root, self._hook)
        if self._life.script:
            commands.add(root, PATH)
        self._stage = Stage(self.host)
        if self._life.mounted:
            mount(root)
        for unit, state in () if self._life.mounted else self._life.units:
            systemd.add(root, unit, active=state)

    def run(self) -> None:
        """All of it. A process of one point in which the hook has lived on gets here as well, and ends here."""
        host, life = self.host, self._life
        begun = host.libvirt.start(life.case.guest, life.fails)
        if life.unrecorded and not begun.error:
            host.libvirt.restart()
        if life.unplugged and not begun.error:
            host.libvirt.unplug(life.case.guest.name, life.unplugged)
        if not begun.error:
            host.libvirt.stop(life.case.guest.name)
        if self._stage.is_apart:
            processes.end(host.root, host.libvirt.pid)
            problems = Aftermath(host, life.case.guest, "release").end()
            self._stage.tell([*problems, *self._units(), *self._scripts()])
        self._stage.close()

    def _hook(self, name: str, operation: str, sub: str, extra: str, xml: bytes) -> tuple[int, str]:
        arguments = (name, operation, sub, extra)
        if self._life.unrecorded and operation == "started":
            return 0, ""
        if not self._stage.is_apart and operation in self._life.events:
            status = self._kill_everywhere(arguments, xml)
            if status is not None:
                return status, "its writer was killed"
        return self.host.hook(*arguments, xml)

    def _kill_everywhere(self, arguments: tuple[str, ...], xml: bytes) -> int | None:
        """In the process of a point at which the hook lives on, its exit status; otherwise None, when all are done."""
        self._stage.keep()
        deed, operation = self._deed(arguments, xml), arguments[1]
        for _, comer, status in self._stage.kill(deed, self._plays(deed, operation)):
            if status in (0, 1):
                return status
            reason = "shutdown" if self._runs_on else "failed"
            problems = Aftermath(self.host, self._life.case.guest, operation, reason).follow(comer)
            problems += [*self._units(), *self._scripts()]
            if self._runs_on and comer.libvirtd and comer.who in ("release", "recover"):
                problems += self._untrue()
            self._stage.tell(problems)
        return None

    @property
    def _runs_on(self) -> bool:
        """Whether the guest runs, whatever becomes of the hook."""
        return self._life.unwaited or self._life.unrecorded

    def _plays(self, deed: Deed, operation: str) -> Iterator[tuple[Point, str, Comer]]:
        points: Sequence[Point] = disturbing.points(self.host, deed, both=self._full)
        if not self._full:
            changing = [point for point in points if point.changes]
            points = some(changing, self._every, f"{self._name} {operation}")
        for point in points:
            where = f"{self._name}: {operation}, {point}"
            comers = COMERS if self._full else self._some_comers(point, number(where))
            for comer in comers if point.how != "writer" else comers[:1]:
                yield point, f"{where}, then {comer}", comer

    def _some_comers(self, point: Point, number: int) -> tuple[Comer, ...]:
        """One, by chance; between record and claim also the one who could be given what another still has."""
        one = COMERS[number % len(COMERS)]
        if self._runs_on and one != RELEASES:
            return (one, RELEASES)
        decides = "/domains/" in point.effect or "/claims/" in point.effect
        return (one, WANTS_IT) if decides and one != WANTS_IT else (one,)

    def _deed(self, arguments: tuple[str, ...], xml: bytes) -> Deed:
        if self._life.unwaited:
            return disturbing.unwaited(self.host, arguments, xml, self._life.case.guest.uuid)
        return disturbing.hook(self.host, arguments, xml)

    def _units(self) -> list[str]:
        """Those that are not as they were."""
        now = {unit: systemd.state(self.host.root, unit) for unit, _ in self._life.units}
        return [f"{unit} is {now[unit]}" for unit, state in self._life.units if now[unit] != state]

    def _scripts(self) -> list[str]:
        """The guests whose old script was not called for their end."""
        last = {one["unit"][: len("libhook-legacy-") + 36]: one["argv"][2] for one in commands.ran(self.host.root)}
        return [f"{unit}: its last call is {operation}" for unit, operation in last.items() if operation != "release"]

    def _untrue(self) -> list[str]:
        """What is wrong in the trail of a guest whose ``release`` says that it ran.

        A start, or a stop, is there twice where somebody was killed between sending it and noting so.
        """
        who = self._life.case.guest
        own = (trails(self.host)[f'{who.uuid} "{device.address}"'] for device in who.devices)
        return [
            f"the guest ran, and the trail says: {how}"
            for how in own
            if [*dict.fromkeys(how)] != ["start True", "stop True"] or how[-1] != "stop True" or len(how) > 3
        ]


if __name__ == "__main__":
    Play(sys.argv[1], full=FULL, every=int(sys.argv[2])).run()
