# SPDX-License-Identifier: LGPL-2.1-or-later
"""A host with a real systemd-logind does not sleep while a guest runs."""

import re
import subprocess
from contextlib import suppress

import pytest
from conftest import Configure, MakeGuest
from guests import Refused, libhook, pci, usb
from host import NIC, USB_PEN, driver_of, wait_for
from service import systemctl

UNIT = "libhook-awake.service"
INHIBIT = 'sleep = "inhibit"\n'


def _locks() -> list[list[str]]:
    """libhook's, as logind lists them: what they are for, and how."""
    command = ["systemd-inhibit", "--list", "--no-legend", "--no-pager"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=True)
    lines = (line.split() for line in done.stdout.splitlines())
    return [[line[5], line[-1]] for line in lines if line[0] == "libhook"]


def _can_suspend() -> str:
    """What logind would answer to root."""
    command = [
        *("busctl", "call", "org.freedesktop.login1", "/org/freedesktop/login1"),
        *("org.freedesktop.login1.Manager", "CanSuspend"),
    ]
    return subprocess.run(command, capture_output=True, text=True, timeout=600, check=True).stdout.strip()


def _state() -> str:
    return systemctl("show", "--value", "--property", "ActiveState", UNIT)


@pytest.mark.rest
@pytest.mark.usefixtures("logind")
def test_the_host_does_not_sleep_while_a_guest_runs(guest: MakeGuest, configure: Configure) -> None:
    """Not even at root's word, from systemd 257 on; the last of two guests lets it, however they end."""
    configure(INHIBIT)
    assert (_state(), _locks(), _can_suspend()) == ("inactive", [], 's "yes"')
    first, second = guest(pci(NIC)).start(), guest(usb(USB_PEN)).start()
    assert (_state(), _locks()) == ("active", [["sleep:handle-lid-switch", "block"]])
    if int(systemctl("--version").split()[1]) >= 257:  # before, root's word is not held back (docs/limits.md)
        done = subprocess.run(["systemctl", "suspend"], capture_output=True, text=True, timeout=600, check=False)
        assert done.returncode != 0
        assert re.search("Access denied|inhibit", done.stderr), done.stderr
    systemctl("restart", "systemd-logind")
    assert _locks() == [["sleep:handle-lid-switch", "block"]], "logind keeps its locks"
    first.kill_qemu()
    first.wait_until_gone()
    assert _state() == "active"
    systemctl("restart", "libvirtd")
    wait_for("libvirtd to know the guest again", second.running)
    with suppress(Refused):  # libvirtd may be connecting to the QEMU that it ends, and see only that it is gone
        second.destroy()
    second.wait_until_gone()
    wait_for("the unit to stop", lambda: _state() == "inactive")
    assert _locks() == []


@pytest.mark.rest
@pytest.mark.usefixtures("logind")
def test_the_unit_has_little_power(guest: MakeGuest, configure: Configure) -> None:
    """It needs none; and who isolates a target does not mean it."""
    configure(INHIBIT)
    one = guest(pci(NIC)).start()
    subprocess.run(["systemd-analyze", "security", "--no-pager", "--threshold=30", UNIT], check=True, timeout=600)
    assert systemctl("show", "--value", "--property", "IgnoreOnIsolate", UNIT) == "yes"
    one.destroy()


@pytest.mark.rest
@pytest.mark.usefixtures("logind")
def test_without_a_bus_the_start_is_refused(guest: MakeGuest, configure: Configure) -> None:
    """Nobody could be asked for the lock."""
    configure(INHIBIT)
    bus = ("dbus.socket", "dbus.service")
    systemctl("mask", "--runtime", "--now", *bus)  # on Debian 12 another unit would start them again
    try:
        said = guest(pci(NIC)).start_refused()
        assert f"the host cannot be kept from sleeping, because {UNIT} does not start" in said
    finally:
        systemctl("unmask", "--runtime", *bus)
        systemctl("start", "dbus.socket")
        systemctl("restart", "libvirtd")  # on Debian 12 it was begun anew meanwhile, and has no systemd-machined
    assert (driver_of(NIC), libhook("status")) == ("e1000e", "nothing is held\n")


def test_without_logind_the_start_is_refused(guest: MakeGuest, configure: Configure) -> None:
    """Before anything is done."""
    configure(INHIBIT)
    systemctl("mask", "--runtime", "systemd-logind")
    try:
        said = guest(pci(NIC)).start_refused()
    finally:
        systemctl("unmask", "--runtime", "systemd-logind")
    assert "because systemd-logind.service is masked: systemctl unmask systemd-logind.service" in said
    assert (driver_of(NIC), _state() == "active") == ("e1000e", False)
