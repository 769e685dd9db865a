# SPDX-License-Identifier: LGPL-2.1-or-later
"""The simulated libvirtd calls its hook and moves devices as the real one does."""

from pathlib import Path
from xml.etree import ElementTree

import pytest
from kernel_driving import take

from libhook.simulation import faults, hosts
from libhook.simulation.build import build
from libhook.simulation.guests import Assigned, Guest
from libhook.simulation.kernel import SimulatedKernel
from libhook.simulation.libvirt import Libvirt, play
from libhook.simulation.pcilist import rebind
from libhook.simulation.snapshot import differences, snapshot
from libhook.simulation.store import shown

NIC, GPU, SOUND = "0000:01:00.0", "0000:03:00.0", "0000:03:00.1"
MANAGED = Guest("managed", (Assigned(NIC, managed=True),))
UNMANAGED = Guest("unmanaged", (Assigned(NIC),))


@pytest.fixture
def root(tmp_path: Path) -> str:
    """A workstation."""
    build(str(tmp_path), hosts.workstation())
    return str(tmp_path)


class Binder:
    """A hook that binds the NIC at prepare, gives it back at release, and fails where it is told to."""

    def __init__(self, root: str, fails: str = "", binds: bool = False) -> None:
        """``fails`` is an operation."""
        self.kernel = SimulatedKernel(root)
        self.fails = fails
        self.binds = binds
        self.documents: dict[str, bytes] = {}

    def __call__(self, name: str, operation: str, sub: str, extra: str, xml: bytes) -> tuple[int, str]:
        """What libvirt calls."""
        assert name
        assert extra
        assert sub == ("end" if operation in ("stopped", "release") else "begin")
        self.documents[operation] = xml
        if operation == self.fails:
            return 1, f"no to {operation}"
        if self.binds and operation == "prepare":
            take(self.kernel, NIC)
        if self.binds and operation == "release":
            rebind(self.kernel, NIC, "\n")
        return 0, ""


@pytest.mark.parametrize(
    ("fails", "hook_fails", "operations"),
    [
        ("", "", "prepare start started stopped release:shutdown"),
        ("validation", "", ""),
        ("", "prepare", "prepare stopped release:failed"),
        ("host", "", "prepare stopped release:failed"),
        ("", "start", "prepare start stopped release:failed"),
        ("qemu", "", "prepare start stopped release:failed"),
        ("", "started", "prepare start started stopped release:failed"),
        ("", "release", "prepare start started stopped release:shutdown"),
    ],
)
def test_hooks_are_called_in_the_order_of_the_failure_matrix(
    fails: str, hook_fails: str, operations: str, root: str
) -> None:
    """Whatever fails, the hooks seen are those of the real daemon, and a managed device is given back."""
    before = snapshot(root)
    outcome = play(root, MANAGED, Binder(root, hook_fails), fails)
    assert outcome.operations == operations
    assert bool(outcome.error) == bool(fails or hook_fails not in ("", "release"))
    assert differences(before, snapshot(root)) == []


def test_the_error_names_the_hook_and_what_it_said(root: str) -> None:
    """The line on stderr reaches the caller of virsh."""
    error = play(root, MANAGED, Binder(root, "prepare")).error
    assert error.startswith("Hook script execution failed: internal error: Child process")
    assert error.endswith("unexpected exit status 1: no to prepare")


def test_an_unmanaged_device_must_be_on_vfio(root: str) -> None:
    """Left on its host driver it is refused; bound by the hook it is accepted, and in the end all is as before."""
    before = snapshot(root)
    assert play(root, UNMANAGED, Binder(root)).error.endswith(
        f"Unmanaged PCI device {NIC} must be manually detached from the host"
    )
    assert play(root, UNMANAGED, Binder(root, binds=True)).error == ""
    assert differences(before, snapshot(root)) == []


def test_a_managed_device_is_open_in_qemu_while_the_guest_runs(root: str) -> None:
    """The group's node is open in a process, the status file is there, and both go at the end."""
    daemon = Libvirt(root, Binder(root))
    assert daemon.start(MANAGED).error == ""
    holders = [link for link in Path(root, "proc").glob("*/fd/*") if str(link.readlink()) == "/dev/vfio/12"]
    assert len(holders) == 1
    assert (holders[0].parent.parent / "comm").read_text() == "qemu-system-x86\n"
    assert Path(root, "run/libvirt/qemu/managed.xml").exists()
    daemon.stop("managed")
    assert not holders[0].parent.exists()
    assert not Path(root, "run/libvirt/qemu/managed.xml").exists()


def test_a_device_that_runs_in_one_guest_is_refused_to_another(root: str) -> None:
    """The error names the domain, and the first guest keeps the device."""
    daemon = Libvirt(root, Binder(root))
    daemon.start(MANAGED)
    second = daemon.start(Guest("second", (Assigned(NIC, managed=True),)))
    assert "in use by driver QEMU, domain managed" in second.error
    assert second.operations == "prepare stopped release:failed"
    assert shown(root, NIC) == "vfio-pci"


def test_a_group_that_is_not_viable_fails_in_qemu(root: str) -> None:
    """libvirt binds the GPU without looking at its audio function; QEMU finds out."""
    before = snapshot(root)
    outcome = play(root, Guest("half", (Assigned(GPU, managed=True),)), Binder(root))
    assert "vfio: /dev/vfio/14: Operation not permitted" in outcome.error
    assert outcome.operations == "prepare start stopped release:failed"
    assert differences(before, snapshot(root)) == []


def test_used_unmanaged_then_managed_it_stays_on_vfio(root: str) -> None:
    """The oddity of the inactive list: the entry says unmanaged, so libvirt does not give the device back."""
    binder = Binder(root, binds=True)
    daemon = Libvirt(root, binder)
    daemon.start(UNMANAGED)
    daemon.stop("unmanaged")
    assert shown(root, NIC) == "e1000e"
    binder.binds = False
    daemon.start(MANAGED)
    daemon.stop("managed")
    assert shown(root, NIC) == "vfio-pci"
    assert Path(root, f"sys/bus/pci/devices/{NIC}/driver_override").read_text() == "vfio-pci\n"


def test_an_unmanaged_device_is_not_looked_at_twice(root: str) -> None:
    """Once in the inactive list its driver is not checked, so QEMU is the one to fail."""
    binder = Binder(root, binds=True)
    daemon = Libvirt(root, binder)
    daemon.start(UNMANAGED)
    daemon.stop("unmanaged")
    binder.binds = False
    assert "QEMU" in daemon.start(UNMANAGED).error
    daemon.restart()
    assert "must be manually detached" in daemon.start(UNMANAGED).error


def test_reconnect_after_the_daemon_restarts(root: str) -> None:
    """Each running guest gets reconnect, and a hook that fails there kills it."""
    binder = Binder(root)
    daemon = Libvirt(root, binder)
    daemon.start(MANAGED)
    assert daemon.restart().operations == "reconnect"
    binder.fails = "reconnect"
    assert daemon.restart().operations == "reconnect stopped release:daemon"
    assert shown(root, NIC) == "e1000e"


def test_the_document_tells_the_stage(root: str) -> None:
    """Id while live, alias and driver from start on, all of it well-formed for each kind of device."""
    devices = (Assigned(NIC, True, "interface"), Assigned("0000:04:00.0", True, "disk"), Assigned(GPU, model="x"))
    xml = {step: Guest("a<b", devices).xml(number, prepared) for step, number, prepared in
           (("prepare", 3, False), ("start", 3, True), ("release", -1, True))}  # fmt: skip
    parsed = {step: ElementTree.fromstring(text) for step, text in xml.items()}  # noqa: S314 - our own text
    assert [tree.get("id") for tree in parsed.values()] == ["3", "3", None]
    assert [tree.find(".//interface/alias") is not None for tree in parsed.values()] == [False, True, True]
    assert parsed["start"].findtext("name") == "a<b"
    assert len(parsed["start"].findall(".//source/address")) == 3
    document = b"<domain/>"
    assert Guest(document=document).xml(1, True) == document
    binder = Binder(root)
    play(root, MANAGED, binder)
    assert b" id='1'" in binder.documents["started"]
    assert b" id=" not in binder.documents["stopped"]


def test_hot_unplug_gives_a_managed_device_back_without_a_hook(root: str) -> None:
    """The document of release no longer names it."""
    binder = Binder(root)
    daemon = Libvirt(root, binder)
    daemon.start(MANAGED)
    daemon.unplug("managed", NIC)
    assert shown(root, NIC) == "e1000e"
    daemon.stop("managed")
    assert b"<hostdev" not in binder.documents["release"]


def test_a_device_that_is_not_there_is_passed_over_until_qemu(root: str) -> None:
    """libvirt skips it without a word."""
    kernel = SimulatedKernel(root)
    faults.vanish(kernel, NIC)
    outcome = play(root, MANAGED, Binder(root))
    assert "no such host device" in outcome.error
    assert outcome.operations == "prepare start stopped release:failed"


def test_libvirt_prefers_a_variant_driver(tmp_path: Path) -> None:
    """The vfio_pci: alias with the fewest wildcards names it."""
    world = hosts.nic()._replace(variants=(("e1000e_vfio_pci", "8086:10d3"),))
    build(str(tmp_path), world)
    daemon = Libvirt(str(tmp_path), Binder(str(tmp_path)))
    assert daemon.start(MANAGED).error == ""
    assert shown(str(tmp_path), NIC) == "e1000e_vfio_pci"
