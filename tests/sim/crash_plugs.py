# SPDX-License-Identifier: LGPL-2.1-or-later
"""``libhook attach`` and ``detach`` killed at every point there is, and whoever comes next.

As a program it plays one of them and prints, a line of JSON each, how every point ended.
"""

import json
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator

import crash
from aftermath import OTHER, leftovers, recover
from cases import DISK, NIC
from crash import Point
from plugging import Hypervisor, attach, xml
from scenario import Host, guest, reap

from libhook.effects.log import Log
from libhook.errors import LibhookError
from libhook.hotplug import plug, unplug
from libhook.hotplug.request import Request
from libhook.simulation import processes, store
from libhook.simulation.build import scratch
from libhook.simulation.guests import Assigned, Guest
from libhook.simulation.hosts import workstation
from libhook.xml import domxml

COMERS = ("release", "again", "other", "recover", "start")
_OTHER = Guest("other", (), OTHER)


class Play:
    """One command, at a guest that has a disk besides, and all the points at which it is killed."""

    def __init__(self, verb: str, every: int, *, full: bool) -> None:
        """One of ``every`` so many points that matter; ``full``: each with every comer."""
        self._verb = verb
        self._full = full
        self._every = every
        self._root = scratch()
        self.host = Host(self._root, workstation())
        self.host.libvirt.start(guest(DISK, *([NIC] if verb == "detach" else [])))
        self.host.libvirt.start(_OTHER)
        subprocess.run(["/bin/cp", "-a", self._root, f"{self._root}.now"], check=True)

    def outcomes(self) -> Iterator[tuple[Point, str, list[str]]]:
        """Each point with a comer, or with each, and what was wrong in the end."""
        points = [point for point in crash.points(self.host, self._deed, both=False) if _matters(point)]
        for number, point in enumerate(points[:: self._every]):
            comers = COMERS if self._full else [COMERS[number % len(COMERS)]]
            for comer in comers:
                self._restore()
                receiver, sender = os.pipe()
                if os.fork() == 0:
                    problems = ["the test itself failed"]
                    try:
                        problems = self._crash(point, comer)
                    finally:
                        os.write(sender, json.dumps(problems).encode())
                        os._exit(0)
                os.close(sender)
                with os.fdopen(receiver) as pipe:
                    yield point, comer, json.loads(pipe.read() or '["no answer"]')
                os.wait()
        for folder in (self._root, f"{self._root}.now"):
            subprocess.run(["/bin/rm", "-r", folder], check=True)

    def _restore(self) -> None:
        subprocess.run(f"rm -r '{self._root}' && cp -a '{self._root}.now' '{self._root}'", shell=True, check=True)  # noqa: S602

    def _deed(self) -> int:
        """The command, in a process that the simulated host knows."""
        processes.add(self._root, os.getpid(), "libhook")
        try:
            with Log(self.host.machine, operation=self._verb) as log:
                command = plug.attach if self._verb == "attach" else unplug.detach
                request = Request("win11", xml(NIC))
                list(command(self.host.machine, log, Hypervisor(self.host), request))
        except LibhookError:
            return 1
        return 0

    def _crash(self, point: Point, comer: str) -> list[str]:
        os.environ.clear()
        crash.adopt_orphans()
        status = crash.die(self.host, self._deed, point)
        for name in os.listdir(f"{self._root}/proc"):
            if name.isdigit() and store.read(f"{self._root}/proc/{name}/comm") == "libhook\n":
                processes.end(self._root, int(name))
        if status in (0, 1) and point.how != "writer":
            return ["was not killed"]
        self._believe_the_status_file()
        has_it = self._has_it()
        getattr(self, f"_{comer}")()
        problems = []
        if has_it and comer != "release" and self.host.driver(NIC) != "vfio-pci":
            problems.append("taken from a guest that runs")
        reap(5)
        recover(self.host)
        if self._has_it() and self.host.driver(NIC) != "vfio-pci":
            problems.append("taken by recover from a guest that runs")
        for one in list(self.host.libvirt.guests):
            self.host.libvirt.stop(one.name, "shutdown")
        reap(5)
        recover(self.host)
        return problems + self._wrong(has_it, comer)

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
        attach(self.host, Hypervisor(self.host), xml(NIC))

    def _other(self) -> None:
        attach(self.host, Hypervisor(self.host), xml(NIC), guest="other")

    def _recover(self) -> None:
        recover(self.host)

    def _start(self) -> None:
        third = guest(NIC, name="third")._replace(uuid=OTHER.replace("1", "3"))
        self.host.libvirt.start(third)

    def _wrong(self, has_it: bool, comer: str) -> list[str]:
        problems = [*self.host.changed, *(f"left over: {name}" for name in leftovers(self.host))]
        lives: dict[str, list[str]] = defaultdict(list)
        for line in store.lines(f"{self._root}/var/log/audit.jsonl"):
            fields = dict(part.split("=", 1) for part in line["text"].split() if "=" in part)
            lives[f"{fields['vm']} {fields['device']}"].append(f"{fields['reason']} {line['success']}")
        for what, how in lives.items():
            had, last = False, ""
            for one in how:
                if one == last or (last, one) == ("detach True", "stop True"):
                    continue  # killed between sending it and noting so
                last = one
                if one in ("stop True", "detach True") and not had:
                    problems.append(f"the trail of {what} has an end without a beginning: {how}")
                had = True if one in ("start True", "attach True") else had and one not in ("stop True", "detach True")
            if had:
                problems.append(f"the trail of {what} does not end: {how}")
        mine = lives[f'"win11" "{NIC}"']
        if has_it and not {"attach True", "start True"} & {*mine}:
            problems.append(f"it had it, and the trail does not say so: {mine}")
        if self._verb == "attach" and not has_it and comer != "again" and "attach True" in mine:
            problems.append(f"it never had it, and the trail says so: {mine}")
        log = [f"{entry['event']}: {entry}" for entry in store.lines(f"{self._root}/var/log/libhook.jsonl")]
        return problems + [entry for entry in log if "itself failed" in entry or entry.startswith("journal not")]


def _matters(point: Point) -> bool:
    """libvirtd's part, which is played in the same process, is not killed with the command."""
    return point.changes and not any(part in point.effect for part in (" /simulation/", " /proc/", " /run/libvirt/"))


if __name__ == "__main__":
    for at, who, found in Play(sys.argv[1], int(sys.argv[2]), full=sys.argv[3] == "full").outcomes():
        print(json.dumps([str(at), who, found]), flush=True)
