# SPDX-License-Identifier: LGPL-2.1-or-later
"""Old hook scripts that take a device's driver out of the kernel, as most for graphics cards do."""

from cases import NIC
from old_scripts import SETTINGS, WIN11, host_with

from libhook.simulation import modules
from libhook.simulation.guests import Guest
from libhook.simulation.kernel import SimulatedKernel


def test_the_driver_comes_back_with_the_script(root: str) -> None:
    """The device is off vfio before that, and has its driver after it: its record says that it came back."""
    host = host_with(root, modules={"prepare": ["-e1000e"], "release": ["e1000e"]})
    host.start(WIN11)
    assert host.driver(NIC) == "vfio-pci"
    assert "e1000e" not in host.whole["modules"]
    host.stop(WIN11)
    assert (host.changed, host.leftovers) == ([], [])
    assert host.trail == [f"start {NIC} success", f"stop {NIC} success"]
    assert [entry for outcome in host.outcomes for entry in outcome.errors] == []


def test_a_script_that_does_not_bring_it_back_is_said(root: str) -> None:
    """The device has no driver then, and libhook remembers that."""
    host = host_with(root, modules={"prepare": ["-e1000e"]})
    host.start(WIN11)
    host.stop(WIN11)
    assert host.driver(NIC) == "none"
    (said,) = host.outcomes[-1].logged("not given back")
    assert said["reason"] == f"{NIC}: it is on no driver instead of e1000e, which is not loaded"
    assert host.trail[1:] == [f"stop {NIC} failed"]
    modules.load(SimulatedKernel(root), "e1000e")
    assert host.driver(NIC) == "e1000e"
    host.start(WIN11)
    host.stop(WIN11)
    assert host.driver(NIC) == "none"


def test_a_start_that_fails_later_brings_it_back(root: str) -> None:
    """By the script's own release."""
    host = host_with(root, modules={"prepare": ["-e1000e"], "release": ["e1000e"]})
    assert "told to fail" in host.libvirt.start(WIN11, "qemu").error
    assert (host.changed, host.leftovers) == ([], [])


def test_another_guests_script_is_no_excuse(root: str) -> None:
    """Somebody else took the driver out, and this guest has no script that would bring it back."""
    host = host_with(root, SETTINGS.replace("win11", "other"))
    other = Guest("other")
    host.start(other)
    host.start(WIN11)
    modules.take_out(SimulatedKernel(root), "e1000e")
    host.stop(WIN11)
    assert "which is not loaded" in host.outcomes[-1].logged("not given back")[0]["reason"]
    assert host.trail[1:] == [f"stop {NIC} failed"]
    host.stop(other)
