# SPDX-License-Identifier: LGPL-2.1-or-later
"""Three guests whose settings ask the same of the host end in every order; libvirtd is restarted in between."""

from itertools import permutations

import pytest
from asking import STATES, make, running, settings, states
from asking_each import GUESTS
from crash_actions import RUN

from libhook.facts import command


@pytest.mark.parametrize("restarted", [0, 1])
@pytest.mark.parametrize("ends", map("".join, permutations(GUESTS)))
def test_what_three_guests_share_goes_with_the_last(root: str, ends: str, restarted: int) -> None:
    """The first ends because its QEMU was killed."""
    host = make(root, settings(*STATES) + RUN)
    before, meanwhile = states(host), {name: state for name, (_, state) in STATES.items()}
    assert all(before[name] != meanwhile[name] for name in before)
    for one in GUESTS.values():
        assert host.libvirt.start(one).error == ""
    for number, name in enumerate(ends):
        assert states(host) == meanwhile
        assert running(host) == sorted(command.unit(GUESTS[left].uuid, "show") for left in ends[number:])
        host.libvirt.stop(GUESTS[name].name, "shutdown" if number else "crashed")
        if number == restarted:
            host.libvirt.restart()
    assert (states(host), running(host), host.changed, host.leftovers) == (before, [], [], [])
