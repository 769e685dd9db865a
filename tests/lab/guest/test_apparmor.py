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
from trail import expect_returned, records

PROFILE = "/etc/apparmor.d/usr.sbin.libvirtd"
SWAPPINESS = Path("/proc/sys/vm/swappiness")
NOTES = Path("/run/lab-apparmor")
UNIT = Path("/run/systemd/system/lab-plain.service")
SETTINGS = f"""
[values]
"vm.swappiness" = 7
[units]
"{UNIT.name}" = "down"
[run.note]
command = ["/usr/bin/touch", "{NOTES}"]
undo = ["/usr/bin/rm", "{NOTES}"]
"""


@pytest.fixture
def confined() -> Iterator[None]:
    """The profile is loaded and enforced, and libvirtd started under it."""
    UNIT.write_text("[Service]\nExecStart=/bin/sleep infinity\n")
    systemctl("daemon-reload")
    systemctl("start", UNIT.name)
    subprocess.run(["apparmor_parser", "--replace", PROFILE], check=True, timeout=120)
    systemctl("restart", "libvirtd")
    yield
    systemctl("stop", UNIT.name)
    UNIT.unlink()
    subprocess.run(["apparmor_parser", "--remove", PROFILE], check=True, timeout=120)
    systemctl("restart", "libvirtd")


def _shown(name: str, unit: str) -> str:
    return systemctl("show", "--value", "--property", name, unit)


def _denied() -> list[str]:
    """What AppArmor kept the hook from, or any program that it has started."""
    trail = Path("/var/log/audit/audit.log").read_text(errors="replace").splitlines()
    return [line for line in trail if 'apparmor="DENIED"' in line and "libvirtd" in line]


@pytest.mark.usefixtures("confined")
def test_everything_works_under_the_profile(guest: MakeGuest, configure: Configure) -> None:
    """Binding, a value, a unit, a command, the records and the give-back; nothing is denied."""
    profile = Path("/proc", _shown("MainPID", "libvirtd"), "attr/current")
    assert profile.read_text().strip() == "libvirtd (enforce)"
    configure(SETTINGS)
    before, denied = SWAPPINESS.read_text(), _denied()
    one = guest(pci(NIC)).start()
    assert (driver_of(NIC), SWAPPINESS.read_text(), NOTES.exists()) == ("vfio-pci", "7\n", True)
    assert _shown("ActiveState", UNIT.name) == "inactive"
    # libvirtd's own record has another subject: Python leaves the profile.
    wait_for("the record", lambda: [record.result for record in records(one, "start", ours=True)] == ["success"])
    one.destroy()
    wait_for("the unit", lambda: _shown("ActiveState", UNIT.name) == "active")
    assert (driver_of(NIC), SWAPPINESS.read_text(), NOTES.exists()) == ("e1000e", before, False)
    expect_returned(one)
    assert _denied() == denied
