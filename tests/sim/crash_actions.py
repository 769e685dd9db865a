# SPDX-License-Identifier: LGPL-2.1-or-later
"""Guests whose settings ask the same of the host: one call of the hook is killed, at every point.

As a program it plays guests that end in the order that is named, at one of so many points, and shows how each ended.
"""

import itertools
import sys
import time
import tomllib
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import NamedTuple

import asking_each as each
import disturbing
from aftermath import leftovers, recover, wrong
from asking import PROGRAM, STATES, make, running, settings, states
from disturbing import Point
from own import code
from points import Share, number
from scenario import reap
from stage import Stage

from libhook.command import handlers
from libhook.facts import command
from libhook.simulation import commands
from libhook.simulation.build import scratch
from libhook.simulation.guests import Guest
from libhook.simulation.libvirt import Libvirt

RUN = f"""
[run.screen]
command = ["{PROGRAM}"]
undo = ["{PROGRAM}", "back"]
[run.show]
command = ["{PROGRAM}"]
background = true
[run.begin]
command = ["{PROGRAM}"]
undo = ["{PROGRAM}", "back"]
at = "start"
[run.then]
command = ["{PROGRAM}"]
undo = ["{PROGRAM}", "back"]
after = "units"
[run.late]
command = ["{PROGRAM}"]
undo = ["{PROGRAM}", "back"]
user = "tim"
at = "started"
[run.bye]
undo = ["{PROGRAM}", "back"]
[run.rules]
command = ["{PROGRAM}"]
undo = ["{PROGRAM}", "back"]
reconnect = true
"""
HANDLER = "asks"
WANTS = f"[handlers.{HANDLER}]\n"
_UNDONE = ("screen", "begin", "then", "late", "bye", "rules")
_BACKGROUND = "show"
_ALIVE = ("started", "reconnect")
"""The guest lives on, whatever comes of the hook."""
_PATIENCE = 60.0


class Mix(NamedTuple):
    """What is asked for, and the events that are killed."""

    states: tuple[str, ...] = ()
    runs: bool = False
    """Commands."""
    script: bool = False
    """An old script, at each operation."""
    along: Mapping[str, str] = {}
    """A device for each guest that its XML does not name."""
    handler: bool = False
    """A handler by others asks for the states, and not the settings."""
    guests: Mapping[str, Guest] = each.GUESTS
    events: tuple[str, ...] = ("prepare", "release")

    @property
    def config(self) -> str:
        """The settings."""
        own = each.LEGACY * self.script + (WANTS if self.handler else settings(*self.states)) + RUN * self.runs
        return own + each.TAKE_ALONG * bool(self.along)


MIXES = {
    "modules": Mix(("modules",)),
    "values": Mix(("values",)),
    "commands": Mix(("units",), runs=True, events=("prepare", "start", "started", "reconnect", "release")),
    "mounts": Mix(("mounts",)),
    "legacy and take_along": Mix(
        script=True,
        along=each.ALONG,
        guests=each.WITH_ALONG,
        events=("prepare", "start", "started", "stopped", "release"),
    ),
    "a handler": Mix(("units", "values"), handler=True, events=("prepare", "start", "release")),
    "all": Mix(tuple(STATES), runs=True, events=("prepare", "started", "release")),
}


class Play:
    """The guests begin in the order of their names, and end in another."""

    def __init__(self, mix: str, ends: str, first: int, every: int) -> None:
        """One of ``every`` so many points, from ``first`` on."""
        root = scratch()
        self._name, self._mix = mix, MIXES[mix]
        self._guests = self._mix.guests
        self._host = make(root, self._mix.config)
        each.equip(self._host, script=self._mix.script)
        self._host.libvirt = Libvirt(root, self._hook)
        self._stage = Stage(self._host)
        if self._mix.handler:
            asked = tomllib.loads(settings(*self._mix.states))
            self._host.enable(HANDLER, code(f"return {{'settings': {asked}}}"))
            self._stage.renew = lambda: handlers.enable(self._host.machine, HANDLER)
        self._before = states(self._host)
        self._ends, self._share = ends, Share(first, every)
        self._maybe = ""
        """The UUID of the guest whose hook was killed, as long as nobody has undone or ended it."""
        self._killed = ""
        """The name of the guest whose hook was killed, or whose hook's child."""
        self._begun: set[str] = set()
        """The guests that have begun to start."""

    def run(self) -> None:
        """All of it. A process of one point in which the hook has lived on gets here as well, and ends here."""
        for name in sorted(self._ends):
            self._begun.add(name)
            begun = self._host.libvirt.start(self._guests[name])
            assert self._stage.is_apart or not begun.error, begun.error
        if "reconnect" in self._mix.events:
            self._host.libvirt.restart()
        self._stop(self._guests[name].name for name in self._ends)
        if self._stage.is_apart:
            self._stage.tell(self._end())
        self._stage.close()

    def _hook(self, name: str, operation: str, sub: str, extra: str, xml: bytes) -> tuple[int, str]:
        arguments = (name, operation, sub, extra)
        if not self._stage.is_apart and operation in self._mix.events:
            self._stage.keep()
            deed = disturbing.hook(self._host, arguments, xml)
            for _, how, status in self._stage.kill(deed, self._plays(deed, f"{operation} of {name}")):
                self._killed = name
                if status in (0, 1) or operation == "stopped":  # whatever came of that, libvirt goes on to release
                    return status, "it was killed, or its writer"
                self._stage.tell(self._follow(name, operation, how))
        return self._host.hook(*arguments, xml)

    def _plays(self, deed: disturbing.Deed, what: str) -> Iterator[tuple[Point, str, int]]:
        for point in filter(lambda point: point.changes, disturbing.points(self._host, deed, both=False)):
            where = f"{self._name}, {self._ends}: {what}, {point}"
            name = f"{where}, {(how := number(where) % 3)}"
            if self._share.has(name):
                yield point, name, how

    def _follow(self, name: str, operation: str, how: int) -> list[str]:
        """Who lives keeps what all need; then all end, and all is as it began.

        ``how``: libvirt releases the dead one at once, or libvirtd ends as well, or the other guests end first.
        """
        one, libvirt = next(one for one in self._guests.values() if one.name == name), self._host.libvirt
        problems = list[str]()
        held = self._host.state.load(one.uuid)
        known = {action.key for action in held.actions} if held else set()
        self._maybe = one.uuid
        if operation not in _ALIVE:
            libvirt._running.pop(name, None)
        said = ""
        if how == 1:
            libvirt.end()
            said = recover(self._host)
            libvirt.restart()
        if how == 2:
            problems += self._wrong_while(libvirt._running)
            self._stop(other for other in list(libvirt._running) if other != name)
        if how != 1 and operation in ("prepare", "start"):
            self._host.event(one, "stopped")
        if how != 1 and operation not in _ALIVE:
            self._host.event(one, "release", "shutdown" if operation == "release" else "failed")
        if operation not in _ALIVE:
            self._maybe = ""
        assert reap(_PATIENCE)
        if how == 1 and f"{name}: given back" not in said:  # a child was at work: whoever calls recover is told so
            recover(self._host)
        problems += self._wrong_while(libvirt._running)
        self._stop(self._guests[other].name for other in self._ends)
        assert reap(_PATIENCE)
        if how != 1 and not self._left_to_recover:  # one that comes at once leaves it to whoever is still at work
            problems += [f"before recover {what}" for what in (*self._host.changed, *self._not_back())]
        if operation == "prepare" and not known:
            problems += [f"{it['argv']} of {name} though its entry was not written" for it in self._ran(one)]
        return problems + self._end()

    @property
    def _left_to_recover(self) -> bool:
        """Whether an end met the child of the killed hook at work, and said so."""
        return any("it is still being changed" in str(outcome.log) for outcome in self._host.outcomes)

    def _stop(self, names: Iterable[str]) -> None:
        """Those of them that run: a start may have failed."""
        for name in names:
            if name in self._host.libvirt._running:
                self._host.libvirt.stop(name, "crashed")

    def _ran(self, one: Guest) -> list[dict[str, str]]:
        """Its commands."""
        ours = ("libhook-run-", "libhook-undo-")
        ran = (it for it in commands.ran(self._host.root) if it["unit"].startswith(ours))
        return [it for it in ran if it["environment"]["LIBHOOK_UUID"] == one.uuid]

    def _wrong_while(self, living: Collection[str]) -> list[str]:
        """What these guests do not have."""
        if not living:
            return []
        now, mix = states(self._host), self._mix
        problems = [
            f"{[*living]} run, and {what} is {now[what]}" for what in mix.states if now[what] != STATES[what][1]
        ]
        those = {at: one for at, one in self._guests.items() if one.name in living}
        problems += each.without_devices(self._host, those, mix.along)
        sure = [one.uuid for one in self._guests.values() if one.uuid != self._maybe]
        runs = {unit for unit in running(self._host) if any(uuid in unit for uuid in sure)}
        wanted = {one.uuid for one in those.values()}.intersection(sure)
        if mix.runs and runs != {command.unit(uuid, _BACKGROUND) for uuid in wanted}:
            problems.append(f"{[*living]} run, and of commands {runs}")
        return problems

    def _not_back(self) -> list[str]:
        now = states(self._host)
        return [f"{what} is {now[what]}" for what in now if now[what] != self._before[what]]

    def _end(self) -> list[str]:
        assert reap(_PATIENCE)
        until = time.monotonic() + _PATIENCE
        recover(self._host)
        while leftovers(self._host) and time.monotonic() < until:
            time.sleep(0.02)
            recover(self._host)
        problems = [*wrong(self._host), *(f"{unit} still runs" for unit in running(self._host)), *self._not_back()]
        problems += each.miscalled(self._host, self._guests.values(), self._killed)
        for one, name in itertools.product(self._guests.values(), _UNDONE):
            units = [command.unit(one.uuid, name, undo=undo) for undo in (False, True)]
            order = [units.index(it["unit"]) for it in self._ran(one) if it["unit"] in units]
            if 0 in order[-1:] or (name == "bye" and self._ran(one) and not order):
                problems.append(f"{name} of {one.name} is not undone")
        return problems


if __name__ == "__main__":
    Play(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])).run()
