# SPDX-License-Identifier: LGPL-2.1-or-later
"""Commands of the administrator's own on a host without systemd: in control groups of libhook's."""

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import disturbing
import pytest
from cases import NIC
from command import libhook
from family import until
from scenario import Host, guest

from libhook.facts.command import unit
from libhook.simulation import commands, faults, groups, processes, store
from libhook.simulation.hosts import nic

WIN11 = guest(NIC)
SCREEN, LIGHT, SHOW = "/usr/local/bin/screen", "/usr/local/bin/light", "/usr/bin/show"
SETTINGS = f"""
[run.screen]
command = ["{SCREEN}", "$HOME", "to guest"]
undo = ["{SCREEN}", "to host"]
[run.light]
command = ["{LIGHT}"]
undo = ["{LIGHT}", "off"]
user = "tim"
[run.show]
command = ["{SHOW}"]
background = true
at = "started"
"""
AWAY = f'[run.show]\ncommand = ["{SHOW}"]\nundo = ["{LIGHT}", "off"]\nbackground = true\n'
RUNNING = unit(WIN11.uuid, "show")


def host_with(root: str, config: str = SETTINGS, mount: str = "sys/fs/cgroup", **ends: Any) -> Host:  # noqa: ANN401
    """A host with these commands. ``ends`` is how the screen's ends; that in the background does not."""
    host = Host(root, nic(), config)
    groups.replace_systemd(root, mount)
    commands.add(root, LIGHT)
    commands.add(root, SHOW, seconds=300)
    commands.add(root, SCREEN, **ends)
    return host


def argvs(host: Host) -> list[list[str]]:
    """What was run."""
    return [one["argv"] for one in commands.ran(host.root)]


def left(host: Host) -> list[str]:
    """The groups that are there, whether a process is in them or not."""
    return [path.name for path in Path(host.root, "sys/fs/cgroup").glob("**/libhook-*")]


@pytest.mark.parametrize("mount", ["sys/fs/cgroup", "sys/fs/cgroup/unified"])
def test_commands_are_run_and_undone(root: str, mount: str) -> None:
    """As with systemd, wherever cgroup v2 is mounted. The one in the background lives as long as the guest."""
    host = host_with(root, mount=mount)
    assert host.libvirt.start(WIN11).error == ""
    assert argvs(host) == [[SCREEN, "$HOME", "to guest"], [LIGHT], [SHOW]]
    screen, light, _ = commands.ran(root)
    assert (screen["user"], light["user"]) == ("", "tim")
    assert screen["environment"] == {
        "LIBHOOK_GUEST": "win11",
        "LIBHOOK_UUID": WIN11.uuid,
        "LIBHOOK_OPERATION": "prepare",
        "LIBHOOK_DEVICES": str(NIC),
        "LIBHOOK_TAPS": "",
    }
    assert screen["stdin"].startswith("<domain")
    assert groups.populated(root) == [RUNNING]
    host.libvirt.stop("win11")
    assert argvs(host)[3:] == [[LIGHT, "off"], [SCREEN, "to host"]]
    assert (left(host), host.leftovers) == ([], [])


@pytest.mark.parametrize(
    ("ends", "said"),
    [
        ({"status": 3}, "the command screen has ended with status 3: see the system's log for libhook-run-"),
        ({"status": 255}, "the command screen has ended with status 255"),
        (
            {"says": "/usr/\x1b: Exec format error"},
            "the command screen cannot be executed: /usr/\\x1b: Exec format error",
        ),
        ({"seconds": 600, "leaves": True}, "the command screen has not ended within 0.5 s: see the system's log for"),
        ({"seconds": 600, "deaf": True}, "the command screen has not ended within 0.5 s: see the system's log for"),
    ],
)
def test_a_command_that_fails_refuses_the_start(
    root: str, monkeypatch: pytest.MonkeyPatch, ends: dict[str, Any], said: str
) -> None:
    """All of it is ended, and the undos are run."""
    monkeypatch.setattr("libhook.effects.groups._STOP_SECONDS", 0.3)
    seconds = 0.5 if "seconds" in ends else 60
    host = host_with(root, SETTINGS.replace("[run.screen]", f"[run.screen]\nseconds = {seconds}"), **ends)
    faults.inject(root, faults.Fault("run-in-group libhook-undo-*", before=(("create", "undone"),)))
    begun = time.monotonic()
    refused = host.event(WIN11, "prepare")
    assert refused.code == 1
    assert said in refused.line
    assert time.monotonic() - begun < 250
    assert [LIGHT] not in argvs(host)
    assert os.path.exists(f"{root}/undone")
    assert (host.driver(NIC), left(host)) == ("e1000e", [])


def test_what_is_not_waited_for_is_ended_after_its_time(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a process that is left behind for that: the hook is gone."""
    monkeypatch.setattr("libhook.effects.groups._STOP_SECONDS", 0.3)
    settings = f'[run.show]\ncommand = ["{SHOW}"]\nat = "started"\nseconds = 0.5\n'
    host = host_with(root, settings)
    commands.add(root, SHOW, seconds=300, leaves=True)
    begun = time.monotonic()
    host.begin(WIN11)
    assert time.monotonic() - begun < 250
    assert argvs(host) == [[SHOW]]
    until(lambda: not left(host))
    host.event(WIN11, "release", "shutdown")
    assert host.leftovers == []


def test_what_ends_by_itself_takes_along_what_it_left(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also what has a session of its own and hears no SIGTERM."""
    monkeypatch.setattr("libhook.effects.groups._STOP_SECONDS", 0.3)
    host = host_with(root, SETTINGS, leaves=True)
    host.begin(WIN11)
    assert groups.populated(root) == [RUNNING]
    host.event(WIN11, "release", "shutdown")
    assert left(host) == []


def test_a_command_may_say_goodbye(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It hears SIGTERM, and is not killed while it makes an end of itself."""
    monkeypatch.setattr("libhook.effects.groups._STOP_SECONDS", 60.0)
    host = host_with(root, AWAY)
    host.begin(WIN11)
    faults.inject(root)
    host.event(WIN11, "release", "shutdown")
    calls = [line["call"] for line in store.lines(f"{root}/var/log/calls.jsonl")]
    assert [call.split()[-1] for call in calls if call.startswith("signal ")] == ["15"]
    assert not [call for call in calls if "cgroup.kill" in call]
    assert left(host) == []


def test_what_hangs_in_the_kernel_is_not_waited_for_without_limit(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The guest's devices come back all the same."""
    for name in ("_STOP_SECONDS", "_KILL_SECONDS"):
        monkeypatch.setattr(f"libhook.effects.groups.{name}", 0.2)
    host = host_with(root, AWAY.replace(f'undo = ["{LIGHT}", "off"]\n', ""))
    host.begin(WIN11)
    faults.inject(root, faults.Fault("remove-group *", nth=0, error="EBUSY"))
    assert host.event(WIN11, "release", "shutdown").code == 0
    faults.heal(root)
    assert (host.driver(NIC), host.leftovers) == ("e1000e", [])


def test_a_dead_guests_commands_are_undone_by_recover(root: str) -> None:
    """What still runs is ended first."""
    host = host_with(root)
    host.begin(WIN11)
    processes.end(root, host.libvirt.pid)
    assert groups.populated(root) == [RUNNING]
    assert libhook(host, "recover").code == 0
    assert argvs(host)[-1] == [SCREEN, "to host"]
    assert (left(host), host.leftovers) == ([], [])


def test_a_hook_that_is_killed_while_a_command_runs(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever comes next ends it, and undoes what it may have done."""
    monkeypatch.setattr("libhook.effects.groups._STOP_SECONDS", 0.3)
    host = host_with(root, seconds=300, leaves=True)
    hook = os.fork()
    if hook == 0:
        host.event(WIN11, "prepare")
        os._exit(0)
    until(lambda: argvs(host))
    os.kill(hook, signal.SIGKILL)
    os.waitpid(hook, 0)
    assert groups.populated(root) == [unit(WIN11.uuid, "screen")]
    commands.add(root, SCREEN)
    host.event(WIN11, "release", "failed")
    assert argvs(host) == [[SCREEN, "$HOME", "to guest"], [LIGHT, "off"], [SCREEN, "to host"]]
    assert (left(host), host.leftovers, host.driver(NIC)) == ([], [], "e1000e")


def test_what_a_killed_hook_was_about_to_begin_is_ended(root: str) -> None:
    """Its child goes on, and begins only while the guest is given back."""
    host = host_with(root, AWAY)
    deed = disturbing.hook(host, ("win11", "prepare", "begin", "-"), WIN11.xml(1, False))
    disturbing.die(host, deed, disturbing.Point(1, "run-in-group it", "before", "late"), "go")
    timer = threading.Timer(0.5, store.create, (f"{root}/go", ""))
    timer.start()
    assert host.event(WIN11, "release", "failed").code == 0
    timer.join()
    assert argvs(host) == [[SHOW], [LIGHT, "off"]]
    assert (left(host), host.leftovers) == ([], [])


@pytest.mark.parametrize(
    ("fault", "undos"),
    [
        (faults.Fault("remove-group *", before=(("kill", "writer"),)), 1),
        (faults.Fault("run-in-group *", before=(("kill", "writer"),)), 1),
        (faults.Fault("run-in-group *", after=(("kill", "writer"),)), 2),
    ],
)
def test_an_undo_is_run_though_its_child_is_killed(root: str, fault: faults.Fault, undos: int) -> None:
    """Twice perhaps: nobody knows how far it came."""
    host = host_with(root, AWAY)
    host.begin(WIN11)
    faults.inject(root, fault)
    host.event(WIN11, "release", "shutdown")
    assert argvs(host) == [[SHOW], *[[LIGHT, "off"]] * undos]
    assert (left(host), host.leftovers) == ([], [])


def test_one_that_runs_already_is_not_run_again(root: str) -> None:
    """Nobody knows which of the two an undo would be for. A group that is left empty is no obstacle."""
    host = host_with(root, AWAY)
    one = WIN11._replace(uuid="11111111-2222-3333-4444-555555555555")
    for uuid, process in ((WIN11.uuid, "99999999\n"), (one.uuid, "")):
        folder = f"{root}/sys/fs/cgroup/libhook/{unit(uuid, 'show')}.99999999"
        os.makedirs(folder)
        store.create(f"{folder}/cgroup.procs", process)
    refused = host.event(WIN11, "prepare")
    assert f"the command show cannot be executed: {RUNNING} runs already" in refused.line
    assert host.event(one, "prepare").code == 0
    host.event(one, "release", "failed")
    assert left(host) == []


@pytest.mark.parametrize(
    ("release", "mount", "said"),
    [
        ("5.10.0-32-amd64", "sys/fs/cgroup", "Linux 5.10.0-32-amd64 has no cgroup.kill: boot Linux 5.14 or later, or "),
        ("5.9-rc14", "sys/fs/cgroup", "Linux 5.9-rc14 has no cgroup.kill"),
        ("6.1.0+", "", "cgroup v2 is not mounted at /sys/fs/cgroup or /sys/fs/cgroup/unified: mount it there, or take"),
        ("5.14", "sys/fs/cgroup", ""),
    ],
)
def test_where_there_is_neither_the_start_is_refused(root: str, release: str, mount: str, said: str) -> None:
    """Before anything is done, and with what would help."""
    host = host_with(root, mount=mount)
    store.create(f"{root}/proc/sys/kernel/osrelease", f"{release}\n")
    error = host.libvirt.start(WIN11).error
    assert said in error
    assert bool(error) == bool(said) == (argvs(host) == [])
    if said:
        assert (
            "commands and old scripts need systemd, which does not run here, or cgroup v2 with cgroup.kill: " in error
        )
        assert host.driver(NIC) == "e1000e"
    else:
        host.libvirt.stop("win11")
