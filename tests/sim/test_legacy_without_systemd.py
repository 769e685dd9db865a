# SPDX-License-Identifier: LGPL-2.1-or-later
"""Old hook scripts on a host without systemd: in control groups of libhook's."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from cases import NIC
from family import until
from old_scripts import LIFE, PATH, PLAIN, SETTINGS, WIN11, calls, host_with
from scenario import Host

from libhook.simulation import commands, groups, store


def left(host: Host) -> list[str]:
    """The groups that are there."""
    return sorted(path.name.rpartition(".")[0] for path in Path(host.root, "sys/fs/cgroup").glob("libhook/*"))


def test_a_script_is_called_at_each_step_of_a_life(root: str) -> None:
    """As with systemd. What it prints is in the log, and no group is left."""
    host = host_with(root, stdout="hello")
    groups.replace_systemd(root)
    assert host.libvirt.start(WIN11).error == ""
    host.libvirt.stop("win11", "shutdown")
    assert calls(host) == LIFE
    assert all(one["environment"] == {"LC_ALL": "C"} for one in commands.ran(root))
    assert store.lines(f"{root}/var/log/syslog.jsonl") == 5 * [{"tag": "libhook", "line": "hello"}]
    assert (left(host), host.leftovers) == ([], [])


@pytest.mark.parametrize("ends", [{"status": 3}, {"says": "Exec format error"}, {"seconds": 60, "leaves": True}])
def test_a_script_that_fails_refuses_the_start(root: str, ends: dict[str, Any]) -> None:
    """One that is late is ended with all that it has started, also with what has a session of its own."""
    host = host_with(root, f"{SETTINGS}legacy.seconds = {0.5 if 'seconds' in ends else 60}\n", **ends)
    groups.replace_systemd(root)
    line = host.event(WIN11, "prepare").line
    why = "has ended with status 3 (prepare)" if "status" in ends else "cannot be executed: Exec format error"
    why = "has not ended within 0.5 s (prepare), and was ended" if "seconds" in ends else why
    assert line == f"{PATH} {why}: see the system's log for libhook"
    assert (host.driver(NIC), left(host)) == ("e1000e", [])
    host.event(WIN11, "release", "failed")
    assert host.leftovers == []


def test_what_a_script_leaves_goes_on(root: str) -> None:
    """Also beyond the guest's end. Its group goes at one of the guest's next ends."""
    host = host_with(root, leaves=True)
    groups.replace_systemd(root)
    assert host.event(WIN11, "prepare").code == 0
    commands.add(root, PATH)
    host.event(WIN11, "release", "failed")
    (group,) = Path(root, "sys/fs/cgroup/libhook").iterdir()
    assert group.name.startswith(f"libhook-legacy-{WIN11.uuid}-prepare-")
    (pid,) = groups.processes(str(group))
    os.kill(pid, 0)
    groups.kill(root, f"fs/cgroup/libhook/{group.name}/cgroup.kill")
    host.begin(WIN11)
    host.event(WIN11, "release", "shutdown")
    assert (left(host), host.leftovers) == ([], [])


def test_a_script_whose_hook_was_killed_is_ended(root: str) -> None:
    """And its child, which waits for it. Another guest's goes on."""
    host = host_with(root, "legacy.path = '/etc/libvirt/old-hooks/qemu'\n", seconds=300)
    groups.replace_systemd(root)
    other = WIN11._replace(uuid="11111111-2222-3333-4444-555555555555", name="other", devices=())
    hooks = []
    for one in (WIN11, other):
        hooks.append(os.fork())
        if not hooks[-1]:
            host.event(one, "prepare")
            os._exit(0)
    until(lambda: len(calls(host)) == 2)
    for hook in hooks:
        os.kill(hook, signal.SIGKILL)
        os.waitpid(hook, 0)
    assert len(groups.populated(root)) == 2
    commands.add(root, PATH)
    host.event(WIN11, "release", "failed")
    (name,) = groups.populated(root)
    assert name.startswith(f"libhook-legacy-{other.uuid}-prepare-")
    assert (host.driver(NIC), calls(host)[-1]) == ("e1000e", "release end failed")
    host.event(other, "release", "failed")
    assert (left(host), host.leftovers) == ([], [])


def test_a_filter_gives_libvirt_another_document(root: str) -> None:
    """What it prints is for libvirt, and not for the log."""
    host = host_with(root, f"{SETTINGS}legacy.filter = true\n", stdout="<domain/>", stderr="why")
    groups.replace_systemd(root)
    outcome = host.event(PLAIN, "restore")
    assert (outcome.code, outcome.stdout) == (0, "<domain/>")
    assert store.lines(f"{root}/var/log/syslog.jsonl") == [{"tag": "libhook", "line": "why"}]


def test_no_script_is_run_where_it_could_not_be_ended(root: str) -> None:
    """The start is refused before anything is done."""
    host = host_with(root)
    groups.replace_systemd(root, mount="")
    assert "cgroup v2 is not mounted at /sys/fs/cgroup or" in host.event(WIN11, "prepare").line
    assert (calls(host), host.driver(NIC)) == ([], "e1000e")
