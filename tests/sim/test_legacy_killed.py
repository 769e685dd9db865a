# SPDX-License-Identifier: LGPL-2.1-or-later
"""Old hook scripts where the hook is killed that calls them, or its child."""

import fcntl
import os
import signal
import time
from collections.abc import Sequence

import pytest
from command import libhook
from family import until
from old_scripts import LIFE, WIN11, calls, host_with
from scenario import adopt_orphans, reap

from libhook.facts.legacy import units
from libhook.facts.machine import Machine
from libhook.look import oldscripts
from libhook.simulation import faults, store, systemd

pytestmark = pytest.mark.race


@pytest.mark.parametrize("operation", ["prepare", "start", "started", "stopped"])
def test_what_a_killed_hook_was_about_to_begin_is_not_begun_after_its_end(
    root: str, monkeypatch: pytest.MonkeyPatch, operation: str
) -> None:
    """Its child goes on, and asks systemd only while the guest is given back."""
    host = host_with(root)
    before = [call.split()[0] for call in LIFE]
    for earlier in before[: before.index(operation)]:
        assert host.event(WIN11, earlier).code == 0
    interpreter = oldscripts.interpreter

    def slow(machine: Machine, path: str) -> Sequence[str]:
        if not os.path.exists(f"{root}/begun"):
            store.create(f"{root}/begun", "")
            time.sleep(1.0)
        return interpreter(machine, path)

    monkeypatch.setattr(oldscripts, "interpreter", slow)
    adopt_orphans()
    hook = os.fork()
    if hook == 0:
        host.event(WIN11, operation)
        os._exit(0)
    until(lambda: os.path.exists(f"{root}/begun"))
    os.kill(hook, signal.SIGKILL)
    os.waitpid(hook, 0)
    host.event(WIN11, "release", "failed")
    assert reap(60)
    assert (calls(host)[-1], host.leftovers) == ("release end failed", [])


def test_recover_removes_the_mark_of_a_call_that_was_killed(root: str) -> None:
    """Unless the call's child goes on. A call may be passed on for a guest without an entry, whose end finds none."""
    host = host_with(root)
    host.begin(WIN11)
    host.event(WIN11, "release", "shutdown")
    mark = host.state.in_flight_path(f"legacy-{WIN11.uuid}-4711")
    with open(mark, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        libhook(host, "recover")
        assert os.path.exists(mark)
    libhook(host, "recover")
    assert host.leftovers == []


@pytest.mark.parametrize(
    ("fault", "ends"),
    [
        (faults.Fault("systemctl show *", before=(("kill", "writer"),)), 1),
        (faults.Fault("systemd-run *", before=(("kill", "writer"),)), 1),
        (faults.Fault("systemd-run *", after=(("kill", "writer"),)), 2),
    ],
)
def test_the_end_is_called_though_its_child_is_killed(root: str, fault: faults.Fault, ends: int) -> None:
    """Twice perhaps: nobody knows how far it came. What ran before is ended all the same."""
    host = host_with(root)
    host.begin(WIN11)
    left = f"{units(WIN11.uuid)[:-1]}started-1.service"
    systemd.add(root, left, transient=True)
    faults.inject(root, fault)
    host.event(WIN11, "release", "shutdown")
    assert calls(host) == [*LIFE[:3], *[LIFE[4]] * ends]
    assert (systemd.state(root, left), host.leftovers) == ("inactive", [])
