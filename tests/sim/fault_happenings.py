# SPDX-License-Identifier: LGPL-2.1-or-later
"""What happens on the host between two calls of the hook, or is spoilt before one; and how each is mended."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

from cases import NIC
from scenario import Host, guest

from libhook.simulation import devices, modules, processes
from libhook.simulation.faults import vanish
from libhook.simulation.hosts import nic
from libhook.simulation.kernel import SimulatedKernel

Happening = Callable[[Host], None]
_RECORD = f"domains/{guest(NIC).uuid}.json"


@contextmanager
def spoilt(host: Host, path_of: str, text: bytes | None, *, more: bool = False) -> Iterator[None]:
    """A file reads so for as long as the block lasts; ``more``: after what is in it; None: it is gone."""
    (path,) = Path(host.root).glob(path_of)
    aside = Path(host.root, "simulation", "aside")
    path.rename(aside)
    if text is not None:
        path.write_bytes((aside.read_bytes() if more else b"") + text)
    yield
    if text is None and path.exists():
        aside.unlink()  # the kernel has written it anew
    else:
        aside.rename(path)


@contextmanager
def without_log(_host: Host) -> Iterator[None]:
    """The system's log does not take anything."""
    with mock.patch.object(SimulatedKernel, "log", side_effect=ConnectionRefusedError):
        yield


def lose_everything(host: Host) -> None:
    """Somebody clears /run."""
    shutil.rmtree(host.machine.state)


def lose_the_entry(host: Host) -> None:
    """Or only that one file."""
    Path(host.machine.state, _RECORD).unlink()


def empty_the_entry(host: Host) -> None:
    """As a tool that truncates files does."""
    Path(host.machine.state, _RECORD).write_bytes(b"")


def boot_anew(host: Host) -> None:
    """The boot id is another, as if /run had outlived a boot that changed nothing else."""
    path = Path(host.root, "proc/sys/kernel/random/boot_id")
    path.write_text("11111111-2222-4333-8444-555555555555\n")


def reattach(host: Host) -> None:
    """``virsh nodedev-reattach``."""
    to_driver("\n", host)


def to_driver(override: str, host: Host) -> None:
    """What every script on the net does, and forgets."""
    host.somebody_rebinds(NIC, override)


def set_override(override: str, host: Host) -> None:
    """That alone: it takes effect at the next probe."""
    host.somebody_writes(f"bus/pci/devices/{NIC}/driver_override", override)


def pull(host: Host) -> None:
    """The device is pulled out."""
    vanish(SimulatedKernel(host.root), NIC)


def replace(ids: str, host: Host) -> None:
    """And another one of these ids is put into its slot."""
    pull(host)
    (device,) = nic().devices
    devices.add(host.root, device._replace(driver=None, ids=ids, group=99), nic().drivers)
    SimulatedKernel(host.root).probe(NIC)


def unload(driver: str, host: Host) -> None:
    """``rmmod``."""
    modules.take_out(SimulatedKernel(host.root, by="administrator"), driver)


def load(driver: str, host: Host) -> None:
    """``modprobe``."""
    SimulatedKernel(host.root).load(driver)


def restart_libvirtd(host: Host) -> None:
    """Its guests live on."""
    host.libvirt.restart()


def give_its_pid_away(host: Host) -> None:
    """The libvirtd that began has ended, and a later process has its number."""
    pid = host.libvirt.pid
    processes.end(host.root, pid)
    processes.add(host.root, pid, "bash", started=1 << 40)
    host.libvirt.restart()


def configure(text: str, host: Host) -> None:
    """The configuration changes while the guest has its devices."""
    host.configure(text)


def mend_configuration(host: Host) -> None:
    """Without one everything is as by default."""
    Path(host.machine.config).unlink()
