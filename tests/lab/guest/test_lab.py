# SPDX-License-Identifier: LGPL-2.1-or-later
"""The lab itself: the machine that the other tests take for granted, and their instruments."""

import os
from pathlib import Path

import host
import pytest
from host import PCI, SysfsWrites, driver_of, hand_over, host_state, override_of


def group_of(address: str) -> list[str]:
    """The devices in an IOMMU group."""
    return sorted(os.listdir(PCI / "devices" / address / "iommu_group" / "devices"))


@pytest.mark.parametrize(
    ("addresses", "driver"),
    [
        ((host.NIC, host.NIC2, host.NIC3, host.NIC4, host.NIC5, *host.TWO_FUNCTIONS), "e1000e"),
        (host.BEHIND_BRIDGE, "e1000"),
        ((host.PF,), "igb"),
        (host.VFS, "igbvf"),
        ((host.NVME, host.NVME2), "nvme"),
        ((host.XHCI,), "xhci_hcd"),
        ((host.SCSI_CONTROLLER,), "virtio-pci"),
        ((host.GPU,), "bochs-drm"),
    ],
)
def test_devices_are_on_their_drivers(addresses: tuple[str, ...], driver: str) -> None:
    """Each device of the table is on its host driver, without an override, when a test begins."""
    assert {address: (driver_of(address), override_of(address)) for address in addresses} == dict.fromkeys(
        addresses, (driver, None)
    )


def test_groups() -> None:
    """Devices behind a root port have an IOMMU group each; those that share a bridge or slot are not."""
    for address in (host.NIC, host.NIC2, host.NIC3, host.NIC4, host.NIC5, host.NVME, host.XHCI, *host.VFS):
        assert group_of(address) == [address]
    assert group_of(host.TWO_FUNCTIONS[0]) == list(host.TWO_FUNCTIONS)
    assert group_of(host.BEHIND_BRIDGE[0]) == ["0000:0c:00.0", *host.BEHIND_BRIDGE]


def test_hook_is_installed() -> None:
    """install.sh has put the hook where libvirtd looks for it."""
    hook = Path("/etc/libvirt/hooks/qemu")
    assert hook.is_file()
    assert os.access(hook, os.X_OK)


def test_instruments_see_a_change() -> None:
    """The watch on /sys and the comparison of host states notice what a rebind does: both can say no."""
    before = host_state()
    with SysfsWrites() as writes:
        assert writes.seen() == []
        hand_over(host.NIC, "vfio-pci", "vfio-pci")
        assert f"{PCI}/devices/{host.NIC}/driver_override" in writes.seen()
    assert before.differences(host_state()) == [
        f"{host.NIC}: driver and override were ('e1000e', None), are ('vfio-pci', 'vfio-pci')"
    ]
    hand_over(host.NIC, "e1000e", None)
    assert before.differences(host_state()) == []
