# SPDX-License-Identifier: LGPL-2.1-or-later
"""What an event may cost, as far as it can be counted. What takes how long is measured by tests/bench."""

import ast
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from cases import NIC
from family import until
from scenario import LAUNCHER, Host, guest, reap

from libhook.children.child import spawn
from libhook.simulation import faults, store
from libhook.simulation.build import build
from libhook.simulation.guests import Guest
from libhook.simulation.hosts import many, workstation

ACTING = ("prepare", "start", "started", "release")


def watched(root: str, who: Guest, operation: str, *, dry_run: bool = False) -> dict[str, Any]:
    """One event of the guest's in a process that is watched: its forks, and files below the host's root."""
    report = f"{root}/simulation/watched"
    watcher = ["/usr/bin/python3", "-I", "-S", str(Path(__file__).with_name("watched.py"))]
    arguments = (who.name, operation, "end" if operation in ("stopped", "release") else "begin", "-")
    done = subprocess.run(
        [*watcher, str(LAUNCHER.parents[1]), report, "", str(os.getpid()), *arguments],
        input=who.xml(1, operation != "prepare"),
        capture_output=True,
        env={"LC_ALL": "C", "LIBHOOK_ROOT": root, **({"LIBHOOK_DRY_RUN": "1"} if dry_run else {})},
        check=False,
    )
    assert reap(60)
    assert (done.returncode, done.stdout) == (0, b"")
    found: dict[str, Any] = ast.literal_eval(Path(report).read_text())
    found["touched"] = [name.removeprefix(root) for name in found["touched"] if name.startswith(root)]
    return found


@pytest.mark.parametrize("count", [1, 5])
def test_one_child_a_device_and_few_besides(root: str, count: int) -> None:
    """One reads the XML, one every override, one loads the module, one sends the records and writes the log.

    One notes what the devices are. At the end the devices' own children do all that.
    """
    Host(root, many(5, remove=0), launcher=True)
    who = guest(*(f"0000:00:{slot:02x}.0" for slot in range(count)))
    forks = {"prepare": 4 + count, "start": 1, "started": 3, "release": count}
    assert {operation: watched(root, who, operation)["forks"] for operation in ACTING} == forks


def test_one_child_a_look_at_what_a_driver_made(root: str) -> None:
    """One look decides, and one is right before the unbind: nobody can look once that hangs."""
    Host(root, workstation(), launcher=True)
    forks = watched(root, guest(NIC), "prepare")["forks"]
    assert forks <= len(store.lines(f"{root}/var/log/writes.jsonl")) + 4 + 2


def test_a_large_host_is_not_looked_at(root: str) -> None:
    """Planning for one card opens the same files with 16 functions in the host as with 4,096."""
    plans = []
    for count in (16, 4096):
        build(f"{root}/{count}", many(count))
        plans.append(watched(f"{root}/{count}", guest("0000:00:00.0"), "prepare", dry_run=True))
    assert plans[0]["touched"] == plans[1]["touched"] != []
    assert plans[0]["forks"] == plans[1]["forks"]


def test_drivers_let_go_side_by_side(root: str) -> None:
    """64 of them in as many groups: none goes on before all have been asked."""
    world = many(64)
    host = Host(root, world)
    faults.inject(root, faults.Fault("write *e1000e/unbind *", nth=0, before=(("wait", "go"),)))

    def let_go() -> None:
        calls = Path(root, "var/log/calls.jsonl")
        until(lambda: calls.exists() and calls.read_text().count("e1000e/unbind") == len(world.devices))
        Path(root, "go").touch()

    letting = spawn(let_go)
    assert host.event(guest(*(device.address for device in world.devices)), "prepare").code == 0
    assert letting.result() == 0
