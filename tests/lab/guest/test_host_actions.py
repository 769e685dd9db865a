# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a guest's settings ask for on a host with a real systemd: units that are down while it runs."""

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from calls import CONFIG
from conftest import Configure, MakeGuest
from guests import Refused, libhook, pci, usb
from host import NIC, USB_PEN, driver_of, wait_for
from service import systemctl

UNITS = Path("/run/systemd/system")
SOCKET = "/run/lab-woken.sock"
TEXTS = {
    "lab-plain.service": "ExecStart=/bin/sleep infinity",
    "lab-slow.service": "ExecStart=/bin/sh -c 'trap \"sleep 4; exit 0\" TERM; while :; do sleep 0.2; done'",
    "lab-leaves.service": "KillMode=process\nExecStart=/bin/sh -c 'setsid /bin/sleep 900 & exec /bin/sleep 901'",
    "lab-broken.service": "ExecStart=/bin/sleep infinity\nExecStartPre=/usr/bin/test ! -e /run/lab-broken",
    "lab-woken.service": "ExecStart=/bin/sleep infinity",
}


@pytest.fixture(autouse=True)
def units() -> Iterator[None]:
    """Units of all these sorts, which run."""
    for name, text in TEXTS.items():
        (UNITS / name).write_text(f"[Unit]\nDescription=lab\n[Service]\n{text}\n")
    (UNITS / "lab-woken.socket").write_text(f"[Socket]\nListenStream={SOCKET}\n")
    (UNITS / "lab-alias.service").symlink_to("lab-plain.service")
    systemctl("start", "lab-woken.socket", *TEXTS)
    yield
    Path("/run/lab-broken").unlink(missing_ok=True)
    systemctl("stop", "lab-woken.socket", *TEXTS)
    subprocess.run(["pkill", "-f", "/bin/sleep 900"], check=False)
    for name in (*TEXTS, "lab-woken.socket", "lab-alias.service"):
        (UNITS / name).unlink()
    subprocess.run(["systemctl", "reset-failed"], check=False)


def _active(*names: str) -> list[str]:
    """Those of them that are active."""
    return [name for name in names if _state(name) == "active"]


def _state(name: str) -> str:
    return systemctl("show", "--value", "--property", "ActiveState", name)


@pytest.mark.rest
def test_units_are_down_while_the_guest_runs(guest: MakeGuest, configure: Configure) -> None:
    """By an alias, by name, and with the socket that would start it again."""
    configure('[units]\n"lab-alias.service" = "down"\n"lab-slow.service" = "down"\n"lab-woken.service" = "down"\n')
    one = guest(pci(NIC))
    plan = libhook("plan", _file(one.xml))
    assert "stop lab-plain.service (lab-alias.service), and wait for 100 s at most" in plan
    all_of_them = ("lab-plain.service", "lab-slow.service", "lab-woken.service", "lab-woken.socket")
    begun = time.monotonic()
    one.start()
    assert time.monotonic() - begun >= 4, "the slow one was waited for"
    assert (_active(*all_of_them), driver_of(NIC)) == ([], "vfio-pci")
    with socket.socket(socket.AF_UNIX) as client, pytest.raises((ConnectionRefusedError, FileNotFoundError)):
        client.connect(SOCKET)
    one.destroy()
    wait_for("the units", lambda: _active(*all_of_them) == list(all_of_them))
    assert driver_of(NIC) == "e1000e"


@pytest.mark.rest
def test_a_unit_of_the_guests_own(guest: MakeGuest, configure: Configure) -> None:
    """systemd has the guest's name back from the instance, whatever is in it."""
    name, template, said = "a-b @% x", UNITS / "lab-of@.service", Path("/run/lab-of")
    template.write_text(f'[Service]\nExecStart=/bin/sh -c \'printf %%s "$1" >{said}; exec sleep infinity\' sh "%I"\n')
    configure('[units]\n"lab-of@{name}.service" = "up"\n')
    one = guest(pci(NIC), name=name).start()
    wait_for("the unit", lambda: said.exists() and said.read_text() == name)
    unit = r"lab-of@a\x2db\x20\x40\x25\x20x.service"
    assert _state(unit) == "active"
    one.destroy()
    wait_for("its end", lambda: _state(unit) == "inactive")
    template.unlink()
    said.unlink()


@pytest.mark.rest
def test_two_guests_share_a_unit(guest: MakeGuest, configure: Configure) -> None:
    """One is killed, libvirtd restarted in between: it comes back with the last."""
    configure('[units]\n"lab-plain.service" = "down"\n')
    first, second = guest(pci(NIC)).start(), guest(usb(USB_PEN)).start()
    first.kill_qemu()
    first.wait_until_gone()
    assert _state("lab-plain.service") == "inactive"
    systemctl("restart", "libvirtd")
    wait_for("libvirtd to know the guest again", second.running)
    with suppress(Refused):  # libvirtd may be connecting to the QEMU that it ends, and see only that it is gone
        second.destroy()
    second.wait_until_gone()
    wait_for("the unit", lambda: _state("lab-plain.service") == "active")


@pytest.mark.rest
def test_two_guests_share_what_a_oneshot_has_done(guest: MakeGuest, configure: Configure) -> None:
    """A service of the administrator's own has it done with the first, and undone with the last."""
    mark, unit = Path("/run/lab-shared-by-two"), UNITS / "lab-oneshot.service"
    commands = f"ExecStart=/bin/mkdir {mark}\nExecStop=/bin/rmdir {mark}"
    unit.write_text(f"[Service]\nType=oneshot\nRemainAfterExit=yes\n{commands}\n")
    configure(f'[units]\n"{unit.name}" = "up"\n')
    first, second = guest(pci(NIC)).start(), guest(usb(USB_PEN)).start()
    assert (mark.exists(), _state(unit.name)) == (True, "active")
    first.destroy()
    first.wait_until_gone()
    assert mark.exists()
    second.destroy()
    wait_for("its end", lambda: (mark.exists(), _state(unit.name)) == (False, "inactive"))
    unit.unlink()


def test_a_stop_that_leaves_processes_refuses_the_start(guest: MakeGuest, configure: Configure) -> None:
    """systemd says that the unit is inactive. What was stopped before comes back, and the device was not touched."""
    configure('[units]\n"lab-plain.service" = "down"\n"lab-leaves.service" = "down"\n')
    said = guest(pci(NIC)).start_refused()
    assert "lab-leaves.service is stopped, and processes of it are left" in said
    wait_for("the units", lambda: _active("lab-plain.service", "lab-leaves.service") != [])
    assert driver_of(NIC) == "e1000e"


@pytest.mark.rest
def test_a_unit_that_does_not_start_again_keeps_nothing(guest: MakeGuest, configure: Configure) -> None:
    """The device comes home, and the entry goes."""
    configure('[units]\n"lab-broken.service" = "down"\n')
    one = guest(pci(NIC)).start()
    Path("/run/lab-broken").touch()
    one.destroy()
    wait_for("the device", lambda: driver_of(NIC) == "e1000e")
    assert libhook("status") == "nothing is held\n"


@pytest.mark.rest
@pytest.mark.parametrize(
    ("unit", "said"),
    [
        ("libvirtd.service", 'units."libvirtd.service" is wrong: it must be a unit that neither libvirt nor the host'),
        ("no-such.service", "there is no unit no-such.service on this host"),
    ],
)
def test_what_may_not_be_stopped(guest: MakeGuest, configure: Configure, unit: str, said: str) -> None:
    """Nothing is done."""
    configure(f'[units]\n"{unit}" = "down"\n')
    assert said in guest(pci(NIC)).start_refused()
    assert _state("libvirtd.service") == "active"
    assert CONFIG.exists()


def _file(xml: str) -> str:
    path = Path("/run/lab-guest.xml")
    path.write_text(xml)
    return str(path)
