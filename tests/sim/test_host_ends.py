# SPDX-License-Identifier: LGPL-2.1-or-later
"""The host shuts down, or reboots without a new kernel, while guests have units of it down or up."""

from pathlib import Path

import pytest
from cases import NIC
from command import libhook
from units import BEFORE, CUPS, IRQ, OTHER, SDDM, SOCKET, WIN11, host_with, states

from libhook.simulation import faults, systemd
from libhook.testing import Outcome

CLAIM = "shared/unit%20cups%2Eservice.json"


def _complaints(outcome: Outcome) -> list[object]:
    errors = [entry for entry in outcome.log if entry["level"] == "error"]
    return [entry.get("left") or entry.get("outcome") or entry.get("reason") for entry in errors]


@pytest.mark.parametrize("fault", [None, faults.Fault("systemctl show * cups.service", error="ECONNREFUSED")])
def test_at_the_hosts_end_there_is_nothing_to_give_back_of_a_unit(root: str, fault: faults.Fault | None) -> None:
    """systemd starts nothing any more, and has stopped what was up. The device comes back, and nothing is an error."""
    host = host_with(root)
    host.begin(WIN11)
    systemd.shut_down(root)
    if fault:
        faults.inject(root, fault)
    ended = host.event(WIN11, "release", "shutdown")
    assert _complaints(ended) == []
    assert "the host shuts down" in [entry.get("void") for entry in ended.log]
    assert (set(states(host).values()), host.driver(NIC)) == ({"inactive"}, "e1000e")
    assert host.state.uuids() == ()


def test_what_does_not_start_on_a_host_that_goes_on_is_an_error(root: str) -> None:
    """Or where systemd does not say what it does."""
    host = host_with(root)
    host.begin(WIN11)
    systemd.change(root, SDDM, starts=False)
    faults.inject(root, faults.Fault("systemctl show --property=SystemState*", error="ECONNREFUSED"))
    ended = host.event(WIN11, "release", "shutdown")
    assert _complaints(ended) == [f"{SDDM} does not start: this says why: systemctl status {SDDM}"]


def test_a_start_while_the_host_shuts_down_is_refused(root: str) -> None:
    """What is to be up cannot be; that is no success."""
    host = host_with(root)
    systemd.shut_down(root)
    outcome = host.event(WIN11, "prepare")
    assert outcome.line.startswith(f"{IRQ} does not start: ")
    assert host.driver(NIC) == "e1000e"


@pytest.mark.parametrize("how", ["release", "recover", "without an entry", "next start"])
def test_after_a_soft_reboot_the_claims_are_void(root: str, how: str) -> None:
    """/run is as it was, and so is the boot id. What the boot has started runs, and what it has not does not."""
    host = host_with(root)
    host.begin(WIN11)
    assert CLAIM in host.leftovers
    systemd.shut_down(root)
    systemd.soft_reboot(root, SDDM, IRQ)
    if how == "release":
        ended = host.event(WIN11, "release", "crashed")
        assert _complaints(ended) == []
    elif how != "next start":
        if how == "without an entry":
            host.state.forget(WIN11.uuid)
        assert libhook(host, "recover").code == 0
    else:
        host.configure("")
        assert host.event(WIN11, "prepare").code == 0
        host.event(WIN11, "release", "failed")
    assert states(host) == {SDDM: "active", CUPS: "inactive", SOCKET: "inactive", IRQ: "active"}
    assert [one for one in host.leftovers if one.startswith("shared")] == []


def test_a_guest_that_starts_after_it_finds_no_claim_of_the_dead(root: str) -> None:
    """It would be told that another guest has the unit, or give back what was before the soft-reboot."""
    host = host_with(root, f'[domains.win11.units]\n"{CUPS}" = "down"\n[domains.other.units]\n"{CUPS}" = "up"\n')
    host.begin(WIN11)
    systemd.shut_down(root)
    systemd.soft_reboot(root)
    host.begin(OTHER)
    assert systemd.state(root, CUPS) == "active"
    host.event(OTHER, "release", "shutdown")
    assert systemd.state(root, CUPS) == "inactive"
    host.event(WIN11, "release", "crashed")
    assert (systemd.state(root, CUPS), host.leftovers) == ("inactive", [])


def test_a_claim_of_an_earlier_version_counts(root: str) -> None:
    """It has noted the boot alone."""
    host = host_with(root)
    host.begin(WIN11)
    claims = list(Path(host.machine.state, "shared").glob("*.json"))
    assert [f"{host.state.boot()} 0" in file.read_text() for file in claims] == [True] * 3
    for file in claims:
        file.write_text(file.read_text().replace(f"{host.state.boot()} 0", host.state.boot()))
    host.event(WIN11, "release", "shutdown")
    assert (states(host), host.leftovers) == (BEFORE, [])
