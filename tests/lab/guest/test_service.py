# SPDX-License-Identifier: LGPL-2.1-or-later
"""The service libhook-watch on a host with systemd: hardened, it still does all that `libhook watch` does."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import MakeGuest
from guests import libhook, pci, usb
from host import NIC, STATE, USB_PEN, USB_STICK, driver_of, wait_for
from service import UNIT, answer, changed, journal, kept_open, shown, systemctl, wait_until_it_watches
from test_hotplug import answering, ours
from test_watch import expect
from trail import in_log

CONFIG = Path("/etc/libhook/config.toml")
INSTALLED = [Path("/usr/local", *parts) for parts in (("lib", "libhook"), ("bin", "libhook"), ("lib", "systemd"))]
GROUP = Path("/sys/bus/pci/devices", NIC, "iommu_group")


@pytest.fixture(autouse=True)
def nothing_denied() -> Iterator[None]:
    """Fail a test in which the sandbox kept the service from something."""
    yield
    for sign in ("not permitted", "Permission denied", "Read-only file system", "itself failed", "Traceback"):
        assert sign not in journal()


@pytest.fixture(scope="module")
def service() -> None:
    """Enable and start it."""
    systemctl("enable", "--now", UNIT)
    wait_until_it_watches()


@pytest.mark.rest
def test_installed_and_not_started(guest: MakeGuest) -> None:
    """install.sh leaves the service to the administrator, and has told libvirtd of the hook."""
    assert (answer("is-enabled"), answer("is-active")) == ("disabled", "inactive")
    one = guest(pci(NIC)).start()
    assert driver_of(NIC) == "vfio-pci"
    one.destroy()


@pytest.mark.rest
@pytest.mark.usefixtures("service")
def test_started() -> None:
    """It says when it is ready and what it does; systemd finds its exposure below 3.0."""
    assert (answer("is-enabled"), answer("is-active")) == ("enabled", "active")
    assert shown("StatusText") == "watching qemu:///system"
    subprocess.run(["systemd-analyze", "security", "--no-pager", "--threshold=30", UNIT], check=True, timeout=600)


@pytest.mark.usefixtures("service")
def test_usb_is_recorded(guest: MakeGuest) -> None:
    """What virsh plugs in and out is in the trail, once each: from a network namespace of the service's own."""
    one, pen = guest().start(), usb(USB_PEN)
    one.plug("attach", pen, by="virsh")
    one.plug("detach", pen, by="virsh")
    expect(one, ("attach", pen.record), ("detach", pen.record))
    wait_for("both in the journal", lambda: journal().count(f"device=usb {pen.record} result=success") == 2)
    one.destroy()


@pytest.mark.rest
@pytest.mark.usefixtures("service")
def test_a_card_is_given_back(guest: MakeGuest) -> None:
    """libhook plugged it in, virsh plugs it out: the service gives it back through /sys, and its journal says so."""
    one = answering(guest).start()
    one.plug("attach", pci(NIC))
    one.plug("detach", pci(NIC), by="virsh")
    wait_for("the card on its driver", lambda: driver_of(NIC) == "e1000e")
    expect(one, ("attach", NIC), ("detach", NIC))
    wait_for("the journal to tell it", lambda: f"{NIC}: vfio-pci -> e1000e (give back)" in journal())
    one.destroy()


@pytest.mark.rest
@pytest.mark.usefixtures("service")
def test_a_card_that_somebody_holds(guest: MakeGuest) -> None:
    """The service sees in /proc what another user's process has open, and leaves the card to it."""
    CONFIG.parent.mkdir(exist_ok=True)
    CONFIG.write_text("holder_wait = 1\n")
    try:
        one = answering(guest).start()
        one.plug("attach", pci(NIC))
        with kept_open(one, f"/dev/vfio/{GROUP.resolve().name}", "libvirt-qemu") as pid:
            one.plug("detach", pci(NIC), by="virsh")
            wait_for("the journal to name who has it", lambda: f"sleep (pid {pid}, /dev/vfio/" in journal())
            assert driver_of(NIC) == "vfio-pci"
        wait_for("the record", lambda: in_log(one, "detach", ours=True))
        assert ours(one)[1:] == [("detach", NIC, "failed")]
        libhook("recover")
        assert driver_of(NIC) == "e1000e"
        one.destroy()
    finally:
        CONFIG.unlink()


@pytest.mark.rest
@pytest.mark.usefixtures("service")
def test_stopped_for_a_while(guest: MakeGuest) -> None:
    """It stops well, and what happened meanwhile is recorded when it is back, once."""
    one, pen, stick = guest().start(), usb(USB_PEN), usb(USB_STICK)
    one.plug("attach", pen, by="virsh")
    expect(one, ("attach", pen.record))
    systemctl("stop", UNIT)
    assert (shown("Result"), shown("ExecMainStatus")) == ("success", "0")
    assert (STATE / "watched.json").exists()
    one.plug("detach", pen, by="virsh")
    one.plug("attach", stick, by="virsh")
    begun = journal()
    systemctl("start", UNIT)
    wait_for("both records", lambda: len(in_log(one, ours=True)) >= 3)
    systemctl("restart", UNIT)
    wait_until_it_watches()
    assert sorted(ours(one)[1:]) == [("attach", stick.record, "success"), ("detach", pen.record, "success")]
    for device in (pen, stick):  # systemd kills who still logs when the service ends
        wait_for("the journal to tell it", lambda device=device: f"device=usb {device.record} result" in journal(begun))
    one.destroy()


@pytest.mark.rest
@pytest.mark.usefixtures("service")
def test_watchdog() -> None:
    """systemd starts it anew when it gives no sign of life, and only then."""
    with changed("WatchdogSec=8\nRestartSec=0"):
        pid = int(shown("MainPID"))
        time.sleep(10)
        assert int(shown("MainPID")) == pid
        os.kill(pid, signal.SIGSTOP)
        wait_for("another process", lambda: int(shown("MainPID")) not in (0, pid))
        wait_until_it_watches()
    assert "Watchdog timeout" in journal()


@pytest.mark.rest
@pytest.mark.usefixtures("service")
def test_uninstalled() -> None:
    """install.sh --uninstall stops and disables it, and leaves nothing; what comes after needs it again.

    install.sh offers it to whoever does not have it.
    """
    offer = "systemctl enable --now libhook-watch"
    assert offer not in subprocess.check_output(["/src/install.sh"], text=True, timeout=600)
    try:
        subprocess.run(["/src/install.sh", "--uninstall"], check=True, timeout=600)
        assert answer("is-enabled") in ("not-found", "")  # systemd 252 says it on stderr
        assert answer("is-active") == "inactive"
        left = [*INSTALLED, STATE, Path("/etc/libvirt/hooks/qemu"), *Path("/etc/systemd/system").rglob(UNIT)]
        assert [path for path in left if path.exists() or path.is_symlink()] == []
    finally:
        assert offer in subprocess.check_output(["/src/install.sh"], text=True, timeout=600)
