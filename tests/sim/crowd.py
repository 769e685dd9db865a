# SPDX-License-Identifier: LGPL-2.1-or-later
"""Many guests that start and stop at once, each in a process of its own, and what they got in one another's way.

As a program, with ``overlapping`` GUESTS STARTS SEED or ``disjoint`` GUESTS STARTS SECONDS, it prints a line of JSON.
"""

import fcntl
import json
import os
import random
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial

from aftermath import leftovers, recover
from family import apart
from scenario import Host, guest

from libhook import run
from libhook.facts.address import PciAddress
from libhook.simulation.build import scratch
from libhook.simulation.guests import Guest
from libhook.simulation.hosts import many
from libhook.simulation.libvirt import Libvirt
from libhook.simulation.world import World

_EXPECTED = ("is held by the guest", "are held by the guest", "is starting the guest")
_PATIENCE = 300
Report = dict[str, object]


Part = Callable[[Counter[str]], None]


class Crowd:
    """One host, and what is found wrong on it by any of its guests."""

    def __init__(self, world: World) -> None:
        """The host is made here."""
        self.root = scratch()
        # Nobody waits so long for anything, however busy the machine that runs this: a deadlock is a wait for ever.
        self.host = Host(self.root, world, f"write_deadline = {_PATIENCE}\n")
        self.addresses = sorted(os.listdir(f"{self.root}/sys/bus/pci/devices"))
        os.mkdir(f"{self.root}/owned")

    def play(self, parts: Iterable[Part], beside: Part | None = None) -> Report:
        """Each part in a process of its own, all at once; their counts, summed. ``beside`` goes on until they end."""
        running = [apart(partial(_counted, part)) for part in parts]
        besides = [apart(partial(_counted, beside))] if beside else []
        total: Counter[str] = Counter()
        for answer in (*running, *besides):
            total.update(answer() or {"wrong: died": 1})
            if answer == running[-1]:
                os.close(os.open(f"{self.root}/owned/.over", os.O_CREAT))
        with suppress(ChildProcessError):
            while True:
                os.wait()
        return dict(total)

    def end(self) -> list[str]:
        """What differs from the beginning, once all have stopped; then the host is gone."""
        found = [*self.host.changed, *leftovers(self.host)]
        shutil.rmtree(self.root)
        return found


def _counted(part: Part) -> Counter[str]:
    counts: Counter[str] = Counter()
    try:
        part(counts)
    except BaseException as error:  # noqa: BLE001 - whatever it is, it is told
        counts[f"wrong: {type(error).__name__}: {error}"] += 1
    return counts


def live(crowd: Crowd, name: str, starts: int, choose: Callable[[], Sequence[str]], counts: Counter[str]) -> None:
    """One guest's process: start it with devices as they are chosen, so many times, and stop it again."""
    waiting = f"{crowd.root}/owned/.waiting-{name}"
    _note_waiting(waiting)
    daemon = Libvirt(crowd.root, lambda *call: _hook(crowd.host, daemon.pid, call[:4], call[4]))
    uuid = f"00000000-0000-0000-0000-{int(name):012}"
    for _ in range(starts):
        one = guest(*choose(), name=name)._replace(uuid=uuid)
        begun = daemon.start(one)
        if begun.error:
            expected = any(text in begun.error for text in _EXPECTED)
            counts["refused" if expected else f"wrong: {begun.error}"] += 1
            continue
        counts["started"] += 1
        _own(crowd, one, counts)
        daemon.stop(name, "shutdown")
    counts["waited for a lock"] += os.path.getsize(waiting) if os.path.exists(waiting) else 0


def _own(crowd: Crowd, one: Guest, counts: Counter[str]) -> None:
    """Its devices are its own as long as it runs: nobody else says so, and the host agrees."""
    marks = [f"{crowd.root}/owned/{device.address}" for device in one.devices]
    for mark in marks:
        try:
            os.close(os.open(mark, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            counts["wrong: two owners"] += 1
    claims = crowd.host.state.claims(PciAddress.parse(device.address) for device in one.devices)
    if {claim.uuid for claim in claims.values()} != {one.uuid}:
        counts["wrong: claimed by another"] += 1
    for device in one.devices:
        if crowd.host.driver(device.address) != "vfio-pci":
            counts["wrong: not on vfio"] += 1
    for mark in marks:
        with suppress(FileNotFoundError):
            os.unlink(mark)


def _hook(host: Host, caller: int, arguments: Sequence[str], document: bytes) -> tuple[int, str]:
    """The hook, in a process of its own as libvirtd's is."""

    def answer() -> tuple[int, str]:
        code, lines, _ = run.run(host.machine, run.Call(arguments, lambda: document, caller))
        return code, "\n".join(lines)

    code, said = apart(answer)() or (255, "")
    return code, said


def _note_waiting(path: str) -> None:
    """From now on this process and its children leave a byte there whenever a lock of libhook's is not free."""
    flock = fcntl.flock

    def noting(descriptor: int, operation: int) -> None:
        try:
            flock(descriptor, operation)
        except BlockingIOError:
            if "/run/libhook/locks" in os.readlink(f"/proc/self/fd/{descriptor}"):
                with open(path, "ab", buffering=0) as file:
                    file.write(b".")
            raise

    fcntl.flock = noting  # type: ignore[assignment]


def overlapping(guests: int, starts: int, seed: int) -> dict[str, object]:
    """Guests that want one another's devices, and somebody who runs recover all the while."""
    crowd = Crowd(many(40, remove=0))
    began = time.monotonic()

    def one(number: int) -> Part:
        chance = random.Random(seed * 1000 + number)  # noqa: S311 - to be the same in each run
        share = starts // guests + (number < starts % guests)
        return lambda counts: live(
            crowd, str(number), share, lambda: chance.sample(crowd.addresses, chance.choice((1, 1, 1, 2, 3))), counts
        )

    def recovering(counts: Counter[str]) -> None:
        while not os.path.exists(f"{crowd.root}/owned/.over"):
            recover(crowd.host)
            counts["recovered"] += 1

    report = crowd.play(map(one, range(guests)), recovering)
    return {**report, "seconds": time.monotonic() - began, "left": crowd.end()}


def disjoint(guests: int, starts: int, remove: float) -> dict[str, object]:
    """Guests that have nothing to do with one another."""
    crowd = Crowd(many(guests, remove=remove, vfio_loaded=True))
    began = time.monotonic()

    def one(number: int) -> Part:
        return lambda counts: live(crowd, str(number), starts, lambda: [crowd.addresses[number]], counts)

    report = crowd.play(map(one, range(guests)))
    return {**report, "seconds": time.monotonic() - began, "left": crowd.end()}


if __name__ == "__main__":
    what, first, second, third = sys.argv[1:]
    if what == "overlapping":
        print(json.dumps(overlapping(int(first), int(second), int(third))))
    else:
        print(json.dumps(disjoint(int(first), int(second), float(third))))
