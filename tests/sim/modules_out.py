# SPDX-License-Identifier: LGPL-2.1-or-later
"""A host with an NVIDIA card that shows the consoles, and guests whose settings have its modules unloaded."""

from pathlib import Path

from cases import DISK, GPU, NIC, SOUND
from scenario import Host, guest

from libhook.simulation import hosts, store
from libhook.simulation.world import Device

STACK = ("nvidia_uvm", "nvidia_drm", "nvidia_modeset", "nvidia")
UVM = 'modules = ["nvidia_uvm"]\n'
ALL = 'modules = ["nvidia", "nvidia-modeset", "nvidia_drm", "nvidia_uvm"]\n'
DEVICE = '[devices.display]\nmodules = ["device:display"]\n'
WIN11 = guest(GPU, SOUND)
OTHER = guest(NIC, name="other")._replace(uuid="11111111-2222-3333-4444-555555555555")
THIRD = guest(DISK, name="third")._replace(uuid="22222222-3333-4444-5555-666666666666")
CONSOLE = "(M) frame buffer device: 1, (S) dummy device: 0"


def host_with(root: str, config: str = ALL, *more: Device) -> Host:
    """With these settings, and with more devices."""
    world = hosts.nvidia(console=True)
    return Host(root, world._replace(devices=(*world.devices, *more)), f"holder_wait = 0.3\n{config}")


def loaded(host: Host) -> set[str]:
    """What is loaded, but for vfio."""
    found = {path.parent.name for path in Path(host.root, "sys/module").glob("*/initstate")}
    return {name for name in found if "vfio" not in name}


def shown(host: Host) -> str:
    """Which are bound."""
    folder = Path(host.root, "sys/class/vtconsole")
    return ", ".join(
        sorted(
            f"{store.read(f'{one}/name')}: {store.read(f'{one}/bind')}".replace("\n", "") for one in folder.iterdir()
        )
    )


def calls(host: Host) -> list[str]:
    """What libhook wrote to the consoles."""
    lines = store.lines(f"{host.root}/var/log/writes.jsonl")
    return [f"{line['path'].split('/')[-2]} {line['value']}" for line in lines if "vtconsole" in line["path"]]
