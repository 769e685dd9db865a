# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a guest holds and does while it is refused: others go on, and twice the devices cost twice the work."""

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import pytest
from scenario import Host, guest

from libhook.children.child import Deadline
from libhook.effects import locks
from libhook.facts.plan import Plan, Verdict
from libhook.facts.situation import Situation
from libhook.handlers import registry
from libhook.simulation.guests import Guest
from libhook.simulation.hosts import bridge_group, many
from libhook.simulation.world import World

_WORK = frozenset(("open", "os.fork", "os.listdir", "os.scandir", "subprocess.Popen"))
_BEHIND = "0000:06:00.0"
"""Another card, which the host has, is behind the same bridge."""
_OTHER = Guest("other", ("0000:00:00.0",))


class _Held:
    """The locks that are held, those that were, and what was done meanwhile, as far as Python's audit events tell."""

    def __init__(self) -> None:
        """An audit hook stays for as long as the process lives, so there is one of these."""
        self.now: list[str] = []
        self.ever: set[str] = set()
        self.work = 0
        self._process = os.getpid()
        sys.addaudithook(self._hear)

    def begin(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Note each lock from now on."""
        taking = locks.locked
        self.now, self.ever, self.work = [], set(), 0

        @contextmanager
        def locked(folder: str, names: Iterable[str], deadline: Deadline) -> Iterator[None]:
            of_all = sorted(names)
            with taking(folder, of_all, deadline):
                self.now += of_all
                self.ever.update(of_all)
                try:
                    yield
                finally:
                    del self.now[-len(of_all) :]

        monkeypatch.setattr(locks, "locked", locked)

    def _hear(self, event: str, _arguments: tuple[object, ...]) -> None:
        if self.now and event in _WORK and os.getpid() == self._process:
            self.work += 1


@pytest.fixture(scope="module")
def noted() -> _Held:
    """One for all tests."""
    return _Held()


def _world(count: int) -> World:
    """So many cards in groups of their own, and a bridge with two cards in one group."""
    cards, bridge = many(count, remove=0), bridge_group()
    behind = (device._replace(group=5000) for device in bridge.devices)
    return cards._replace(devices=(*cards.devices, *behind))


def _cards(host: Host) -> list[str]:
    return sorted(name for name in os.listdir(f"{host.root}/sys/bus/pci/devices") if name < "0000:05")


def test_a_guest_that_its_settings_refuse_holds_nothing(
    root: str, noted: _Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is refused before any lock."""
    host = Host(root, _world(2), "[domains.win11]\nwrite_deadline = 'soon'\n")
    noted.begin(monkeypatch)
    assert "write_deadline" in host.event(guest(*_cards(host)), "prepare").line
    assert noted.ever == set()


def test_another_starts_while_a_group_refuses_a_guest(root: str, noted: _Held, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the middle of the refusal only the guest's own lock is held, and those of its devices' groups."""
    host = Host(root, _world(2))
    one, planning, began = guest(_BEHIND, _cards(host)[1]), registry.plan_for, list[int]()

    def plan_for(situation: Situation, said: Sequence[Verdict] = ()) -> Plan:
        if not began:
            began.append(-1)
            assert sorted(noted.now) == [f"domain-{one.uuid}", "group-1", "group-5000"]
            began.append(host.event(_OTHER, "prepare").code)
        return planning(situation, said)

    noted.begin(monkeypatch)
    monkeypatch.setattr("libhook.story.session.plan_for", plan_for)
    assert "shares IOMMU group 5000" in host.event(one, "prepare").line
    assert began == [-1, 0]


@pytest.mark.parametrize("group", [False, True])
def test_the_work_under_locks_is_linear(root: str, noted: _Held, monkeypatch: pytest.MonkeyPatch, group: bool) -> None:
    """Each further device costs as much as the one before it, of a guest that is refused and of one that is not."""
    work = []
    for count in (4, 16, 64):
        host = Host(f"{root}/{count}", _world(count))
        noted.begin(monkeypatch)
        outcome = host.event(guest(*_cards(host), *[_BEHIND][: int(group)]), "prepare")
        assert (outcome.code, bool(noted.ever)) == (int(group), True)
        work.append(noted.work)
    assert work[1] - work[0] > 0
    assert work[2] - work[1] <= 4.4 * (work[1] - work[0]), work
