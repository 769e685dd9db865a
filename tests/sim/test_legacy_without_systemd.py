# SPDX-License-Identifier: LGPL-2.1-or-later
"""Old hook scripts on a host without systemd: each in a process group."""

import os
import signal
from typing import Any

import pytest
from cases import NIC
from family import until
from old_scripts import LIFE, PATH, PLAIN, SETTINGS, WIN11, calls, host_with

from libhook.simulation import commands, store


def test_a_script_is_called_at_each_step_of_a_life(root: str) -> None:
    """As with systemd. What it prints is in the log."""
    host = host_with(root, stdout="hello")
    commands.replace_systemd(root)
    assert host.libvirt.start(WIN11).error == ""
    host.libvirt.stop("win11", "shutdown")
    assert calls(host) == LIFE
    assert all(one["environment"] == {"LC_ALL": "C"} for one in commands.ran(root))
    assert store.lines(f"{root}/var/log/syslog.jsonl") == 5 * [{"tag": "libhook", "line": "hello"}]
    assert host.leftovers == []


@pytest.mark.parametrize("ends", [{"status": 3}, {"says": "Exec format error"}, {"seconds": 60}])
def test_a_script_that_fails_refuses_the_start(root: str, ends: dict[str, Any]) -> None:
    """One that is late is ended."""
    host = host_with(root, f"{SETTINGS}legacy.seconds = {0.5 if 'seconds' in ends else 60}\n", **ends)
    commands.replace_systemd(root)
    line = host.event(WIN11, "prepare").line
    why = "has ended with status 3 (prepare)" if "status" in ends else "cannot be executed: Exec format error"
    why = "has not ended within 0.5 s (prepare), and was ended" if "seconds" in ends else why
    assert line == f"{PATH} {why}: see the system's log for libhook"
    assert host.driver(NIC) == "e1000e"
    host.event(WIN11, "release", "failed")
    assert host.leftovers == []


def test_a_script_whose_hook_was_killed_is_waited_for(root: str) -> None:
    """It has its deadline, and then its end is called."""
    host = host_with(root, f"{SETTINGS}legacy.seconds = 0.5\n", seconds=300)
    commands.replace_systemd(root)
    hook = os.fork()
    if hook == 0:
        host.event(WIN11, "prepare")
        os._exit(0)
    until(lambda: calls(host))
    os.kill(hook, signal.SIGKILL)
    os.waitpid(hook, 0)
    commands.add(root, PATH)
    host.event(WIN11, "release", "failed")
    assert calls(host)[0] == "prepare begin -"
    assert calls(host)[-1] == "release end failed"
    assert (host.leftovers, host.driver(NIC)) == ([], "e1000e")


def test_a_filter_gives_libvirt_another_document(root: str) -> None:
    """What it prints is for libvirt, and not for the log."""
    host = host_with(root, f"{SETTINGS}legacy.filter = true\n", stdout="<domain/>", stderr="why")
    commands.replace_systemd(root)
    outcome = host.event(PLAIN, "restore")
    assert (outcome.code, outcome.stdout) == (0, "<domain/>")
    assert store.lines(f"{root}/var/log/syslog.jsonl") == [{"tag": "libhook", "line": "why"}]
