# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the tests of the simulated kernel do to it, and see of it."""

import errno
import multiprocessing
from pathlib import Path

import pytest

from libhook.simulation.kernel import SimulatedKernel

NIC, GPU, SOUND, PF, VF = "0000:01:00.0", "0000:03:00.0", "0000:03:00.1", "0000:01:00.0", "0000:01:10.0"
SOON = 5.0


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


def ended(writer: multiprocessing.process.BaseProcess) -> int | None:
    """The exit status of a writer that ends soon."""
    writer.join(SOON)
    status = writer.exitcode
    writer.close()
    return status
