# SPDX-License-Identifier: LGPL-2.1-or-later
"""Units of a user, whose real systemd stops and starts them for a guest."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Configure, MakeGuest
from guests import libhook, pci
from host import NIC, driver_of, wait_for
from service import logind_runs, systemctl

USER, UID = "tim", 4711
HOME, RUNTIME = Path("/home/tim"), Path(f"/run/user/{UID}")
UNITS = HOME / ".config/systemd/user"
SOUND, WOKEN, SOCKET = "lab-sound.service", "lab-woken.service", "lab-woken.socket"
TEXTS = {
    SOUND: "[Service]\nExecStart=/bin/sh -c 'id -u >%h/ran; exec sleep infinity'\n",
    WOKEN: "[Service]\nExecStart=/bin/sleep infinity\n",
    SOCKET: "[Socket]\nListenStream=%t/lab-woken\n",
}
DROP_IN = Path("/run/systemd/system/user@.service.d/lab.conf")


def _own(*arguments: str) -> str:
    """What the user's systemctl prints."""
    command = ["systemctl", "--user", *arguments]
    environment = {"XDG_RUNTIME_DIR": str(RUNTIME), "PATH": os.environ["PATH"]}
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, env=environment, user=UID, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def _active(*names: str) -> list[str]:
    return [_own("show", "--value", "--property=ActiveState", name) for name in names]


@pytest.fixture(scope="module", autouse=True)
def user() -> Iterator[None]:
    """One who lingers, with units of all these sorts, which run."""
    for path, line in (("/etc/passwd", f"{USER}:x:{UID}:{UID}::{HOME}:/bin/sh"), ("/etc/group", f"{USER}:x:{UID}:")):
        with open(path, "a") as file:
            file.write(f"{line}\n")
    UNITS.mkdir(parents=True)
    for name, text in TEXTS.items():
        (UNITS / name).write_text(text)
    subprocess.run(["chown", "-R", f"{UID}:{UID}", HOME], check=True, timeout=600)
    DROP_IN.parent.mkdir()
    # pam_systemd, which the lab has not, does no more for it.
    DROP_IN.write_text(f"[Service]\nPAMName=\nEnvironment=XDG_RUNTIME_DIR={RUNTIME}\n")
    with logind_runs():
        subprocess.run(["loginctl", "enable-linger", USER], check=True, timeout=600)
        wait_for("the user's manager", (RUNTIME / "systemd/private").exists)
        yield
        subprocess.run(["loginctl", "disable-linger", USER], check=False, timeout=600)
        systemctl("stop", f"user@{UID}.service")
    shutil.rmtree(DROP_IN.parent)
    shutil.rmtree(HOME)


@pytest.fixture(autouse=True)
def units() -> None:
    """They run."""
    systemctl("start", f"user@{UID}.service")
    _own("start", SOCKET)
    _own("start", SOUND, WOKEN)
    assert _active(SOUND, WOKEN, SOCKET) == ["active"] * 3


def test_a_users_units_are_down_while_the_guest_runs(guest: MakeGuest, configure: Configure) -> None:
    """By name and pattern, with the socket; what starts again is the user's, not root's."""
    configure(f'[units]\n"{USER}/{SOUND}" = "down"\n"{USER}/lab-w*.service" = "down"\n"@seat0/{SOUND}" = "down"\n')
    one = guest(pci(NIC)).start()
    assert (_active(SOUND, WOKEN, SOCKET), driver_of(NIC)) == (["inactive"] * 3, "vfio-pci")
    (HOME / "ran").unlink()
    assert f"unit {USER}/{SOUND}  down" in libhook("status")
    one.destroy()
    wait_for("the units", lambda: _active(SOUND, WOKEN, SOCKET) == ["active"] * 3)
    wait_for("what it does", lambda: (HOME / "ran").exists() and (HOME / "ran").read_text() == f"{UID}\n")
    assert libhook("status") == "nothing is held\n"


@pytest.mark.rest
def test_a_user_who_has_gone_is_in_nobodys_way(guest: MakeGuest, configure: Configure) -> None:
    """Before the start there is nothing to do, and at the end nothing that could be done."""
    configure(f'[units]\n"{USER}/{SOUND}" = "down"\n')
    one = guest(pci(NIC)).start()
    systemctl("stop", f"user@{UID}.service")
    one.destroy()
    wait_for("the device", lambda: driver_of(NIC) == "e1000e")
    assert libhook("status") == "nothing is held\n"
    other = guest(pci(NIC)).start()
    other.destroy()
    configure(f'[units]\n"{USER}/{SOUND}" = "up"\n')
    assert f"{USER}/{SOUND} cannot be started: {USER} is not logged in" in guest(pci(NIC)).start_refused()


@pytest.mark.rest
def test_a_manager_that_does_not_answer_refuses_the_start_in_time(guest: MakeGuest, configure: Configure) -> None:
    """Its user has stopped it."""
    configure(f'[units]\n"{USER}/{SOUND}" = "down"\n')
    manager = int(systemctl("show", "--value", "--property=MainPID", f"user@{UID}.service"))
    os.kill(manager, signal.SIGSTOP)
    try:
        said = guest(pci(NIC)).start_refused()
    finally:
        os.kill(manager, signal.SIGCONT)
    assert f"the systemd of {USER} does not say what {SOUND} does" in said
    assert driver_of(NIC) == "e1000e"
