# SPDX-License-Identifier: LGPL-2.1-or-later
"""Ways in which the host uses a device of its own. Each lasts as long as its block, and yields how libhook names it."""

import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from calls import holding
from host import GPU, NIC, NIC2, NVME, NVME2, PCI, XHCI, netdev_of, wait_for

Use = Callable[[Path], AbstractContextManager[str]]


def run(command: str) -> None:
    """Words without blanks; an error says what the program said."""
    done = subprocess.run(command.split(), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, f"{command}: {done.stderr}"


def disk_of(address: str) -> str:
    """The node of the disk that a controller's driver has made."""

    def found() -> list[Path]:
        return [*(PCI / "devices" / address).glob("nvme/nvme*/nvme*n*"), *disks_behind_usb()]

    def disks_behind_usb() -> Iterator[Path]:
        return (PCI / "devices" / address).glob("usb*/*/*/host*/target*/*/block/*")

    wait_for(f"a disk of {address}", found)
    node = Path("/dev", found()[0].name)
    wait_for(str(node), node.exists)
    return str(node)


@contextmanager
def _mount(address: str, folder: Path) -> Iterator[str]:
    disk = disk_of(address)
    run(f"mount -r {disk} {folder}")
    try:
        yield f"{disk} is mounted on {folder}"
    finally:
        run(f"umount {folder}")


def mounted_nvme(folder: Path) -> AbstractContextManager[str]:
    """A file system on it is mounted."""
    return _mount(NVME, folder)


def mounted_stick(folder: Path) -> AbstractContextManager[str]:
    """A file system on a stick behind it is mounted."""
    return _mount(XHCI, folder)


@contextmanager
def swap(_folder: Path) -> Iterator[str]:
    """The kernel swaps to it."""
    disk = disk_of(NVME2)
    run(f"mkswap {disk}")
    run(f"swapon {disk}")
    try:
        yield f"{disk} is used as swap"
    finally:
        run(f"swapoff {disk}")
        run(f"wipefs -qa {disk}")


@contextmanager
def logical_volume(_folder: Path) -> Iterator[str]:
    """A volume of LVM is on it."""
    disk = disk_of(NVME2)
    run(f"vgcreate -qy lab {disk}")
    try:
        run("lvcreate -qy -l 100%FREE -n volume lab")
        yield f"{disk} is part of lab-volume"
    finally:
        run("vgremove -qfy lab")
        run(f"pvremove -qy {disk}")


@contextmanager
def array(_folder: Path) -> Iterator[str]:
    """An array of MD is on it."""
    disk = disk_of(NVME2)
    run(f"mdadm --create /dev/md127 --run --force --level=1 --raid-devices=1 {disk}")
    try:
        yield f"{disk} is part of md127"
    finally:
        run("mdadm --stop /dev/md127")
        run(f"mdadm --zero-superblock {disk}")


@contextmanager
def link_up(_folder: Path) -> Iterator[str]:
    """Its interface is up, and that is all."""
    name = netdev_of(NIC)
    run(f"ip link set {name} up")
    try:
        yield name
    finally:
        run("udevadm settle --timeout=600")  # of a card that came back udev may be about to change the name
        run(f"ip link set {netdev_of(NIC)} down")


@contextmanager
def default_route(folder: Path) -> Iterator[str]:
    """The host is reached by it."""
    with link_up(folder) as name:
        run(f"ip address add 192.0.2.1/24 dev {name}")
        run(f"ip route add default via 192.0.2.254 dev {name}")
        try:
            yield f"{name} has the default route"
        finally:
            run(f"ip address flush dev {name}")


@contextmanager
def bridge(_folder: Path) -> Iterator[str]:
    """Its interface is a port of a bridge."""
    name = netdev_of(NIC2)
    run("ip link add br-lab type bridge")
    try:
        run(f"ip link set {name} master br-lab")
        yield f"{name} is in the bridge br-lab"
    finally:
        run("ip link delete br-lab")


@contextmanager
def open_card(_folder: Path) -> Iterator[str]:
    """A process shows something on it."""
    node = f"/dev/dri/{next((PCI / 'devices' / GPU / 'drm').glob('card[0-9]')).name}"
    wait_for(node, Path(node).exists)
    with holding(node) as process:
        yield f"it is open in sleep (pid {process.pid}, {node})"
