# SPDX-License-Identifier: LGPL-2.1-or-later
"""Somebody kills the launcher during ``prepare``: libvirt goes on at once, while Python is still at work."""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import pytest
from aftermath import recover
from cases import NIC
from family import Begun, children, environment, until
from scenario import LAUNCHER, Host, guest, reap

from libhook.children.child import Deadline
from libhook.facts.address import PciAddress
from libhook.facts.plan import Action
from libhook.kinds.kind import Outcome
from libhook.look import sysfs
from libhook.simulation import faults
from libhook.simulation.hosts import nic
from libhook.story.session import Session, make_state

pytestmark = pytest.mark.race

WIN11 = guest(NIC)


@pytest.fixture(name="host")
def _host(root: str) -> Host:
    return Host(root, nic(), launcher=True)


@contextmanager
def _killed_in_the_middle(host: Host, *, written: int) -> Iterator[None]:
    """``prepare`` is under way, and has made so many writes; within, its launcher is dead."""
    command = [str(LAUNCHER), WIN11.name, "prepare", "begin", "-"]
    with Begun(command, environment(host.root)) as launcher:
        launcher.begin_with(WIN11.xml(1, False))
        # Where its children have children too, it has got so far that it waits for Python.
        until(lambda: len(host._lines("writes")) >= written and any(map(children, children(launcher.pid))))
        launcher.kill()
    yield


def test_it_waits_for_another_s_lock(host: Host) -> None:
    """Release finds nothing, and what comes after it takes nothing: it is recorded failed, and the device is free."""
    host.patience = 0.1
    make_state(host.machine)
    lock = sysfs.name_of_lock(host.machine, PciAddress.parse(NIC))
    with host.state.locked([lock], Deadline.after(60)), _killed_in_the_middle(host, written=0):
        assert host.event(WIN11, "release", "failed").code == 0
    _expect_nothing_left(host)


def test_it_waits_for_a_driver(host: Host) -> None:
    """Release waits for the device to come back, whoever gives it back."""
    faults.hold(host.root, NIC)
    with _killed_in_the_middle(host, written=1):
        faults.let_go(host.root, NIC)
        assert host.event(WIN11, "release", "failed").code == 0
    _expect_nothing_left(host)


def _expect_nothing_left(host: Host) -> None:
    assert reap(60)
    assert host.trail == [f"start {NIC} failed"]
    assert (host.changed, host.leftovers) == ([], [])
    assert host.driver(NIC) == "e1000e"


@contextmanager
def _a_launcher_reads() -> Iterator[Callable[[], None]]:
    """Our stderr is a pipe, as the launcher makes one for Python. What is given kills the launcher."""
    receiver, sender = os.pipe()
    kept = os.dup(2)
    os.dup2(sender, 2)
    os.close(sender)
    try:
        with open(receiver, "rb") as launcher:
            yield launcher.close
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _kill_after_the_move(monkeypatch: pytest.MonkeyPatch, kill: Callable[[], None]) -> None:
    apply = Session.apply

    def killed(session: Session, uuid: str, actions: Iterable[Action]) -> list[Outcome]:
        outcomes = apply(session, uuid, actions)
        kill()
        return outcomes

    monkeypatch.setattr(Session, "apply", killed)


@pytest.mark.parametrize("taken", [False, True])
def test_nothing_is_left_for_a_release_that_came_before(
    root: str, monkeypatch: pytest.MonkeyPatch, taken: bool
) -> None:
    """A dead launcher is seen before the device is taken, and again after that: no second release gives it back."""
    host = Host(root, nic())
    with _a_launcher_reads() as kill:
        if taken:
            _kill_after_the_move(monkeypatch, kill)
        else:
            kill()
        refused = host.event(WIN11, "prepare")
    assert refused.line == "the process that asked for the start is gone: start the guest again"
    assert bool(refused.writes) == taken
    _expect_nothing_left(host)


def test_what_does_not_come_back_is_not_forgotten(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its journal entry stays, and recover tries again."""
    host = Host(root, nic())
    faults.inject(root, faults.Fault(f"write */vfio-pci/unbind {NIC}", error="EBUSY"))
    with _a_launcher_reads() as kill:
        _kill_after_the_move(monkeypatch, kill)
        assert host.event(WIN11, "prepare").code == 1
    assert host.driver(NIC) == "vfio-pci"
    faults.heal(root)
    assert recover(host) == "win11: given back\n"
    _expect_nothing_left(host)
