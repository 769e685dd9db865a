# SPDX-License-Identifier: LGPL-2.1-or-later
"""For tests of handlers: plays events on a simulated host, through the code that libvirtd runs.

    furnished.py    a simulated host, with what a handler may want of it
    host.py         the same, with what happens on it
    play.py         plays an event, a hot-plug, a whole life
    outcome.py      all that an event did
    golden.py       compares a plan with a file

docs/testing.md is the manual. pytest_plugin.py has the fixtures. The hook never imports this.
"""

from libhook.errors import LibhookError
from libhook.simulation.faults import Fault
from libhook.simulation.guests import Assigned, Guest
from libhook.simulation.hosts import bridge_group, many, nic, nvidia, sriov, workstation
from libhook.simulation.world import Device, Driver, Impossible, Module, World
from libhook.testing.host import Host
from libhook.testing.outcome import Command, Outcome
from libhook.testing.play import attach, detach, play, same_twice, undo_restores

__all__ = [
    "Assigned",
    "Command",
    "Device",
    "Driver",
    "Fault",
    "Guest",
    "Host",
    "Impossible",
    "LibhookError",
    "Module",
    "Outcome",
    "World",
    "attach",
    "bridge_group",
    "detach",
    "many",
    "nic",
    "nvidia",
    "play",
    "same_twice",
    "sriov",
    "undo_restores",
    "workstation",
]
