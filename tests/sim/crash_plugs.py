# SPDX-License-Identifier: LGPL-2.1-or-later
"""``libhook attach`` and ``detach`` killed at every point there is, and whoever comes next.

As a program it plays one of them, at one of so many points, and shows how each ended.
"""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import disturbing
from aftermath import OTHER, recover, trails, wrong
from amounts import FULL
from cases import DISK, NIC
from disturbing import Point
from plugging import attach, xml
from points import number, some
from scenario import Host, guest, reap
from stage import Stage

from libhook.effects.log import Log
from libhook.errors import LibhookError
from libhook.hotplug import plug, unplug
from libhook.hotplug.request import Request
from libhook.simulation import processes, store
from libhook.simulation.build import scratch
from libhook.simulation.guests import Assigned, Guest
from libhook.simulation.hosts import workstation
from libhook.simulation.hypervisor import Hypervisor
from libhook.xml import domxml

COMERS = ("release", "again", "other", "recover", "start")
_OTHER = Guest("other", (), OTHER)


class Play:
    """One command, at a guest that has a disk besides, and all the points at which it is killed."""

    def __init__(self, verb: str, every: int) -> None:
        """One of ``every`` so many points that matter; in a long run each with every comer."""
        self._verb = verb
        self._every = every
        self._root = scratch()
        self.host = Host(self._root, workstation(), f'[devices."{NIC}"]\nvalues = {{ "vm.swappiness" = 10 }}\n')
        self._value = Path(f"{self._root}/proc/sys/vm/swappiness")
        self._value.parent.mkdir(parents=True)
        self._value.write_text("60\n")
        self.host.libvirt.start(guest(DISK))
        if verb == "detach":
            attach(self.host, Hypervisor(self.host.libvirt), xml(NIC))
        self.host.libvirt.start(_OTHER)
        self._stage = Stage(self.host)

    def run(self) -> None:
        """Each point with a comer, or with each."""
        self._stage.keep()
        for _, comer, _ in self._stage.kill(self._deed, self._plays()):
            self._stage.tell(self._follow(comer))
        self._stage.close()

    def _plays(self) -> Iterator[tuple[Point, str, str]]:
        points = [point for point in disturbing.points(self.host, self._deed, both=False) if matters(point)]
        for point in some(points, self._every, self._verb):
            where = f"{self._verb}, {point}"
            for comer in COMERS if FULL else [COMERS[number(where) % len(COMERS)]]:
                yield point, f"{where}, then {comer}", comer

    def _deed(self) -> int:
        """The command, in a process that the simulated host knows."""
        processes.add(self._root, os.getpid(), "libhook")
        try:
            with Log(self.host.machine, operation=self._verb) as log:
                command = plug.attach if self._verb == "attach" else unplug.detach
                request = Request("win11", xml(NIC))
                list(command(self.host.machine, log, Hypervisor(self.host.libvirt), request))
        except LibhookError:
            return 1
        return 0

    def _follow(self, comer: str) -> list[str]:
        end_libhook(self._root)
        self._believe_the_status_file()
        has_it = self._has_it()
        getattr(self, f"_{comer}")()
        problems = []
        if has_it and comer != "release" and self.host.driver(NIC) != "vfio-pci":
            problems.append("taken from a guest that runs")
        assert reap(60)
        recover(self.host)
        if self._has_it() == (self._value.read_text() == "60\n"):
            problems.append(f"has it: {self._has_it()}, and the value is {self._value.read_text()!r}")
        if self._has_it() and self.host.driver(NIC) != "vfio-pci":
            problems.append("taken by recover from a guest that runs")
        for one in list(self.host.libvirt.guests):
            self.host.libvirt.stop(one.name, "shutdown")
        assert reap(60)
        recover(self.host)
        mine = trails(self.host)[f'{guest().uuid} "{NIC}"']
        if has_it and not {"attach True", "start True"} & {*mine}:
            problems.append(f"it had it, and the trail does not say so: {mine}")
        if self._verb == "attach" and not has_it and comer != "again" and "attach True" in mine:
            problems.append(f"it never had it, and the trail says so: {mine}")
        if (value := self._value.read_text()) != "60\n":
            problems.append(f"the value is {value!r}")
        return problems + wrong(self.host)

    def _has_it(self) -> bool:
        return any(device.address == NIC for one in self.host.libvirt.guests for device in one.devices)

    def _believe_the_status_file(self) -> None:
        """libvirtd's part was played in the process that was killed: what it did is in its file."""
        text = store.read(f"{self._root}/run/libvirt/qemu/win11.xml")
        found = domxml.parse(text[text.index("<domain ") : text.index("</domstatus>")].encode())
        run = self.host.libvirt._running["win11"]
        run.guest = run.guest._replace(devices=tuple(Assigned(device.address) for device in found.devices))

    def _release(self) -> None:
        self.host.libvirt.stop("win11", "shutdown")

    def _again(self) -> None:
        attach(self.host, Hypervisor(self.host.libvirt), xml(NIC))

    def _other(self) -> None:
        attach(self.host, Hypervisor(self.host.libvirt), xml(NIC), guest="other")

    def _recover(self) -> None:
        recover(self.host)

    def _start(self) -> None:
        third = guest(NIC, name="third")._replace(uuid=OTHER.replace("1", "3"))
        self.host.libvirt.start(third)


def end_libhook(root: str) -> None:
    """What was killed is gone from the simulated host, too."""
    for name in os.listdir(f"{root}/proc"):
        if name.isdigit() and store.read(f"{root}/proc/{name}/comm") == "libhook\n":
            processes.end(root, int(name))


def matters(point: Point) -> bool:
    """libvirtd's part, which is played in the same process, is not killed with the command."""
    return point.changes and not any(part in point.effect for part in (" /simulation/", " /proc/", " /run/libvirt/"))


if __name__ == "__main__":
    Play(sys.argv[1], int(sys.argv[2])).run()
