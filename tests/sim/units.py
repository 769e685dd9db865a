# SPDX-License-Identifier: LGPL-2.1-or-later
"""Units for the tests: a desktop, a service with a socket, and one that is off."""

from cases import DISK, NIC
from scenario import Host, guest

from libhook.simulation import store, systemd
from libhook.simulation.hosts import workstation

SDDM, CUPS, SOCKET, IRQ = "sddm.service", "cups.service", "cups.socket", "irqbalance.service"
WIN11, OTHER = guest(NIC), guest(DISK, name="other")._replace(uuid="11111111-2222-3333-4444-555555555555")
DESKTOP = 800
UNITS = f"""[units]
"display-manager.service" = "down"
"{CUPS}" = "down"
"{IRQ}" = "up"
"""
BEFORE = {SDDM: "active", CUPS: "active", SOCKET: "active", IRQ: "inactive"}
MEANWHILE = {SDDM: "inactive", CUPS: "inactive", SOCKET: "inactive", IRQ: "active"}


def host_with(root: str, config: str = UNITS) -> Host:
    """A host with these units, and these settings."""
    host = Host(root, workstation(), f"holder_wait = 0.3\n{config}")
    systemd.add(root, SDDM, names=["display-manager.service"])
    systemd.add(root, CUPS, triggered_by=[SOCKET])
    systemd.add(root, SOCKET)
    systemd.add(root, IRQ, active="inactive")
    return host


def states(host: Host) -> dict[str, str]:
    """What each of them is."""
    return {name: systemd.state(host.root, name) for name in BEFORE}


def told(host: Host) -> list[str]:
    """What systemd was told."""
    calls = store.lines(f"{host.root}/var/log/systemctl.jsonl")
    return [" ".join((call["verb"], *call["names"])) for call in calls if call["verb"] != "show"]
