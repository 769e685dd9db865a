# SPDX-License-Identifier: LGPL-2.1-or-later
"""Somebody kills the launcher during ``prepare``: libvirt goes on at once, while Python is still at work."""

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from cases import NIC
from scenario import LAUNCHER, Host, guest, reap

from libhook.children.child import Deadline
from libhook.facts.address import PciAddress
from libhook.look import sysfs
from libhook.simulation import faults
from libhook.simulation.hosts import nic
from libhook.story.session import make_state

WIN11 = guest(NIC)


@pytest.fixture(name="host")
def _host(root: str) -> Host:
    return Host(root, nic(), launcher=True)


@contextmanager
def _killed_in_the_middle(host: Host, *, written: int) -> Iterator[None]:
    """``prepare`` is under way, and has made so many writes; within, its launcher is dead."""
    environment = {"LC_ALL": "C", "PATH": "/usr/bin:/bin", "LIBHOOK_ROOT": host.root}
    command = [str(LAUNCHER), WIN11.name, "prepare", "begin", "-"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as launcher:
        assert launcher.stdin
        launcher.stdin.write(WIN11.xml(1, False))
        launcher.stdin.close()
        until = time.monotonic() + 10
        while len(host._lines("writes")) < written or not any(map(_children, _children(launcher.pid))):
            assert time.monotonic() < until
            time.sleep(0.01)
        launcher.kill()
    yield


def _children(pid: int | str) -> list[str]:
    """Where these have children too, the launcher has got so far that it waits for Python."""
    try:
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
            return file.read().split()
    except (FileNotFoundError, ProcessLookupError):
        return []  # it has ended


def test_it_waits_for_another_s_lock(host: Host) -> None:
    """Release finds nothing, and what comes after it takes nothing: it is recorded failed, and the device is free."""
    host.patience = 0.1
    make_state(host.machine)
    lock = sysfs.name_of_lock(host.machine, PciAddress.parse(NIC))
    with host.state.locked([lock], Deadline.after(1)), _killed_in_the_middle(host, written=0):
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
    assert reap(10)
    assert host.trail == [f"start {NIC} failed"]
    assert (host.changed, host.leftovers) == ([], [])
    assert host.driver(NIC) == "e1000e"
