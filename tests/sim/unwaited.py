# SPDX-License-Identifier: LGPL-2.1-or-later
"""A guest that is about to run, and the process that works alone once hooks/qemu has answered at ``started``."""

import os
from contextlib import suppress
from pathlib import Path

from cases import NIC
from family import children, until
from launcher import put
from scenario import LAUNCHER, Host, guest, reap

from libhook.simulation.faults import Fault
from libhook.simulation.guests import Guest
from libhook.simulation.hosts import nic

WIN11 = guest(NIC)
UUID = Guest().uuid
GIVEN, BACK = f"start {NIC} success", f"stop {NIC} success"
SLOW = Fault("record *", 0, before=(("wait", "go"),))
"""The trail takes no record until ``let_go``."""
SOON = Fault("record *", 0, before=(("sleep", "0.3"),))
"""It takes one after a while."""


def about_to_run(root: str, shell: str = "/bin/sh", config: str = "") -> Host:
    """Everything up to ``started``."""
    host = Host(root, nic(), config, launcher=True)
    launching = host.launching
    host.launching = lambda command, xml, environment: launching([*shell.split(), *command], xml, environment)
    for operation in ("prepare", "start"):
        assert host.event(WIN11, operation).code == 0
    host.patience = 0
    return host


def let_go(host: Host) -> None:
    """The trail takes records from now on."""
    Path(host.root, "go").touch()


def lock_of(host: Host) -> Path:
    """The guest's."""
    return Path(host.machine.state, "locks", f"domain-{UUID}")


def mark_of(host: Host) -> Path:
    """What says that nobody need wait."""
    return Path(host.machine.state, "unwaited", UUID)


def worker(host: Host) -> int:
    """The process that works alone, once it sends its record, which is SLOW."""
    until(Path(host.root, "simulation/faults/000.count").exists)
    (found,) = [pid for pid in children() if children(pid)]
    return found


def end(host: Host) -> None:
    """Everything comes to its end, and leaves nothing but what the guest has."""
    let_go(host)
    assert reap(60)
    assert not lock_of(host).exists()


def opened_by(pid: int) -> dict[str, str]:
    """What each descriptor of a process is open on; of one that has ended, what could still be seen."""
    folder, found = f"/proc/{pid}/fd", {}
    with suppress(FileNotFoundError):
        for name in os.listdir(folder):
            found[name] = os.readlink(f"{folder}/{name}")
    return found


def change_launcher(host: Host, old: str, new: str) -> None:
    """Its launcher is another from now on."""
    own = put(Path(host.root, "usr/local/lib/libhook/hooks/qemu"), LAUNCHER.parents[1], (old, new))
    launching = host.launching
    host.launching = lambda command, xml, environment: launching([str(own), *command[1:]], xml, environment)
