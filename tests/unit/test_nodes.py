# SPDX-License-Identifier: LGPL-2.1-or-later
"""What hangs below a PCI function and who has it open, in small hand-made trees."""

import os
from pathlib import Path

import hanging
import overdue
import pytest

from libhook.children.child import Deadline
from libhook.children.tracks import run
from libhook.errors import DeadlineExpired
from libhook.facts.address import PciAddress
from libhook.facts.host import Binding, PciDevice, Use
from libhook.facts.machine import Machine
from libhook.look import holders, nodes, uses
from libhook.look.nodes import Node
from libhook.simulation import processes
from libhook.simulation.kernel import SimulatedKernel

pytestmark = pytest.mark.usefixtures("childless")

ADDRESS = PciAddress.parse("0000:01:00.0")
FUNCTION = f"sys/devices/pci0000:00/{ADDRESS}"
DEVICE = PciDevice(ADDRESS, Binding("some", ""), 0x010802, 7, False, "vfio-pci", None, ())


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A host with one function and nothing below it."""
    (tmp_path / FUNCTION).mkdir(parents=True)
    (tmp_path / "sys/bus/pci/devices").mkdir(parents=True)
    (tmp_path / "sys/bus/pci/devices" / str(ADDRESS)).symlink_to(tmp_path / FUNCTION)
    (tmp_path / "proc").mkdir()
    return Machine(str(tmp_path), SimulatedKernel(str(tmp_path)))


def _make(machine: Machine, folder: str, kind: str, node: str = "") -> Path:
    path = Path(machine.root, folder)
    path.mkdir(parents=True, exist_ok=True)
    (path / "subsystem").symlink_to(f"/sys/class/{kind}")
    (path / "uevent").write_text(f"MAJOR=1\nDEVNAME={node}\n" if node else "")
    if node:
        (path / "dev").write_text("1:1\n")
    return path


def _open(machine: Machine, path: str, number: str) -> None:
    """Process 5 has this device open, by this node."""
    node = Path(machine.root + path)
    node.parent.mkdir(parents=True, exist_ok=True)
    node.write_text(number)
    processes.add(machine.root, 5, "tool", [path])


def _below(machine: Machine) -> tuple[Node, ...]:
    (found,) = run([nodes.below(machine, ADDRESS)], Deadline.after(60))
    assert not isinstance(found, int)
    return found


def _uses(machine: Machine, deadline: Deadline | None = None) -> tuple[Use, ...]:
    return uses.of_devices(machine, [DEVICE], deadline or Deadline.after(60))[ADDRESS]


def _paths(machine: Machine) -> set[str]:
    return {node.path for node in _below(machine)}


def test_a_disk_behind_vmd_is_seen(machine: Machine) -> None:
    """Functions of another domain hang below the controller, and go with it."""
    inner = f"{FUNCTION}/pci10000:e0/10000:e0:06.0/10000:e1:00.0"
    for folder in (inner, os.path.dirname(inner)):
        _make(machine, folder, "pci")
        Path(machine.root, folder, "driver_override").write_text("(null)\n")
    disk = _make(machine, f"{inner}/nvme/nvme0/nvme0n1", "block", "nvme0n1")
    assert _below(machine) == (
        Node(
            f"{machine.sys}/bus/pci/devices/{ADDRESS}{str(disk).split(str(ADDRESS))[1]}",
            "block",
            "/dev/nvme0n1",
            "b 1:1",
        ),
    )


def test_the_group_of_a_mediated_device_is_known(machine: Machine) -> None:
    """Its parent may not lose its driver while somebody has that node open; by its cdev it is seen as well."""
    folder = _make(machine, f"{FUNCTION}/a6a0b3b2-6c4e-4b1c-9d0f-0c7d2b1f5e11", "mdev")
    (folder / "iommu_group").symlink_to("/sys/kernel/iommu_groups/40")
    cdev = os.path.relpath(folder, machine.root)
    _make(machine, f"{cdev}/vfio-dev/vfio3", "vfio-dev", "vfio/devices/vfio3")
    assert {(node.kind, node.path) for node in _below(machine)} == {
        ("vfio", "/dev/vfio/40"),
        ("vfio-dev", "/dev/vfio/devices/vfio3"),
    }
    assert f"{machine.sys}/class/vfio/40" in {node.folder for node in _below(machine)}


def test_a_disk_that_several_ways_lead_to_is_seen(machine: Machine) -> None:
    """Of NVMe's native multipath only a hidden way is below the function; the disk's partitions count as well."""
    head = _make(machine, "sys/devices/virtual/nvme-subsystem/nvme-subsys1/nvme1n2", "block", "nvme1n2")
    _make(machine, "sys/devices/virtual/nvme-subsystem/nvme-subsys1/nvme1n2/nvme1n2p1", "block", "nvme1n2p1")
    Path(machine.sys, "class/block").mkdir(parents=True)
    Path(machine.sys, "class/block/nvme1n2").symlink_to(head)
    _make(machine, f"{FUNCTION}/nvme/nvme0/nvme1c0n2", "block")
    assert _paths(machine) == {"/dev/nvme1n2", "/dev/nvme1n2p1"}


def test_a_disk_behind_five_hubs_is_seen(machine: Machine) -> None:
    """Which is as many as USB allows."""
    hubs = "usb3/3-1/3-1.2/3-1.2.3/3-1.2.3.4/3-1.2.3.4.1/3-1.2.3.4.1.2/3-1.2.3.4.1.2:1.0"
    disk = f"{FUNCTION}/{hubs}/host6/target6:0:0/6:0:0:0/block/sdb"
    _make(machine, disk, "block", "sdb")
    _make(machine, f"{disk}/sdb1", "block", "sdb1")
    assert _paths(machine) == {"/dev/sdb", "/dev/sdb1"}


def test_nvidias_node_is_known_from_its_number(machine: Machine) -> None:
    """Its driver tells /proc, not /sys."""
    folder = Path(machine.proc, f"driver/nvidia/gpus/{ADDRESS}")
    folder.mkdir(parents=True)
    (folder / "information").write_text("Model: x\nDevice Minor: \t 2\n")
    assert _paths(machine) == {"/dev/nvidia2"}


def test_what_goes_while_it_is_looked_at_is_passed_over(machine: Machine) -> None:
    """A node whose uevent is gone, a GPU of NVIDIA's whose driver is, a function that was pulled out."""
    _make(machine, f"{FUNCTION}/net/eth1", "net")
    (_make(machine, f"{FUNCTION}/drm/card0", "drm", "dri/card0") / "uevent").unlink()
    Path(machine.proc, f"driver/nvidia/gpus/{ADDRESS}").mkdir(parents=True)
    assert [(node.name, node.path) for node in _below(machine)] == [("eth1", "")]
    assert [use.what for use in _uses(machine)] == []
    Path(machine.proc, f"driver/nvidia/gpus/{ADDRESS}").rmdir()
    Path(machine.sys, f"bus/pci/devices/{ADDRESS}").unlink()
    assert _below(machine) == ()


def test_nothing_below_costs_no_child(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does a function that vfio has."""
    Path(machine.root, FUNCTION, "power").mkdir()
    _make(machine, f"{FUNCTION}/vfio-dev/vfio0", "vfio-dev", "vfio/devices/vfio0")
    monkeypatch.delattr(os, "fork")
    assert _below(machine) == ()


def test_a_device_that_cannot_be_looked_at_is_taken_to_hang(machine: Machine) -> None:
    """Its name is said, and nobody waits for it beyond the deadline."""
    folder = _make(machine, f"{FUNCTION}/drm/card0", "drm", "dri/card0")
    (folder / "uevent").unlink()
    os.mkfifo(folder / "uevent")
    hanging.late_at_a_pipe()
    with pytest.raises(DeadlineExpired, match=f"{ADDRESS} hangs"):
        _uses(machine)
    hanging.answer(folder / "uevent")
    os.waitpid(-1, 0)


def test_a_disk_that_does_not_answer_is_taken_for_in_use(machine: Machine) -> None:
    """Nobody waits for it beyond the deadline, and it is said."""
    _make(machine, f"{FUNCTION}/nvme/nvme0/nvme0n1", "block", "nvme0n1")
    silent, begun = Path(machine.root, "silent"), Path(machine.root, "begun")
    os.mkfifo(silent)

    class Silent(SimulatedKernel):
        def open_exclusively(self, node: str) -> None:
            assert node == "/dev/nvme0n1"
            begun.touch()
            os.close(os.open(silent, os.O_RDONLY))

    overdue.when(begun.exists)
    (use,) = _uses(machine._replace(kernel=Silent(machine.root)))
    assert use[:2] == ("storage", "/dev/nvme0n1 cannot be opened to see whether it is in use (Connection timed out)")
    hanging.answer(silent)
    os.waitpid(-1, 0)


@pytest.mark.parametrize("kind", ["sound", "input", "hidraw", "usb", "usbmisc", "drm", "nvme", "i2c-dev"])
def test_only_what_is_not_taken_away_is_in_the_way(machine: Machine, kind: str) -> None:
    """PipeWire always has a card's controls open, and logind every keyboard: their drivers let go all the same."""
    _make(machine, f"{FUNCTION}/{kind}/x", kind, "x")
    _open(machine, "/dev/x", "c 1:1")
    counts = kind in ("drm", "nvme", "i2c-dev")
    assert [use.what for use in _uses(machine)] == (["it is open in tool (pid 5, /dev/x)"] if counts else [])


def test_a_process_that_ends_while_it_is_looked_at_holds_nothing(machine: Machine) -> None:
    """Its folder is there and what it had open is not; the others are looked at."""
    Path(machine.proc, "4").mkdir()
    _open(machine, "/dev/x", "c 1:1")
    assert [holder.pid for holder in holders.of_nodes(machine, {"c 1:1": "/dev/x"}, Deadline.after(200))] == [5]


@pytest.mark.parametrize(("name", "number"), [("7", "c 243:7"), ("noiommu-7", "c 243:9"), ("devices/vfio3", "c 511:3")])
@pytest.mark.parametrize("modern", [True, False])
def test_vfios_nodes_are_known(machine: Machine, name: str, number: str, modern: bool) -> None:
    """The group's on every kernel, with and without an IOMMU; the device's own since 6.6."""
    function = Path(machine.root, FUNCTION)
    (function / "iommu_group").symlink_to("/sys/kernel/iommu_groups/7")
    (function / "driver").symlink_to("/sys/bus/pci/drivers/vfio-pci")
    for group, shown in (("7", "243:7"), ("noiommu-7", "243:9")):
        folder = Path(machine.sys, "class/vfio", group)
        folder.mkdir(parents=True)
        (folder / "dev").write_text(f"{shown}\n")
    if modern:
        (function / "vfio-dev/vfio3").mkdir(parents=True)
        (function / "vfio-dev/vfio3/dev").write_text("511:3\n")
    _open(machine, f"/dev/vfio/{name}", number)
    found = holders.of_vfio(machine, [ADDRESS], Deadline.after(200))
    assert found == ({ADDRESS: f"tool (pid 5, /dev/vfio/{name})"} if modern or "/" not in name else {})


@pytest.mark.parametrize(("driver", "node"), [("", "devices/vfio3"), ("other", "devices/vfio3"), ("other", "7")])
def test_vfios_nodes_are_known_whatever_the_driver_is_called(machine: Machine, driver: str, node: str) -> None:
    """A driver for some model need not have vfio in its name; and one that is just being removed has lost its link."""
    function = Path(machine.root, FUNCTION)
    (function / "iommu_group").symlink_to("/sys/kernel/iommu_groups/7")
    if driver:
        (function / "driver").symlink_to(f"/sys/bus/pci/drivers/{driver}")
    for folder, number in ((Path(machine.sys, "class/vfio/7"), "243:7"), (function / "vfio-dev/vfio3", "511:3")):
        folder.mkdir(parents=True)
        (folder / "dev").write_text(f"{number}\n")
    _open(machine, f"/dev/vfio/{node}", "c 243:7" if node == "7" else "c 511:3")
    found = holders.of_vfio(machine, [ADDRESS], Deadline.after(200))
    assert found == {ADDRESS: f"tool (pid 5, /dev/vfio/{node})"}


def test_a_host_without_vfio_has_none_of_its_nodes(machine: Machine) -> None:
    """Whatever else drives the device: its group's node may be another device's, or nobody's."""
    function = Path(machine.root, FUNCTION)
    (function / "iommu_group").symlink_to("/sys/kernel/iommu_groups/7")
    (function / "driver").symlink_to("/sys/bus/pci/drivers/e1000e")
    folder = Path(machine.sys, "class/vfio/7")
    folder.mkdir(parents=True)
    (folder / "dev").write_text("243:7\n")
    _open(machine, "/dev/vfio/7", "c 243:7")
    assert holders.of_vfio(machine, [ADDRESS], Deadline.after(200)) == {}


@pytest.mark.parametrize(
    ("name", "disk"),
    [
        ("nvme0c1n1", "nvme0n1"),
        ("nvme12c3n45", "nvme12n45"),
        *((name, "") for name in ("nvme0n1", "nvme0", "nvme0c1", "nvmec1n1", "nvme0cn1", "0c1n1", "nvme0c1n1p1", "")),
    ],
)
def test_a_hidden_way_names_its_disk(name: str, disk: str) -> None:
    """By the numbers of its subsystem and namespace; no other name does."""
    assert nodes._disk_behind(name) == disk
