# SPDX-License-Identifier: LGPL-2.1-or-later
"""``libhook accept``: a guest's devices are what they are now."""

from collections.abc import Callable
from pathlib import Path

import pytest
from cases import NIC, SOUND
from command import libhook
from rebooting import CARD, WIN11, live, moved, note, rebooting, shifted
from scenario import Host

from libhook.simulation.guests import Guest
from libhook.simulation.hosts import workstation


@pytest.fixture(name="reboot")
def _reboot(root: str, tmp_path: Path) -> Callable[..., Host]:
    return rebooting(root, tmp_path)


def test_accept(reboot: Callable[..., Host]) -> None:
    """What is there now is the guest's, and what was there is remembered."""
    live(reboot(workstation()), CARD)
    host = reboot(shifted())
    said = libhook(host, "accept", "win11", "--dry-run").out
    assert said == (
        f"{NIC}: was Intel 82574L Gigabit Network Connection [8086:10d3], subsystem 8086:0000; is Samsung NVMe SSD "
        "Controller SM981/PM981/PM983 [144d:a808], subsystem 144d:0000: would be accepted\n"
    )
    assert host.event(CARD, "prepare").code == 1
    host.event(CARD, "release", "failed")
    assert libhook(host, "accept", WIN11.uuid.upper()).out == said.replace("would be accepted", "accepted")
    assert libhook(host, "accept", "win11").out == "win11: its devices are those of its last start\n"
    live(host, CARD)
    assert [(one.address, one.identity.ids) for one in note(host).past] == [(NIC, "8086:10d3")]
    assert host.leftovers == []


def test_a_device_that_is_gone_is_accepted_too(reboot: Callable[..., Host]) -> None:
    """Then the start is refused because it is gone, and no more."""
    live(reboot(workstation()), WIN11)
    host = reboot(moved())
    assert f"{SOUND}: was AMD" in libhook(host, "accept", "win11").out
    line = host.event(WIN11, "prepare").line
    assert f"{SOUND} is not on this host" in line
    assert "last start" not in line


@pytest.mark.parametrize("guest_named", ["linux", Guest().uuid, "../../etc/passwd", "", "-"])
def test_accept_of_a_guest_without_a_note(root: str, guest_named: str) -> None:
    """Says that there is nothing to accept."""
    done = libhook(Host(root, workstation()), "accept", "--", guest_named)
    assert (done.code, done.out) == (1, "")
    assert "nothing is noted of" in done.err


def test_two_guests_of_one_name(reboot: Callable[..., Host]) -> None:
    """A guest that was defined anew has another UUID: it begins anew, and accept asks which one is meant."""
    live(reboot(workstation()), WIN11)
    host = reboot(workstation())
    live(host, WIN11._replace(uuid="11111111-2222-3333-4444-555555555555"))
    done = libhook(host, "accept", "win11")
    assert done.code == 1
    assert WIN11.uuid in done.err
    assert "11111111-2222-3333-4444-555555555555" in done.err
