# SPDX-License-Identifier: LGPL-2.1-or-later
"""``libhook accept``: a guest's devices are what they are now."""

from collections.abc import Callable
from pathlib import Path

import pytest
from cases import DISK, NIC, SOUND
from command import libhook
from rebooting import CARD, WIN11, live, moved, note, rebooting, shifted
from scenario import Host, guest

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
    assert libhook(host, "accept", "win11").out == "win11: its addresses hold what it last had there\n"
    live(host, CARD)
    assert [(one.address, one.identity.ids) for one in note(host).past] == [(NIC, "8086:10d3")]
    assert host.leftovers == []


def test_accept_is_no_start(reboot: Callable[..., Host]) -> None:
    """It says nothing of when the guest had a device, of this one or of others: history goes by that."""
    live(reboot(workstation()), guest(DISK, NIC))
    before = note(reboot(workstation())).at(DISK)
    host = reboot(shifted())
    assert libhook(host, "accept", "win11").code == 0
    accepted, kept = note(host).at(NIC), note(host).at(DISK)
    assert accepted
    assert (accepted.identity.ids, accepted.seen) == ("144d:a808", 0)
    assert kept is None, "it is gone"
    assert before in note(host).past
    live(host, CARD)
    started = note(host).at(NIC)
    assert started
    assert started.seen >= started.since == accepted.since


def test_what_never_started_leaves_no_trace(reboot: Callable[..., Host]) -> None:
    """Accepted, and then accepted anew as another."""
    live(reboot(workstation()), CARD)
    host = reboot(shifted())
    assert libhook(host, "accept", "win11").code == 0
    host = reboot(workstation())
    assert "was Samsung" in libhook(host, "accept", "win11").out
    assert [one.identity.ids for one in (*note(host).devices, *note(host).past)] == ["8086:10d3", "8086:10d3"]


def test_what_the_guest_names_no_more_is_not_accepted(reboot: Callable[..., Host]) -> None:
    """What is at such an address by now may be the host's disk."""
    live(reboot(workstation()), guest(DISK, NIC))
    host = reboot(shifted())
    defined = Path(f"{host.root}/etc/libvirt/qemu/win11.xml")
    defined.parent.mkdir(parents=True, exist_ok=True)
    defined.write_bytes(guest(DISK).xml())
    assert [line.partition(" ")[0] for line in libhook(host, "accept", "win11").out.splitlines()] == [f"{DISK}:"]
    assert f"{NIC} is another device than" in host.event(CARD, "prepare").line
    defined.write_bytes(CARD.xml())
    assert [line.partition(" ")[0] for line in libhook(host, "accept", "win11").out.splitlines()] == [f"{NIC}:"]
    host.event(CARD, "release", "failed")
    live(host, CARD)


def test_what_the_settings_take_along_is_accepted(reboot: Callable[..., Host]) -> None:
    """The guest's XML does not name it."""
    along = f'[domains."win11"]\ntake_along = ["{NIC}"]\n'
    live(reboot(workstation(), along), guest())
    host = reboot(shifted(), along)
    defined = Path(f"{host.root}/etc/libvirt/qemu/win11.xml")
    defined.parent.mkdir(parents=True, exist_ok=True)
    defined.write_bytes(guest().xml())
    assert [line.partition(" ")[0] for line in libhook(host, "accept", "win11").out.splitlines()] == [f"{NIC}:"]


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


def test_accept_of_a_misspelt_guest(reboot: Callable[..., Host]) -> None:
    """The one that was probably meant is named."""
    host = reboot(workstation())
    live(host, WIN11)
    done = libhook(host, "accept", "wni11")
    assert (done.code, done.out) == (1, "")
    assert "so there is nothing to accept: did you mean win11? libhook notes " in done.err
    files = Path(host.root, "etc/libvirt/qemu")
    files.mkdir(parents=True, exist_ok=True)
    (files / "web.xml").write_bytes(guest(name="web").xml())
    assert "a guest web, so there is nothing to accept: libhook notes " in libhook(host, "accept", "web").err


def test_two_guests_of_one_name(reboot: Callable[..., Host]) -> None:
    """A guest that was defined anew has another UUID: it begins anew, and accept asks which one is meant."""
    live(reboot(workstation()), WIN11)
    host = reboot(workstation())
    live(host, WIN11._replace(uuid="11111111-2222-3333-4444-555555555555"))
    done = libhook(host, "accept", "win11")
    assert done.code == 1
    assert WIN11.uuid in done.err
    assert "11111111-2222-3333-4444-555555555555" in done.err
