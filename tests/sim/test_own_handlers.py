# SPDX-License-Identifier: LGPL-2.1-or-later
"""Handlers by others: what they are asked, and what becomes of their answers."""

from cases import NIC
from own import SWAPPINESS, code, enabled, host, swappiness
from scenario import guest

WIN11 = guest(NIC)
SETS = code('return {"settings": {"values": {"vm.swappiness": 10}}}')


def test_what_a_handler_sets_holds_while_the_guest_runs(root: str) -> None:
    """The dry run says so; the journal has it; the guest's end gives back what was there before."""
    own = host(root)
    enabled(own, SETS)
    foretold = own.call(("win11", "prepare", "begin", "-"), WIN11.xml(1, False), dry_run=True)
    assert foretold.stderr[0] == f'set {SWAPPINESS} to "10"'
    assert swappiness(own) == "60"
    own.begin(WIN11)
    assert swappiness(own) == "10"
    own.event(WIN11, "release", "shutdown")
    assert swappiness(own) == "60"
    assert own.leftovers == []
