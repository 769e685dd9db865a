# SPDX-License-Identifier: LGPL-2.1-or-later
"""Cards that the settings name and the XML does not, taken and given back on a real kernel."""

import pytest
from conftest import Configure, MakeGuest
from guests import Device, libhook, pci
from host import NIC, NIC2, NIC3, driver_of, wait_for
from test_broken_install import PYTHON, away
from trail import expect_given, expect_returned

BY_ITSELF = (
    "<memoryBacking><locked/></memoryBacking><qemu:commandline><qemu:arg value='-device'/>"
    f"<qemu:arg value='vfio-pci,host={NIC2},bus=pcie.0,addr=0x10'/></qemu:commandline>"
)
"""A device that QEMU is given past libvirt. Its memory must be locked, for which libvirt raises no limit by itself."""


@pytest.mark.parametrize("devices", [(), (pci(NIC),)])
@pytest.mark.parametrize("killed", [False, True])
def test_a_card_that_qemu_takes_by_itself(
    guest: MakeGuest, configure: Configure, devices: tuple[Device, ...], killed: bool
) -> None:
    """Exclusive with other guests while it runs; given back when it ends, and when its QEMU is killed."""
    one = guest(*devices, more=BY_ITSELF)
    configure(f'[domains."{one.uuid}"]\ntake_along = ["{NIC2}"]\n')
    one.start()
    assert driver_of(NIC2) == "vfio-pci"
    (line,) = (line for line in libhook("status").splitlines() if line.startswith(f"  pci {NIC2} "))
    assert line.endswith("  e1000e -> vfio-pci  [taken along]")
    expect_given(one)
    assert f"{NIC2} is held by the guest {one.name}" in guest(pci(NIC2)).start_refused()
    libhook("recover")
    assert driver_of(NIC2) == "vfio-pci"
    if killed:
        one.kill_qemu()
    else:
        one.destroy()
    one.wait_until_gone()
    wait_for("the card", lambda: driver_of(NIC2) == "e1000e")
    expect_returned(one)


@pytest.mark.rest
def test_a_card_that_nobody_uses(guest: MakeGuest, configure: Configure) -> None:
    """It is kept from the host all the same. What is not there refuses the start."""
    one = guest(pci(NIC))
    configure(f'[domains."{one.name}"]\ntake_along = ["{NIC2}", "{NIC3}"]\n')
    one.start()
    assert [driver_of(card) for card in (NIC, NIC2, NIC3)] == ["vfio-pci"] * 3
    one.destroy()
    wait_for("the cards", lambda: [driver_of(card) for card in (NIC, NIC2, NIC3)] == ["e1000e"] * 3)
    configure(f'[domains."{one.name}"]\ntake_along = ["0000:77:00.0"]\n')
    assert "0000:77:00.0 is not on this host: libhook devices shows" in one.start_refused()


@pytest.mark.rest
def test_without_python_such_a_guest_is_not_started(guest: MakeGuest, configure: Configure) -> None:
    """The launcher knows it by the list that Python has left. Another guest without devices starts."""
    one, other = guest(more=BY_ITSELF.replace(NIC2, NIC3)), guest()
    configure(f'[domains."{one.uuid}"]\ntake_along = ["{NIC3}"]\n')
    one.start()
    one.destroy()
    wait_for("the card", lambda: driver_of(NIC3) == "e1000e")
    with away(PYTHON):
        assert "libhook itself does not run" in one.start_refused()
        other.create()
    other.destroy()
