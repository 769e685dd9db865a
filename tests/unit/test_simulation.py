# SPDX-License-Identifier: LGPL-2.1-or-later
"""The simulated kernel answers as Linux does: each fact that libhook relies on."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kernel_driving import GPU, NIC, PF, SOUND, VF, refused, take

from libhook.facts.host import Trail
from libhook.simulation import hosts, vfio
from libhook.simulation.build import build
from libhook.simulation.kernel import SimulatedKernel
from libhook.simulation.pcilist import rebind
from libhook.simulation.snapshot import differences, snapshot
from libhook.simulation.store import shown
from libhook.simulation.world import BRIDGE, Device, Driver, Impossible, World


@pytest.mark.parametrize("name", hosts.HOSTS)
def test_each_host_gives_a_device_to_vfio_and_takes_it_back(
    name: str, make: Callable[[World], SimulatedKernel]
) -> None:
    """The sequence of libvirt changes driver, override and nodes on every example host, and undoes all of it."""
    kernel = make(hosts.HOSTS[name]())
    before = snapshot(kernel.root)
    address = max(os.listdir(f"{kernel.root}/sys/bus/pci/devices"))
    take(kernel, address)
    assert shown(kernel.root, address) == "vfio-pci"
    assert {what.split(" ")[-1] for what in differences(before, snapshot(kernel.root))} != set()
    group = Path(kernel.root, "sys/bus/pci/devices", address, "iommu_group").readlink().name
    assert Path(kernel.root, "dev/vfio", group).exists()
    rebind(kernel, address, "\n")
    assert differences(before, snapshot(kernel.root)) == []


def test_files_read_as_in_sysfs(make: Callable[[World], SimulatedKernel]) -> None:
    """Ids, class, header type, links to group, PF and VFs are where the kernel puts them."""
    kernel = make(hosts.sriov())
    pci = Path(kernel.root, "sys/bus/pci/devices")
    assert (pci / PF / "vendor").read_text() == "0x8086\n"
    assert (pci / PF / "modalias").read_text().startswith("pci:v00008086d000010C9sv")
    assert (pci / PF / "driver_override").read_text() == "(null)\n"
    assert len((pci / PF / "config").read_bytes()) == 64
    assert (pci / PF / "virtfn0").resolve() == (pci / VF).resolve()
    assert (pci / VF / "physfn").resolve() == (pci / PF).resolve()
    assert (pci / VF / "driver").resolve() == Path(kernel.root, "sys/bus/pci/drivers/igbvf").resolve()
    group = (pci / VF / "iommu_group").resolve()
    assert [entry.resolve() for entry in (group / "devices").iterdir()] == [(pci / VF).resolve()]
    assert (pci / PF / "net/eth1/device").resolve() == (pci / PF).resolve()


def test_header_type_of_a_bridge(make: Callable[[World], SimulatedKernel]) -> None:
    """A bridge says so at 0x0e of its configuration space, where libvirt looks."""
    kernel = make(hosts.bridge_group())
    assert Path(kernel.root, "sys/bus/pci/devices/0000:05:00.0/config").read_bytes()[14] == 1


def test_override_admits_only_its_driver(make: Callable[[World], SimulatedKernel]) -> None:
    """With an override no other driver is probed, even one whose ids match; the write succeeds all the same."""
    kernel = make(hosts.nic())
    rebind(kernel, NIC, "pci-stub")
    assert shown(kernel.root, NIC) is None
    assert refused(kernel, "bus/pci/drivers/e1000e/bind", NIC) == "ENODEV"


def test_vfio_binds_by_override_only(make: Callable[[World], SimulatedKernel]) -> None:
    """Without an override vfio-pci does not match, by probe or by name."""
    kernel = make(hosts.nic()._replace(vfio_loaded=True))
    kernel.write("bus/pci/drivers/e1000e/unbind", NIC)
    assert refused(kernel, "bus/pci/drivers/vfio-pci/bind", NIC) == "ENODEV"
    kernel.write("bus/pci/drivers_probe", NIC)
    assert shown(kernel.root, NIC) == "e1000e"


def test_override_limits(make: Callable[[World], SimulatedKernel]) -> None:
    """A page is too long, a line feed clears, and an empty string is a mistake of the caller's."""
    kernel = make(hosts.nic())
    path = f"bus/pci/devices/{NIC}/driver_override"
    assert refused(kernel, path, "x" * 4095) == "EINVAL"
    kernel.write(path, "vfio-pci\n")
    assert Path(kernel.root, "sys", path).read_text() == "vfio-pci\n"
    kernel.write(path, "\n")
    assert Path(kernel.root, "sys", path).read_text() == "(null)\n"
    with pytest.raises(ValueError, match="empty string"):
        kernel.write(path, "")


def test_refusals(make: Callable[[World], SimulatedKernel]) -> None:
    """Each write that cannot be is answered with the kernel's errno."""
    kernel = make(hosts.nic())
    assert refused(kernel, "bus/pci/drivers/vfio-pci/unbind", NIC) == "ENOENT"
    kernel.load("vfio_pci")
    assert refused(kernel, "bus/pci/drivers/vfio-pci/unbind", NIC) == "ENODEV"
    assert refused(kernel, "bus/pci/drivers/e1000e/bind", NIC) == "EBUSY"
    assert refused(kernel, "bus/pci/drivers_probe", "0000:09:00.0") == "ENODEV"
    assert refused(kernel, "bus/pci/devices/0000:09:00.0/driver_override", "vfio-pci") == "ENOENT"
    assert refused(kernel, f"bus/pci/devices/{NIC}/class", "0x0") == "EACCES"
    kernel.write(f"bus/pci/devices/{NIC}/driver/unbind", NIC)
    assert refused(kernel, f"bus/pci/devices/{NIC}/driver/unbind", NIC) == "ENOENT"
    with pytest.raises(FileNotFoundError):
        kernel.load("nvidia")


def test_loading_a_driver_offers_it_the_devices_that_wait(make: Callable[[World], SimulatedKernel]) -> None:
    """A device without driver whose override names vfio-pci is bound when the module comes."""
    kernel = make(hosts.nic())
    kernel.write(f"bus/pci/devices/{NIC}/driver_override", "vfio-pci")
    kernel.write("bus/pci/drivers/e1000e/unbind", NIC)
    kernel.load("vfio-pci")
    assert shown(kernel.root, NIC) == "vfio-pci"


def test_a_group_with_a_host_driver_in_it_is_not_viable(make: Callable[[World], SimulatedKernel]) -> None:
    """A guest cannot claim the GPU while its audio function is on a normal driver; a bridge's pcieport is fine."""
    kernel = make(hosts.workstation())
    take(kernel, GPU)
    with pytest.raises(PermissionError):
        vfio.claim(kernel.root, 14, 2000, (GPU,))
    take(kernel, SOUND)
    vfio.claim(kernel.root, 14, 2000, (GPU, SOUND))
    with pytest.raises(OSError, match="busy"):
        vfio.claim(kernel.root, 14, 2001, (GPU,))


def test_a_claimed_group_keeps_host_drivers_out(make: Callable[[World], SimulatedKernel]) -> None:
    """While a guest owns the group a sibling cannot be probed by a normal driver: EBUSY by name."""
    kernel = make(hosts.workstation())
    take(kernel, GPU)
    take(kernel, SOUND)
    vfio.claim(kernel.root, 14, 2000, (GPU,))
    kernel.write(f"bus/pci/devices/{SOUND}/driver_override", "\n")
    kernel.write("bus/pci/drivers/vfio-pci/unbind", SOUND)
    assert refused(kernel, "bus/pci/drivers_probe", SOUND) == "EINVAL"
    assert refused(kernel, "bus/pci/drivers/snd_hda_intel/bind", SOUND) == "EBUSY"
    assert shown(kernel.root, SOUND) is None
    assert Path(kernel.root, "dev/vfio/14").exists()
    vfio.release(kernel.root, 14, GPU)
    kernel.write("bus/pci/drivers_probe", SOUND)
    assert shown(kernel.root, SOUND) == "snd_hda_intel"


def test_virtual_functions_come_and_go(make: Callable[[World], SimulatedKernel]) -> None:
    """sriov_numvfs makes VFs on their driver, goes to another number only by way of 0, and knows its limit."""
    kernel = make(hosts.sriov(vfs=0))
    path = f"bus/pci/devices/{PF}/sriov_numvfs"
    kernel.write(path, "2")
    assert shown(kernel.root, VF) == "igbvf"
    assert refused(kernel, path, "3") == "EBUSY"
    assert refused(kernel, path, "9") == "ERANGE"
    kernel.write(path, "0")
    assert not Path(kernel.root, "sys/bus/pci/devices", VF).exists()
    kernel.write("bus/pci/drivers/igb/unbind", PF)
    assert refused(kernel, path, "2") == "ENOENT"


@pytest.mark.parametrize(
    ("world", "why"),
    [
        (World((Device(NIC, "e1000e"),)), "not loaded"),
        (World((Device(NIC, "e1000e"),), (Driver("e1000e", ("8086:1",)),)), "does not know 8086:10d3"),
        (World((Device(NIC, "vfio-pci"),), vfio_loaded=True), "by override only"),
        (World((Device(NIC), Device(NIC))), "2 times"),
        (World((Device(VF, physfn=PF),)), "which is not there"),
        (World((Device(PF, totalvfs=2), Device(VF, physfn=PF))), "not among the 0 VFs"),
        (World((Device(PF, totalvfs=2, numvfs=2),)), "knows SR-IOV"),
        (World((Device(NIC, class_=BRIDGE),)), "does not go with class"),
        (World((Device(NIC, group=1),), iommu=False), "without an IOMMU"),
    ],
)
def test_impossible_hosts_are_refused(world: World, why: str, tmp_path: Path) -> None:
    """A host that cannot be is not built, and the reason is said."""
    with pytest.raises(Impossible, match=why):
        build(str(tmp_path / "host"), world)
    assert not (tmp_path / "host").exists()


def test_without_an_iommu_nothing_can_be_bound(make: Callable[[World], SimulatedKernel]) -> None:
    """No groups, and vfio-pci's probe fails."""
    kernel = make(hosts.many(1, remove=0)._replace(iommu=False, devices=(Device(NIC, "e1000e"),)))
    take(kernel, NIC)
    assert shown(kernel.root, NIC) is None
    assert not Path(kernel.root, "sys/class/iommu").exists()


def test_a_large_host_costs_a_write_nothing(
    make: Callable[[World], SimulatedKernel], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With 2,048 functions a device's bind opens as many files and reads as many folders as with one."""
    touched: list[str] = []

    def watched(call: Callable[..., Any]) -> Callable[..., Any]:
        def watching(path: str, *rest: int) -> object:
            touched.append(path)
            return call(path, *rest)

        return watching

    small, large = (make(hosts.many(count, remove=0, vfio_loaded=True)) for count in (1, 2048))
    costs = []
    for kernel in (small, large):
        with monkeypatch.context() as patch:
            patch.setattr(os, "open", watched(os.open))
            patch.setattr(os, "listdir", watched(os.listdir))
            take(kernel, "0000:00:00.0")
        costs.append([path.replace(os.path.basename(kernel.root), "") for path in touched])
        touched.clear()
    assert costs[0] == costs[1] != []


def test_the_trail_is_what_it_was_told_to_be(make: Callable[[World], SimulatedKernel]) -> None:
    """Healthy unless simulation/trail says otherwise; null there is a kernel that does not answer."""
    kernel = make(hosts.nic())
    assert kernel.trail() == Trail(enabled=True, daemon=1, lost=0)
    said = Path(kernel.root, "simulation/trail")
    said.write_text('{"enabled": false, "daemon": 0, "lost": 7}')
    assert kernel.trail() == Trail(enabled=False, daemon=0, lost=7)
    said.write_text("null")
    assert kernel.trail() is None


def test_a_block_device_that_somebody_has_claimed_is_busy(make: Callable[[World], SimulatedKernel]) -> None:
    """Opening it alone is refused while simulation/claimed has its name, and only then."""
    kernel = make(hosts.workstation())
    kernel.open_exclusively("/dev/nvme0n1")
    claimed = Path(kernel.root, "simulation/claimed")
    claimed.mkdir()
    (claimed / "nvme0n1").write_text("EBUSY")
    with pytest.raises(OSError, match="busy"):
        kernel.open_exclusively("/dev/nvme0n1")
    kernel.open_exclusively("/dev/nvme0n1p1")


def test_what_a_driver_makes_of_a_device_says_its_class_and_node(make: Callable[[World], SimulatedKernel]) -> None:
    """A disk and a DRM card have a dev, and their node's name in uevent; a network interface has no node."""
    kernel = make(hosts.workstation())
    classes = Path(kernel.root, "sys/class")
    for kind, uevent in (("block", "DEVNAME=nvme0n1\n"), ("drm", "DEVNAME=dri/card0\n"), ("net", "INTERFACE=eth1\n")):
        (child,) = (classes / kind).iterdir()
        assert (child / "uevent").read_text() == uevent
        assert (child / "subsystem").resolve() == (classes / kind).resolve()
        assert (child / "dev").exists() == (kind != "net")
        if kind != "net":
            assert Path(kernel.root, "dev", uevent.strip().removeprefix("DEVNAME=")).exists()


def test_a_value_is_kept_where_there_is_such_a_file(make: Callable[[World], SimulatedKernel]) -> None:
    """As a sysctl that takes whatever it is given."""
    kernel = make(hosts.nic())
    path = f"{kernel.root}/proc/sys/vm"
    os.makedirs(path)
    Path(path, "swappiness").write_text("60\n")
    kernel.set_value("/proc/sys/vm/swappiness", "10")
    assert Path(path, "swappiness").read_text() == "10\n"
    kernel.set_value("/proc/sys/vm/swappiness", "")
    assert Path(path, "swappiness").read_text() == "10\n", "a write of no bytes reaches no handler"
    with pytest.raises(FileNotFoundError):
        kernel.set_value("/proc/sys/vm/no_such", "10")
