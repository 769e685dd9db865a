# SPDX-License-Identifier: LGPL-2.1-or-later
"""The simulated kernel takes modules out and back in as Linux does."""

import errno
import multiprocessing
from collections.abc import Callable
from pathlib import Path

import pytest
from family import until
from kernel_driving import GPU, ended

from libhook.simulation import faults, hosts, modules, processes
from libhook.simulation.faults import Fault
from libhook.simulation.kernel import SimulatedKernel
from libhook.simulation.store import shown
from libhook.simulation.world import Impossible, Module, World

STACK = ("nvidia_uvm", "nvidia_drm", "nvidia_modeset", "nvidia")


def _refused(kernel: SimulatedKernel, module: str) -> str:
    with pytest.raises(OSError, match=r"\w") as failure:
        kernel.unload(module)
    return errno.errorcode[failure.value.errno or 0]


def _shown(kernel: SimulatedKernel, module: str, attribute: str) -> str:
    return Path(kernel.root, "sys/module", module, attribute).read_text().strip()


def _holders(kernel: SimulatedKernel, module: str) -> set[str]:
    return {path.name for path in Path(kernel.root, "sys/module", module, "holders").iterdir()}


def test_what_needs_a_module_keeps_it(make: Callable[[World], SimulatedKernel]) -> None:
    """It goes once they are gone, in their order, and modprobe of the last one brings all that this one needs."""
    kernel = make(hosts.nvidia())
    assert _holders(kernel, "nvidia") == {"nvidia_modeset", "nvidia_uvm"}
    assert (_shown(kernel, "nvidia", "refcnt"), _shown(kernel, "nvidia", "initstate")) == ("2", "live")
    assert _refused(kernel, "nvidia") == "EAGAIN"
    assert shown(kernel.root, GPU) == "nvidia"
    for module in STACK:
        kernel.unload(module)
    assert shown(kernel.root, GPU) is None
    assert not Path(kernel.root, "sys/bus/pci/drivers/nvidia").exists()
    assert not Path(kernel.root, "dev/dri/card0").exists()
    assert not [path for path in Path(kernel.root, "sys/module").iterdir() if path.name in STACK]
    kernel.load("nvidia-drm")
    assert shown(kernel.root, GPU) == "nvidia"
    assert Path(kernel.root, "dev/dri/card0").exists()
    assert (_holders(kernel, "nvidia"), _shown(kernel, "nvidia", "refcnt")) == ({"nvidia_modeset"}, "1")


@pytest.mark.parametrize("module", ["nouveau", "i2c_nvidia_gpu", "nvme", "nvidia-drm-2"])
def test_what_is_not_there_or_built_in_cannot_be_taken_out(
    make: Callable[[World], SimulatedKernel], module: str
) -> None:
    """The kernel knows no module of that name."""
    assert _refused(make(hosts.nvidia()), module) == "ENOENT"


def test_a_module_in_use_stays_as_it_is(make: Callable[[World], SimulatedKernel]) -> None:
    """Somebody has a node open that its driver made, or it has another user."""
    kernel = make(hosts.workstation())
    pid = processes.spawn(kernel.root, "Xorg")
    processes.open_file(kernel.root, pid, "/dev/dri/card0")
    assert (_refused(kernel, "amdgpu"), _shown(kernel, "amdgpu", "refcnt")) == ("EAGAIN", "1")
    processes.end(kernel.root, pid)
    modules.use(kernel.root, "amdgpu", 1)
    assert (_refused(kernel, "amdgpu"), _shown(kernel, "amdgpu", "refcnt")) == ("EAGAIN", "1")
    assert shown(kernel.root, GPU) == "amdgpu"
    modules.use(kernel.root, "amdgpu", 0)
    kernel.unload("amdgpu")
    assert shown(kernel.root, GPU) is None


def test_the_exit_of_a_module_waits_for_its_devices(make: Callable[[World], SimulatedKernel]) -> None:
    """It is going meanwhile, nobody else can take it out, and a load waits for it."""
    kernel = make(hosts.workstation())
    faults.hold(kernel.root, GPU)
    fork = multiprocessing.get_context("fork")
    going = fork.Process(target=kernel.unload, args=("amdgpu",))
    going.start()
    until(lambda: _shown(kernel, "amdgpu", "initstate") == "going")
    assert _refused(kernel, "amdgpu") == "EBUSY"
    loading = fork.Process(target=kernel.load, args=("amdgpu",))
    loading.start()
    loading.join(0.2)
    assert (going.is_alive(), loading.is_alive()) == (True, True)
    faults.let_go(kernel.root, GPU)
    assert (ended(going), ended(loading), shown(kernel.root, GPU)) == (0, 0, "amdgpu")


def test_taking_out_fails_as_it_is_told_to(make: Callable[[World], SimulatedKernel]) -> None:
    """And as somebody else's it is his problem."""
    kernel = make(hosts.workstation())
    faults.inject(kernel.root, Fault("unload amdgpu", error="EPERM"), Fault("unload amdgpu", nth=2, ignored=True))
    assert _refused(kernel, "amdgpu") == "EPERM"
    kernel.unload("amdgpu")
    assert shown(kernel.root, GPU) == "amdgpu"
    modules.take_out(kernel, "nouveau")
    kernel.unload("amdgpu")
    assert shown(kernel.root, GPU) is None


def test_no_module_is_loaded_without_what_it_needs(make: Callable[[World], SimulatedKernel]) -> None:
    """Such a host cannot be."""
    one = hosts.nic()._replace(modules=(Module("nvidia", loaded=False), Module("nvidia_drm", needs=("nvidia",))))
    with pytest.raises(Impossible, match="the module nvidia_drm is loaded without nvidia, which it needs"):
        make(one)
