# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the tests of the simulated kernel do to it, and see of it."""

import errno
import multiprocessing

import pytest

from libhook.simulation.kernel import SimulatedKernel
from libhook.simulation.pcilist import rebind

NIC, GPU, SOUND, PF, VF = "0000:01:00.0", "0000:03:00.0", "0000:03:00.1", "0000:01:00.0", "0000:01:10.0"
SOON = 60.0


def take(kernel: SimulatedKernel, address: str) -> None:
    """Bind a device to vfio-pci as libvirt and libhook do."""
    kernel.load("vfio-pci")
    rebind(kernel, address, "vfio-pci")


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
