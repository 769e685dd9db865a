# SPDX-License-Identifier: LGPL-2.1-or-later
"""At ``started`` hooks/qemu answers at once, with the guest's lock taken, and Python goes on alone.

Where something is in the way it is waited for. Who is killed then has his work done by others.
"""

import fcntl
import os
import select
import signal
import subprocess
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import pytest
from family import Begun, children, descendants, until
from fault_means import waits
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
    end,
    lock_of,
    mark_of,
    opened_by,
    worker,
)

from libhook import run
from libhook.children.child import spawn
from libhook.simulation import faults
from libhook.simulation.hosts import nic


@pytest.fixture(name="host", params=SHELLS)
def _host(root: str, request: pytest.FixtureRequest) -> Host:
    """The guest is about to run, on a host whose hook each shell runs in turn."""
    return about_to_run(root, request.param)


def test_it_answers_while_python_works_and_the_lock_is_held(host: Host) -> None:
    """Both pipes end with the answer; the lock is there from before it until the record is sent and noted."""
    faults.inject(host.root, SLOW)
    answer = host.event(WIN11, "started")
    assert (answer.code, answer.stdout, answer.stderr) == (0, "", ())
    assert host.state.is_busy(UUID)
    assert host.trail == []
    alone = worker(host)
    assert host.state.is_busy(UUID)
    assert host.state.load(UUID) is not None
    assert os.getsid(alone) == alone
    end(host)
    assert host.trail == [GIVEN]
    held = host.state.load(UUID)
    assert held is not None
    assert (held.phase, held.libvirtd.pid, held.devices[0].recorded) == ("started", os.getpid(), "success")


def test_the_end_waits_for_the_beginning(host: Host) -> None:
    """A guest that is stopped at once: its ``release`` waits for the lock, and what is recorded is in order, once."""
    faults.inject(host.root, SOON)
    assert host.event(WIN11, "started").code == 0
    host.patience = 60
    assert host.event(WIN11, "release", "destroyed").code == 0
    assert host.trail == [GIVEN, BACK]
    assert (host.changed, host.leftovers) == ([], [])


def test_an_end_that_cannot_wait_so_long_is_made_up_for(root: str) -> None:
    """Its deadline passes: it gives nothing back and records nothing, and ``recover`` does when the lock is free."""
    host = about_to_run(root)
    faults.inject(host.root, SLOW)
    host.event(WIN11, "started")
    assert worker(host)
    host.configure("write_deadline = 0.3\n")
    assert host.event(WIN11, "release", "destroyed").code == 0
    assert host.trail == []
    end(host)
    host.configure("")
    host.patience = 60
    assert host.trail == [GIVEN]
    assert host.event(WIN11, "release", "destroyed").code == 0
    assert host.trail == [GIVEN, BACK]
    assert (host.changed, host.leftovers) == ([], [])


def test_a_new_life_waits_too(root: str) -> None:
    """Libvirt's ``release`` was lost, and ``prepare`` comes at once: the former life is recorded to its end first."""
    host = about_to_run(root)
    faults.inject(host.root, SOON)
    host.event(WIN11, "started")
    host.patience = 60
    assert host.event(WIN11, "prepare").code == 0
    assert host.trail == [GIVEN, BACK]


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_to_the_group_of_the_launcher_does_not_end_it(host: Host, number: int) -> None:
    """Sent as soon as there is an answer, when Python has not begun, and once more when it has."""
    faults.inject(host.root, SLOW)

    def launching(command: list[str], xml: bytes, environment: Mapping[str, str]) -> tuple[int, bytes, bytes]:
        # Who runs the tests may have it ignored.
        default = lambda: signal.signal(number, signal.SIG_DFL)  # noqa: E731
        with Begun(command, environment, process_group=0, preexec_fn=default) as hook:
            answer = hook.go_on(xml)
            with suppress(ProcessLookupError):  # the launcher has ended, and Python has left its group already
                os.killpg(hook.pid, number)
        return answer

    host.launching = launching
    assert host.event(WIN11, "started").code == 0
    os.kill(worker(host), number)
    end(host)
    assert host.trail == [GIVEN]
    assert getattr(host.state.load(UUID), "phase", "") == "started"


def test_nothing_of_the_caller_s_is_kept_open(host: Host) -> None:
    """Neither its pipes nor what else it left open; and no child has the guest's lock."""
    faults.inject(host.root, SLOW)
    receiver, sender = os.pipe()

    def launching(command: list[str], xml: bytes, environment: Mapping[str, str]) -> tuple[int, bytes, bytes]:
        done = subprocess.run(command, input=xml, capture_output=True, env=environment, pass_fds=[sender], check=False)
        return done.returncode, done.stdout, done.stderr

    host.launching = launching
    host.event(WIN11, "started")
    os.close(sender)
    alone = worker(host)
    assert select.select([receiver], [], [], 200)[0] == [receiver]  # nobody has the other end any more
    os.close(receiver)
    lock = str(lock_of(host))
    opened = opened_by(alone)
    assert opened.pop("9") == lock
    assert {name: opened[name] for name in "12"} == {"1": "/dev/null", "2": "/dev/null"}
    until(lambda: not any(lock in opened_by(child).values() for child in children(alone)))
    assert children(alone)
    end(host)


def test_lives_one_after_the_other_without_a_pause(root: str) -> None:
    """Each call of the hook comes as soon as the one before has answered."""
    host = Host(root, nic(), launcher=True)
    host.patience = 0
    for _ in range(5):
        assert host.libvirt.start(WIN11).error == ""
        assert host.libvirt.stop(WIN11.name, "destroyed").error == ""
    assert host.trail == [GIVEN, BACK] * 5
    assert reap(60)
    assert (host.changed, host.leftovers) == ([], [])


def test_who_passed_the_call_on_may_be_gone(root: str) -> None:
    """A script that stands between libvirtd and the hook: which libvirtd it was, the guest's journal entry knows."""
    host = about_to_run(root)
    launching = host.launching
    script = Path(host.root, "script")
    script.write_text('"$@"\nexit 0\n')
    host.launching = lambda command, xml, environment: launching([str(script), *command], xml, environment)
    host.event(WIN11, "started")
    assert reap(60)
    held = host.state.load(UUID)
    assert held is not None
    assert (held.phase, held.libvirtd.pid) == ("started", os.getpid())


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
    assert reap(60)


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
    assert reap(60)


def test_a_lock_that_is_not_free_is_waited_for(host: Host) -> None:
    """Somebody is at work on the guest, or only looks; then it is as ever, and nobody waits for himself."""
    with lock_of(host).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        tests = os.getpid()

        def release() -> None:
            until(lambda: any(waits(pid) for pid in descendants(tests) if pid != os.getpid()))
            fcntl.flock(file, fcntl.LOCK_UN)

        releasing = spawn(release, keep=file.fileno())
        host.event(WIN11, "started")
        assert host.trail == [GIVEN]
        releasing.abandon()
    assert reap(60)


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
    assert reap(60)
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
    assert run.run(host.machine, call) == run.Answer(0)
    assert host.trail == [GIVEN, BACK]
    assert host.leftovers == []
