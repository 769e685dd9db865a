# SPDX-License-Identifier: LGPL-2.1-or-later
"""Guests that share a thing come and go, and one of these acts is killed, at every point there is.

As a program it plays all orders in which so many guests begin and end, and shows how every point ended. Afterwards
either the dead are recovered at once, or the others go on first, or the recovering is killed as well.
"""

import itertools
import shutil
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import disturbing
from disturbing import Point
from points import is_asked_for
from scenario import adopt_orphans, reap
from sharing import Fold, Sharing, most, together
from stage import show

from libhook.kinds.kind import Failure
from libhook.kinds.resource import equal
from libhook.simulation import store
from libhook.simulation.build import scratch

Act = tuple[str, str]
FOLDS: dict[str, tuple[Fold, dict[str, str]]] = {
    "most": (most, {"a": "16", "b": "32", "c": "24"}),
    "together": (together, {"a": "16", "b": "32", "c": "24"}),
    "equal": (equal, {"a": "16", "b": "16", "c": "16"}),
}
_LATE = 60
_GO = "go"
"""The file that a late child waits for."""
_OFTEN = 4
"""Of a recovering, one of at most so many points."""


class Now(NamedTuple):
    """What a crash may change, to be put back for the next one."""

    value: str
    files: dict[str, bytes]


def orders(guests: str) -> list[tuple[Act, ...]]:
    """In which these may begin and end, each once; those who begin do so in the order of their names."""
    acts = [(what, name) for name in guests for what in ("begin", "end")]
    found = []
    for order in itertools.permutations(acts):
        begins = [name for what, name in order if what == "begin"]
        if begins == sorted(begins) and all(
            order.index(("begin", name)) < order.index(("end", name)) for name in guests
        ):
            found.append(order)
    return found


class Play:
    """On one host, which is put back after each crash."""

    def __init__(self, guests: str, fold: str, first: int, every: int) -> None:
        """One of ``every`` so many points, counted over all orders, from ``first`` on."""
        self._root = scratch()
        self._guests = guests
        self._sharing = Sharing(self._root, *FOLDS[fold])
        self._folder = Path(self._sharing.host.machine.state)
        self._turn = itertools.count()
        self._first, self._every = first, every
        self.problems: list[str] = []

    def run(self) -> Iterator[tuple[str, list[str]]]:
        """Each point, and what was wrong."""
        for order in orders(self._guests):
            living: set[str] = set()
            for number, act in enumerate(order):
                yield from self._kill(act, order[number + 1 :], living, "")
                self.problems = []
                self._do(act, living)
                self._expect(living)
                yield f"{'-'.join(act)} of {sorted(living)}", self.problems + ([] if living else self._wrong())
        shutil.rmtree(self._root)

    def _kill(self, act: Act, rest: tuple[Act, ...], living: set[str], already: str) -> Iterator[tuple[str, list[str]]]:
        """Everywhere in this act. ``already``: what was killed before; the act is then the recovering after it."""
        every = min(self._every, _OFTEN) if already else self._every
        now = self._take()
        points = [
            point for point in disturbing.points(self._sharing.host, self._deed(act), both=False) if point.changes
        ]
        for point in points:
            turn = next(self._turn)
            if turn % every != self._first % every:
                continue
            self._put(now)
            self.problems = []
            where = f"{already}{'-'.join(act)} {point} of {sorted(living)}"
            yield from self._after(act, point, rest, set(living), (turn // self._every) % 3, where)
        self._put(now)

    def _after(
        self, act: Act, point: Point, rest: tuple[Act, ...], living: set[str], how: int, where: str
    ) -> Iterator[tuple[str, list[str]]]:
        what, name = act
        dead = {*name}
        status = disturbing.die(self._sharing.host, self._deed(act), point, _GO)
        if status in (0, 1) and point.how != "writer":
            self.problems.append("was not killed")
        if status in (0, 1) and what == "begin":  # it has lived on: the guest runs, or was refused and has nothing
            dead, living = set(), living if status else living | dead
        elif status == 0:
            dead, living = set(), living - dead
        if point.how == "late":
            quiet = self._sharing.settle()
            if not isinstance(quiet, Failure):
                self.problems.append(f"settled while a write was on its way: {quiet}")
            store.create(f"{self._sharing.host.root}/{_GO}", "")
        if not reap(_LATE):
            self.problems.append("a child is left")
        Path(self._sharing.host.root, _GO).unlink(missing_ok=True)
        living = living - dead
        if what == "recover":
            dead = {*name}
            self._recover(dead)
        elif how == 0:
            problems = self.problems
            yield from self._kill(("recover", "".join(sorted(dead))), (), living, f"{where}, then ")
            self.problems = problems
            self._recover(dead)
        elif how == 1:
            self._recover(dead)
        self._expect(living, maybe=dead if how == 2 else set())
        for then in rest:
            if then[1] not in dead:
                self._do(then, living)
                self._expect(living, maybe=dead if how == 2 else set())
        for left in sorted(living):
            self._do(("end", left), living)
        self._recover(dead)
        yield where, self.problems + self._wrong()

    def _deed(self, act: Act) -> Callable[[], int]:
        what, name = act
        if what == "recover":
            return lambda: bool(self._sharing.recover({*name}))
        one: Callable[[], object] = partial(getattr(self._sharing, what), name)
        return lambda: bool(one())

    def _do(self, act: Act, living: set[str]) -> None:
        what, name = act
        if said := getattr(self._sharing, what)(name):
            self.problems.append(f"{what} of {name}: {said}")
        (living.add if what == "begin" else living.discard)(name)

    def _recover(self, dead: set[str]) -> None:
        self.problems += [f"recover: {said}" for said in self._sharing.recover(dead)]

    def _expect(self, living: set[str], maybe: set[str] = frozenset()) -> None:  # type: ignore[assignment]
        """What it is for these, or also for those who are dead and nobody has undone yet."""
        value = self._sharing.value()
        if value not in {self._sharing.expected(living), self._sharing.expected(living | maybe)}:
            self.problems.append(f"with {sorted(living)} it is {value}")
        if not living <= self._sharing.claimants() <= living | maybe:
            self.problems.append(f"with {sorted(living)} the claims are of {sorted(self._sharing.claimants())}")

    def _wrong(self) -> list[str]:
        return self._sharing.wrong_in_the_end()

    def _take(self) -> Now:
        files = {str(path.relative_to(self._folder)): path.read_bytes() for path in self._folder.rglob("*.json")}
        return Now(self._sharing.value() or "", files)

    def _put(self, now: Now) -> None:
        for path in self._folder.rglob("*"):
            if path.is_file():
                path.unlink()
        for name, content in now.files.items():
            (self._folder / name).write_bytes(content)
        self._sharing.tamper(now.value)


if __name__ == "__main__":
    adopt_orphans()
    for at, wrong in Play(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])).run():
        if is_asked_for(f"{sys.argv[2]}: {at}"):  # what is left out would change which points come then
            show(f"{sys.argv[2]}: {at}", wrong)
