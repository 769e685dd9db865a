# SPDX-License-Identifier: LGPL-2.1-or-later
"""Modules that are taken out and given back without any event: by the kind alone, for guests that are two entries."""

from pathlib import Path

from cases import GPU, NIC
from scenario import Host, reap

from libhook.children.child import Deadline
from libhook.facts.config import Config
from libhook.facts.entry import Held, HeldDevice, Process
from libhook.facts.plan import Action
from libhook.kinds import module
from libhook.kinds.kind import Failure, Outcome, Work
from libhook.kinds.module import unloading
from libhook.kinds.module.unloading import Out
from libhook.simulation import hosts
from libhook.story.session import make_state

STACK = ("nvidia_uvm", "nvidia_drm", "nvidia_modeset", "nvidia")
A, B = (f"{name * 8}-0000-0000-0000-000000000000" for name in "ab")


def name_of(outcome: Outcome) -> str:
    """The module that it is about."""
    assert isinstance(outcome.action, Out)
    return outcome.action.module


class Desk:
    """A host with such a GPU, and the entries of its guests."""

    def __init__(self, root: str) -> None:
        self.host = Host(root, hosts.nvidia())
        self.seconds = 60.0
        make_state(self.host.machine)
        self.before = self.modules()

    def modules(self) -> set[str]:
        """What is loaded."""
        return {path.parent.name for path in Path(self.host.root, "sys/module").glob("*/initstate")}

    def begin(self, guest: str, *names: str) -> list[Failure]:
        """A guest has them taken out."""
        actions = [unloading.out(name) for name in names]
        self.enter(guest, *actions)
        return self.failures(module.carry_out(self.work(guest), actions))

    def enter(self, guest: str, *actions: Action) -> None:
        """Its journal entry names these, and no others."""
        state = self.host.state
        devices = (HeldDevice("pci", GPU), HeldDevice("pci", NIC))
        state.save(Held(guest, "win11", "kvm", "started", state.boot(), Process(1, 1), devices, actions=actions))

    def end(self, guest: str, *names: str) -> list[Outcome]:
        """The way back; what failed stays in the entry."""
        work = self.work(guest)
        back = list(module.way_back(work, None, [unloading.out(name) for name in names]))
        outcomes = module.carry_out(work, back)
        if left := [unloading.out(name_of(outcome)) for outcome in outcomes if outcome.failure]:
            self.enter(guest, *left)
        else:
            self.host.state.forget(guest)
        return outcomes

    def work(self, guest: str) -> Work:
        """As of an event of this guest."""
        return Work(self.host.machine, self.host.state, Deadline.after(self.seconds), Config(holder_wait=0.2), guest)

    @staticmethod
    def failures(outcomes: list[Outcome]) -> list[Failure]:
        """What did not succeed."""
        return [outcome.failure for outcome in outcomes if outcome.failure]

    def wrong(self) -> list[object]:
        """What is not as it began."""
        assert reap(60)
        self.host.state.remove_unused_locks()
        return [*sorted(self.before ^ self.modules()), *self.host.changed, *self.host.leftovers]
