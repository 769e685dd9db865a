# SPDX-License-Identifier: LGPL-2.1-or-later
"""Disks that the kernel has open without a claim: behind loop devices, and exported."""

import os
from collections.abc import Callable, Iterable
from pathlib import Path

import hanging
import pytest
from cases import DISK
from command import libhook
from scenario import Host, guest, reap

from libhook.children import tracks
from libhook.children.child import Deadline
from libhook.look import exports
from libhook.simulation.hosts import NVME_DRIVER
from libhook.simulation.kernel import SimulatedKernel
from libhook.simulation.world import NVME, Device, World

Arrange = Callable[[str], None]


def _host(root: str, config: str = "") -> Host:
    """A disk with a partition, and the controller's own node."""
    children = (("block", "nvme0n1"), ("block", "nvme0n1p1"), ("nvme", "nvme0"))
    host = Host(root, World((Device(DISK, "nvme", 15, NVME, "144d:a808", children=children),), (NVME_DRIVER,)), config)
    Path(root, f"sys/bus/pci/devices/{DISK}/nvme/nvme0/nvme0n1p1/partition").write_text("1\n")
    _write(root, "dev/disk/by-id/x", None, link="../../nvme0n1p1")
    return host


def _write(root: str, path: str, text: str | None, link: str = "") -> None:
    file = Path(root, path)
    file.parent.mkdir(parents=True, exist_ok=True)
    if text is None:
        file.symlink_to(link)
    else:
        file.write_text(f"{text}\n")


def _loop(path: str, number: int = 3) -> Arrange:
    return lambda root: _write(root, f"sys/block/loop{number}/loop/backing_file", path)


def _nvmet(part: str, path: str, enable: str = "1") -> Arrange:
    def arrange(root: str) -> None:
        folder = f"sys/kernel/config/nvmet/subsystems/nqn.2014\x07x/{part}"
        _write(root, f"{folder}/device_path", path)
        _write(root, f"{folder}/enable", enable)

    return arrange


def _lio(path: str) -> Arrange:
    return lambda root: _write(root, "sys/kernel/config/target/core/fileio_0/disk/udev_path", path)


def _gadget(path: str) -> Arrange:
    return lambda root: _write(root, "sys/kernel/config/usb_gadget/g1/functions/mass_storage.0/lun.0/file", path)


USES = {
    "loop": (_loop("/dev/nvme0n1"), "/dev/nvme0n1 is behind /dev/loop3"),
    "loop on a partition": (_loop("/dev/nvme0n1p1"), "/dev/nvme0n1p1 is behind /dev/loop3"),
    "loop, the node removed": (_loop("/dev/nvme0n1 (deleted)"), "/dev/nvme0n1 is behind /dev/loop3"),
    "nvmet": (
        _nvmet("namespaces/1", "/dev/disk/by-id/x"),
        '/dev/nvme0n1p1 is exported by nvmet as "nqn.2014\\x07x"',
    ),
    "nvmet, the controller": (_nvmet("passthru", "/dev/nvme0"), '/dev/nvme0 is exported by nvmet as "nqn.2014\\x07x"'),
    "LIO": (_lio("/dev/nvme0n1"), "/dev/nvme0n1 is exported by LIO as fileio_0/disk"),
    "USB gadget": (_gadget("/dev/nvme0n1"), "/dev/nvme0n1 is exported by the USB gadget g1"),
}


@pytest.mark.parametrize("name", USES)
def test_a_disk_that_the_kernel_has_open_is_in_use(root: str, name: str) -> None:
    """Though it could be opened exclusively; to be shown, refused, and consented to like any other use."""
    arrange, said = USES[name]
    host = _host(root)
    arrange(root)
    refused = host.event(guest(DISK), "prepare")
    assert refused.line.startswith(f"{DISK} is in use by the host: {said}: free it first")
    assert refused.writes == ()
    assert said in libhook(host, "devices").out
    host.configure('[domains.win11.preflight]\nstorage = "warn"\n')
    warned = host.event(guest(DISK), "prepare")
    assert warned.code == 0
    assert f"warning: {DISK} is in use by the host: {said}" in warned.plan


@pytest.mark.parametrize(
    "arrange",
    [
        _loop("/srv/image"),
        _loop("/dev/nvme0n10"),
        _loop("/srv/nvme0n1"),
        _lio("/dev/shm/nvme0n1"),
        _nvmet("namespaces/1", "/dev/nvme0n1", enable="0"),
        _nvmet("namespaces/1", "/srv/image"),
        _lio("/dev/sdz"),
    ],
)
def test_another_disk_is_in_nobodys_way(root: str, arrange: Arrange) -> None:
    """Nor one that is not exported yet, nor a file: what it is on is mounted."""
    host = _host(root)
    arrange(root)
    host.begin(guest(DISK))


def test_what_a_loop_device_shows_is_not_believed(root: str) -> None:
    """A user's own file may be called /dev/nvme0n1 in a mount namespace of his: the kernel knows that it is no disk."""
    host = _host(root)
    _loop("/dev/nvme0n1", 1)(root)
    Path(root, "simulation/loops").mkdir()
    Path(root, "simulation/loops/loop1").write_text("ENODEV")
    host.begin(guest(DISK))
    host.event(guest(DISK), "release", "shutdown")
    _loop("/dev/nvme0n1", 2)(root)
    assert "/dev/nvme0n1 is behind /dev/loop2:" in host.event(guest(DISK), "prepare").line


@pytest.mark.parametrize("loops", [1, 40])
def test_a_loop_device_that_does_not_answer_delays_nobody_for_long(
    root: str, loops: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is on a file system that a user has mounted. All of a lot are waited for together, and no lot for long."""
    host = _host(root, "write_deadline = 600\n")
    host.patience = 0
    lots = list[int]()

    def late(some: "Iterable[tracks.Track[bool]]", deadline: Deadline) -> list[bool]:
        lot = list(some)
        lots.append(len(lot))
        hanging.late_at_a_pipe(hanging.at_a_pipe() + len(lot), exports._PATIENCE + 1)
        return tracks.run(lot, deadline)

    monkeypatch.setattr("libhook.look.exports.run", late)
    silent = Path(root, "silent")
    os.mkfifo(silent)
    for number in range(loops):
        _loop("/dev/nvme0n1", number)(root)
    monkeypatch.setattr(SimulatedKernel, "expect_behind_loop", lambda *_: os.close(os.open(silent, os.O_RDONLY)))
    outcome = host.event(guest(DISK), "prepare")
    hanging.answer(silent)
    assert (outcome.code, lots) == (0, [1] if loops == 1 else [32, 8])
    assert reap(60)


def test_a_configfs_that_does_not_answer_refuses(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root made it, and nobody knows what is exported; where it is only shown, the rest is."""
    host = _host(root)
    _nvmet("namespaces/1", "/dev/nvme0n1")(root)
    enable = Path(root, "sys/kernel/config/nvmet/subsystems/nqn.2014\x07x/namespaces/1/enable")
    enable.unlink()
    os.mkfifo(enable)
    monkeypatch.setattr(exports, "_PATIENCE", 1.0)
    host.patience = 0
    hanging.late_at_a_pipe()
    refused = host.event(guest(DISK), "prepare")
    assert "the kernel does not say which disks it exports" in refused.line
    assert refused.writes == ()
    assert "behind" not in libhook(host, "devices").out
    hanging.answer(enable)
    assert reap(60)
