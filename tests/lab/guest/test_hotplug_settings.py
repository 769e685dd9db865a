# SPDX-License-Identifier: LGPL-2.1-or-later
"""Settings of a section for a device, when that is plugged into a guest that runs and out, on a real kernel."""

from pathlib import Path

import pytest
from conftest import Configure, MakeGuest
from guests import pci
from host import NIC, driver_of, wait_for
from test_hotplug import answering

SWAPPINESS = Path("/proc/sys/vm/swappiness")


@pytest.mark.rest
def test_a_value_comes_and_goes_with_the_card(guest: MakeGuest, configure: Configure) -> None:
    """The sysctl is another while the guest has the card, and when it ends with the card."""
    before = SWAPPINESS.read_text()
    assert before != "11\n"
    configure(f'[devices."{NIC}"]\nvalues = {{ "vm.swappiness" = 11 }}\nunits = {{ "cups.service" = "down" }}\n')
    one = answering(guest).start()
    said = one.plug("attach", pci(NIC))
    assert "the settings for the device ask for units: that is done when a guest starts, not at hot-plug" in said
    assert (SWAPPINESS.read_text(), driver_of(NIC)) == ("11\n", "vfio-pci")
    one.plug("detach", pci(NIC))
    assert (SWAPPINESS.read_text(), driver_of(NIC)) == (before, "e1000e")
    one.plug("attach", pci(NIC))
    assert SWAPPINESS.read_text() == "11\n"
    one.destroy()
    wait_for("the value", lambda: SWAPPINESS.read_text() == before)
