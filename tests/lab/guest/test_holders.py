# SPDX-License-Identifier: LGPL-2.1-or-later
"""What has a guest's card open is ended, by a real logind and by signals: ``end`` in the guest's settings."""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from calls import holding
from conftest import Configure, MakeGuest
from guests import Guest, pci
from host import GPU, PCI, driver_of, wait_for
from service import systemctl

USER, NUMBER = "lab-user", 1234
PROGRAM = Path("/usr/local/bin/lab-program")
PAM, UNITS = Path("/etc/pam.d/lab-session"), Path("/run/systemd/system")
PAM_TEXT = """auth required pam_permit.so
account required pam_permit.so
session required pam_systemd.so class=user type=wayland
"""


@pytest.fixture(autouse=True, scope="module")
def logind() -> Iterator[None]:
    """The lab is without it, since it takes long to start; and a user, and a program of its own."""
    Path("/run/systemd/system/systemd-logind.service").unlink()
    systemctl("daemon-reload")
    systemctl("start", "dbus.socket", "systemd-logind.service")
    subprocess.run(["useradd", "-M", "-u", str(NUMBER), "-G", "video", USER], check=True, timeout=30)
    PAM.write_text(PAM_TEXT)
    shutil.copy("/bin/sleep", PROGRAM)
    yield
    systemctl("stop", "systemd-logind.service")


@pytest.fixture(name="card")
def _card() -> str:
    """The card's node."""
    wait_for("the card", lambda: list((PCI / "devices" / GPU / "drm").glob("card[0-9]*")))
    node = f"/dev/dri/{next((PCI / 'devices' / GPU / 'drm').glob('card[0-9]*')).name}"
    wait_for(node, Path(node).exists)
    return node


@contextmanager
def _session(card: str, *, with_manager: bool = False) -> Iterator[str]:
    """A graphical session whose leader has the card open; ``with_manager`` also a service of the user's."""
    command = ["systemd-run", "-q", "--unit=lab-session", "-p", "PAMName=lab-session", "-p", f"User={USER}"]
    subprocess.run([*command, "/bin/sh", "-c", f"exec 3<{card}; exec sleep 600"], check=True, timeout=60)
    wait_for("the session", _sessions)
    (session,) = _sessions()
    try:
        if with_manager:
            wait_for("the user's manager", Path(f"/run/user/{NUMBER}/systemd/private").exists, 60)
            run = ["runuser", "-u", USER, "--", "env", f"XDG_RUNTIME_DIR=/run/user/{NUMBER}", "systemd-run", "-q"]
            run += ["--user", "/bin/sh", "-c", f"exec 3<{card}; exec sleep 601"]
            subprocess.run(run, check=True, timeout=60)
        count = 2 if with_manager else 1
        wait_for("who has the card open", lambda: len(_holders(card)) >= count)
        yield session
    finally:
        subprocess.run(["loginctl", "terminate-user", USER], check=False, capture_output=True, timeout=60)
        subprocess.run(["systemctl", "stop", "lab-session"], check=False, capture_output=True, timeout=60)
        wait_for("the session's end", lambda: not _sessions(), 60)


@contextmanager
def _program(card: str) -> Iterator["subprocess.Popen[bytes]"]:
    """A process of the program, which ignores SIGTERM."""
    command = ["/bin/sh", "-c", f"trap '' TERM; exec 3<{card}; exec {PROGRAM} 602"]
    process = subprocess.Popen(command)
    wait_for("the program", lambda: os.readlink(f"/proc/{process.pid}/exe") == str(PROGRAM))
    try:
        yield process
    finally:
        process.kill()
        process.wait(30)


def _sessions() -> list[str]:
    done = subprocess.run(["loginctl", "--no-legend"], capture_output=True, text=True, timeout=60, check=True)
    those = [line.split() for line in done.stdout.splitlines() if USER in line]
    return [fields[0] for fields in those if "manager" not in fields]  # the user's manager has one of its own


def _holders(card: str) -> list[str]:
    done = subprocess.run(["fuser", card], capture_output=True, text=True, timeout=60, check=False)
    return done.stdout.split()


def _settings(one: Guest) -> str:
    return f'[domains."{one.name}"]\nend = ["sessions", "{PROGRAM}"]\n'


def test_a_session_and_a_program_are_ended(guest: MakeGuest, configure: Configure, card: str) -> None:
    """The leader of the session, a service of its user's, and a program that only SIGKILL ends."""
    one = guest(pci(GPU))
    configure(_settings(one))
    with _session(card, with_manager=True) as session, _program(card) as program:
        begun = time.monotonic()
        one.start()
        assert driver_of(GPU) == "vfio-pci"
        assert session not in _sessions()
        assert program.wait(1) == -9
        assert time.monotonic() - begun > 10, "the program had its time, and so had the user's manager"
    one.destroy()
    wait_for("the card", lambda: driver_of(GPU) not in (None, "vfio-pci"))


def test_another_holder_refuses_before_anything_is_ended(guest: MakeGuest, configure: Configure, card: str) -> None:
    """The session and the program are as before."""
    one = guest(pci(GPU))
    configure(_settings(one))
    with _session(card) as session, _program(card) as program, holding(card) as other:
        said = one.start_refused()
        assert f"{GPU} is also open in sleep (pid {other.pid}), which may not be ended" in said
        assert (_sessions(), program.poll()) == ([session], None)
    assert driver_of(GPU) != "vfio-pci"


@contextmanager
def _services(card: str, *names: str) -> Iterator[None]:
    """Services of the host that have the card open."""
    for name in names:
        (UNITS / name).write_text(f"[Service]\nExecStart=/bin/sh -c 'exec 3<{card}; exec sleep 600'\n")
    systemctl("daemon-reload")
    systemctl("start", *names)
    wait_for("who has the card open", lambda: len(_holders(card)) >= len(names))
    try:
        yield
    finally:
        systemctl("stop", *names)
        for name in names:
            (UNITS / name).unlink()
        systemctl("daemon-reload")


def _began(name: str) -> str:
    return systemctl("show", "--value", "--property", "ActiveEnterTimestampMonotonic", name)


def test_a_service_that_stays_is_seen_before_the_desktop_is_down(
    guest: MakeGuest, configure: Configure, card: str
) -> None:
    """Only once both are in the list, the desktop goes down."""
    desktop, other = "lab-desktop.service", "lab-other.service"
    with _services(card, desktop, other):
        begun = _began(desktop)
        configure(f'[units]\n"{desktop}" = "down"\n')
        assert f"and {other} does not go down: add {other} to units" in guest(pci(GPU)).start_refused()
        assert _began(desktop) == begun
        configure(f'[units]\n"{desktop}" = "down"\n"{other}" = "down"\n')
        one = guest(pci(GPU)).start()
        assert driver_of(GPU) == "vfio-pci"
        one.destroy()
        wait_for("both", lambda: len(_holders(card)) >= 2)
        assert _began(desktop) != begun
