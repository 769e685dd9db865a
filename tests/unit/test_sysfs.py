# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is read from /sys and beside it where something is missing."""

from fnmatch import fnmatchcase
from pathlib import Path

import pytest
from generated import generated
from hypothesis import strategies as st

from libhook.facts.address import PciAddress
from libhook.facts.host import NO_CLASS
from libhook.facts.machine import Machine
from libhook.look import sysfs, variants
from libhook.simulation.build import build
from libhook.simulation.hosts import nic
from libhook.simulation.kernel import SimulatedKernel

NIC = PciAddress.parse("0000:01:00.0")


def test_a_kernel_without_a_list_of_aliases_has_no_variant_drivers(root: str) -> None:
    """As where all is built in, or depmod never ran: every device is vfio-pci's."""
    build(root, nic())
    machine = Machine(root, SimulatedKernel(root))
    (aliases,) = Path(root, "lib/modules").glob("*/modules.alias")
    aliases.unlink()
    assert sysfs.vfio_aliases(machine) == ()


def test_a_device_that_is_pulled_out_while_it_is_looked_at_is_of_no_class(root: str) -> None:
    """Its attributes are gone before its folder is: no error, and no display to be spared."""
    build(root, nic())
    machine = Machine(root, SimulatedKernel(root))
    before = sysfs.glance(machine, [NIC], {}, frozenset())
    Path(root, f"sys/bus/pci/devices/{NIC}/class").unlink()
    after = sysfs.glance(machine, [NIC], {}, frozenset())
    assert before.devices[NIC].pci_class == 0x0200
    assert after.devices[NIC] == before.devices[NIC]._replace(pci_class=NO_CLASS)
    assert not sysfs.is_display(machine, NIC)


@generated("numbers", *(st.text("ab*", max_size=7),) * 2)
def test_a_pattern_of_stars_matches_as_fnmatch_says(text: str, pattern: str) -> None:
    """Stars stand for anything, also for nothing, and each letter once."""
    assert variants.matches(text, pattern) == fnmatchcase(text, pattern)


@pytest.mark.parametrize("pattern", ["v1?3*", "v[0-9]*", "v[!a]2[3]"])
def test_other_patterns_are_fnmatchs(pattern: str) -> None:
    """The kernel writes none; depmod would take one over from a module."""
    assert variants.matches("v123", pattern) == fnmatchcase("v123", pattern)
