# SPDX-License-Identifier: LGPL-2.1-or-later
"""A thing that guests share on a simulated host, and guests that come and go: what the tests of claims play with.

The thing is an attribute that keeps any text, a device's driver_override: its writes are the simulated kernel's, with
its faults. A guest is a journal entry, which is there before its claim and goes after it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from cases import NIC
from scenario import Host, reap

from libhook.children import tracks
from libhook.children.child import Deadline
from libhook.facts.config import Config
from libhook.facts.entry import Held, Process
from libhook.facts.shared import Value
from libhook.kinds import claims
from libhook.kinds.kind import Failure, Work
from libhook.kinds.resource import Conflict, Resource, at_once
from libhook.simulation import store
from libhook.simulation.hosts import nic
from libhook.story.session import make_state

if TYPE_CHECKING:
    from libhook.children.tracks import Track


BASE = "8"
PATH = f"bus/pci/devices/{NIC}/driver_override"
UUIDS = {name: f"{name * 8}-0000-0000-0000-000000000000" for name in "abc"}
Fold = Callable[[Value, Mapping[str, str]], Value | Conflict]


def most(base: Value, wants: Mapping[str, str]) -> Value:
    """The highest of all."""
    return str(max(map(int, (base or "0", *wants.values()))))


def together(base: Value, wants: Mapping[str, str]) -> Value:
    """So much more for each."""
    return str(int(base or 0) + sum(map(int, wants.values())))


def moved(base: Value, last: Value, now: Value) -> Value:
    """Resource.follow of an amount."""
    return str(int(base or 0) + int(now or 0) - int(last or 0))


class Sharing:
    """A host, its shared thing, and the guests a, b and c."""

    def __init__(self, root: str, fold: Fold = most, wants: Mapping[str, str] | None = None) -> None:
        """``wants``: of each guest."""
        self.host = Host(root, nic())
        self.wants = wants or {"a": "16", "b": "32", "c": "24"}
        self.seconds = 60.0
        self.resource = Resource(
            "toy.of/guests", "the toy", at_once(self.value), self.write, fold,
            follow=moved if fold is together else None,
        )  # fmt: skip
        self.file = Path(self.host.machine.state, "shared", "toy%2Eof%2Fguests.json")
        self.tamper(BASE)
        make_state(self.host.machine)
        self.host.beginning["toy"] = BASE

    def value(self) -> Value:
        """What the thing is now."""
        try:
            return store.read(f"{self.host.root}/sys/{PATH}").rstrip("\n")
        except FileNotFoundError:
            return None

    def write(self, value: str) -> None:
        """As libhook does."""
        self.host.machine.kernel.write(PATH, value)

    def tamper(self, value: str) -> None:
        """As somebody else does."""
        self.host.somebody_writes(PATH, value)

    def begin(self, name: str) -> Failure | None:
        """A guest starts; where it is refused, its entry is undone as any other."""
        failure = self.acquire(name)
        if failure:
            self.end(name)
        return failure

    def acquire(self, name: str) -> Failure | None:
        """The same, and what was refused is not undone yet."""
        uuid, state = UUIDS[name], self.host.state
        state.save(Held(uuid, name, "kvm", "started", state.boot(), Process(1, 1)))
        failure = self._run(name, partial(claims.acquire, want=self.wants[name]))
        assert not isinstance(failure, str)
        return failure

    def end(self, name: str) -> Failure | str | None:
        """A guest ends; what cannot be given up stays in its entry."""
        left = self.release(name)
        if not isinstance(left, Failure):
            self.host.state.forget(UUIDS[name])
        return left

    def release(self, name: str) -> Failure | str | None:
        """The same, and the entry is not written yet."""
        return self._run(name, claims.release)

    def settle(self) -> Failure | str | None:
        """Without any guest."""
        return self._run("a", claims.settle)

    def recover(self, dead: set[str]) -> list[Failure | str]:
        """Undo the entries of the dead, and tidy up."""
        said = [self.end(name) for name in sorted(dead) if UUIDS[name] in self.host.state.uuids()]
        said.append(self.settle())
        for name in dead:
            self.host.state.remove("domains", f"{UUIDS[name]}.json.new")
        self.host.state.remove_unused_locks()
        return [one for one in said if one]

    def alive(self, uuid: str) -> bool:
        """Whether it has an entry."""
        return self.host.state.load(uuid) is not None

    def expected(self, living: set[str]) -> Value:
        """What the thing shall be for these."""
        wants = {UUIDS[name]: self.wants[name] for name in living}
        value = self.resource.fold(BASE, wants) if wants else BASE
        assert not isinstance(value, Conflict)
        return value

    def claimants(self) -> set[str]:
        """Whose claims are in the file."""
        return {name for name in UUIDS if self.file.exists() and UUIDS[name] in self.file.read_text()}

    def wrong_in_the_end(self) -> list[str]:
        """What is not as it began, once all guests are gone."""
        assert reap(60)
        wrong = [f"left over: {name}" for name in self.host.leftovers]
        return wrong if self.value() == BASE else [*wrong, f"the toy is {self.value()}"]

    def _run(self, name: str, act: Callable[..., Track[Failure | str | None]]) -> Failure | str | None:
        deadline = Deadline.after(self.seconds)
        work = Work(self.host.machine, self.host.state, deadline, Config(), UUIDS[name])
        with claims.locked(work, [self.resource]):
            (result,) = tracks.run([act(work, self.resource, alive=self.alive)], deadline)
        return result


def failed(result: object) -> Failure:
    """What did not succeed."""
    assert isinstance(result, Failure)
    return result


def writes(sharing: Sharing) -> list[str]:
    """What libhook has written to the thing."""
    lines = store.lines(f"{sharing.host.root}/var/log/writes.jsonl")
    return [line["value"] for line in lines if line["by"] == "libhook"]
