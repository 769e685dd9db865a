# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where something is in the way at ``started`` it is waited for; and who is killed then has his work done by others."""

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from launcher import SHELLS
from scenario import Host, reap
from unwaited import (
    BACK,
    GIVEN,
    SLOW,
    SOON,
    UUID,
    WIN11,
    about_to_run,
    change_launcher,
    children,
    lock_of,
    mark_of,
    until,
    worker,
)

from libhook import run
from libhook.simulation import faults
from libhook.simulation.hosts import nic


@pytest.fixture(name="host", params=SHELLS)
def _host(root: str, request: pytest.FixtureRequest) -> Host:
    """The guest is about to run, on a host whose hook each shell runs in turn."""
    return about_to_run(root, request.param)


@pytest.mark.parametrize("config", ["audit.required = true\n", "dry_run = true\n"])
def test_who_must_know_waits(root: str, config: str) -> None:
    """Where the trail is required, or nothing is to be done, the answer comes when the record is there."""
    host = Host(root, nic(), launcher=True)
    host.event(WIN11, "prepare")
    host.configure(config)
    host.event(WIN11, "start")
    host.patience = 0
    assert not mark_of(host).exists()
    faults.inject(host.root, SOON)
    host.event(WIN11, "started")
    assert host.trail == [GIVEN]
    reap(20)


def test_only_between_start_and_started_need_nobody_wait(root: str) -> None:
    """The mark is there from the one to the other, and goes with the guest."""
    host = Host(root, nic())
    there = []
    for operation in ("prepare", "start", "start", "started", "start", "release"):
        host.event(WIN11, operation, "destroyed" if operation == "release" else "-")
        there.append(mark_of(host).exists())
    assert there == [False, True, True, False, True, False]
    assert host.leftovers == []


def _a_folder_for_a_mark(host: Host) -> None:
    mark_of(host).unlink()
    mark_of(host).mkdir()


IN_THE_WAY: dict[str, Callable[[Host], object]] = {
    "no mark": lambda host: mark_of(host).unlink(),
    "the mark is a folder": _a_folder_for_a_mark,
    "the lock is a link": lambda host: lock_of(host).symlink_to(f"{host.root}/elsewhere"),
    "the lock is a folder": lambda host: lock_of(host).mkdir(),
    "no flock": lambda host: change_launcher(host, "flock -n", "no-flock -n"),
    "flock fails": lambda host: change_launcher(host, "flock -n", "false -n"),
    "another file": lambda host: change_launcher(host, "flock -n 9 9<&9", "rm \"$lock\""),
    "the version is gone": lambda host: change_launcher(host, '[ -d "$lib" ]', '[ -d "$lib/gone" ]'),
}  # fmt: skip


@pytest.mark.parametrize("what", IN_THE_WAY)
def test_whatever_is_in_the_way_it_is_waited_for(host: Host, what: str) -> None:
    """As if there were no other way; what stands in the place of the lock is not followed."""
    faults.inject(host.root, SOON)
    IN_THE_WAY[what](host)
    answer = host.event(WIN11, "started")
    assert (answer.code, answer.stdout, answer.stderr) == (0, "", ())
    assert host.trail == [GIVEN]
    assert not Path(host.root, "elsewhere").exists()
    reap(20)


def test_a_lock_that_is_not_free_is_waited_for(host: Host) -> None:
    """Somebody is at work on the guest, or only looks; then it is as ever, and nobody waits for himself."""
    with lock_of(host).open("w") as file:
        os.set_inheritable(file.fileno(), True)
        holder = subprocess.Popen(["flock", str(file.fileno())], close_fds=False)
        assert holder.wait(20) == 0
        released = subprocess.Popen(
            ["sh", "-c", f"sleep 0.3; flock -u {file.fileno()}"], pass_fds=[file.fileno()], stdin=subprocess.DEVNULL
        )
        host.event(WIN11, "started")
        assert host.trail == [GIVEN]
        released.wait(20)
    reap(20)


@pytest.mark.parametrize("after", ["release", "reconnect"])
@pytest.mark.parametrize("when", ["before it begins", "while it sends"])
def test_whoever_comes_next_makes_up_for_one_that_is_killed(host: Host, when: str, after: str) -> None:
    """The lock is free with it, and what it could not record is recorded once, in order."""
    if when == "before it begins":
        python = Path(host.root, "python")
        python.write_text("#!/bin/sh\nkill -KILL $$\n")
        python.chmod(0o755)
        change_launcher(host, "python=/usr/bin/python3", f"python={python}")
        host.event(WIN11, "started")
    else:
        faults.inject(host.root, SLOW)
        host.event(WIN11, "started")
        alone = worker(host)
        until(lambda: len(children(alone)) == 1)
        for pid in (alone, *children(alone)):
            os.kill(pid, signal.SIGKILL)
        faults.heal(host.root)
    assert reap(20)
    assert not host.state.is_busy(UUID)
    assert host.trail == []
    host.launcher = False
    if after == "reconnect":
        host.event(WIN11, "reconnect")
        assert host.trail == [GIVEN]
    host.event(WIN11, "release", "destroyed")
    assert host.trail == [GIVEN, BACK]
    assert (host.changed, host.leftovers) == ([], [])


def test_without_an_entry_there_is_nothing_left_to_begin(root: str) -> None:
    """Its lock was lost, and the guest has ended meanwhile: no start may follow on the stop."""
    host = Host(root, nic())
    for operation in ("prepare", "start", "started"):
        host.event(WIN11, operation)
    host.event(WIN11, "release", "destroyed")
    call = run.Call((WIN11.name, "started", "begin", "-"), lambda: WIN11.xml(1), host.libvirt.pid, unwaited=True)
    assert run.run(host.machine, call) == (0, ())
    assert host.trail == [GIVEN, BACK]
    assert host.leftovers == []
