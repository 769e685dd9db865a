# SPDX-License-Identifier: LGPL-2.1-or-later
"""A host that has something for each kind of action, and settings that ask for it."""

import json
from pathlib import Path

from modules_out import STACK, host_with, loaded
from mounting import INDEX, MOUNTS, mount, mounted
from scenario import Host
from units import CUPS, SOCKET

from libhook.simulation import commands, store, systemd
from libhook.simulation.world import Device

SWAPPINESS = "/proc/sys/vm/swappiness"
PROGRAM = "/usr/local/bin/act"
SMBD = "smbd.service"
STATES = {
    "modules": (f"modules = {json.dumps(STACK)}\n", ""),  # in this order each is a call of its own
    "units": (f'[units]\n"{CUPS}" = "down"\n"{SMBD}" = "up"\n', "inactive inactive active"),
    "mounts": (MOUNTS, ""),
    "values": ('[values]\n"vm.swappiness" = 10\n', "10"),
}
"""What the settings ask for, and what is so while any guest lives."""


def settings(*names: str) -> str:
    """For these of the states."""
    return "".join(text for name, (text, _) in STATES.items() if name in names)


def make(root: str, config: str, *more: Device) -> Host:
    """The host with these settings, and with more devices."""
    host = host_with(root, config, *more)
    systemd.add(root, CUPS, triggered_by=[SOCKET])
    systemd.add(root, SOCKET)
    systemd.add(root, SMBD, active="inactive")
    if MOUNTS in config:  # no guest may have a disk that stays mounted
        mount(root)
    commands.add(root, PROGRAM, seconds=0.03)
    Path(f"{root}{SWAPPINESS}").parent.mkdir(parents=True)
    store.create(f"{root}{SWAPPINESS}", "60\n")
    return host


def states(host: Host) -> dict[str, str]:
    """What is shared, as it is."""
    return {
        "modules": " ".join(sorted(loaded(host).intersection(STACK))),
        "units": " ".join(systemd.state(host.root, unit) for unit in (CUPS, SOCKET, SMBD)),
        "values": Path(f"{host.root}{SWAPPINESS}").read_text().strip(),
        "mounts": " ".join((*mounted(host.root), *{INDEX}.intersection(systemd.running(host.root)))),
    }


def running(host: Host) -> list[str]:
    """The commands and old scripts that run."""
    ours = ("libhook-run-", "libhook-undo-", "libhook-legacy-")
    return [name for name in systemd.running(host.root) if name.startswith(ours)]
