# SPDX-License-Identifier: LGPL-2.1-or-later
"""What ``modules`` in the settings does on a real kernel: modules and consoles around the lives of guests."""

import subprocess
from pathlib import Path

import pytest
from conftest import Configure, MakeGuest
from guests import libhook, pci, usb
from host import BEHIND_BRIDGE, GPU, NIC, SOUND, STATE, USB_PEN, driver_of, wait_for
from trail import expect_failed, expect_given, expect_returned

CARD, CONSOLES = Path("/dev/dri/card0"), Path("/sys/class/vtconsole")


def _loaded(name: str) -> bool:
    return Path("/sys/module", name, "initstate").exists()


def _consoles() -> dict[str, str]:
    return {(path / "name").read_text().strip(): (path / "bind").read_text().strip() for path in CONSOLES.iterdir()}


def _fbcon() -> str | None:
    return next((bound for name, bound in _consoles().items() if name.startswith("(M)")), None)


@pytest.mark.parametrize("managed", [False, True])
def test_a_card_and_the_consoles_on_it(guest: MakeGuest, configure: Configure, managed: bool) -> None:
    """The consoles are unbound, the driver's module removed; all comes back, and the trail says so."""
    configure('modules = ["device:display"]\n')
    print(_consoles(), "references:", Path("/sys/module/bochs/refcnt").read_text().strip())
    assert (_fbcon(), driver_of(GPU)) == ("1", "bochs-drm")
    one = guest(pci(GPU, managed=managed))
    file = Path("/run/lab-guest.xml")
    file.write_text(one.xml)
    plan = libhook("plan", str(file))
    assert "unbind the virtual consoles" in plan
    assert f"take the module bochs out (drives {GPU}" in plan
    one.start()
    expect_given(one)
    assert (_loaded("bochs"), driver_of(GPU), CARD.exists()) == (False, "vfio-pci", False)
    assert _fbcon() is None
    one.destroy()
    wait_for("the card", lambda: driver_of(GPU) == "bochs-drm")
    expect_returned(one)
    wait_for("the consoles", lambda: _fbcon() == "1")
    assert (_loaded("bochs"), CARD.exists()) == (True, True)
    assert not (list((STATE / "shared").iterdir()))


def test_what_the_kernel_says_of_consoles_and_references() -> None:
    """This driver's framebuffer takes no reference for fbcon. The system's own console driver ignores the write."""
    references, paths = Path("/sys/module/bochs/refcnt"), {path.name: path / "bind" for path in CONSOLES.iterdir()}
    before, bound = _consoles(), references.read_text()
    for path in paths.values():
        path.write_text("0")
    try:
        assert (_fbcon(), [one for name, one in _consoles().items() if name.startswith("(S)")]) == ("0", ["1"])
        assert (bound, references.read_text()) == ("0\n", "0\n")
    finally:
        paths["vtcon1"].write_text("1")
    assert _consoles() == before


@pytest.mark.rest
def test_what_is_in_use_is_refused_and_all_comes_back(guest: MakeGuest, configure: Configure) -> None:
    """Who has the card open is not heeded, as the settings say; rmmod fails by that, with the consoles unbound."""
    configure('holder_wait = 1\nmodules = ["bochs"]\npreflight.display = "off"\n')
    one = guest(usb(USB_PEN), pci(GPU))
    with CARD.open("rb"):
        assert "the module bochs is in use: stop what uses it" in one.start_refused()
    wait_for("the consoles", lambda: _fbcon() == "1")
    expect_failed(one, pci(GPU))
    assert (_loaded("bochs"), driver_of(GPU)) == (True, "bochs-drm")


@pytest.mark.rest
def test_a_module_of_two_devices_of_one_guest(guest: MakeGuest, configure: Configure) -> None:
    """Both are behind one bridge, in one group; both come back with it."""
    configure('modules = ["device"]\n')
    one = guest(*map(pci, BEHIND_BRIDGE)).start()
    assert (_loaded("e1000"), [driver_of(address) for address in BEHIND_BRIDGE]) == (False, ["vfio-pci"] * 2)
    one.destroy()
    wait_for("the cards", lambda: [driver_of(address) for address in BEHIND_BRIDGE] == ["e1000"] * 2)
    expect_returned(one)
    assert _loaded("e1000")


@pytest.mark.rest
def test_two_guests_share_a_module(guest: MakeGuest, configure: Configure) -> None:
    """The one with the card ends first, by a crash; its card is home without a driver until the other ends."""
    configure('modules = ["bochs"]\n')
    first = guest(pci(GPU)).start()
    second = guest(usb(USB_PEN)).start()
    first.kill_qemu()
    first.wait_until_gone()
    wait_for("the card", lambda: driver_of(GPU) is None)
    expect_returned(first)
    assert (_loaded("bochs"), driver_of(GPU)) == (False, None)
    second.destroy()
    wait_for("the card's driver", lambda: driver_of(GPU) == "bochs-drm")
    wait_for("the consoles", lambda: _fbcon() == "1")


@pytest.mark.rest
def test_the_module_of_other_devices_is_refused(guest: MakeGuest, configure: Configure) -> None:
    """There are more cards of that driver: nothing is done."""
    configure('modules = ["device"]\n')
    assert "the module e1000e also drives 0000:03:00.0" in guest(pci(NIC)).start_refused()
    assert (_loaded("e1000e"), driver_of(NIC)) == (True, "e1000e")


@pytest.mark.rest
def test_what_holds_a_module_is_named_or_goes_with_it(guest: MakeGuest, configure: Configure) -> None:
    """A sound card, whose driver's module needs others, which stay."""
    configure('modules = ["snd_hda_codec"]\n')
    said = guest(pci(SOUND)).start_refused()
    assert "the module snd_hda_codec is in use by " in said
    assert "snd_hda_intel" in said
    configure('modules = ["device:audio"]\n')
    one = guest(pci(SOUND)).start()
    assert (_loaded("snd_hda_intel"), _loaded("snd_hda_codec")) == (False, True)
    one.destroy()
    wait_for("the card", lambda: driver_of(SOUND) == "snd_hda_intel")
    wait_for("its codec", lambda: Path("/dev/snd/controlC0").exists())
    subprocess.run(["udevadm", "settle", "--timeout=600"], check=False)
