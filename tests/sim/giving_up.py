# SPDX-License-Identifier: LGPL-2.1-or-later
"""Guests that have ended and still hold what does not come back, and what their lines say to run."""

import shlex

from cases import DISK, NIC
from command import Done, libhook
from scenario import Host, guest

from libhook.simulation import faults
from libhook.simulation.hosts import workstation

SWAPPINESS = "/proc/sys/vm/swappiness"
SET = '[values]\n"vm.swappiness" = 10\n'
WIN11, OTHER = guest(NIC), guest(DISK, name="other")._replace(uuid="11111111-2222-3333-4444-555555555555")
NEVER = faults.Fault(f"set {SWAPPINESS} 60", nth=0, error="EINVAL")


def value_host(root: str, config: str = SET) -> Host:
    """It has the value that the settings set."""
    host = Host(root, workstation(), config)
    host.put(SWAPPINESS, "60")
    return host


def stuck(root: str) -> Host:
    """A guest has ended, and its value cannot be restored."""
    host = value_host(root)
    host.begin(WIN11)
    faults.inject(root, NEVER)
    host.event(WIN11, "release", "shutdown")
    assert (host.read(SWAPPINESS), host.driver(NIC)) == ("10", "e1000e")
    return host


def paste(host: Host, line: str) -> Done:
    """Run what the line ends in."""
    name, *words = shlex.split(line.rpartition("run: ")[2])
    assert name == "libhook"
    return libhook(host, *words)


def leave(host: Host, uuid: str) -> None:
    """The guest is gone, and its release came to no end."""
    held = host.state.load(uuid)
    assert held
    host.state.save(held._replace(phase="releasing"))
