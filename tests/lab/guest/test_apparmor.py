# SPDX-License-Identifier: LGPL-2.1-or-later
"""libvirtd confined by the distribution's own AppArmor profile, as on Debian and Ubuntu."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Configure, MakeGuest
from guests import pci
from host import NIC, driver_of, wait_for
from service import systemctl
from trail import expect_returned, in_log
from whole import is_loaded, run_quietly, states

PROFILE = "/etc/apparmor.d/usr.sbin.libvirtd"
SWAPPINESS = Path("/proc/sys/vm/swappiness")
NOTES, CALLS = Path("/run/lab-apparmor"), Path("/run/lab-apparmor-calls")
UNITS = Path("/run/systemd/system")
PLAIN, DATA = "lab-plain.service", "srv-confined.mount"
SCRIPT, MODULE = Path("/usr/local/bin/lab-confined"), "dummy"
SETTINGS = f"""
modules = ["{MODULE}"]
legacy.path = "{SCRIPT}"
[values]
"vm.swappiness" = 7
[units]
"{PLAIN}" = "down"
"/srv/confined" = "down"
[run.note]
command = ["/usr/bin/touch", "{NOTES}"]
undo = ["/usr/bin/rm", "{NOTES}"]
[run.show]
command = ["/usr/bin/sleep", "609"]
background = true
"""


@pytest.fixture
def confined() -> Iterator[None]:
    """The profile is loaded and enforced, and libvirtd started under it. What the settings take away is there."""
    (UNITS / PLAIN).write_text("[Service]\nExecStart=/bin/sleep infinity\n")
    (UNITS / DATA).write_text("[Mount]\nWhat=tmpfs\nType=tmpfs\nWhere=/srv/confined\n")
    SCRIPT.write_text(f'#!/bin/sh\necho "$2" >>{CALLS}\n')
    SCRIPT.chmod(0o755)
    systemctl("start", PLAIN, DATA)
    subprocess.run(["modprobe", MODULE, "numdummies=0"], check=True, timeout=600)
    subprocess.run(["apparmor_parser", "--replace", PROFILE], check=True, timeout=600)
    systemctl("restart", "libvirtd")
    yield
    run_quietly("systemctl", "stop", PLAIN, DATA)
    run_quietly("rmmod", MODULE)
    for path in (UNITS / PLAIN, UNITS / DATA, SCRIPT, CALLS):
        path.unlink()
    subprocess.run(["apparmor_parser", "--remove", PROFILE], check=True, timeout=600)
    systemctl("restart", "libvirtd")


def _shown(name: str, unit: str) -> str:
    return systemctl("show", "--value", "--property", name, unit)


def _denied() -> list[str]:
    """What AppArmor kept the hook from, or any program that it has started."""
    trail = Path("/var/log/audit/audit.log").read_text(errors="replace").splitlines()
    return [line for line in trail if 'apparmor="DENIED"' in line and "libvirtd" in line]


def _now() -> list[object]:
    """The value, the mark of the command, whether the module is loaded, and the units."""
    return [SWAPPINESS.read_text(), NOTES.exists(), is_loaded(MODULE), *states(PLAIN, DATA)]


@pytest.mark.usefixtures("confined")
def test_everything_works_under_the_profile(guest: MakeGuest, configure: Configure) -> None:
    """Binding, actions of each kind, an old script, the records and the give-back; nothing is denied."""
    profile = Path("/proc", _shown("MainPID", "libvirtd"), "attr/current")
    assert profile.read_text().strip() == "libvirtd (enforce)"
    configure(SETTINGS)
    before, denied = _now(), _denied()
    one = guest(pci(NIC)).start()
    assert (driver_of(NIC), _now()) == ("vfio-pci", ["7\n", True, False, "inactive", "inactive"])
    (show,) = states(f"libhook-run-{one.uuid}-show.service")
    assert show == "active"
    # libvirtd's own record has another subject: Python leaves the profile.
    wait_for("the record", lambda: [record.result for record in in_log(one, "start", ours=True)] == ["success"])
    one.destroy()
    wait_for("the host as before", lambda: _now() == before)
    assert driver_of(NIC) == "e1000e"
    expect_returned(one)
    wait_for("the script", lambda: CALLS.read_text().split() == ["prepare", "start", "started", "stopped", "release"])
    assert _denied() == denied
