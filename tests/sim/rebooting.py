# SPDX-License-Identifier: LGPL-2.1-or-later
"""Hosts that are started anew with other hardware, and what outlives that."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cases import DISK, GPU, NIC, SOUND
from scenario import Host, guest

from libhook.effects import identities
from libhook.facts.identity import Note
from libhook.simulation.guests import Guest
from libhook.simulation.hosts import workstation
from libhook.simulation.world import AUDIO, NVME, VGA, Device, World

WIN11 = guest(GPU, SOUND)
SSD, CARD = guest(DISK), guest(NIC)
NEW_DISK = Device("0000:05:00.0", "nvme", 16, NVME, "144d:a808", children=(("block", "nvme1n1"),))
Move = Callable[[World], Host]


def moved() -> World:
    """A card was put in before the GPU: all that comes after it has another address, and an SSD has the GPU's."""
    devices = (
        Device("0000:01:00.0", "e1000e", group=12, children=(("net", "eth1"),)),
        Device("0000:03:00.0", "nvme", 14, NVME, "144d:a808", children=(("block", "nvme0n1"),)),
        Device("0000:04:00.0", "amdgpu", 15, VGA, "1002:73bf", header=0x80, children=(("drm", "card0"),)),
        Device("0000:04:00.1", "snd_hda_intel", 15, AUDIO, "1002:ab28", header=0x80),
    )
    return workstation()._replace(devices=devices)


def shifted() -> World:
    """The NIC has moved, and an SSD of the host has its address. Each is in a group of its own."""
    devices = (
        Device(NIC, "nvme", 12, NVME, "144d:a808", children=(("block", "nvme0n1"),)),
        Device("0000:02:00.0", "e1000e", group=13, children=(("net", "eth1"),)),
    )
    return workstation()._replace(devices=devices)


def with_disks(*serials: str) -> World:
    """Disks of one model, at 04:00.0 and 05:00.0."""
    base = workstation()
    kept = tuple(one for one in base.devices if one.address != DISK)
    first = next(one for one in base.devices if one.address == DISK)
    return base._replace(
        devices=(*kept, *(one._replace(serial=serial) for one, serial in zip((first, NEW_DISK), serials, strict=False)))
    )


def rebooting(root: str, tmp_path: Path) -> Callable[..., Host]:
    """Give what makes the host anew, with what outlives a reboot."""
    made: list[Host] = []

    def make(world: World, config: str = "") -> Host:
        host = Host(root if not made else str(tmp_path / f"host{len(made)}"), world, config)
        if made and os.path.isdir(f"{made[-1].root}/var/lib/libhook"):
            shutil.copytree(f"{made[-1].root}/var/lib/libhook", f"{host.root}/var/lib/libhook")
        made.append(host)
        return host

    return make


def live(host: Host, one: Guest) -> None:
    """A whole life of the guest."""
    assert host.libvirt.start(one).error == ""
    host.libvirt.stop(one.name)


def logged(host: Host, event: str) -> list[dict[str, Any]]:
    """What the hook has logged of this."""
    return [one for outcome in host.outcomes for one in outcome.logged(event)]


def note(host: Host, one: Guest = WIN11) -> Note:
    """What is noted of the guest."""
    found = identities.load(host.machine, one.uuid)
    assert found is not None
    return found
