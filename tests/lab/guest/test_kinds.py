# SPDX-License-Identifier: LGPL-2.1-or-later
"""Every other kind of host device: virtual functions, NVMe, USB, SCSI."""

import pytest
from conftest import MakeGuest
from guests import Device, nvme_disk, pci, scsi, usb, vf_interface
from host import (
    NVME,
    SCSI_CONTROLLER,
    USB_PEN,
    USB_STICK,
    VFS,
    driver_of,
    scsi_target,
    vf_mac,
)
from trail import expect_given, expect_returned, records

MAC = "52:54:00:6c:68:01"


@pytest.mark.rest
@pytest.mark.parametrize("managed", [False, True])
def test_vf_as_hostdev(guest: MakeGuest, managed: bool) -> None:
    """A VF given as a PCI device is bound and given back like any other, and its siblings stay."""
    one = guest(pci(VFS[2], managed)).start()
    assert [driver_of(vf) for vf in VFS] == ["igbvf", "igbvf", "vfio-pci", "igbvf"]
    expect_given(one)
    one.destroy()
    assert driver_of(VFS[2]) == "igbvf"
    expect_returned(one)


@pytest.mark.parametrize("managed", [False, True])
def test_vf_as_interface(guest: MakeGuest, managed: bool) -> None:
    """A VF given as an interface has the guest's MAC address while it runs, and its own again afterwards."""
    own_mac = vf_mac(VFS[1])
    one = guest(vf_interface(VFS[1], MAC, managed)).start()
    assert (driver_of(VFS[1]), vf_mac(VFS[1])) == ("vfio-pci", MAC)
    expect_given(one)
    one.destroy()
    assert (driver_of(VFS[1]), vf_mac(VFS[1])) == ("igbvf", own_mac)
    expect_returned(one)


@pytest.mark.rest
@pytest.mark.usefixtures("pool")
@pytest.mark.parametrize("used_before", [False, True])
def test_vf_from_a_pool(guest: MakeGuest, used_before: bool) -> None:
    """A VF out of a network's pool, unknown at prepare, is recorded and comes back, also after unmanaged use."""
    if used_before:
        guest(pci(VFS[0])).start().destroy()
    one = guest(Device("<interface type='network'><source network='pool'/></interface>", "pci", VFS[0])).start()
    assert [driver_of(vf) for vf in VFS] == ["vfio-pci", "igbvf", "igbvf", "igbvf"]
    expect_given(one)
    one.destroy()
    assert driver_of(VFS[0]) == "igbvf"
    expect_returned(one)


@pytest.mark.rest
@pytest.mark.parametrize("managed", [False, True])
def test_nvme_disk(guest: MakeGuest, managed: bool) -> None:
    """An NVMe disk is bound and given back, and recorded by us alone: libvirtd has no such record."""
    one = guest(nvme_disk(NVME, managed)).start()
    assert driver_of(NVME) == "vfio-pci"
    expect_given(one)
    one.destroy()
    assert driver_of(NVME) == "nvme"
    expect_returned(one)


@pytest.mark.rest
@pytest.mark.parametrize("by_address", [False, True])
def test_usb(guest: MakeGuest, by_address: bool) -> None:
    """A USB device is recorded with the address it has, also when the XML names it by vendor and product."""
    one = guest(usb(USB_PEN, by_address), usb(USB_STICK, by_address)).start()
    expect_given(one)
    one.destroy()
    expect_returned(one)


def test_scsi_disk(guest: MakeGuest) -> None:
    """A SCSI disk is recorded by its adapter and address."""
    one = guest(scsi(scsi_target(SCSI_CONTROLLER, 0))).start()
    expect_given(one)
    one.destroy()
    expect_returned(one)


@pytest.mark.rest
def test_iscsi_disk(guest: MakeGuest, iscsi_disk: Device) -> None:
    """A unit of an iSCSI target is recorded by its name, and by us alone: libvirtd has no such record."""
    one = guest(iscsi_disk).start()
    expect_given(one)
    one.destroy()
    expect_returned(one)
    assert records(one, ours=False) == []
