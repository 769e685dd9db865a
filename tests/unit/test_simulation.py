# SPDX-License-Identifier: LGPL-2.1-or-later
"""The simulated kernel answers as Linux does: each fact that libhook relies on, and each fault it must survive."""

import errno
import multiprocessing
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from libhook.simulation import faults, hosts, processes, store, vfio
from libhook.simulation.build import build, scratch
from libhook.simulation.faults import Fault
from libhook.simulation.kernel import SimulatedKernel
from libhook.simulation.snapshot import differences, snapshot
from libhook.simulation.world import BRIDGE, Device, Driver, Impossible, World

NIC, GPU, SOUND, PF, VF = "0000:01:00.0", "0000:03:00.0", "0000:03:00.1", "0000:01:00.0", "0000:01:10.0"
SOON = 5.0


@pytest.fixture
def make() -> Iterator[Callable[[World], SimulatedKernel]]:
    """Build a host and give its kernel. When the folder goes, so does what a writer of a failed test waits for."""
    roots = []

    def made(world: World) -> SimulatedKernel:
        roots.append(scratch())
        build(roots[-1], world)
        return SimulatedKernel(roots[-1])

    yield made
    for root in roots:
        shutil.rmtree(root, ignore_errors=True)


def driver(kernel: SimulatedKernel, address: str) -> str | None:
    """What /sys says."""
    link = Path(kernel.root, "sys/bus/pci/devices", address, "driver")
    return link.readlink().name if link.is_symlink() else None


def take(kernel: SimulatedKernel, address: str) -> None:
    """Bind a device to vfio-pci as libvirt and libhook do."""
    kernel.load("vfio-pci")
    kernel.write(f"bus/pci/devices/{address}/driver_override", "vfio-pci")
    if driver(kernel, address):
        kernel.write(f"bus/pci/devices/{address}/driver/unbind", address)
    kernel.write("bus/pci/drivers_probe", address)


def give_back(kernel: SimulatedKernel, address: str) -> None:
    """The way back."""
    kernel.write(f"bus/pci/devices/{address}/driver_override", "\n")
    kernel.write("bus/pci/drivers/vfio-pci/unbind", address)
    kernel.write("bus/pci/drivers_probe", address)


def refused(kernel: SimulatedKernel, path: str, value: str) -> str:
    """The errno's name that a write gives."""
    with pytest.raises(OSError, match=r"\w") as failure:
        kernel.write(path, value)
    return errno.errorcode[failure.value.errno or 0]


def in_background(kernel: SimulatedKernel, path: str, value: str) -> multiprocessing.process.BaseProcess:
    """Write in a process of its own."""
    writer = multiprocessing.get_context("fork").Process(target=kernel.write, args=(path, value))
    writer.start()
    return writer


def eventually(true: Callable[[], bool]) -> bool:
    """Whether it becomes true soon."""
    end = time.monotonic() + SOON
    while not true():
        if time.monotonic() > end:
            return False
        time.sleep(0.005)
    return True


def ended(writer: multiprocessing.process.BaseProcess) -> int | None:
    """The exit status of a writer that ends soon."""
    writer.join(SOON)
    status = writer.exitcode
    writer.close()
    return status


@pytest.mark.parametrize("name", hosts.HOSTS)
def test_each_host_gives_a_device_to_vfio_and_takes_it_back(
    name: str, make: Callable[[World], SimulatedKernel]
) -> None:
    """The sequence of libvirt changes driver, override and nodes on every example host, and undoes all of it."""
    kernel = make(hosts.HOSTS[name]())
    before = snapshot(kernel.root)
    address = max(os.listdir(f"{kernel.root}/sys/bus/pci/devices"))
    take(kernel, address)
    assert driver(kernel, address) == "vfio-pci"
    assert {what.split(" ")[-1] for what in differences(before, snapshot(kernel.root))} != set()
    group = Path(kernel.root, "sys/bus/pci/devices", address, "iommu_group").readlink().name
    assert Path(kernel.root, "dev/vfio", group).exists()
    give_back(kernel, address)
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
    kernel.write(f"bus/pci/devices/{NIC}/driver_override", "pci-stub")
    kernel.write(f"bus/pci/devices/{NIC}/driver/unbind", NIC)
    kernel.write("bus/pci/drivers_probe", NIC)
    assert driver(kernel, NIC) is None
    assert refused(kernel, "bus/pci/drivers/e1000e/bind", NIC) == "ENODEV"


def test_vfio_binds_by_override_only(make: Callable[[World], SimulatedKernel]) -> None:
    """Without an override vfio-pci does not match, by probe or by name."""
    kernel = make(hosts.nic()._replace(vfio_loaded=True))
    kernel.write("bus/pci/drivers/e1000e/unbind", NIC)
    assert refused(kernel, "bus/pci/drivers/vfio-pci/bind", NIC) == "ENODEV"
    kernel.write("bus/pci/drivers_probe", NIC)
    assert driver(kernel, NIC) == "e1000e"


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
    assert driver(kernel, NIC) == "vfio-pci"


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
    assert driver(kernel, SOUND) is None
    assert Path(kernel.root, "dev/vfio/14").exists()
    vfio.release(kernel.root, 14)
    kernel.write("bus/pci/drivers_probe", SOUND)
    assert driver(kernel, SOUND) == "snd_hda_intel"


def test_unbinding_what_a_guest_has_open_waits_for_the_guest(make: Callable[[World], SimulatedKernel]) -> None:
    """The writer sleeps until the process that holds the device ends."""
    kernel = make(hosts.nic())
    take(kernel, NIC)
    processes.add(kernel.root, 2000, "qemu-system-x86", ["/dev/vfio/12"])
    vfio.claim(kernel.root, 12, 2000, (NIC,))
    writer = in_background(kernel, "bus/pci/drivers/vfio-pci/unbind", NIC)
    assert eventually(lambda: driver(kernel, NIC) is None)
    time.sleep(0.05)
    assert writer.is_alive()
    assert store.bound(kernel.root, NIC) == "vfio-pci"
    processes.end(kernel.root, 2000)
    assert ended(writer) == 0
    assert not Path(kernel.root, "dev/vfio/12").exists()


def test_a_driver_that_does_not_let_go_blocks_its_device_and_no_other(
    make: Callable[[World], SimulatedKernel],
) -> None:
    """The link is gone at once, later writes and locked reads sleep, other devices go on, and the write lands late."""
    kernel = make(hosts.workstation())
    faults.hold(kernel.root, NIC)
    hung = in_background(kernel, f"bus/pci/devices/{NIC}/driver/unbind", NIC)
    override = Path(kernel.root, f"sys/bus/pci/devices/{NIC}/driver_override")
    assert eventually(lambda: driver(kernel, NIC) is None and override.is_fifo())
    assert any("in the kernel still e1000e" in line for line in snapshot(kernel.root).values())
    second = in_background(kernel, f"bus/pci/devices/{NIC}/driver_override", "vfio-pci")
    reader = multiprocessing.get_context("fork").Process(target=override.read_text)
    reader.start()
    take(kernel, GPU)
    assert driver(kernel, GPU) == "vfio-pci"
    assert hung.is_alive()
    assert second.is_alive()
    assert reader.is_alive()
    faults.let_go(kernel.root, NIC)
    assert [ended(process) for process in (hung, second, reader)] == [0, 0, 0]
    assert store.bound(kernel.root, NIC) is None
    assert override.read_text() == "vfio-pci\n"


def test_drivers_take_their_time_side_by_side(make: Callable[[World], SimulatedKernel]) -> None:
    """Eight devices whose driver takes 0.4 s to let go are unbound in the time of two, from eight processes."""
    kernel = make(hosts.many(8, remove=0.4))
    addresses = os.listdir(f"{kernel.root}/sys/bus/pci/devices")
    began = time.monotonic()
    writers = [in_background(kernel, f"bus/pci/devices/{address}/driver/unbind", address) for address in addresses]
    assert {ended(writer) for writer in writers} == {0}
    assert 0.4 <= time.monotonic() - began < 0.8


def test_a_slow_driver_keeps_writer_and_reader_waiting(make: Callable[[World], SimulatedKernel]) -> None:
    """A device that lets go after 0.6 s, and a read of its override meanwhile."""
    kernel = make(hosts.nic())
    faults.behave(kernel.root, "devices", NIC, remove=0.6)
    began = time.monotonic()
    writer = in_background(kernel, "bus/pci/drivers/e1000e/unbind", NIC)
    override = Path(kernel.root, f"sys/bus/pci/devices/{NIC}/driver_override")
    assert eventually(override.is_fifo)
    assert override.read_text() == "(null)\n"
    assert ended(writer) == 0
    assert time.monotonic() - began >= 0.6


def test_many_writers_leave_no_half_state(make: Callable[[World], SimulatedKernel]) -> None:
    """Processes that bind and give back one device at once never tear a file or lose a link."""
    kernel = make(hosts.nic()._replace(vfio_loaded=True))
    before = snapshot(kernel.root)

    def storm() -> None:
        for _ in range(15):
            for path, value in (
                (f"devices/{NIC}/driver_override", "vfio-pci"),
                ("drivers/e1000e/unbind", NIC),
                ("drivers_probe", NIC),
                (f"devices/{NIC}/driver_override", "\n"),
                ("drivers/vfio-pci/unbind", NIC),
                ("drivers_probe", NIC),
            ):
                try:
                    kernel.write(f"bus/pci/{path}", value)
                except OSError as error:
                    if error.errno != errno.ENODEV:
                        raise

    storms = [multiprocessing.get_context("fork").Process(target=storm) for _ in range(3)]
    for process in storms:
        process.start()
    assert [ended(process) for process in storms] == [0, 0, 0]
    kernel.write(f"bus/pci/devices/{NIC}/driver_override", "\n")
    if driver(kernel, NIC) != "e1000e":
        if driver(kernel, NIC):
            kernel.write("bus/pci/drivers/vfio-pci/unbind", NIC)
        kernel.write("bus/pci/drivers_probe", NIC)
    assert differences(before, snapshot(kernel.root)) == []


def test_a_probe_that_fails_leaves_no_driver(make: Callable[[World], SimulatedKernel]) -> None:
    """The write to drivers_probe succeeds, the one to bind tells the errno, and no link stays."""
    kernel = make(hosts.nic())
    faults.behave(kernel.root, "devices", NIC, refuses={"vfio-pci": "EINVAL"})
    take(kernel, NIC)
    assert driver(kernel, NIC) is None
    assert store.bound(kernel.root, NIC) is None
    assert refused(kernel, "bus/pci/drivers/vfio-pci/bind", NIC) == "EINVAL"
    with pytest.raises(ValueError, match="does not know colour"):
        faults.behave(kernel.root, "devices", NIC, colour="red")


@pytest.mark.parametrize("error", ["EACCES", "EBUSY", "ENODEV", "ENOENT", "EIO", "EINVAL"])
def test_an_error_at_the_second_write_that_matches(error: str, make: Callable[[World], SimulatedKernel]) -> None:
    """Only the call that was told to fail does, with that errno, and it changes nothing."""
    kernel = make(hosts.nic())
    faults.inject(kernel.root, Fault("write */driver_override *", nth=2, error=error))
    path = f"bus/pci/devices/{NIC}/driver_override"
    kernel.write(path, "vfio-pci")
    assert refused(kernel, path, "\n") == error
    assert Path(kernel.root, "sys", path).read_text() == "vfio-pci\n"
    kernel.write(path, "\n")
    answers = [line["answer"] for line in store.lines(f"{kernel.root}/var/log/writes.jsonl")]
    assert answers == ["ok", error, "ok"]


def test_somebody_else_interferes(make: Callable[[World], SimulatedKernel]) -> None:
    """After an unbind udev takes the override away and probes, so that the host driver is back."""
    kernel = make(hosts.nic())
    deeds = (("write", f"bus/pci/devices/{NIC}/driver_override", "\n"), ("write", "bus/pci/drivers_probe", NIC))
    faults.inject(kernel.root, Fault("write */unbind *", after=deeds))
    take(kernel, NIC)
    assert driver(kernel, NIC) == "e1000e"
    log = store.lines(f"{kernel.root}/var/log/writes.jsonl")
    assert {line["by"] for line in log} == {"libhook", "somebody else"}


def test_a_write_that_succeeds_and_does_nothing(make: Callable[[World], SimulatedKernel]) -> None:
    """The probe is swallowed: no driver, no error."""
    kernel = make(hosts.nic())
    faults.inject(kernel.root, Fault("write bus/pci/drivers_probe *", ignored=True))
    take(kernel, NIC)
    assert driver(kernel, NIC) is None


def test_a_device_vanishes_between_two_writes(make: Callable[[World], SimulatedKernel]) -> None:
    """It is gone from every folder, and the next write finds no file."""
    kernel = make(hosts.nic())
    faults.inject(kernel.root, Fault("write */unbind *", before=(("vanish", NIC),)))
    with pytest.raises(FileNotFoundError):
        take(kernel, NIC)
    found = [path for path in Path(kernel.root, "sys").rglob("*") if NIC in path.name]
    assert found == []
    assert not Path(kernel.root, "sys/kernel/iommu_groups/12").exists()


def test_the_writer_is_killed(make: Callable[[World], SimulatedKernel]) -> None:
    """SIGKILL after the third write leaves what the three have done."""
    kernel = make(hosts.nic())
    faults.inject(kernel.root, Fault("write *", nth=3, after=(("kill", "writer"),)))
    writer = multiprocessing.get_context("fork").Process(target=take, args=(kernel, NIC))
    writer.start()
    assert ended(writer) == -9
    assert driver(kernel, NIC) == "vfio-pci"


def test_audit_records_are_numbered_and_can_be_lost(make: Callable[[World], SimulatedKernel]) -> None:
    """Serials count from 1; a fault says what record returns, and then nothing is recorded."""
    kernel = make(hosts.nic())
    assert kernel.record("one", True) == 1
    faults.inject(kernel.root, Fault("record *", returns=-errno.EPERM), Fault("record *", nth=2, returns=0))
    assert kernel.record("two", False) == -errno.EPERM
    assert kernel.record("three", False) == 0
    faults.heal(kernel.root)
    assert kernel.record("four", False) == 2
    trail = [(line["text"], line["success"]) for line in store.lines(f"{kernel.root}/var/log/audit.jsonl")]
    assert trail == [("one", True), ("four", False)]


def test_virtual_functions_come_and_go(make: Callable[[World], SimulatedKernel]) -> None:
    """sriov_numvfs makes VFs on their driver, goes to another number only by way of 0, and knows its limit."""
    kernel = make(hosts.sriov(vfs=0))
    path = f"bus/pci/devices/{PF}/sriov_numvfs"
    kernel.write(path, "2")
    assert driver(kernel, VF) == "igbvf"
    assert refused(kernel, path, "3") == "EBUSY"
    assert refused(kernel, path, "9") == "ERANGE"
    kernel.write(path, "0")
    assert not Path(kernel.root, "sys/bus/pci/devices", VF).exists()
    kernel.write("bus/pci/drivers/igb/unbind", PF)
    assert refused(kernel, path, "2") == "ENOENT"


def test_unbinding_a_pf_waits_for_the_guest_of_a_vf(make: Callable[[World], SimulatedKernel]) -> None:
    """The PF's driver removes its VFs first, and one of them is open in a guest; then they are gone."""
    kernel = make(hosts.sriov())
    take(kernel, VF)
    group = int(Path(kernel.root, "sys/bus/pci/devices", VF, "iommu_group").readlink().name)
    vfio.claim(kernel.root, group, 2000, (VF,))
    hung = in_background(kernel, "bus/pci/drivers/igb/unbind", PF)
    numvfs = Path(kernel.root, f"sys/bus/pci/devices/{PF}/sriov_numvfs")
    assert eventually(numvfs.is_fifo)
    assert hung.is_alive()
    vfio.release(kernel.root, group)
    assert ended(hung) == 0
    assert numvfs.read_text() == "0\n"
    assert not Path(kernel.root, "sys/bus/pci/devices", VF).exists()


@pytest.mark.parametrize(
    ("world", "why"),
    [
        (World((Device(NIC, "e1000e"),)), "not loaded"),
        (World((Device(NIC, "e1000e"),), (Driver("e1000e", ("8086:1",)),)), "does not know 8086:10d3"),
        (World((Device(NIC, "vfio-pci"),), vfio_loaded=True), "by override only"),
        (World((Device(NIC, "e1000e", override="vfio-pci"),), (hosts.E1000E,)), "its override says vfio-pci"),
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
    assert driver(kernel, NIC) is None
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
