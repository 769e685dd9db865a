# SPDX-License-Identifier: LGPL-2.1-or-later
"""Graphical sessions of a real logind, whose processes have the host's card open."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from host import GPU, PCI, wait_for
from service import logind_runs

USER, NUMBER = "tim", 1000
_UNIT = "lab-session"
_PAM = Path("/etc/pam.d/lab-session")
_PAM_TEXT = """auth required pam_permit.so
account required pam_permit.so
session required pam_systemd.so class=user type=wayland
"""


@contextmanager
def log_in_works() -> Iterator[None]:
    """While the block runs there are logind, which takes long to start, and somebody who may log in."""
    with logind_runs():
        subprocess.run(["useradd", "-M", "-u", str(NUMBER), "-G", "video", USER], check=True, timeout=600)
        _PAM.write_text(_PAM_TEXT)
        try:
            yield
        finally:
            # It goes 10 s after the last session, by logind's word, which is about to stop.
            subprocess.run(["systemctl", "stop", f"user@{NUMBER}.service"], check=False, timeout=600)
            _PAM.unlink()
            subprocess.run(["userdel", "-f", USER], check=True, capture_output=True, timeout=600)


def node_of_card() -> str:
    """Once udev has made it."""
    wait_for("the card", lambda: list((PCI / "devices" / GPU / "drm").glob("card[0-9]*")))
    node = f"/dev/dri/{next((PCI / 'devices' / GPU / 'drm').glob('card[0-9]*')).name}"
    wait_for(node, Path(node).exists)
    return node


@contextmanager
def session(card: str, *, with_manager: bool = False) -> Iterator[str]:
    """A graphical session whose leader has the card open; ``with_manager`` also a service of the user's."""
    command = ["systemd-run", "-q", "--collect", f"--unit={_UNIT}", "-p", f"PAMName={_PAM.name}", "-p", f"User={USER}"]
    subprocess.run([*command, "/bin/sh", "-c", f"exec 3<{card}; exec sleep 900"], check=True, timeout=600)
    wait_for("the session", sessions)
    (name,) = sessions()
    try:
        if with_manager:
            wait_for("the user's manager", Path(f"/run/user/{NUMBER}/systemd/private").exists)
            run = ["runuser", "-u", USER, "--", "env", f"XDG_RUNTIME_DIR=/run/user/{NUMBER}", "systemd-run", "-q"]
            run += ["--user", "/bin/sh", "-c", f"exec 3<{card}; exec sleep 901"]
            subprocess.run(run, check=True, timeout=600)
        count = 2 if with_manager else 1
        wait_for("who has the card open", lambda: len(holders(card)) >= count)
        yield name
    finally:
        subprocess.run(["loginctl", "terminate-user", USER], check=False, capture_output=True, timeout=600)
        subprocess.run(["systemctl", "stop", _UNIT], check=False, capture_output=True, timeout=600)
        wait_for("the session's end", lambda: not sessions())


def sessions() -> list[str]:
    """The user's."""
    done = subprocess.run(["loginctl", "--no-legend"], capture_output=True, text=True, timeout=600, check=True)
    those = [line.split() for line in done.stdout.splitlines() if USER in line]
    return [fields[0] for fields in those if "manager" not in fields]  # the user's manager has one of its own


def holders(card: str) -> list[str]:
    """The processes that have it open."""
    done = subprocess.run(["fuser", card], capture_output=True, text=True, timeout=600, check=False)
    return done.stdout.split()
