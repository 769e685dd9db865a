# SPDX-License-Identifier: LGPL-2.1-or-later
"""Moves that fail where no plan foresees it: no time, no process, a holder that stays, a driver that is not vfio."""

import errno
import os
import shutil
import time
from unittest import mock

import hanging
import overdue
import pytest
from cases import DISK, GPU, NIC, SOUND
from scenario import Host, guest, reap

from libhook.children import child
from libhook.children.child import Deadline
from libhook.children.tracks import Pause
from libhook.errors import BUSY, KERNEL_LOG, LIMITS, WHEN_IT_ANSWERS
from libhook.facts.address import PciAddress
from libhook.facts.config import Config
from libhook.facts.host import Binding
from libhook.kinds import module
from libhook.kinds.kind import Failure, Work
from libhook.kinds.module import Load
from libhook.kinds.pci.binding import carry_out
from libhook.kinds.pci.move import Move
from libhook.simulation import faults, processes
from libhook.simulation.hosts import workstation
from libhook.story.session import make_state

VFIO = Binding("vfio-pci", "vfio-pci")


def _work(host: Host, seconds: float, holder_wait: float = 0) -> Work:
    config = Config(holder_wait=holder_wait)
    return Work(host.machine, make_state(host.machine), Deadline.after(seconds), config, guest().uuid)


def _move(address: str, driver: str, want: Binding) -> Move:
    """With its override set already, so that what comes first is to take it off its driver."""
    return Move(PciAddress.parse(address), Binding(driver, want.override), want, "")


def test_a_module_whose_loading_does_not_end_is_left_behind(root: str) -> None:
    """Who waits for it waits until the deadline, and is told of the module."""
    host = Host(root, workstation())
    faults.inject(root, faults.Fault("load vfio_pci", before=hanging.HANG))
    hanging.late(root)
    (outcome,) = module.carry_out(_work(host, 60), [Load("vfio-pci")])
    assert outcome.failure == Failure("loading the module vfio_pci does not end", KERNEL_LOG)
    hanging.let_go(root)
    assert reap(60)


def test_a_module_for_which_no_time_is_left_is_not_loaded(root: str) -> None:
    """Nothing is begun then, and that is what is said."""
    host = Host(root, workstation())
    (outcome,) = module.carry_out(_work(host, 0), [Load("vfio-pci")])
    assert outcome.failure == Failure("the deadline passed before the module vfio_pci was loaded", KERNEL_LOG)
    assert host.changed == []


def test_a_driver_that_is_no_vfio_driver_is_not_taken_for_one(root: str) -> None:
    """A device that is on the driver it was to have cannot be handed over if that makes no vfio node of it."""
    host = Host(root, workstation())
    (outcome,) = carry_out(_work(host, 60), [_move(NIC, "e1000e", Binding("e1000e", ""))])
    assert outcome.failure == Failure(f"{NIC}: e1000e is not a vfio driver", KERNEL_LOG)


def test_a_device_that_cannot_be_looked_at_is_not_taken_off_its_driver(
    root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever might have it open is not known: without a process to look, nothing is written."""
    host = Host(root, workstation())
    work = _work(host, 60)

    def refuse() -> int:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    monkeypatch.setattr(os, "fork", refuse)
    (outcome,) = carry_out(work, [_move(DISK, "nvme", VFIO)])
    what = f"its nodes cannot be listed ({os.strerror(errno.EAGAIN)})"
    assert outcome.failure == Failure(f"{DISK}: {what}", LIMITS)
    assert host.driver(DISK) == "nvme"


def test_who_has_it_open_until_the_deadline_is_named(root: str) -> None:
    """Also where holder_wait would have been longer; the device stays on its driver."""
    host = Host(root, workstation())
    processes.open_file(root, processes.spawn(root, "smartd"), "/dev/nvme0n1")

    def late(seconds: float) -> Pause:
        overdue.when(lambda: True)
        return Pause(seconds)

    with mock.patch("libhook.look.waiting.Pause", late):
        (outcome,) = carry_out(_work(host, 60, holder_wait=3600), [_move(DISK, "nvme", VFIO)])
    assert outcome.failure == Failure(
        f"{DISK} is still in use by smartd (pid 2000, /dev/nvme0n1)", "stop what uses it, then start the guest again"
    )
    assert host.driver(DISK) == "nvme"


def test_a_device_on_its_way_back_is_left_to_whoever_has_set_its_override(root: str) -> None:
    """No driver takes it then, and that is no failure: he decides what drives it."""
    world = workstation()
    devices = tuple(
        device._replace(driver="vfio-pci", override="vfio-pci") if device.address == NIC else device
        for device in world.devices
    )
    host = Host(root, world._replace(devices=devices, vfio_loaded=True))
    host.somebody_writes(f"bus/pci/devices/{NIC}/driver_override", "pci-stub")
    now, want = Binding("vfio-pci", "pci-stub"), Binding("e1000e", "pci-stub")
    (outcome,) = carry_out(_work(host, 60), [Move(PciAddress.parse(NIC), now, want, "", back=True)])
    assert outcome.failure is None
    assert host.driver(NIC) == "none"


@pytest.mark.parametrize("strictness", ["warn", "off"])
def test_a_gpu_is_taken_from_who_shows_on_it_where_that_is_consented_to(root: str, strictness: str) -> None:
    """Nobody waits for the screen's process then; any other device's holder is waited for as ever."""
    host = Host(root, workstation(), f'holder_wait = 0.05\npreflight.display = "{strictness}"\n')
    processes.open_file(root, processes.spawn(root, "Xorg"), "/dev/dri/card0")
    outcome = host.event(guest(GPU, SOUND), "prepare")
    assert (outcome.code, outcome.stderr) == (0, ())
    assert host.driver(GPU) == "vfio-pci"
    processes.open_file(root, processes.spawn(root, "smartd"), "/dev/nvme0n1")
    refused = host.event(guest(DISK, name="other")._replace(uuid="11111111-2222-3333-4444-555555555555"), "prepare")
    assert refused.code == 1
    assert "smartd" in refused.line


@pytest.mark.parametrize("back", [True, False])
def test_a_device_that_shall_have_no_driver_is_not_taken_from_who_has_it_open(root: str, back: bool) -> None:
    """As one that had none before: it comes off its driver only once nobody uses it."""
    world = workstation()
    devices = tuple(
        device._replace(driver="vfio-pci", override="vfio-pci") if device.address == NIC else device
        for device in world.devices
    )
    host = Host(root, world._replace(devices=devices, vfio_loaded=True))
    group = os.path.basename(os.readlink(f"{host.machine.sys}/bus/pci/devices/{NIC}/iommu_group"))
    qemu = processes.spawn(root, "qemu")
    processes.open_file(root, qemu, f"/dev/vfio/{group}")
    move = Move(PciAddress.parse(NIC), Binding("vfio-pci", ""), Binding(None, ""), "", back=back)
    (outcome,) = carry_out(_work(host, 60), [move])
    assert outcome.failure == Failure(
        f"{NIC} is in use by qemu (pid {qemu}, /dev/vfio/{group})", "stop what uses it, then start the guest again"
    )
    assert host.driver(NIC) == "vfio-pci"
    processes.end(root, qemu)
    (outcome,) = carry_out(_work(host, 60), [move])
    assert (outcome.failure, host.driver(NIC)) == (None, "none")


def test_without_the_folder_of_marks_no_device_is_moved(root: str) -> None:
    """Somebody removed the journal just before the first write: no other process would see that it is on its way."""
    host = Host(root, workstation())
    work = _work(host, 20)
    shutil.rmtree(f"{root}/run/libhook")
    (outcome,) = carry_out(work, [_move(NIC, "e1000e", VFIO)])
    assert outcome.failure == Failure(f"{NIC}: {host.state.missing}", "start the guest again")
    assert host.driver(NIC) == "e1000e"


def test_a_device_with_a_write_on_its_way_is_left_alone(root: str) -> None:
    """One that began after this event looked."""
    host = Host(root, workstation())
    work, go = _work(host, 20), f"{root}/go"

    def write() -> None:
        while os.path.isdir(root) and not os.path.exists(go):
            time.sleep(0.005)

    other = child.spawn(write, host.state.in_flight_path(NIC))
    (outcome,) = carry_out(work, [_move(NIC, "e1000e", VFIO)])
    remedy = WHEN_IT_ANSWERS
    assert outcome.failure == Failure(f"{NIC}{BUSY}", remedy)
    assert host.changed == []
    os.close(os.open(go, os.O_CREAT | os.O_WRONLY))
    assert child.ended([other.handle], Deadline.after(200))
    other.result()


def test_where_no_descriptor_is_left_the_limits_are_named(root: str) -> None:
    """The kernel's log would say nothing of that."""
    host = Host(root, workstation())
    with mock.patch("os.memfd_create", side_effect=OSError(errno.EMFILE, os.strerror(errno.EMFILE))):
        (outcome,) = carry_out(_work(host, 20), [_move(NIC, "e1000e", VFIO)])
    assert outcome.failure is not None
    assert outcome.failure.remedy == LIMITS
    assert host.driver(NIC) == "e1000e"
