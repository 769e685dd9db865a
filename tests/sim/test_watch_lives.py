# SPDX-License-Identifier: LGPL-2.1-or-later
"""A guest that ended and started again while nobody watched, or nobody had read what happened: another life."""

import pytest
from cases import DISK, NIC
from scenario import Host, guest
from watch_play import Watched

from libhook.simulation.guests import Assigned, Guest


@pytest.fixture(name="watched")
def _watched(host: Host, watched: Watched) -> Watched:
    """A guest that was started with one card, and was given another before the eyes of the watch."""
    watched.begin(guest(NIC))
    _plug(host)
    watched.tell("added", "hostdev1", guest(NIC, DISK))
    return watched


def _plug(host: Host) -> None:
    assert host.libvirt.attach("win11", Assigned(DISK, True)) == ""


def _live_again(host: Host, watched: Watched, now: Guest) -> int:
    """Unseen; the number of records by then."""
    host.libvirt.stop("win11", "shutdown")
    host.libvirt.start(now)
    watched.guest = now
    return len(host.trail)


@pytest.mark.parametrize("ends", [True, False])
@pytest.mark.parametrize("now", [guest(NIC), guest(DISK), guest()], ids=["one", "the other", "none"])
def test_what_an_earlier_life_had_is_not_plugged_out(host: Host, watched: Watched, now: Guest, ends: bool) -> None:
    """Its end is the hook's to record, as is what the new life started with; also after the connection was lost."""
    before = _live_again(host, watched, now)
    (watched.again if ends else watched.connect)()
    assert host.trail[before:] == []


def test_what_was_plugged_into_the_new_life_is_recorded(host: Host, watched: Watched) -> None:
    """Though the last watch saw the same device in the life before."""
    before = _live_again(host, watched, guest(NIC))
    _plug(host)
    watched.guest = guest(NIC, DISK)
    watched.again()
    assert host.trail[before:] == [f"attach {DISK} success"]


def test_a_libvirtd_that_was_restarted_begins_no_life(host: Host, watched: Watched) -> None:
    """QEMU lives on: what was unplugged meanwhile is recorded, though the guest was never started with it."""
    before = len(host.trail)
    host.libvirt.unplug("win11", DISK)
    host.libvirt.restart()
    watched.guest = guest(NIC)
    watched.connect()
    assert host.trail[before:] == [f"detach {DISK} success"]


@pytest.mark.parametrize("what", ["removed", "added", "kept"])
def test_an_event_of_an_earlier_life_is_of_no_device_of_this_one(host: Host, watched: Watched, what: str) -> None:
    """It is read late, and the guest of now has another device by that alias."""
    before = _live_again(host, watched, guest(DISK, NIC))
    watched.tell(what, "hostdev1")
    watched.tell("ended", "")
    watched.tell("began")
    assert host.trail[before:] == []


def test_a_life_whose_beginning_was_not_told(host: Host, watched: Watched) -> None:
    """The first event of it has it compared with its journal entry; from then on it is known."""
    before = _live_again(host, watched, guest(NIC))
    _plug(host)
    watched.tell("added", "hostdev1", guest(NIC, DISK))
    host.libvirt.unplug("win11", DISK)
    watched.tell("removed", "hostdev1", guest(NIC))
    assert host.trail[before:] == [f"attach {DISK} success", f"detach {DISK} success"]
