# SPDX-License-Identifier: LGPL-2.1-or-later
"""What an undo needs of time it has, also when the event's own has run out."""

import time
from unittest import mock

import pytest
from cases import NIC
from scenario import Host, guest, reap

from libhook.children.child import Deadline
from libhook.effects.log import Log
from libhook.facts.config import Config
from libhook.simulation.guests import Guest
from libhook.simulation.hosts import nic
from libhook.story.giveback import give_back
from libhook.story.session import Session


def _session(host: Host, seconds: float, allowed: float = 20) -> Session:
    config = Config()._replace(write_deadline=allowed)
    return Session(host.machine, host.state, Log(host.machine), config, Deadline.after(seconds), host.libvirt.pid)


def test_a_device_comes_back_though_no_time_is_left(root: str) -> None:
    """The locks were waited for until the last moment: whoever has them by then gives back all the same."""
    host = Host(root, nic())
    host.begin(guest(NIC))
    assert give_back(_session(host, 0), Guest().uuid) is None
    assert reap(60)
    assert host.driver(NIC) == "e1000e"
    assert (host.changed, host.leftovers) == ([], [])
    assert host.trail == [f"start {NIC} success", f"stop {NIC} success"]


@pytest.mark.parametrize(("seconds", "allowed", "expected"), [(0, 20, 10), (0, 3, 3), (60, 20, 60), (1, 3, 3)])
def test_the_grace_is_no_longer_than_a_whole_event_and_takes_nothing_away(
    root: str, seconds: float, allowed: float, expected: float
) -> None:
    """Ten seconds, or less where libvirtd is to wait less; who has more time left keeps it."""
    host = Host(root, nic())
    with mock.patch.object(time, "monotonic", return_value=1000.0):
        assert _session(host, seconds, allowed).with_grace().deadline.left == expected
