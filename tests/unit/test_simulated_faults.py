# SPDX-License-Identifier: LGPL-2.1-or-later
"""The simulated kernel is slow, hangs and fails as Linux does, and as it is told to."""

import errno
import multiprocessing
import os
import time
from collections.abc import Callable
from pathlib import Path
from threading import Event, Timer

import pytest
from family import until
from kernel_driving import GPU, NIC, PF, VF, ended, in_background, refused, take

from libhook.simulation import faults, hosts, processes, store, vfio
from libhook.simulation.faults import Fault
from libhook.simulation.kernel import SimulatedKernel
from libhook.simulation.pcilist import rebind
from libhook.simulation.snapshot import differences, snapshot
from libhook.simulation.store import shown
from libhook.simulation.world import World


def test_unbinding_what_a_guest_has_open_waits_for_the_guest(make: Callable[[World], SimulatedKernel]) -> None:
    """The writer sleeps until the process that holds the device ends."""
    kernel = make(hosts.nic())
    take(kernel, NIC)
    processes.add(kernel.root, 2000, "qemu-system-x86", ["/dev/vfio/12"])
    vfio.claim(kernel.root, 12, 2000, (NIC,))
    writer = in_background(kernel, "bus/pci/drivers/vfio-pci/unbind", NIC)
    until(lambda: shown(kernel.root, NIC) is None)
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
    until(lambda: shown(kernel.root, NIC) is None and override.is_fifo())
    assert any("in the kernel still e1000e" in line for line in snapshot(kernel.root).values())
    second = in_background(kernel, f"bus/pci/devices/{NIC}/driver_override", "vfio-pci")
    reader = multiprocessing.get_context("fork").Process(target=override.read_text)
    reader.start()
    take(kernel, GPU)
    assert shown(kernel.root, GPU) == "vfio-pci"
    assert hung.is_alive()
    assert second.is_alive()
    assert reader.is_alive()
    faults.let_go(kernel.root, NIC)
    assert [ended(process) for process in (hung, second, reader)] == [0, 0, 0]
    assert store.bound(kernel.root, NIC) is None
    assert override.read_text() == "vfio-pci\n"


def test_drivers_take_their_time_side_by_side(make: Callable[[World], SimulatedKernel]) -> None:
    """Of eight that hang, unbound from eight processes, each goes on when it alone is let go."""
    kernel = make(hosts.many(8))
    addresses = os.listdir(f"{kernel.root}/sys/bus/pci/devices")
    for address in addresses:
        faults.hold(kernel.root, address)
    writers = [in_background(kernel, f"bus/pci/devices/{address}/driver/unbind", address) for address in addresses]
    until(lambda: all(shown(kernel.root, address) is None for address in addresses))
    for number in range(8, 0, -1):
        assert all(writer.is_alive() for writer in writers[:number])
        faults.let_go(kernel.root, addresses[number - 1])
        assert ended(writers[number - 1]) == 0


def test_a_slow_driver_keeps_writer_and_reader_waiting(make: Callable[[World], SimulatedKernel]) -> None:
    """Until the device lets go; its override is read meanwhile."""
    kernel = make(hosts.nic())
    faults.hold(kernel.root, NIC)
    writer = in_background(kernel, "bus/pci/drivers/e1000e/unbind", NIC)
    override = Path(kernel.root, f"sys/bus/pci/devices/{NIC}/driver_override")
    until(override.is_fifo)
    letting_go = Event()

    def let_go() -> None:
        letting_go.set()
        faults.let_go(kernel.root, NIC)

    Timer(0.5, let_go).start()
    assert override.read_text() == "(null)\n"
    assert letting_go.is_set()
    assert ended(writer) == 0


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
    rebind(kernel, NIC, "\n")
    assert differences(before, snapshot(kernel.root)) == []


def test_a_probe_that_fails_leaves_no_driver(make: Callable[[World], SimulatedKernel]) -> None:
    """The write to drivers_probe succeeds, the one to bind tells the errno, and no link stays."""
    kernel = make(hosts.nic())
    faults.behave(kernel.root, "devices", NIC, refuses={"vfio-pci": "EINVAL"})
    take(kernel, NIC)
    assert shown(kernel.root, NIC) is None
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
    assert shown(kernel.root, NIC) == "e1000e"
    log = store.lines(f"{kernel.root}/var/log/writes.jsonl")
    assert {line["by"] for line in log} == {"libhook", "somebody else"}


def test_a_write_that_succeeds_and_does_nothing(make: Callable[[World], SimulatedKernel]) -> None:
    """The probe is swallowed: no driver, no error."""
    kernel = make(hosts.nic())
    faults.inject(kernel.root, Fault("write bus/pci/drivers_probe *", ignored=True))
    take(kernel, NIC)
    assert shown(kernel.root, NIC) is None


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
    assert shown(kernel.root, NIC) == "vfio-pci"


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


def test_unbinding_a_pf_waits_for_the_guest_of_a_vf(make: Callable[[World], SimulatedKernel]) -> None:
    """The PF's driver removes its VFs first, and one of them is open in a guest; then they are gone."""
    kernel = make(hosts.sriov())
    take(kernel, VF)
    group = int(Path(kernel.root, "sys/bus/pci/devices", VF, "iommu_group").readlink().name)
    vfio.claim(kernel.root, group, 2000, (VF,))
    hung = in_background(kernel, "bus/pci/drivers/igb/unbind", PF)
    numvfs = Path(kernel.root, f"sys/bus/pci/devices/{PF}/sriov_numvfs")
    until(numvfs.is_fifo)
    assert hung.is_alive()
    vfio.release(kernel.root, group, VF)
    assert ended(hung) == 0
    assert numvfs.read_text() == "0\n"
    assert not Path(kernel.root, "sys/bus/pci/devices", VF).exists()
