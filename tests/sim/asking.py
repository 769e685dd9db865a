# SPDX-License-Identifier: LGPL-2.1-or-later
"""A host that has something for each kind of action, and settings that ask for it."""

import json
from pathlib import Path

from modules_out import STACK, host_with, loaded
from scenario import Host
from units import CUPS, SOCKET

from libhook.kinds.sleep import LOGIND, UNIT
from libhook.simulation import commands, store, systemd

SWAPPINESS = "/proc/sys/vm/swappiness"
PROGRAM = "/usr/local/bin/act"
STATES = {
    "sleep": ('sleep = "inhibit"\n', "active"),
    "modules": (f"modules = {json.dumps(STACK)}\n", ""),  # in this order each is a call of its own
    "units": (f'[units]\n"{CUPS}" = "down"\n', "inactive inactive"),
    "values": ('[values]\n"vm.swappiness" = 10\n', "10"),
}
"""What the settings ask for, and what is so while any guest lives."""


def settings(*names: str) -> str:
    """For these of the states."""
    return "".join(text for name, (text, _) in STATES.items() if name in names)


def make(root: str, config: str) -> Host:
    """The host with these settings."""
    host = host_with(root, config)
    systemd.add(root, UNIT, active="inactive")
    systemd.add(root, LOGIND)
    systemd.add(root, CUPS, triggered_by=[SOCKET])
    systemd.add(root, SOCKET)
    commands.add(root, PROGRAM, seconds=0.03)
    Path(f"{root}{SWAPPINESS}").parent.mkdir(parents=True)
    store.create(f"{root}{SWAPPINESS}", "60\n")
    return host


def states(host: Host) -> dict[str, str]:
    """What is shared, as it is."""
    return {
        "modules": " ".join(sorted(loaded(host).intersection(STACK))),
        "sleep": systemd.state(host.root, UNIT),
        "units": f"{systemd.state(host.root, CUPS)} {systemd.state(host.root, SOCKET)}",
        "values": Path(f"{host.root}{SWAPPINESS}").read_text().strip(),
    }


def running(host: Host) -> list[str]:
    """The commands that run."""
    return [name for name in systemd.running(host.root) if name.startswith(("libhook-run-", "libhook-undo-"))]
