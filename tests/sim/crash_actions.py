# SPDX-License-Identifier: LGPL-2.1-or-later
"""Guests that have the same modules out, and one shows the consoles: one call of the hook is killed, at every point.

As a program it plays guests that end in the order that is named, at one of so many points, and shows how each ended.
"""

import itertools
import json
import sys
from collections.abc import Iterator

import disturbing
from aftermath import recover, wrong
from disturbing import Point
from modules_out import OTHER, STACK, THIRD, WIN11, host_with, loaded
from scenario import reap
from stage import Stage

from libhook.simulation.build import scratch
from libhook.simulation.libvirt import Libvirt

GUESTS = {"a": WIN11, "b": OTHER, "c": THIRD}
_EVENTS = {"prepare": "unload", "release": "load"}
_HOW: tuple[disturbing.How, ...] = ("parent", "late")
_WHEN: tuple[disturbing.When, ...] = ("before", "after")
_PATIENCE = 5.0


class Play:
    """The guests begin in the order of their names, and end in another."""

    def __init__(self, ends: str, every: int) -> None:
        """One of ``every`` so many points."""
        root = scratch()
        self._host = host_with(root, f"modules = {json.dumps(STACK)}\n")  # in this order each is a call of its own
        self._host.libvirt = Libvirt(root, self._hook)
        self._stage = Stage(self._host)
        self._before = loaded(self._host)
        self._ends, self._every = ends, every
        self._turn = itertools.count()

    def run(self) -> None:
        """All of it. A process of one point in which the hook has lived on gets here as well, and ends here."""
        for name in sorted(self._ends):
            self._host.libvirt.start(GUESTS[name])
        for name in self._ends:
            if GUESTS[name].name in self._host.libvirt._running:  # its start may have failed
                self._host.libvirt.stop(GUESTS[name].name, "shutdown")
        if self._stage.is_apart:
            self._stage.tell(self._end())
        self._stage.close()

    def _hook(self, name: str, operation: str, sub: str, extra: str, xml: bytes) -> tuple[int, str]:
        arguments = (name, operation, sub, extra)
        if not self._stage.is_apart and operation in _EVENTS:
            self._stage.keep()
            deed = disturbing.hook(self._host, arguments, xml)
            plays = (
                (point, f"{self._ends}: {operation} of {name}, {point}", None)
                for point in self._points(deed, operation)
            )
            for _, _, status in self._stage.kill(deed, plays):
                if status in (0, 1):
                    return status, "its writer was killed"
                self._stage.tell(self._follow(name, operation))
        return self._host.hook(*arguments, xml)

    def _points(self, deed: disturbing.Deed, operation: str) -> Iterator[Point]:
        found = [point for point in disturbing.points(self._host, deed, both=False) if point.changes]
        verb = _EVENTS[operation]
        first, last = (
            operation == "prepare" and STACK[0] in loaded(self._host),
            operation == "release" and len(self._host.libvirt._running) == 1,
        )
        for number, name in enumerate(STACK, 1) if first or last else ():
            found += [Point(number, f"{verb} {name}", when, how) for how in _HOW for when in _WHEN]
        for point in found:
            if next(self._turn) % self._every == 0:
                yield point

    def _follow(self, name: str, operation: str) -> list[str]:
        """Who lives keeps what all need; then all end, and all is as it began."""
        reap(_PATIENCE)
        one = next(one for one in GUESTS.values() if one.name == name)
        running = [other for other in list(self._host.libvirt._running) if other != name]
        recover(self._host)
        if operation == "prepare":
            self._host.event(one, "release", "failed")
        problems = [
            f"{running} run, and there is {module}" for module in loaded(self._host).intersection(STACK) if running
        ]
        for other in running:
            self._host.libvirt.stop(other, "shutdown")
        return problems + self._end()

    def _end(self) -> list[str]:
        reap(_PATIENCE)
        recover(self._host)
        return [*wrong(self._host), *(f"module: {name}" for name in self._before ^ loaded(self._host))]


if __name__ == "__main__":
    Play(sys.argv[1], int(sys.argv[2])).run()
