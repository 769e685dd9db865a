# SPDX-License-Identifier: LGPL-2.1-or-later
"""Between two calls somebody puts another device into the slot, or the device onto another driver."""

from pathlib import Path

import pytest
from aftermath import recover, wrong
from cases import MLX, NIC, variant
from fault_happenings import load, replace, to_driver, unload
from scenario import Host, guest

from libhook.facts.entry import Held, HeldDevice
from libhook.look.processes import process
from libhook.simulation.hosts import nic
from libhook.simulation.kernel import SimulatedKernel


def test_another_device_on_vfio_is_not_handed_over(root: str) -> None:
    """As where vfio-pci.ids takes whatever is plugged in: the guest was prepared for the one before."""
    host = Host(root, nic())
    assert host.event(guest(NIC), "prepare").code == 0
    replace("1234:5678", host)
    to_driver("vfio-pci", host)
    refused = host.event(guest(NIC), "start")
    assert f"{NIC} is a different device than at prepare: 1234:5678 instead of 8086:10d3" in refused.line
    ended = host.event(guest(NIC), "release", "failed")
    assert ended.writes == ()
    assert host.records == [f"start {NIC} failed"]
    assert (host.driver(NIC), host.leftovers) == ("vfio-pci", [])


@pytest.mark.parametrize("driver", ["none", "vfio-pci"])
def test_another_device_is_not_given_back_in_the_stead_of_the_first(root: str, driver: str) -> None:
    """Its driver was never ours to choose, and nothing is held for ever on its account."""
    host = Host(root, nic())
    host.begin(guest(NIC))
    replace("1234:5678", host)
    if driver != "none":
        to_driver(driver, host)
    ended = host.event(guest(NIC), "release", "shutdown")
    assert (ended.code, ended.writes) == (0, ())
    assert any(f"{NIC} is a different device now" in line for line in ended.plan)
    assert (host.driver(NIC), host.leftovers) == (driver, [])
    assert host.records == [f"start {NIC} success", f"stop {NIC} success"]


def test_a_device_that_somebody_put_on_another_vfio_driver_stays_there_and_that_is_said(root: str) -> None:
    """The guest may start, since a vfio driver has it; whoever chose that driver gives it back."""
    host = Host(root, variant())
    one = guest(NIC, model="vfio-pci")
    assert host.event(one, "prepare").code == 0
    SimulatedKernel(root).load("mlx5_vfio_pci")
    to_driver("mlx5_vfio_pci", host)
    for operation in ("start", "started"):
        assert host.event(one, operation).code == 0
    ended = host.event(one, "release", "shutdown")
    assert host.driver(NIC) == "mlx5_vfio_pci"
    assert any(f"{NIC}: somebody else put it on mlx5_vfio_pci" in line for line in ended.plan)
    assert host.leftovers == []
    assert MLX.name not in str(ended.writes)


def test_a_driver_that_is_not_loaded_any_more_is_said_to_be(root: str) -> None:
    """Then recover is of use only after modprobe."""
    host = Host(root, nic())
    host.begin(guest(NIC))
    unload("e1000e", host)
    ended = host.event(guest(NIC), "release", "shutdown")
    assert ended.logged("not given back")[0]["reason"].endswith("on no driver instead of e1000e, which is not loaded")
    load("e1000e", host)
    recover(host)
    assert wrong(host) == []


def test_a_device_that_another_guest_has_by_now_is_left_to_it(root: str) -> None:
    """Somebody gave it to that one by hand; what gives it back would take it from under a guest that runs."""
    host = Host(root, nic())
    host.begin(guest(NIC))
    boot, daemon = host.state.boot(), process(host.machine, host.libvirt.pid)
    other = "11111111-2222-3333-4444-555555555555"
    host.state.save(Held(other, "other", "kvm", "started", boot, daemon, (HeldDevice("pci", NIC),)))
    Path(host.machine.state, "claims", NIC).write_text(other)
    ended = host.event(guest(NIC), "release", "shutdown")
    assert f"warning: {NIC} is held by the guest other now, and stays with that guest" in ended.plan
    assert (host.driver(NIC), ended.writes) == ("vfio-pci", ())
