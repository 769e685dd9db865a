# SPDX-License-Identifier: LGPL-2.1-or-later
"""The service libhook-recover: the watch starts it for guests that are gone, and it may do what the watch may not."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Configure, MakeGuest
from guests import nothing_is_held, pci
from host import NIC, driver_of, wait_for
from service import UNIT, journal, systemctl, wait_until_it_watches

RECOVER = "libhook-recover.service"
KEPT = Path("/run/systemd/system/lab-kept.service")
HOOK = Path("/etc/libvirt/hooks/qemu")
SWAPPINESS = Path("/proc/sys/vm/swappiness")


@pytest.fixture(autouse=True)
def watching() -> Iterator[None]:
    """The watch runs, and a unit that the guest needs down."""
    KEPT.write_text("[Service]\nExecStart=/bin/sleep infinity\n")
    systemctl("start", KEPT.name, UNIT)
    wait_until_it_watches()
    yield
    HOOK.chmod(0o755)
    systemctl("restart", "libvirtd")
    systemctl("stop", UNIT, KEPT.name)
    KEPT.unlink()


def _shown(name: str, what: str) -> str:
    return systemctl("show", "--value", "--property", what, name)


@pytest.mark.rest
@pytest.mark.parametrize("hook", [True, False])
def test_the_unit_comes_back_without_another_start(guest: MakeGuest, configure: Configure, hook: bool) -> None:
    """libvirtd and QEMU are killed. The next libvirtd runs ``release``, or finds no hook that it can run."""
    before = SWAPPINESS.read_text()
    configure(f'[units]\n"{KEPT.name}" = "down"\n[values]\n"vm.swappiness" = 13\n')
    one = guest(pci(NIC)).start()
    assert (_shown(KEPT.name, "ActiveState"), SWAPPINESS.read_text()) == ("inactive", "13\n")
    if not hook:
        HOOK.chmod(0o644)
    begun = journal()
    systemctl("kill", "--signal=KILL", "libvirtd")
    one.kill_qemu()
    subprocess.run(["systemctl", "start", "libvirtd"], check=False, timeout=600)
    wait_for("the unit", lambda: _shown(KEPT.name, "ActiveState") == "active")
    wait_for("the card", lambda: driver_of(NIC) == "e1000e")
    wait_for("the end of all", nothing_is_held)
    assert SWAPPINESS.read_text() == before
    if not hook:
        assert f"these guests are gone, and not all is given back: {one.name}" in journal(begun)
        wait_for("its end", lambda: _shown(RECOVER, "ActiveState") == "inactive")
        assert _shown(RECOVER, "Result") == "success"
    for sign in ("not permitted", "Permission denied", "Read-only file system", "itself failed", "Traceback"):
        assert sign not in journal(begun)


def test_with_nothing_held_it_does_nothing() -> None:
    """As at every boot but a soft reboot, where it is enabled."""
    systemctl("enable", "--no-reload", RECOVER)
    systemctl("start", RECOVER)
    assert (_shown(RECOVER, "ConditionResult"), _shown(RECOVER, "ActiveState")) == ("no", "inactive")
    systemctl("disable", "--no-reload", RECOVER)
