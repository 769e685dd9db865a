# SPDX-License-Identifier: LGPL-2.1-or-later
"""A host with an old hook script, and what was run of it."""

import os
import time
from pathlib import Path
from typing import Any

from cases import NIC
from scenario import Host, guest

from libhook.simulation import commands
from libhook.simulation.hosts import nic

WIN11, PLAIN = guest(NIC), guest()
PATH, TREE = "/etc/libvirt/old-hooks/qemu", "/etc/libvirt/hooks/qemu.d"
SETTINGS = f'[domains."win11"]\nlegacy.path = "{PATH}"\n'
LIFE = ["prepare begin -", "start begin -", "started begin -", "stopped end -", "release end shutdown"]


def host_with(root: str, config: str = SETTINGS, *, launcher: bool = False, **ends: Any) -> Host:  # noqa: ANN401
    """A host with this script, which ends so, and settings that were written a while ago."""
    host = Host(root, nic(), config, launcher=launcher)
    commands.add(root, PATH, **ends)
    for path in (Path(host.machine.config), Path(host.machine.config).parent):
        os.utime(path, (time.time() - 60,) * 2)
    return host


def calls(host: Host, path: str = PATH) -> list[str]:
    """What this script was called with, but for the guest's name."""
    return [" ".join(one["argv"][2:]) for one in commands.ran(host.root) if one["argv"][0] == path]


def ran(host: Host) -> list[str]:
    """The scripts that were run, below the tree."""
    return [
        next(arg for arg in one["argv"] if arg.startswith(TREE))[len(TREE) + 1 :] for one in commands.ran(host.root)
    ]
