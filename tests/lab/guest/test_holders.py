# SPDX-License-Identifier: LGPL-2.1-or-later
"""What has a guest's card open: what the refusal offers, on a real logind."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Configure, MakeGuest
from guests import pci
from host import GPU, wait_for
from service import systemctl
from sessions import NUMBER, USER, holders, log_in_works, node_of_card, session, sessions

UNITS = Path("/run/systemd/system")


@pytest.fixture(autouse=True, scope="module")
def logind() -> Iterator[None]:
    """It runs; and there is a user."""
    with log_in_works():
        yield


@pytest.fixture(name="card")
def _card() -> str:
    """The card's node."""
    return node_of_card()


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
        assert f"end session {number} of the user {NUMBER} first, with all that runs in it: " in said
        assert f" run: loginctl terminate-session {number}" in said
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
