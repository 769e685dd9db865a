# SPDX-License-Identifier: LGPL-2.1-or-later
"""Lives that end, or begin, otherwise than they should."""

from pathlib import Path

import pytest
from cases import DISK, GPU, NIC, SOUND, VF0, VF1
from scenario import Host, document, guest

from libhook.facts.address import PciAddress
from libhook.simulation.faults import Fault, inject, vanish
from libhook.simulation.guests import Guest
from libhook.simulation.hosts import nic, sriov, workstation
from libhook.simulation.kernel import SimulatedKernel
from libhook.simulation.pcilist import rebind

OTHER = "11111111-2222-3333-4444-555555555555"
USB_BY_ID = """<hostdev mode='subsystem' type='usb' managed='no'>
      <source>
        <vendor id='0x046d'/>
        <product id='0x0825'/>{}
      </source>
    </hostdev>"""
POOL = "<interface type='network'><source network='pool'/></interface>"


def _assert_as_before(host: Host) -> None:
    assert host.changed == []
    assert host.leftovers == []


@pytest.mark.parametrize("used_before", [False, True])
def test_a_vf_out_of_a_pool_is_known_from_start_on(root: str, used_before: bool) -> None:
    """At prepare it is not chosen and at release its address is gone: it is recorded, and given back, all the same.

    Libvirt gives it back by itself, unless the same libvirtd has seen it unmanaged before.
    """
    host = Host(root, sriov())
    if used_before:
        for operation in ("prepare", "start", "started", "release"):
            assert host.event(guest(VF0), operation).code == 0
    chosen = guest(VF0, managed=True, source="interface")
    host.event(chosen, "prepare", xml=document(POOL))
    libvirtd = SimulatedKernel(root, by="libvirtd")
    libvirtd.load("vfio-pci")
    rebind(libvirtd, VF0, "vfio-pci")
    for operation in ("start", "started"):
        assert host.event(chosen, operation).code == 0
    if not used_before:
        rebind(libvirtd, VF0, "\n")
    ended = host.event(chosen, "release", "shutdown", xml=document(POOL, attributes=""))
    assert (ended.code, len(ended.writes)) == (0, 3 if used_before else 0)
    assert host.records[-2:] == [f"start {VF0} success", f"stop {VF0} success"]
    _assert_as_before(host)


def test_a_vf_out_of_a_pool_that_libvirt_does_not_bind_is_refused_at_start(root: str) -> None:
    """A pool with managed='no' cannot be served: nobody knew the VF when there was time to bind it."""
    host = Host(root, sriov())
    chosen = guest(VF0, source="interface")
    assert host.event(chosen, "prepare", xml=document(POOL)).code == 0
    refused = host.event(chosen, "start")
    assert refused.code == 1
    assert VF0 in refused.line
    assert "igbvf" in refused.line
    assert host.records == [f"start {VF0} failed"]
    host.event(chosen, "release", "failed", xml=document(POOL, attributes=""))
    assert host.records == [f"start {VF0} failed"]
    _assert_as_before(host)


def test_a_usb_device_is_recorded_by_the_address_libvirt_found(root: str) -> None:
    """Named by vendor and product, its bus and device are known from start on; nothing is claimed before."""
    host = Host(root, nic())
    found = USB_BY_ID.format("<address bus='1' device='7'/>")
    host.event(Guest(), "prepare", xml=document(USB_BY_ID.format("")))
    host.event(Guest(), "start", xml=document(found))
    host.event(Guest(), "started", xml=document(found))
    host.event(Guest(), "release", "destroyed", xml=document(found, attributes=""))
    assert host.records == ["start 001.007 success", "stop 001.007 success"]
    _assert_as_before(host)


def test_a_usb_device_that_libvirt_does_not_find_is_recorded_failed(root: str) -> None:
    """Libvirt itself says success and 000.000; the truth is that the guest never got it."""
    host = Host(root, nic())
    host.event(Guest(), "prepare", xml=document(USB_BY_ID.format("")))
    host.event(Guest(), "release", "failed", xml=document(USB_BY_ID.format(""), attributes=""))
    assert host.records == ["start 000.000 failed"]
    _assert_as_before(host)


def test_an_optional_usb_device_that_is_missing_has_no_record(root: str) -> None:
    """The guest runs without it, and nothing is claimed of it at either end."""
    host = Host(root, nic())
    live = USB_BY_ID.replace("<source>", "<source startupPolicy='optional' missing='yes'>").format("")
    before = USB_BY_ID.replace("<source>", "<source startupPolicy='optional'>").format("")
    host.event(Guest(), "prepare", xml=document(before))
    for operation in ("start", "started"):
        assert host.event(Guest(), operation, xml=document(live)).code == 0
    host.event(Guest(), "release", "shutdown", xml=document(before, attributes=""))
    assert host.records == []
    _assert_as_before(host)


def test_a_hot_unplugged_device_is_given_back_all_the_same(root: str) -> None:
    """It is in the XML no more when the guest ends, but the journal entry knows it."""
    host = Host(root, workstation())
    host.libvirt.start(guest(NIC, DISK))
    host.libvirt.unplug("win11", NIC)
    host.libvirt.stop("win11")
    assert host.records == [
        f"start {NIC} success",
        f"start {DISK} success",
        f"stop {NIC} success",
        f"stop {DISK} success",
    ]
    _assert_as_before(host)


@pytest.mark.parametrize("when", ["running", "prepared"])
def test_a_device_that_vanishes_does_not_keep_the_others(root: str, when: str) -> None:
    """It was pulled out: that is logged, the rest is given back, and nothing is kept for what is gone."""
    host = Host(root, workstation())
    one = guest(NIC, DISK)
    host.event(one, "prepare")
    if when == "running":
        host.event(one, "start")
        host.event(one, "started")
    vanish(SimulatedKernel(root), NIC)
    ended = host.event(one, "release", "crashed" if when == "running" else "failed")
    assert (ended.code, ended.stderr) == (0, ())
    assert any(NIC in line and "gone" in line for line in ended.plan)
    assert host.driver(DISK) == "nvme"
    assert host.leftovers == []
    assert host.changed == [
        f"{NIC} driver: e1000e -> not there",
        f"{NIC} override: (null) -> not there",
        "sys/class/net: eth1 -> ",
    ]


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        (b"", "empty"),
        (b"<domain", "line 1"),
        (b"\0" * 100, "null"),
        (document(attributes="").replace(b"<uuid>", b"<uuid>no"), "uuid"),
    ],
    ids=["empty", "cut", "null bytes", "no UUID"],
)
def test_a_release_with_a_broken_document_gives_back_by_name(root: str, broken: bytes, why: str) -> None:
    """Argv names the guest as well; what is wrong with the document is logged."""
    host = Host(root, nic())
    host.begin(guest(NIC))
    ended = host.event(guest(NIC), "release", "shutdown", xml=broken)
    assert (ended.code, ended.stderr) == (0, ())
    assert why in ended.logged("bad document")[0]["reason"]
    assert host.records == [f"start {NIC} success", f"stop {NIC} success"]
    _assert_as_before(host)


@pytest.mark.parametrize(
    ("config", "mode"),
    [
        ("dry_run = true\n", 0o644),
        ("wrong = 1\n", 0o644),
        ("this is no TOML", 0o644),
        ("dry_run = false\n", 0o666),
        ('driver = "no/such"\n', 0o644),
        ("write_deadline = 0\n", 0o644),
    ],
)
def test_a_release_gives_back_whatever_the_configuration_says_by_then(root: str, config: str, mode: int) -> None:
    """The device was taken when it was another: that it comes back depends on nothing."""
    host = Host(root, nic())
    host.begin(guest(NIC))
    host.configure(config, mode)
    ended = host.event(guest(NIC), "release", "shutdown")
    assert (ended.code, ended.stderr) == (0, ())
    assert host.records[-1] == f"stop {NIC} success"
    _assert_as_before(host)


@pytest.mark.parametrize("operation", ["started", "reconnect"])
@pytest.mark.parametrize("config", ["wrong = 1\n", "this is no TOML"])
def test_a_broken_configuration_never_harms_a_guest_that_runs(root: str, operation: str, config: str) -> None:
    """It is logged, and the record is written with the defaults."""
    host = Host(root, nic())
    one = guest(NIC)
    host.event(one, "prepare")
    host.event(one, "start")
    host.configure(config)
    outcome = host.event(one, operation)
    assert (outcome.code, outcome.stderr) == (0, ())
    assert outcome.logged("configuration ignored")
    assert host.records == [f"start {NIC} success"]


def test_a_start_that_our_prepare_refuses_is_released_in_silence(root: str) -> None:
    """The failure was recorded when it happened; stopped and release add nothing and change nothing."""
    host = Host(root, nic(), "siblings = 1\n")
    outcome = host.libvirt.start(guest(NIC))
    assert outcome.operations == "prepare stopped release:failed"
    assert "siblings" in outcome.error
    assert host.records == [f"start {NIC} failed"]
    _assert_as_before(host)


def test_a_start_that_our_start_refuses_is_undone(root: str) -> None:
    """Somebody took the device back in between: refused, recorded, and the others given back."""
    host = Host(root, workstation())
    one = guest(NIC, DISK)
    host.event(one, "prepare")
    host.somebody_rebinds(NIC, "\n")
    refused = host.event(one, "start")
    assert refused.code == 1
    assert f"{NIC} is on e1000e" in refused.line
    assert host.records == [f"start {NIC} failed"]
    host.event(one, "stopped")
    assert host.event(one, "release", "failed").code == 0
    assert host.records == [f"start {NIC} failed", f"start {DISK} failed"]
    _assert_as_before(host)


def test_a_guest_killed_by_another_hook_at_started_is_recorded_to_its_end(root: str) -> None:
    """It had its device: a success, and then a stop, though libvirt says failed."""
    host = Host(root, nic())
    one = guest(NIC)
    for operation in ("prepare", "start", "started", "stopped"):
        host.event(one, operation)
    host.event(one, "release", "failed")
    assert host.records == [f"start {NIC} success", f"stop {NIC} success"]
    _assert_as_before(host)


@pytest.mark.parametrize("managed", [False, True])
def test_a_second_guest_is_refused_and_the_first_unharmed(root: str, managed: bool) -> None:
    """The line says who has the device; the refused guest's release does not touch it."""
    host = Host(root, nic())
    host.libvirt.start(guest(NIC))
    held = host.outcomes[-1].journal
    second = guest(NIC, managed=managed, name="second")._replace(uuid=OTHER)
    outcome = host.libvirt.start(second)
    assert outcome.operations == "prepare stopped release:failed"
    assert f"{NIC} is held by the guest win11" in outcome.error
    refusal = host.outcomes[3:]
    assert all(one.writes == () and one.changed == () for one in refusal)
    assert [record for one in refusal for record in one.records] == [
        f'virt=kvm resrc=dev reason=start vm="second" uuid={OTHER} bus=pci device="{NIC}" res=failed'
    ]
    assert refusal[-1].journal == held
    assert host.state.claims([PciAddress.parse(NIC)]) == {PciAddress.parse(NIC): (Guest().uuid, "win11")}
    host.libvirt.stop("win11")
    assert host.records[-1] == f"stop {NIC} success"
    _assert_as_before(host)


def test_guests_with_different_vfs_of_one_card_live_side_by_side(root: str) -> None:
    """Each is given its own and gives back its own."""
    host = Host(root, sriov())
    host.libvirt.start(guest(VF0))
    host.libvirt.start(guest(VF1, name="second")._replace(uuid=OTHER))
    host.libvirt.stop("win11")
    assert (host.driver(VF0), host.driver(VF1)) == ("igbvf", "vfio-pci")
    host.libvirt.stop("second")
    _assert_as_before(host)


def test_siblings_taken_along_come_back_when_the_start_fails(root: str) -> None:
    """A device of the group that the guest does not get is given back too, and has no record."""
    host = Host(root, workstation(), 'siblings = "bind"\n')
    outcome = host.libvirt.start(guest(GPU), "qemu")
    assert "told to fail" in outcome.error
    assert host.records == [f"start {GPU} failed"]
    assert not any(SOUND in record for record in host.records)
    _assert_as_before(host)


@pytest.mark.parametrize(
    "fault",
    [
        Fault("load vfio*", error="ENOENT"),
        Fault("write */driver_override vfio-pci", error="EINVAL"),
        Fault("write */unbind *", error="EIO"),
        Fault("write */unbind *", ignored=True),
        Fault(f"write */drivers_probe {NIC}", before=(("write", f"bus/pci/devices/{NIC}/driver_override", "\n"),)),
    ],
    ids=["module", "override", "unbind fails", "unbind does nothing", "somebody clears the override"],
)
def test_a_write_that_fails_undoes_what_came_before(root: str, fault: Fault) -> None:
    """Refused in a line that names the device, recorded failed, and every device back."""
    host = Host(root, workstation())
    inject(root, fault)
    outcome = host.libvirt.start(guest(DISK, NIC))
    assert outcome.operations == "prepare stopped release:failed"
    assert any(name in outcome.error for name in (NIC, DISK, "the driver vfio-pci"))
    assert sorted(host.records) == [f"start {NIC} failed", f"start {DISK} failed"]
    _assert_as_before(host)


def test_a_device_that_does_not_come_back_is_said_so(root: str) -> None:
    """The stop is recorded failed, once; the device stays in the journal, and recovering later forgets it."""
    host = Host(root, nic())
    host.libvirt.start(guest(NIC))
    inject(root, Fault("write */drivers/vfio-pci/unbind *", 0, error="EIO"))
    ended = host.libvirt.stop("win11")
    assert [call.status for call in ended.calls] == [0, 0]
    assert host.records[-1] == f"stop {NIC} failed"
    (held,) = host.outcomes[-1].journal.values()
    assert [(device.address, device.recorded) for device in held.devices] == [(NIC, "unreturned")]
    assert host.event(guest(NIC), "release", "shutdown").records == ()
    (Path(root) / "simulation" / "faults").rename(Path(root) / "simulation" / "healed")
    again = host.event(guest(NIC), "release", "shutdown")
    assert again.code == 0
    _assert_as_before(host)
