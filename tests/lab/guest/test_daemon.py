# SPDX-License-Identifier: LGPL-2.1-or-later
"""Around a running guest: libvirtd dies and comes back, the guest is saved, its name is hostile."""

import subprocess
from pathlib import Path

import pytest
from conftest import MakeGuest
from guests import IMAGES, kill_libvirtd, pci, start_libvirtd, usb, virsh
from host import NIC, STATE, USB_PEN, driver_of, wait_for
from trail import expect_given, expect_returned, records

HOSTILE = "a b;$(touch x)\"'"


def test_libvirtd_killed_under_a_guest(guest: MakeGuest) -> None:
    """The guest outlives libvirtd's death, its state is kept, the device comes back at the guest's end."""
    one = guest(pci(NIC)).start()
    pid = one.pid()
    kill_libvirtd()
    assert (STATE / "domains" / f"{one.uuid}.json").exists()
    start_libvirtd()
    assert (one.running(), one.pid()) == (True, pid)
    assert (STATE / "domains" / f"{one.uuid}.json").exists()
    assert driver_of(NIC) == "vfio-pci"
    one.destroy()
    assert driver_of(NIC) == "e1000e"
    expect_given(one)
    expect_returned(one)


@pytest.mark.rest
def test_guest_dies_while_libvirtd_is_away(guest: MakeGuest) -> None:
    """A guest that ended while there was no libvirtd has its device given back when there is one again."""
    one = guest(pci(NIC)).start()
    expect_given(one)
    kill_libvirtd()
    one.kill_qemu()
    start_libvirtd()
    one.wait_until_gone()
    assert driver_of(NIC) == "e1000e"
    expect_returned(one)


def test_save_and_restore(guest: MakeGuest) -> None:
    """A guest with a USB device is saved and restored; each life is recorded."""
    saved = IMAGES / "saved"
    IMAGES.mkdir(parents=True, exist_ok=True)
    one = guest(usb(USB_PEN)).start()
    expect_given(one)
    try:
        virsh("save", one.uuid, str(saved))
        expect_returned(one)
        virsh("restore", str(saved))
        assert one.running()
        one.wait_for_hook()
    finally:
        saved.unlink(missing_ok=True)
    assert [record.result for record in records(one, "start", ours=True)] == ["success", "success"]
    one.destroy()


@pytest.mark.rest
@pytest.mark.parametrize("name", [HOSTILE, "--help", "hostdev", "naïve ☃"])
def test_hostile_name(guest: MakeGuest, name: str) -> None:
    """A guest's name is never taken for an option, a command or a field: its records equal libvirtd's."""
    before = set(Path("/").iterdir())
    one = guest(pci(NIC), name=name).start()
    assert driver_of(NIC) == "vfio-pci"
    expect_given(one)
    one.destroy()
    expect_returned(one)
    assert set(Path("/").iterdir()) == before


@pytest.mark.rest
def test_guest_without_host_devices(guest: MakeGuest) -> None:
    """A guest without host devices starts and ends without a record or any state."""
    one = guest().start()
    assert not (STATE / "domains" / f"{one.uuid}.json").exists()
    one.destroy()
    assert records(one, ours=True) == []


@pytest.mark.rest
def test_log_tells_the_story(guest: MakeGuest) -> None:
    """The log names the guest and the device at the start and at the end."""
    one = guest(pci(NIC)).start()
    one.destroy()
    wait_for("libhook's lines in the journal", lambda: {"prepare", "release"} <= operations_logged(one.uuid))


def operations_logged(uuid: str) -> set[str]:
    """The operations whose lines in the journal name the guest and its card."""
    command = ["journalctl", "--no-pager", "-o", "cat", "-t", "libhook"]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=600)
    about_it = [line for line in shown.stdout.splitlines() if uuid in line and NIC in line]
    return {word for word in ("prepare", "started", "release") for line in about_it if f"operation={word}" in line}
