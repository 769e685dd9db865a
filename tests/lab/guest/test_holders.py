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
from host import GPU, PATIENCE, driver_of, wait_for
from service import systemctl
from sessions import NUMBER, USER, holders, log_in_works, node_of_card, session, sessions

PROGRAM = Path("/usr/local/bin/lab-program")
UNITS = Path("/run/systemd/system")


@pytest.fixture(autouse=True, scope="module")
def logind() -> Iterator[None]:
    """It runs; and there are a user, and a program of its own."""
    with log_in_works():
        shutil.copy("/bin/sleep", PROGRAM)
        yield
        PROGRAM.unlink()


@pytest.fixture(name="card")
def _card() -> str:
    """The card's node."""
    return node_of_card()


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
        process.wait(PATIENCE)


def _settings(one: Guest) -> str:
    return f'[domains."{one.name}"]\nend = ["sessions", "{PROGRAM}"]\n'


@pytest.mark.rest
def test_a_session_and_a_program_are_ended(guest: MakeGuest, configure: Configure, card: str) -> None:
    """The leader of the session, a service of its user's, and a program that only SIGKILL ends."""
    one = guest(pci(GPU))
    configure(_settings(one))
    with session(card, with_manager=True) as number, _program(card) as program:
        begun = time.monotonic()
        one.start()
        assert driver_of(GPU) == "vfio-pci"
        assert number not in sessions()
        assert program.wait(PATIENCE) == -9
        assert time.monotonic() - begun > 10, "the program had its time, and so had the user's manager"
    one.destroy()
    wait_for("the card", lambda: driver_of(GPU) not in (None, "vfio-pci"))


@pytest.mark.rest
def test_another_holder_refuses_before_anything_is_ended(guest: MakeGuest, configure: Configure, card: str) -> None:
    """The session and the program are as before."""
    one = guest(pci(GPU))
    configure(_settings(one))
    with session(card) as number, _program(card) as program, holding(card) as other:
        said = one.start_refused()
        assert f"{GPU} is also open in sleep (pid {other.pid}), which may not be ended" in said
        assert (sessions(), program.poll()) == ([number], None)
    assert driver_of(GPU) != "vfio-pci"


CONTAINER = "0123456789ab" + 52 * "c"
SCOPES = {
    "lab-holder.scope": "run: systemctl stop lab-holder.scope",
    f"docker-{CONTAINER}.scope": "run: docker stop 0123456789ab",
}


@pytest.mark.rest
def test_a_refusal_offers_what_ends_the_process(guest: MakeGuest, card: str) -> None:
    """Its session, its scope, or its container."""
    with session(card) as number:
        said = guest(pci(GPU)).start_refused()
        assert f"every session ended that has it open (now session {number} of the user {NUMBER}), with all" in said
    for scope, says in SCOPES.items():
        run = ["systemd-run", "-q", "--scope", f"--unit={scope}", "/bin/sh", "-c", f"exec 3<{card}; exec sleep 903"]
        with subprocess.Popen(run) as process:
            wait_for("who has the card open", lambda: holders(card))
            said = guest(pci(GPU)).start_refused()
            process.kill()
        assert said.endswith(says)


@pytest.mark.rest
def test_a_session_of_the_display_manager_ends_with_it(guest: MakeGuest, configure: Configure, card: str) -> None:
    """PAM opens it in a child of the display manager, as GDM, SDDM and LightDM have it. So the desktop is offered."""
    alias, pam, unit = Path("/etc/systemd/system/display-manager.service"), Path("/etc/pam.d/runuser"), "lab-dm.service"
    before = pam.read_text()
    child = f"runuser -u {USER} -- /bin/sh -c 'exec 3<{card}; exec sleep 900'"
    ends = "trap 'kill $$!; wait' TERM"  # it ends the sessions that it has begun
    (UNITS / unit).write_text(f'[Service]\nExecStart=/bin/sh -c "{ends}; {child} & wait"\n')
    pam.write_text(f"{before}\nsession required pam_systemd.so class=user type=wayland\n")
    alias.symlink_to(UNITS / unit)
    try:
        systemctl("start", unit)
        wait_for("who has the card open", lambda: holders(card) and sessions())
        one = guest(pci(GPU))
        assert """units."display-manager.service" = "down"'""" in one.start_refused()
        configure(f'[domains."{one.name}".units]\n"display-manager.service" = "down"\n')
        one.start()
        assert sessions() == []
        one.destroy()
        wait_for("the desktop", lambda: holders(card) and sessions())
    finally:
        pam.write_text(before)
        systemctl("stop", unit)
        subprocess.run(["loginctl", "terminate-user", USER], check=False, capture_output=True, timeout=600)
        wait_for("the session's end", lambda: not sessions())
        alias.unlink()
        (UNITS / unit).unlink()


@contextmanager
def _services(card: str, *names: str) -> Iterator[None]:
    """Services of the host that have the card open."""
    for name in names:
        (UNITS / name).write_text(f"[Service]\nExecStart=/bin/sh -c 'exec 3<{card}; exec sleep 900'\n")
    systemctl("start", *names)
    wait_for("who has the card open", lambda: len(holders(card)) >= len(names))
    try:
        yield
    finally:
        systemctl("stop", *names)
        for name in names:
            (UNITS / name).unlink()


def _began(name: str) -> str:
    return systemctl("show", "--value", "--property", "ActiveEnterTimestampMonotonic", name)


@pytest.mark.rest
def test_a_service_that_stays_is_seen_before_the_desktop_is_down(
    guest: MakeGuest, configure: Configure, card: str
) -> None:
    """Only once both are in the list, the desktop goes down."""
    desktop, other = "lab-desktop.service", "lab-other.service"
    with _services(card, desktop, other):
        begun = _began(desktop)
        configure(f'[units]\n"{desktop}" = "down"\n')
        said = guest(pci(GPU)).start_refused()
        assert f"and {other} does not go down: stop {other} first, or to have that done for the guest, run: " in said
        assert _began(desktop) == begun
        configure(f'[units]\n"{desktop}" = "down"\n"{other}" = "down"\n')
        one = guest(pci(GPU)).start()
        assert driver_of(GPU) == "vfio-pci"
        one.destroy()
        wait_for("both", lambda: len(holders(card)) >= 2)
        assert _began(desktop) != begun
