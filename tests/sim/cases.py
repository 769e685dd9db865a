# SPDX-License-Identifier: LGPL-2.1-or-later
"""Hosts and guests whose lives the tests play: from beginning to end, as a dry run, and against golden plans."""

from typing import NamedTuple

from scenario import document, guest

from libhook.simulation.guests import Assigned, Guest
from libhook.simulation.hosts import E1000E, IGB, IGBVF, bridge_group, nic, sriov, workstation
from libhook.simulation.world import AUDIO, NVME, VGA, Device, Driver, World

NIC, DISK, GPU, SOUND = "0000:01:00.0", "0000:04:00.0", "0000:03:00.0", "0000:03:00.1"
VF0, VF1 = "0000:01:10.0", "0000:01:10.4"
MLX = Driver("mlx5_core", ids=("15b3:101e",))
NAMESPACE = """<disk type='nvme' device='disk'>
      <source type='pci' managed='no' namespace='{}'>
        <address domain='0x0000' bus='0x04' slot='0x00' function='0x0'/>
      </source>
      <target dev='vd{}' bus='virtio'/>
    </disk>"""


def setting(key: str, value: str, where: str = "") -> str:
    """The command that makes this setting for win11."""
    line = f'domains."win11".{where}{key} = "{value}"'
    return f"run: mkdir -p /etc/libhook/config.d && echo '{line}' >/etc/libhook/config.d/win11@{key}.toml"


class Case(NamedTuple):
    """A guest on a host."""

    world: World
    guest: Guest
    config: str = ""


def triple() -> World:
    """Three cards in one group, behind no bridge that could tell them apart."""
    devices = (Device(f"0000:08:00.{at}", "e1000e", 30, header=0x80 if at == 0 else 0) for at in range(3))
    return World(tuple(devices), (E1000E,))


def on_vfio() -> World:
    """A card that the administrator gave to vfio-pci."""
    return World((Device(NIC, "vfio-pci", override="vfio-pci"),), (E1000E,), vfio_loaded=True)


def variant() -> World:
    """A card for which the kernel has a vfio driver of its own."""
    device = Device(NIC, "mlx5_core", ids="15b3:101e")
    return World((device,), (MLX,), variants=(("mlx5_vfio_pci", "15b3:101e"),))


def recorded() -> World:
    """The virtual machine in which the documents in tests/data/hook-stdin were recorded."""
    pf = Device("0000:02:00.0", "igb", ids="8086:10c9", totalvfs=7, numvfs=2, vf_stride=2)
    others = (
        Device("0000:01:00.0", "e1000e", children=(("net", "eth1"),)),
        Device("0000:04:00.0", "nvme", class_=NVME, ids="1b36:0010", children=(("block", "nvme0n1"),)),
        Device("0000:07:00.0", "e1000e", 40, header=0x80),
        Device("0000:07:00.1", "e1000e", 40),
    )
    nvme = Driver("nvme", ids=("class:0108",))
    world = World((pf, *others), (E1000E, IGB, IGBVF, nvme)).complete()
    return world._replace(devices=tuple(d._replace(driver="igbvf") if d.physfn else d for d in world.devices))


def two_gpus() -> World:
    """Two functions in one group, one of which the host never bound."""
    amdgpu = Driver("amdgpu", ids=("1002:73bf",))
    devices = (Device(GPU, "amdgpu", 14, VGA, "1002:73bf", header=0x80), Device(SOUND, None, 14, AUDIO, "1002:ab28"))
    return World(devices, (amdgpu,))


def stubbed() -> World:
    """A GPU whose audio function the administrator has put on pci-stub, which leaves their group viable."""
    gpu, sound = two_gpus().devices
    stub = sound._replace(driver="pci-stub", override="pci-stub")
    return World((gpu, stub), (*two_gpus().drivers, Driver("pci-stub", kind="stub")))


def unprobed(override: str = "") -> World:
    """VFs whose PF lets no driver have them any more: those that one has keep it."""
    world = sriov()
    return world._replace(
        devices=tuple(
            d._replace(override=override) if d.physfn else d._replace(vf_autoprobe=False) for d in world.devices
        )
    )


CASES = {
    "unmanaged": Case(nic(), guest(NIC)),
    "managed": Case(nic(), guest(NIC, managed=True)),
    "bind_managed": Case(nic(), guest(NIC, managed=True), "bind_managed = true\n"),
    "vf_hostdev": Case(sriov(), guest(VF0)),
    "vf_hostdev_managed": Case(sriov(), guest(VF0, managed=True)),
    "vf_interface": Case(sriov(), guest(VF0, source="interface")),
    "vf_interface_managed": Case(sriov(), guest(VF0, managed=True, source="interface")),
    "vf_interface_never_bound_by_us": Case(
        sriov(), guest(VF0, managed=True, source="interface"), "bind_managed = true\n"
    ),
    "two_vfs": Case(sriov(), guest(VF0, VF1)),
    "vf_without_autoprobe": Case(unprobed(), guest(VF0)),
    "vf_without_autoprobe_managed": Case(unprobed(), guest(VF0, managed=True)),
    "vf_without_autoprobe_override_not_acted_on": Case(unprobed("vfio-pci"), guest(VF0)),
    "nvme": Case(workstation(), guest(DISK, source="disk")),
    "nvme_two_namespaces": Case(
        workstation(),
        Guest(
            devices=(Assigned(DISK, source="disk"),),
            document=document(NAMESPACE.format(1, "a"), NAMESPACE.format(2, "b")),
        ),
    ),
    "gpu_with_its_sound": Case(workstation(), guest(GPU, SOUND)),
    "gpu_alone_siblings_bind": Case(workstation(), guest(GPU), 'siblings = "bind"\n'),
    "three_of_one_group": Case(triple(), guest("0000:08:00.0", "0000:08:00.1", "0000:08:00.2")),
    "one_of_three_siblings_bind": Case(triple(), guest("0000:08:00.1"), 'siblings = "bind"\n'),
    "behind_a_bridge": Case(bridge_group(), guest("0000:06:00.0", "0000:06:01.0")),
    "on_vfio_before": Case(on_vfio(), guest(NIC)),
    "on_vfio_before_managed": Case(on_vfio(), guest(NIC, managed=True)),
    "without_driver": Case(World((Device(NIC, None),), ()), guest(NIC)),
    "without_driver_though_known": Case(World((Device(NIC, None),), (E1000E,)), guest(NIC)),
    "driverless_sibling": Case(two_gpus(), guest(GPU)),
    "sibling_on_pci_stub_siblings_bind": Case(stubbed(), guest(GPU), 'siblings = "bind"\n'),
    "override_of_the_administrator_managed": Case(
        World((Device(NIC, "e1000e", override="e1000e"),), (E1000E,)), guest(NIC, managed=True)
    ),
    "override_not_acted_on": Case(World((Device(NIC, "e1000e", override="pci-stub"),), (E1000E,)), guest(NIC)),
    "override_to_vfio_not_acted_on": Case(
        World((Device(NIC, "e1000e", override="vfio-pci"),), (E1000E,), vfio_loaded=True), guest(NIC)
    ),
    "override_of_the_administrator": Case(World((Device(NIC, "e1000e", override="e1000e"),), (E1000E,)), guest(NIC)),
    "variant_driver": Case(variant(), guest(NIC)),
    "variant_asked_for": Case(variant(), guest(NIC, model="mlx5_vfio_pci")),
    "variant_not_wanted": Case(variant(), guest(NIC, model="vfio-pci")),
    "variant_whose_driver_is_named_otherwise": Case(
        World(
            (Device(NIC, "hisi_zip", ids="19e5:a251"),),
            (Driver("hisi_zip", ids=("19e5:a251",)),),
            variants=(("hisi-acc-vfio-pci", "19e5:a251"),),
        ),
        guest(NIC),
    ),
    "driver_configured": Case(variant(), guest(NIC), 'driver = "vfio-pci"\n'),
    "record_of_2011": Case(nic(), guest(NIC), '[audit]\nrecord = "2011"\n'),
    "record_with_extra": Case(nic(), guest(NIC), "[audit]\nextra = true\n"),
    "record_of_2011_with_extra": Case(
        World((Device(NIC, None),), ()), guest(NIC), '[audit]\nrecord = "2011"\nextra = true\n'
    ),
    "name_with_everything": Case(nic(), guest(NIC, name="a b;$(touch x)\"'")),
    "name_like_an_option": Case(nic(), guest(NIC, name="--help")),
}
