# SPDX-License-Identifier: LGPL-2.1-or-later
"""A network card's way to a guest and back, whoever binds it and however the guest ends."""

from collections.abc import Callable

import pytest
from conftest import MakeGuest
from guests import Guest, boot_sector, pci
from host import NIC, NIC2, NIC3, TWO_FUNCTIONS, driver_of, override_of
from trail import expect_given, expect_returned


@pytest.mark.rest
def test_unmanaged_through_destroy(guest: MakeGuest) -> None:
    """An unmanaged card is on its host driver, on vfio-pci while the guest runs, and back after destroy."""
    one = guest(pci(NIC))
    assert driver_of(NIC) == "e1000e"
    one.start()
    assert driver_of(NIC) == "vfio-pci"
    expect_given(one)
    one.destroy()
    assert (driver_of(NIC), override_of(NIC)) == ("e1000e", None)
    expect_returned(one)


@pytest.mark.rest
def test_unmanaged_through_sigkill(guest: MakeGuest) -> None:
    """An unmanaged card comes back when the guest's QEMU is killed."""
    one = guest(pci(NIC)).start()
    expect_given(one)
    one.kill_qemu()
    one.wait_until_gone()
    assert driver_of(NIC) == "e1000e"
    expect_returned(one)


@pytest.mark.parametrize("way", ["poweroff", "panic", "reset"])
def test_unmanaged_when_the_guest_ends_by_itself(guest: MakeGuest, way: str) -> None:
    """An unmanaged card comes back when the guest powers off, panics, or resets where that means its end."""
    one = guest(pci(NIC), more_devices=boot_sector(way)).start()
    expect_given(one)
    one.wait_until_gone()
    assert driver_of(NIC) == "e1000e"
    expect_returned(one)


@pytest.mark.rest
def test_managed(guest: MakeGuest) -> None:
    """libvirtd binds a managed card; libhook records that it was given and given back."""
    one = guest(pci(NIC, managed=True)).start()
    assert driver_of(NIC) == "vfio-pci"
    expect_given(one)
    one.destroy()
    assert driver_of(NIC) == "e1000e"
    expect_returned(one)


@pytest.mark.rest
def test_unmanaged_then_managed_then_unmanaged(guest: MakeGuest) -> None:
    """One card comes back each time, although libvirtd leaves it on vfio-pci the second time."""
    for managed in (False, True, False):
        one = guest(pci(NIC2, managed)).start()
        assert driver_of(NIC2) == "vfio-pci"
        expect_given(one)
        one.destroy()
        assert (driver_of(NIC2), override_of(NIC2)) == ("e1000e", None), f"after managed={managed}"
        expect_returned(one)


@pytest.mark.rest
def test_several_in_one_guest(guest: MakeGuest) -> None:
    """Managed and unmanaged cards and both functions of one slot go to one guest and come back."""
    addresses = (NIC, NIC2, NIC3, *TWO_FUNCTIONS)
    one = guest(pci(NIC), pci(NIC2, managed=True), pci(NIC3), *map(pci, TWO_FUNCTIONS)).start()
    assert {driver_of(address) for address in addresses} == {"vfio-pci"}
    expect_given(one)
    one.destroy()
    assert {driver_of(address) for address in addresses} == {"e1000e"}
    expect_returned(one)


# Not a managed card without driver: libvirtd probes it at the end, and remembers no driver to go back to.
@pytest.mark.parametrize(
    ("managed", "driver", "override"),
    [
        (False, "vfio-pci", "vfio-pci"),
        (False, "vfio-pci", None),
        (False, None, None),
        (True, "vfio-pci", "vfio-pci"),
        (True, "vfio-pci", None),
    ],
)
def test_left_as_the_administrator_had_it(
    guest: MakeGuest,
    handed_over: Callable[..., None],
    managed: bool,
    driver: str | None,
    override: str | None,
) -> None:
    """A card that was on vfio-pci, or on no driver, before the guest is so again, override included."""
    handed_over(NIC3, driver, override)
    one: Guest = guest(pci(NIC3, managed)).start()
    assert driver_of(NIC3) == "vfio-pci"
    expect_given(one)
    one.destroy()
    assert (driver_of(NIC3), override_of(NIC3)) == (driver, override)
    expect_returned(one)
