# SPDX-License-Identifier: LGPL-2.1-or-later
"""Hosts for the demo and the tests."""

from collections.abc import Callable

from libhook.simulation.world import AUDIO, BRIDGE, NVME, VGA, Device, Driver, Module, World

E1000E = Driver("e1000e", ids=("8086:10d3",))
IGB = Driver("igb", ids=("8086:10c9",), sriov=True)
IGBVF = Driver("igbvf", ids=("8086:10ca",))
NVME_DRIVER = Driver("nvme", ids=("class:0108",))
AMDGPU = Driver("amdgpu", ids=("1002:73bf",))
NVIDIA = Driver("nvidia", ids=("10de:2684",))
HDA = Driver("snd_hda_intel", ids=("1002:ab28",))
PCIEPORT = Driver("pcieport", ids=("class:0604",), kind="stub")


def nic() -> World:
    """A host with one network card, alone in its IOMMU group."""
    return World((Device("0000:01:00.0", "e1000e", group=12, children=(("net", "eth1"),)),), (E1000E,))


def workstation(remove: float = 0) -> World:
    """A host with a NIC, an NVMe disk, and a GPU with its audio function, both in one group with their port.

    ``remove`` is how many seconds each driver takes to let go.
    """
    devices = (
        Device("0000:00:01.0", "pcieport", group=14, class_=BRIDGE, ids="1022:1483", header=1),
        Device("0000:01:00.0", "e1000e", group=12, children=(("net", "eth1"),)),
        Device("0000:03:00.0", "amdgpu", 14, VGA, "1002:73bf", header=0x80, children=(("drm", "card0"),)),
        Device("0000:03:00.1", "snd_hda_intel", 14, AUDIO, "1002:ab28", header=0x80),
        Device("0000:04:00.0", "nvme", 15, NVME, "144d:a808", children=(("block", "nvme0n1"),)),
    )
    drivers = (E1000E, AMDGPU, HDA, NVME_DRIVER, PCIEPORT)
    return World(devices, tuple(driver._replace(remove=remove) for driver in drivers))


def nvidia(*, console: bool = False) -> World:
    """A workstation whose GPU has four modules that need each other. The driver of its NVMe disk is built in.

    With ``console`` it has a framebuffer, which shows the virtual consoles.
    """
    base = workstation()
    children = (("drm", "card0"), *((("graphics", "fb0"),) if console else ()))
    gpu = Device("0000:03:00.0", "nvidia", 14, VGA, "10de:2684", header=0x80, children=children)
    modules = (
        Module("nvidia"),
        Module("nvidia_modeset", needs=("nvidia",)),
        Module("nvidia_drm", needs=("nvidia_modeset",), shows_consoles=console),
        Module("nvidia_uvm", needs=("nvidia",)),
        Module("i2c_nvidia_gpu", loaded=False),
        Module("nvme", built_in=True),
    )
    devices = tuple(gpu if device.address == gpu.address else device for device in base.devices)
    return base._replace(devices=devices, drivers=(*base.drivers, NVIDIA), modules=modules)


def sriov(vfs: int = 4) -> World:
    """A host with a network card and ``vfs`` of its 8 VFs, each on igbvf and in its own IOMMU group."""
    pf = Device("0000:01:00.0", "igb", ids="8086:10c9", totalvfs=8, numvfs=vfs, children=(("net", "eth1"),))
    world = World((pf,), (IGB, IGBVF)).complete()
    return world._replace(devices=tuple(d._replace(driver="igbvf") if d.physfn else d for d in world.devices))


def bridge_group() -> World:
    """A host with a PCI-to-PCI bridge and two cards behind it, all three in one IOMMU group."""
    devices = (
        Device("0000:05:00.0", None, 20, BRIDGE, "1b21:1080", header=1),
        Device("0000:06:00.0", "e1000e", 20),
        Device("0000:06:01.0", "e1000e", 20),
    )
    return World(devices, (E1000E,))


def many(count: int = 64, remove: float = 0.1, vfio_loaded: bool = False) -> World:
    """A host with ``count`` cards, each in its own IOMMU group. Their driver takes ``remove`` seconds to let go."""
    addresses = (f"{at >> 13:04x}:{at >> 5 & 0xFF:02x}:{at & 31:02x}.0" for at in range(count))
    devices = tuple(Device(address, "e1000e", group) for group, address in enumerate(addresses))
    return World(devices, (E1000E._replace(remove=remove),), vfio_loaded=vfio_loaded)


HOSTS: dict[str, Callable[[], World]] = {
    "nic": nic,
    "workstation": workstation,
    "nvidia": nvidia,
    "sriov": sriov,
    "bridge_group": bridge_group,
    "many": many,
}
