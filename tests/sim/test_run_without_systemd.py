# SPDX-License-Identifier: LGPL-2.1-or-later
"""Commands of the administrator's own on a host without systemd: in process groups, and none in the background."""

import os
import signal
import time
from typing import Any

import pytest
from cases import NIC
from command import libhook
from family import until
from scenario import Host, guest

from libhook.simulation import commands, faults, processes
from libhook.simulation.hosts import nic

WIN11 = guest(NIC)
SCREEN, LIGHT, LATE = "/usr/local/bin/screen", "/usr/local/bin/light", "/usr/bin/late"
SETTINGS = f"""
[run.screen]
command = ["{SCREEN}", "$HOME", "to guest"]
undo = ["{SCREEN}", "to host"]
[run.light]
command = ["{LIGHT}"]
undo = ["{LIGHT}", "off"]
user = "tim"
[run.late]
command = ["{LATE}"]
at = "started"
"""


def host_with(root: str, config: str = SETTINGS, **ends: Any) -> Host:  # noqa: ANN401
    """A host with these commands. ``ends`` is how the screen's ends."""
    host = Host(root, nic(), config)
    commands.replace_systemd(root)
    for program in (LIGHT, LATE):
        commands.add(root, program)
    commands.add(root, SCREEN, **ends)
    return host


def argvs(host: Host) -> list[list[str]]:
    """What was run."""
    return [one["argv"] for one in commands.ran(host.root)]


def test_commands_are_run_and_undone(root: str) -> None:
    """As with systemd."""
    host = host_with(root)
    assert host.libvirt.start(WIN11).error == ""
    assert argvs(host) == [[SCREEN, "$HOME", "to guest"], [LIGHT], [LATE]]
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
    host.libvirt.stop("win11")
    assert argvs(host)[3:] == [[LIGHT, "off"], [SCREEN, "to host"]]
    assert host.leftovers == []


@pytest.mark.parametrize(
    ("ends", "said"),
    [
        ({"status": 3}, "the command screen has ended with status 3: see the system's log for libhook-run-"),
        ({"status": 255}, "the command screen has ended with status 255"),
        (
            {"says": "/usr/\x1b: Exec format error"},
            "the command screen cannot be executed: /usr/\\x1b: Exec format error",
        ),
        ({"seconds": 600}, "the command screen has not ended within 0.5 s: see the system's log for"),
    ],
)
def test_a_command_that_fails_refuses_the_start(root: str, ends: dict[str, Any], said: str) -> None:
    """The undos are run."""
    seconds = 0.5 if "seconds" in ends else 60
    host = host_with(root, SETTINGS.replace("[run.screen]", f"[run.screen]\nseconds = {seconds}"), **ends)
    begun = time.monotonic()
    refused = host.event(WIN11, "prepare")
    assert refused.code == 1
    assert said in refused.line
    assert time.monotonic() - begun < 250
    assert argvs(host) == [[SCREEN, "$HOME", "to guest"], [LIGHT, "off"], [SCREEN, "to host"]]
    assert host.driver(NIC) == "e1000e"


@pytest.mark.parametrize("at", ["prepare", "started"])
def test_nothing_runs_in_the_background(root: str, at: str) -> None:
    """The start is refused before anything is done."""
    host = host_with(root, f'[run.late]\ncommand = ["{LATE}"]\nbackground = true\nat = "{at}"\n')
    outcome = host.event(WIN11, "prepare")
    assert outcome.line == (
        "the command late: it would run in the background, which needs systemd: take background out of the settings"
    )
    assert (argvs(host), host.driver(NIC)) == ([], "e1000e")


def test_a_dead_guests_commands_are_undone_by_recover(root: str) -> None:
    """As with systemd."""
    host = host_with(root)
    host.begin(WIN11)
    processes.end(root, host.libvirt.pid)
    assert libhook(host, "recover").code == 0
    assert argvs(host)[-1] == [SCREEN, "to host"]
    assert host.leftovers == []


def test_a_hook_that_is_killed_while_a_command_runs(root: str) -> None:
    """Whoever comes next waits for its end, and undoes what it may have done."""
    host = host_with(root, SETTINGS.replace("[run.screen]", "[run.screen]\nseconds = 0.5"), seconds=300)
    hook = os.fork()
    if hook == 0:
        host.event(WIN11, "prepare")
        os._exit(0)
    until(lambda: argvs(host))
    os.kill(hook, signal.SIGKILL)
    os.waitpid(hook, 0)
    commands.add(root, SCREEN)
    host.event(WIN11, "release", "failed")
    assert argvs(host) == [[SCREEN, "$HOME", "to guest"], [LIGHT, "off"], [SCREEN, "to host"]]
    assert (host.leftovers, host.driver(NIC)) == ([], "e1000e")


@pytest.mark.parametrize(
    ("fault", "undos"),
    [
        (faults.Fault("run-group *screen to host", before=(("kill", "writer"),)), 1),
        (faults.Fault("run-group *screen to host", after=(("kill", "writer"),)), 2),
    ],
)
def test_an_undo_is_run_though_its_child_is_killed(root: str, fault: faults.Fault, undos: int) -> None:
    """Twice perhaps: nobody knows how far it came."""
    host = host_with(root)
    host.begin(WIN11)
    faults.inject(root, fault)
    host.event(WIN11, "release", "shutdown")
    assert argvs(host)[3:] == [[LIGHT, "off"], *[[SCREEN, "to host"]] * undos]
    assert host.leftovers == []
