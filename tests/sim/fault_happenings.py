# SPDX-License-Identifier: LGPL-2.1-or-later
"""What happens on the host between two calls of the hook, or is spoilt before one; and how each is mended."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple
from unittest import mock

from cases import NIC
from scenario import Host, guest

from libhook.simulation import devices, modules, processes
from libhook.simulation.faults import vanish
from libhook.simulation.hosts import nic
from libhook.simulation.kernel import SimulatedKernel

Happening = Callable[[Host], None]
_RECORD = f"domains/{guest(NIC).uuid}.json"


_EVERY = ("prepare", "start", "started", "release")


class Spoilt(NamedTuple):
    """A file that reads otherwise than it should."""

    step: str
    fault: str
    path: str
    """Below the host's root; a pattern."""
    text: bytes | None
    """In the stead of what is in it; None removes it."""
    more: bool = False
    """Put at its end instead."""
    events: tuple[str, ...] = ("prepare",)
    """Where it matters."""


_DEVICE = f"sys/bus/pci/devices/{NIC}"
SPOILT = (
    Spoilt("look", "the device's class is missing", f"{_DEVICE}/class", None),
    Spoilt("look", "the device's class is no number", f"{_DEVICE}/class", b"zzz\xff\n"),
    Spoilt(
        "look",
        "the device's driver_override cannot be read",
        f"{_DEVICE}/driver_override",
        None,
        events=("prepare", "release"),
    ),
    Spoilt("look", "the device's driver is no link", f"{_DEVICE}/driver", b"", events=("prepare", "start", "release")),
    Spoilt(
        "look",
        "the device is in no IOMMU group",
        f"{_DEVICE}/iommu_group",
        None,
        events=("prepare", "start", "release"),
    ),
    Spoilt("look", "the kernel's list of aliases is missing", "lib/modules/*/modules.alias", None),
    Spoilt(
        "look", "the kernel's list of aliases is cut off", "lib/modules/*/modules.alias", b"alias vfio_pci:v\xff", True
    ),
    Spoilt("look", "the boot id is missing", "proc/sys/kernel/random/boot_id", None, events=_EVERY),
    Spoilt("look", "the boot id is empty", "proc/sys/kernel/random/boot_id", b"", events=_EVERY),
)


@contextmanager
def spoilt(host: Host, what: Spoilt) -> Iterator[None]:
    """For as long as the block lasts."""
    (path,) = Path(host.root).glob(what.path)
    aside = Path(host.root, "simulation", "aside")
    path.rename(aside)
    if what.text is not None:
        path.write_bytes((aside.read_bytes() if what.more else b"") + what.text)
    yield
    if what.text is None and path.exists():
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


def lose_the_record(host: Host) -> None:
    """Or only that one file."""
    Path(host.machine.state, _RECORD).unlink()


def empty_the_record(host: Host) -> None:
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
    host.somebody_writes(f"bus/pci/devices/{NIC}/driver_override", override)
    if host.driver(NIC) != "none":
        host.somebody_writes(f"bus/pci/devices/{NIC}/driver/unbind", NIC)
    host.somebody_writes("bus/pci/drivers_probe", NIC)


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


class Between(NamedTuple):
    """What happens between two events."""

    step: str
    fault: str
    happens: tuple[Happening, ...]
    mends: tuple[Happening, ...] = ()
    """What the administrator does then."""
    gone: bool = False
    """The device is, in the end."""
    left: tuple[str, ...] = ()
    """What is different in the end, and nobody's fault."""
    recorded: bool = True
    """A refusal is recorded at once, rather than at ``release``."""


_RESET = (partial(set_override, "\n"),)
BETWEEN = (
    Between("journal", "/run/libhook was removed", (lose_everything,), (reattach,)),
    Between("journal", "the guest's record was removed", (lose_the_record,), (reattach,)),
    Between("journal", "the guest's record was emptied", (empty_the_record,), (lose_the_record, reattach)),
    Between("journal", "the guest's record is of another boot", (boot_anew,), (reattach,)),
    Between("device", "it was pulled out", (pull,), gone=True),
    Between("device", "it was replaced by one of its kind", (partial(replace, "8086:10d3"),)),
    Between(
        "device",
        "it was replaced by another",
        (partial(replace, "1234:5678"),),
        left=(f"{NIC} driver: e1000e -> none", "sys/class/net: eth1 -> "),
    ),
    Between("device", "somebody bound it to e1000e", (partial(to_driver, "e1000e"),), _RESET),
    Between("device", "somebody cleared its override", _RESET),
    Between("device", "somebody set its override", (partial(set_override, "e1000e"),), _RESET),
    Between("host", "vfio-pci was unloaded", (partial(unload, "vfio-pci"),)),
    Between("host", "e1000e was unloaded", (partial(unload, "e1000e"),), (partial(load, "e1000e"),)),
    Between("host", "libvirtd was restarted", (restart_libvirtd,)),
    Between("host", "libvirtd's pid is another process's", (give_its_pid_away,)),
    Between(
        "host",
        "the configuration is broken by now",
        (partial(configure, "wrong = 1\n"),),
        (mend_configuration,),
        recorded=False,
    ),
)
