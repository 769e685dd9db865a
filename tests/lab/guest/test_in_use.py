# SPDX-License-Identifier: LGPL-2.1-or-later
"""Devices the host stands on: refused with what uses them and what to do, untouched; taken only where that is asked."""

import os
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest
import uses
from calls import call
from conftest import Configure, MakeGuest
from guests import pci
from host import (
    GPU,
    NIC,
    NIC2,
    NVME,
    NVME2,
    PCI,
    USB_PEN,
    USB_STICK,
    USB_TABLET,
    XHCI,
    SysfsWrites,
    driver_of,
    override_of,
    usb_address,
    wait_for,
)
from trail import expect_failed

REMEDIES = {
    "storage": ("unmount it first", "free it first", "the host itself needs"),
    "network": ("reach the host another way first",),
    "display": ("stop what has it open first",),
    "usb": ("unmount it first", "free it first"),
}


class Case(NamedTuple):
    """A device, how the host uses it, and the key of the configuration that is about it."""

    use: uses.Use
    address: str
    key: str


MOUNTED = Case(uses.mounted_nvme, NVME, "storage")
BRIDGE = Case(uses.bridge, NIC2, "network")
CARD = Case(uses.open_card, GPU, "display")
STICK = Case(uses.mounted_stick, XHCI, "usb")
CASES = (
    MOUNTED,
    Case(uses.swap, NVME2, "storage"),
    Case(uses.logical_volume, NVME2, "storage"),
    Case(uses.array, NVME2, "storage"),
    Case(uses.default_route, NIC, "network"),
    BRIDGE,
    CARD,
    STICK,
)


class Binding(NamedTuple):
    """How a device is bound, and since when: each bind makes a new link, and new interfaces."""

    driver: str | None
    override: str | None
    link: int
    interfaces: dict[str, str]


def binding_of(address: str) -> Binding:
    """As it is now."""
    device = PCI / "devices" / address
    for attempt in range(5):  # udev may just be giving an interface its name
        try:
            interfaces = {path.name: (path / "ifindex").read_text().strip() for path in device.glob("net/*")}
            break
        except FileNotFoundError:
            if attempt == 4:
                raise
    return Binding(driver_of(address), override_of(address), os.lstat(device / "driver").st_ino, interfaces)


def said_in_log(uuid: str, what: str) -> bool:
    """Whether a line of libhook's in the journal is about the guest and says this."""
    command = ["journalctl", "--no-pager", "-o", "cat", "-t", "libhook"]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=600)
    return any(uuid in line and what in line for line in shown.stdout.splitlines())


def usb_is_back() -> bool:
    """Whether all that hangs off the USB controller has been found again."""
    try:
        return all(usb_address(ids) for ids in (USB_STICK, USB_PEN, USB_TABLET))
    except LookupError:
        return False


@pytest.mark.parametrize("case", CASES, ids=[case.use.__name__ for case in CASES])
def test_device_in_use_is_refused(guest: MakeGuest, configure: Configure, tmp_path: Path, case: Case) -> None:
    """What virsh shows names the device, what uses it and the remedy; the device has never left its driver."""
    configure("holder_wait = 1\n")
    one = guest(pci(case.address))
    with case.use(tmp_path) as what:
        before = binding_of(case.address)
        with SysfsWrites() as writes:
            said = one.start_refused()
            assert writes.seen() == []
        assert any(f"{case.address} is in use by the host: {what}: {one}" in said for one in REMEDIES[case.key])
        assert binding_of(case.address) == before
    expect_failed(one)


@pytest.mark.parametrize(
    ("case", "strictness"),
    [(MOUNTED, "warn"), (BRIDGE, "off"), (CARD, "warn"), (STICK, "off")],
    ids=["storage", "network", "display", "usb"],
)
def test_consent_is_one_guests(
    guest: MakeGuest, configure: Configure, tmp_path: Path, case: Case, strictness: str
) -> None:
    """The guest that the configuration names is given the device, with a warning in the log or without; no other is."""
    one, other = guest(pci(case.address)), guest(pci(case.address))
    configure(f'holder_wait = 1\n[domains."{one.name}".preflight]\n{case.key} = "{strictness}"\n')
    with case.use(tmp_path) as what:
        before = binding_of(case.address)
        assert what in call(other, "prepare").said
        assert call(other, "release", "failed").code == 0
        assert binding_of(case.address) == before
        answer = call(one, "prepare")
        assert (answer.code, answer.said) == (0, "")
        assert driver_of(case.address) == "vfio-pci"
        assert call(one, "release", "failed").code == 0
        after = binding_of(case.address)
        assert (after.driver, after.override) == (before.driver, before.override)
        assert after.link != before.link
    wait_for("the line of what was done", lambda: said_in_log(one.uuid, f"device={case.address}"))
    assert said_in_log(one.uuid, f"{case.address} is in use by the host: {what}") == (strictness == "warn")
    wait_for("the USB devices", usb_is_back)


@pytest.mark.rest
def test_consent_for_all(guest: MakeGuest, configure: Configure, tmp_path: Path) -> None:
    """At the top level of the configuration it holds for every guest."""
    configure('[preflight]\nnetwork = "warn"\n')
    one = guest(pci(NIC))
    with uses.default_route(tmp_path) as what:
        assert call(one, "prepare").code == 0
        assert driver_of(NIC) == "vfio-pci"
        assert call(one, "release", "failed").code == 0
    wait_for("the warning", lambda: said_in_log(one.uuid, f"{NIC} is in use by the host: {what}"))


@pytest.mark.rest
def test_interface_that_is_only_up(guest: MakeGuest, tmp_path: Path) -> None:
    """It is taken without a word: the host does not stand on it."""
    one = guest(pci(NIC))
    with uses.link_up(tmp_path):
        answer = call(one, "prepare")
        assert (answer.code, answer.said, driver_of(NIC)) == (0, "", "vfio-pci")
        assert call(one, "release", "failed").code == 0
    wait_for("the line of what was done", lambda: said_in_log(one.uuid, f"device={NIC}"))
    assert not said_in_log(one.uuid, "in use by the host")
