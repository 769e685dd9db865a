# SPDX-License-Identifier: LGPL-2.1-or-later
"""Starts that fail, refused by libhook or after it has done its part: recorded so, and nothing is left."""

from pathlib import Path

import pytest
from conftest import MakeGuest
from guests import file_disk, pci
from host import BEHIND_BRIDGE, NIC, NIC2, TWO_FUNCTIONS, SysfsWrites, driver_of
from trail import expect_failed, expect_given, expect_returned, records

BAD_OPTION = "<qemu:commandline><qemu:arg value='-no-such-option'/></qemu:commandline>"


@pytest.mark.parametrize("pair", [BEHIND_BRIDGE, TWO_FUNCTIONS])
@pytest.mark.parametrize("managed", [False, True])
def test_sibling_on_its_host_driver(guest: MakeGuest, pair: tuple[str, str], managed: bool) -> None:
    """A device with a sibling in use by the host is refused, that one named, before anything is written."""
    one = guest(pci(pair[0], managed))
    with SysfsWrites() as writes:
        said = one.start_refused()
        assert writes.seen() == []
    assert [address for address in pair if address not in said] == []
    assert "Traceback" not in said
    expect_failed(one)


@pytest.mark.parametrize("managed", [False, True])
def test_second_guest_wants_a_held_device(guest: MakeGuest, managed: bool) -> None:
    """A guest that wants another one's device is refused, the owner named, and the owner does not notice."""
    first = guest(pci(NIC)).start()
    pid = first.pid()
    second = guest(pci(NIC2), pci(NIC, managed))
    with SysfsWrites() as writes:
        said = second.start_refused()
        assert writes.seen() == []
    assert NIC in said
    assert first.name in said or first.uuid in said
    expect_failed(second, pci(NIC))
    assert (first.running(), first.pid()) == (True, pid)
    assert (driver_of(NIC), driver_of(NIC2)) == ("vfio-pci", "e1000e")
    first.destroy()
    expect_given(first)
    expect_returned(first)


@pytest.mark.parametrize("managed", [False, True])
@pytest.mark.parametrize(
    ("more_devices", "more"),
    [(file_disk(Path("/no/such/disk")), ""), ("", BAD_OPTION)],
    ids=["libvirtd-refuses", "qemu-refuses"],
)
def test_start_fails_after_prepare(guest: MakeGuest, managed: bool, more_devices: str, more: str) -> None:
    """A start that fails after libhook's part gives the device back, and our record says failed."""
    one = guest(pci(NIC, managed), more_devices=more_devices, more=more)
    said = one.start_refused()
    assert "Hook script execution failed" not in said
    expect_failed(one)
    assert records(one, "stop") == []
    assert driver_of(NIC) == "e1000e"


def test_absent_device(guest: MakeGuest) -> None:
    """A device that is not in the machine is refused by name."""
    one = guest(pci("0000:7f:1f.7"))
    said = one.start_refused()
    assert "0000:7f:1f.7" in said
    expect_failed(one)
