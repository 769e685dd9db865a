# SPDX-License-Identifier: LGPL-2.1-or-later
"""Modules that no guest may have out of the kernel: others need them, or nobody can take them out."""

from pathlib import Path

import pytest
from cases import GPU, NIC, SOUND
from modules_out import ALL, DEVICE, OTHER, THIRD, WIN11, loaded
from scenario import Host, guest

from libhook.errors import STOP_GUEST
from libhook.simulation import hosts
from libhook.simulation.world import VGA, Device, Module, World


def _second_card() -> World:
    base = hosts.nvidia()
    return base._replace(devices=(*base.devices, Device("0000:05:00.0", "nvidia", 16, VGA, "10de:2684")))


@pytest.mark.parametrize(
    ("config", "world", "said"),
    [
        ('modules = ["nvme"]', hosts.nvidia(), "the module nvme is built into the kernel"),
        ('modules = ["nvidia"]', hosts.nvidia(), "nvidia is in use by nvidia_modeset, nvidia_uvm: name those"),
        ('modules = ["e1000e"]', hosts.nvidia(), f"the module e1000e also drives {NIC}, and the guest does not get"),
        (ALL, _second_card(), "the module nvidia also drives 0000:05:00.0, and the guest does not get that"),
        (DEVICE, _second_card(), "the module nvidia also drives 0000:05:00.0, and the guest does not get that"),
        (
            'modules = ["vfio_pci"]',
            hosts.nvidia(),
            "modules has a wrong entry: 'vfio_pci': it must be a list of modules, but none of",
        ),
        ('modules = ["device:gpu"]', hosts.nvidia(), "it must be a list of modules, but none of vfio"),
        ('modules = ["display:gpu"]', hosts.nvidia(), "it must be a list of modules, but none of vfio"),
        ("modules = [1]", hosts.nvidia(), "it must be a list of modules, but none of vfio"),
        ('modules = "nvidia"', hosts.nvidia(), "modules is 'nvidia': it must be a list of modules"),
    ],
)
def test_what_may_not_be_taken_out(root: str, config: str, world: World, said: str) -> None:
    """It is refused before anything is done."""
    host = Host(root, world, config)
    before = loaded(host)
    refused = host.event(WIN11, "prepare")
    assert refused.code == 1
    assert said in refused.line
    assert (loaded(host), refused.logged("done") + refused.logged("not done"), host.changed) == (before, [], [])


def test_more_devices_of_a_module_are_counted(root: str) -> None:
    """One is named."""
    base = hosts.nvidia()
    cards = (Device(f"0000:0{at}:00.0", "e1000e", 20 + at) for at in (5, 6))
    host = Host(root, base._replace(devices=(*base.devices, *cards)), 'modules = ["e1000e"]')
    assert f"drives {NIC} and 2 more, and the guest" in host.event(WIN11, "prepare").line


def test_a_module_that_vfio_s_needs_is_kept(root: str) -> None:
    """What holds the device's module may be one of vfio's."""
    base = hosts.nvidia()
    more = (*base.modules, Module("nvidia_vgpu_vfio", needs=("nvidia",)))
    host = Host(root, base._replace(modules=more), DEVICE)
    assert "the module nvidia_vgpu_vfio is one of vfio's" in host.event(WIN11, "prepare").line


def test_a_driver_that_is_built_in_may_have_no_module(root: str) -> None:
    """No folder of it need be in /sys/module."""
    host = Host(root, hosts.nvidia(), DEVICE)
    Path(root, "sys/bus/pci/drivers/nvidia/module").unlink()
    assert "the module nvidia is built into the kernel" in host.event(WIN11, "prepare").line


@pytest.mark.parametrize("managed", [False, True])
def test_what_another_guest_s_device_goes_back_to_stays(root: str, managed: bool) -> None:
    """That guest's end would find no driver. A broken entry says nothing."""
    host = Host(
        root, hosts.nvidia(), '[domains.other]\nmodules = ["nvidia", "nvidia_modeset", "nvidia_drm", "nvidia_uvm"]'
    )
    Path(host.machine.state, "domains").mkdir(parents=True)
    assert host.libvirt.start(guest(GPU, SOUND, managed=managed)).error == ""
    Path(host.machine.state, "domains", f"{THIRD.uuid}.json").write_text("broken")
    said = host.event(OTHER, "prepare").line
    assert said == f"the module nvidia will drive {GPU} of the guest win11 again: {STOP_GUEST}"
    host.libvirt.stop("win11", "shutdown")
    assert host.driver(GPU) == "nvidia"
