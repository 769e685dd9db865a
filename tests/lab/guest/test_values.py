# SPDX-License-Identifier: LGPL-2.1-or-later
"""Values of a real kernel: they come back, also where two guests name one file by two paths."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from calls import call
from conftest import Configure, MakeGuest
from guests import pci, usb
from host import NIC, USB_PEN

sys.path.insert(0, "/src")
from libhook.kinds.value import chosen, clearing

CLASS, OWN = Path("/sys/class/net/lab-two/mtu"), Path("/sys/devices/virtual/net/lab-two/mtu")


@pytest.fixture
def interface() -> Iterator[None]:
    """It goes before the host is compared."""
    subprocess.run(["ip", "link", "add", "lab-two", "type", "dummy"], check=True)
    yield
    subprocess.run(["ip", "link", "del", "lab-two"], check=True)


@pytest.mark.rest
@pytest.mark.usefixtures("interface")
@pytest.mark.parametrize("first_to_end", [0, 1])
def test_two_guests_and_two_names_of_an_mtu(guest: MakeGuest, configure: Configure, first_to_end: int) -> None:
    """Whoever ends first leaves the other its MTU, and the last gives back the host's."""
    guests = [guest(pci(NIC)), guest(usb(USB_PEN))]
    configure(
        "".join(
            f'[domains."{one.uuid}".values]\n"{path}" = 1400\n' for one, path in zip(guests, (CLASS, OWN), strict=True)
        )
    )
    before = OWN.read_text()
    for one in guests:
        one.start()
        assert OWN.read_text() == "1400\n"
    for one, mtu in ((guests.pop(first_to_end), "1400\n"), (guests.pop(), before)):
        one.destroy()
        one.wait_until_gone()
        assert OWN.read_text() == mtu


@pytest.mark.parametrize(
    ("path", "before", "value"),
    [
        ("/proc/sys/net/ipv4/ip_local_reserved_ports", "", "1000"),
        ("/proc/sys/net/ipv4/ip_local_reserved_ports", ",".join(str(2 * one + 1) for one in range(700)), "1000"),
        ("/sys/class/net/lo/ifalias", "", "lab"),
        ("/sys/module/firmware_class/parameters/path", "", "/run/lab"),
        ("/sys/kernel/mm/transparent_hugepage/enabled", "madvise", "never"),
    ],
    ids=["empty list", "long list", "attribute", "parameter", "choice"],
)
def test_what_was_there_comes_back(guest: MakeGuest, configure: Configure, path: str, before: str, value: str) -> None:
    """By the hook, from start to end."""
    one = guest(usb(USB_PEN))
    configure(f'[values]\n"{path}" = "{value}"\n')
    host = _now(path)
    _write(path, before)
    assert call(one, "prepare").code == 0
    assert _now(path) == value
    assert call(one, "release", "failed").code == 0
    assert _now(path) == before
    _write(path, host)


@pytest.mark.parametrize("path", ["/proc/sys/vm/dirty_bytes", "/sys/module/firmware_class/parameters/path"])
def test_what_would_not_come_back_is_refused(guest: MakeGuest, configure: Configure, path: str) -> None:
    """While dirty_ratio is in force dirty_bytes shows 0, and takes none. A parameter may show a text of two lines."""
    one, host = guest(usb(USB_PEN)), _now(path)
    if path.startswith("/sys/"):
        Path(path).write_text("two\nlines")
    before = Path(path).read_text()
    configure(f'[values]\n"{path}" = "1048576"\n')
    assert call(one, "prepare").code == 1
    assert Path(path).read_text() == before
    assert call(one, "release", "failed").code == 0
    if path.startswith("/sys/"):
        _write(path, host)


def _now(path: str) -> str:
    return chosen(path, Path(path).read_text().removesuffix("\n"))


def _write(path: str, text: str) -> None:
    Path(path).write_text(text or clearing(path))
