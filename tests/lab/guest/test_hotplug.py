# SPDX-License-Identifier: LGPL-2.1-or-later
"""Devices that come to a guest that runs, and go: through libhook's own commands."""

import re

import pytest
from conftest import MakeGuest
from guests import Device, Guest, Refused, boot_sector, nvme_disk, pci, usb, virsh
from host import BEHIND_BRIDGE, NIC, NIC2, NVME, USB_PEN, driver_of, override_of
from trail import records


def answering(guest: MakeGuest, *devices: Device) -> Guest:
    """A guest whose only program answers every PCI hot-unplug."""
    return guest(*devices, machine="pc", more_devices=boot_sector("eject", "hda", "ide"))


def silent(guest: MakeGuest, *devices: Device) -> Guest:
    """A guest that takes PCI devices and never answers when it is asked for them."""
    return guest(*devices, machine="pc")


def ours(guest: Guest) -> list[tuple[str, str, str]]:
    """Reason, device and result of each record of libhook's for the guest, in order."""
    return [(one.field("reason"), one.field("device").strip('"'), one.result) for one in records(guest, ours=True)]


@pytest.mark.parametrize("managed", [False, True])
def test_a_card_comes_and_goes(guest: MakeGuest, managed: bool) -> None:
    """It is on vfio-pci while the guest has it, back on its driver afterwards, twice; each step is recorded once."""
    one = answering(guest).start()
    card = pci(NIC, managed)
    for _ in range(2):
        assert one.plug("attach", card) == f"{one.name}: has pci {NIC} now\n"
        assert driver_of(NIC) == "vfio-pci"
        assert one.plug("detach", card) == f"{one.name}: gave up pci {NIC}\n"
        assert (driver_of(NIC), override_of(NIC)) == ("e1000e", None)
    assert ours(one) == [("attach", NIC, "success"), ("detach", NIC, "success")] * 2
    theirs = [(record.field("reason"), record.result) for record in records(one, ours=False)]
    assert theirs == [("attach", "success"), ("detach", "success")] * 2
    one.destroy()
    assert len(ours(one)) == 4, "what is gone already ends no second time"


@pytest.mark.rest
def test_a_guest_that_does_not_answer(guest: MakeGuest) -> None:
    """It keeps the card, where virsh says success; that is said and recorded, and the card comes back at its end."""
    one = silent(guest, pci(NIC2)).start()
    one.plug("attach", pci(NIC))
    with pytest.raises(Refused, match=f"did not answer within 3 s; it keeps pci {NIC}"):
        one.plug("detach", pci(NIC), "--timeout", "3")
    assert driver_of(NIC) == "vfio-pci"
    assert ours(one) == [("start", NIC2, "success"), ("attach", NIC, "success"), ("detach", NIC, "failed")]
    one.destroy()
    assert (driver_of(NIC), driver_of(NIC2)) == ("e1000e", "e1000e")
    assert sorted(ours(one)[3:]) == [("stop", NIC, "success"), ("stop", NIC2, "success")]


@pytest.mark.rest
@pytest.mark.parametrize("by_address", [False, True])
def test_usb(guest: MakeGuest, by_address: bool) -> None:
    """A USB device comes and goes at once, and is recorded by its address also where it is named otherwise."""
    one = guest().start()
    pen = usb(USB_PEN, by_address)
    one.plug("attach", pen)
    one.plug("detach", pen)
    assert ours(one) == [("attach", pen.record, "success"), ("detach", pen.record, "success")]


@pytest.mark.rest
def test_refused_before_anything_is_written(guest: MakeGuest) -> None:
    """A card that another guest has, one whose group is shared, one that the guest has already: each says why."""
    other = guest(pci(NIC)).start()
    one = answering(guest, pci(NIC2)).start()
    with pytest.raises(Refused, match=f"{NIC} is held by the guest {other.name}"):
        one.plug("attach", pci(NIC))
    with pytest.raises(Refused, match=f"shares IOMMU group .* with {BEHIND_BRIDGE[1]}"):
        one.plug("attach", pci(BEHIND_BRIDGE[0]))
    with pytest.raises(Refused, match=f"the guest has pci {NIC2} already"):
        one.plug("attach", pci(NIC2))
    assert (driver_of(NIC), driver_of(BEHIND_BRIDGE[0])) == ("vfio-pci", "e1000")
    assert ours(one)[1:] == [("attach", address, "failed") for address in (NIC, BEHIND_BRIDGE[0], NIC2)]
    other.destroy()
    one.destroy()


@pytest.mark.rest
def test_libvirt_refuses(guest: MakeGuest) -> None:
    """QEMU has no place for the card: it is back on its driver, and recorded as failed, with libvirt's reason shown."""
    one = guest(machine="pc")
    one.xml = one.xml.replace("<acpi/>", "")
    one.start()
    with pytest.raises(Refused, match=r"libvirt: .*hotplug"):
        one.plug("attach", pci(NIC))
    assert (driver_of(NIC), override_of(NIC)) == ("e1000e", None)
    assert ours(one) == [("attach", NIC, "failed")]


@pytest.mark.rest
def test_an_nvme_disk(guest: MakeGuest) -> None:
    """An unmanaged NVMe disk is bound like any other device; libvirt has no record for it."""
    one = answering(guest).start()
    disk = nvme_disk(NVME)
    one.plug("attach", disk)
    assert driver_of(NVME) == "vfio-pci"
    one.plug("detach", disk)
    assert driver_of(NVME) == "nvme"
    assert ours(one) == [("attach", NVME, "success"), ("detach", NVME, "success")]


@pytest.mark.rest
def test_dry_run(guest: MakeGuest) -> None:
    """Both ways print what they would do, and do nothing."""
    one = answering(guest, pci(NIC2)).start()
    said = one.plug("attach", pci(NIC), "--dry-run")
    assert f'write "vfio-pci" to /sys/bus/pci/devices/{NIC}/driver_override' in said
    assert f'reason=attach vm="{one.name}"' in said
    assert driver_of(NIC) == "e1000e"
    said = one.plug("detach", pci(NIC2), "--dry-run")
    assert re.search(rf"{NIC2} \(.*\): vfio-pci -> e1000e \(give back\)", said)
    assert driver_of(NIC2) == "vfio-pci"
    assert "hostdev" in virsh("dumpxml", one.uuid)
    one.destroy()
