# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which faults there are, and at which step: each is defined here and played by fault_rows.py."""

import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import NamedTuple

import disturbing
import fault_happenings as happenings
import fault_means
from cases import NIC
from fault_happenings import Happening
from scenario import Host

from libhook.simulation.faults import Deed, Fault

ERRORS = (
    *("EACCES", "EAGAIN", "EBUSY", "EINTR", "EINVAL", "EIO", "ENODEV", "ENOENT", "ENOMEM", "ENXIO", "EOPNOTSUPP"),
    *("EPERM", "ERANGE", "ETIMEDOUT"),
)
THEIRS = "pci-stub"
_ANSWERS = "the kernel answers {}"
_EVERY = ("prepare", "start", "started", "release")
OVERRIDE = f"bus/pci/devices/{NIC}/driver_override"
_PROBE = ("write", "bus/pci/drivers_probe", NIC)
_STEPS = {
    "prepare": {
        "module": "load vfio_pci",
        "override": f"write {OVERRIDE} vfio-pci",
        "unbind": "write bus/pci/drivers/e1000e/unbind *",
        "probe": f"write bus/pci/drivers_probe {NIC}",
    },
    "release": {
        "override": f"write {OVERRIDE} *",
        "unbind": "write bus/pci/drivers/vfio-pci/unbind *",
        "probe": f"write bus/pci/drivers_probe {NIC}",
    },
}
_BIND = {"prepare": "write bus/pci/drivers/vfio-pci/bind *", "release": "write bus/pci/drivers/e1000e/bind *"}
_LOADED = (partial(happenings.load, "e1000e"),)
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGALRM, signal.SIGPIPE)
_FORKS = {"prepare": 7, "start": 2, "started": 3, "release": 6}
"""After so many processes an event needs no more."""
_DESCRIPTORS = {"prepare": 9, "start": 4, "started": 7, "release": 9}
_LEAST = 2
"""With fewer descriptors the simulated kernel itself cannot say what it did."""


def _unhampered(_host: Host) -> AbstractContextManager[None]:
    return nullcontext()


class Trouble(NamedTuple):
    """One row before it is played."""

    event: str
    step: str
    fault: str
    """With ``{}`` where the ``variant`` belongs: those that are answered alike share a row."""
    variant: str = ""
    injected: tuple[Fault, ...] = ()
    drivers: tuple[tuple[str, object], ...] = ()
    """How the device behaves: its ``remove`` or ``probe``."""
    holds: bool = False
    """Its driver does not let go until the event is over."""
    meanwhile: tuple[Happening, ...] = ()
    """What happens before the event."""
    afterwards: tuple[Happening, ...] = ()
    """How that ends."""
    scarce: Callable[[Host], AbstractContextManager[None]] = _unhampered
    closed: tuple[int, ...] = ()
    """The standard streams that are closed."""
    signal: int = 0
    launcher_only: bool = False
    """The signal does not reach Python."""
    recorded: bool = True
    """A refusal is recorded at once, rather than at ``release``."""
    gone: bool = False
    """The device is, in the end."""
    theirs: bool = False
    """Somebody else's override stays."""
    unwritten: bool = False
    """The journal may be."""
    untold: bool = False
    """Nobody comes after it who could make up for what is not recorded."""
    left: tuple[str, ...] = ()
    """What somebody else has changed for good."""

    @property
    def launched(self) -> bool:
        """Whether the event is a process of its own."""
        return bool(self.closed or self.signal)


def _looks(fault: str, path: str, text: bytes | None, *events: str, more: bool = False) -> Trouble:
    """A file reads otherwise than it should at these events, or at prepare."""
    spoilt = partial(happenings.spoilt, path_of=path, text=text, more=more)
    return Trouble(" ".join(events or ("prepare",)), "look", fault, scarce=spoilt)


_DEVICE = f"sys/bus/pci/devices/{NIC}"
_WHERE_IT_MOVES = ("prepare", "start", "release")
_SPOILT = (
    _looks("the device's class is missing", f"{_DEVICE}/class", None),
    _looks("the device's class is no number", f"{_DEVICE}/class", b"zzz\xff\n"),
    _looks("the device's driver_override cannot be read", f"{_DEVICE}/driver_override", None, "prepare", "release"),
    _looks("the device's driver is no link", f"{_DEVICE}/driver", b"", *_WHERE_IT_MOVES),
    _looks("the device is in no IOMMU group", f"{_DEVICE}/iommu_group", None, *_WHERE_IT_MOVES),
    _looks("the kernel's list of aliases is missing", "lib/modules/*/modules.alias", None),
    _looks(
        "the kernel's list of aliases is cut off", "lib/modules/*/modules.alias", b"alias vfio_pci:v\xff", more=True
    ),
    _looks("the boot id is missing", "proc/sys/kernel/random/boot_id", None, *_EVERY),
    _looks("the boot id is empty", "proc/sys/kernel/random/boot_id", b"", *_EVERY),
)


def _since(step: str, fault: str, happens: Happening, *mends: Happening) -> Trouble:
    """It has happened since the event before, and the administrator mends it then."""
    return Trouble("", step, fault, meanwhile=(happens,), afterwards=mends)


_NOT_BOUND = (f"{NIC} driver: e1000e -> none", "sys/class/net: eth1 -> ")
_RESET = partial(happenings.set_override, "\n")
_BETWEEN = (
    _since("journal", "/run/libhook was removed", happenings.lose_everything, happenings.reattach),
    _since("journal", "the guest's journal entry was removed", happenings.lose_the_entry, happenings.reattach),
    _since(
        "journal", "the guest's journal entry was emptied",
        happenings.empty_the_entry, happenings.lose_the_entry, happenings.reattach,
    ),
    _since("journal", "the guest's journal entry is of another boot", happenings.boot_anew, happenings.reattach),
    _since("device", "it was pulled out", happenings.pull)._replace(gone=True),
    _since("device", "it was replaced by one of its kind", partial(happenings.replace, "8086:10d3")),
    _since("device", "it was replaced by another", partial(happenings.replace, "1234:5678"))._replace(left=_NOT_BOUND),
    _since("device", "somebody bound it to e1000e", partial(happenings.to_driver, "e1000e"), _RESET),
    _since("device", "somebody cleared its override", _RESET),
    _since("device", "somebody set its override", partial(happenings.set_override, "e1000e"), _RESET),
    _since("host", "vfio-pci was unloaded", partial(happenings.unload, "vfio-pci")),
    _since("host", "e1000e was unloaded", partial(happenings.unload, "e1000e"), *_LOADED),
    _since("host", "libvirtd was restarted", happenings.restart_libvirtd),
    _since("host", "libvirtd's pid is another process's", happenings.give_its_pid_away),
    _since(
        "host", "the configuration is broken by now",
        partial(happenings.configure, "wrong = 1\n"), happenings.mend_configuration,
    )._replace(recorded=False),
)  # fmt: skip


def troubles() -> Iterator[Trouble]:
    """All of them."""
    for event, steps in _STEPS.items():
        yield from _at_writes(event, steps)
        yield from _of_drivers(event)
    yield from _of_what_every_process_needs()
    yield from _of_callers()
    for event in _EVERY[1:]:
        yield from (between._replace(event=event) for between in _BETWEEN)
    for event in _EVERY:
        for step in _SPOILT:
            if event in step.event.split():
                yield step._replace(event=event, recorded=event == "prepare")
        yield Trouble(event, "log", "it takes nothing", scarce=happenings.without_log)
        not_taken = Fault("record *", 0, returns=-11)
        yield Trouble(event, "audit", "the kernel takes no record", injected=(not_taken,), untold=event == "release")


def _at_writes(event: str, steps: dict[str, str]) -> Iterator[Trouble]:
    back = "e1000e" if event == "prepare" else "vfio-pci"
    for step, call in steps.items():
        for error in ERRORS:
            yield Trouble(event, step, _ANSWERS, error, (Fault(call, error=error),))
        yield Trouble(event, step, "succeeds and does nothing", injected=(Fault(call, ignored=True),))
        lost = Fault(call, before=(("remove", "run/libhook"),))
        yield Trouble(event, step, "/run/libhook is removed before it", injected=(lost,), unwritten=True)
        for module in ("vfio_pci", "e1000e") if step != "module" else ():
            unloaded = Fault(call, before=(("unload", module),))
            yield Trouble(event, step, f"{module} is unloaded before it", injected=(unloaded,), afterwards=_LOADED)
        killed: tuple[Deed, ...] = (("kill", "writer"),)
        yield Trouble(event, step, "the child that does it is killed before", injected=(Fault(call, before=killed),))
        yield Trouble(event, step, "the child that does it is killed after", injected=(Fault(call, after=killed),))
        if step != "module":
            gone = Fault(call, before=(("vanish", NIC),))
            yield Trouble(event, step, "the device vanishes before it", injected=(gone,), gone=True)
            theirs = Fault(call, before=(("write", OVERRIDE, THEIRS),))
            yield Trouble(event, step, "somebody else sets the override before it", injected=(theirs,), theirs=True)
    override = "\n" if event == "prepare" else "vfio-pci"
    again: tuple[Deed, ...] = (("write", OVERRIDE, override), _PROBE)
    yield Trouble(event, "unbind", f"somebody binds {back} again", injected=(Fault(steps["unbind"], after=again),))
    for error in ERRORS:
        nothing = Fault(steps["probe"], ignored=True)
        yield Trouble(event, "bind by name", _ANSWERS, error, (nothing, Fault(_BIND[event], error=error)))


def _of_drivers(event: str) -> Iterator[Trouble]:
    wanted = "vfio-pci" if event == "prepare" else "e1000e"
    yield Trouble(event, "probe", f"{wanted} refuses the device", drivers=(("refuses", {wanted: "EIO"}),))
    yield Trouble(event, "unbind", "the driver takes its time", drivers=(("remove", 0.2),))
    yield Trouble(event, "unbind", "the driver does not let go", holds=True)
    yield Trouble(event, "probe", "the driver takes its time", drivers=(("probe", 0.2),))


def _of_what_every_process_needs() -> Iterator[Trouble]:
    for event in ("prepare", "release"):
        for what in (disturbing.WITHOUT_INODES, disturbing.WITHOUT_PAGES):
            yield Trouble(event, "journal", what, scarce=partial(disturbing.full, what=what), unwritten=True)
    for event in _EVERY:
        any_step = Trouble(event, "any", "no process can be started after {}", recorded=False)
        for after in range(_FORKS[event]):
            yield any_step._replace(variant=str(after), scarce=partial(disturbing.no_process, after=after))
        any_step = any_step._replace(fault="no descriptor is left but {}", unwritten=True)
        for after in range(_LEAST, _DESCRIPTORS[event]):
            yield any_step._replace(variant=str(after), scarce=partial(disturbing.no_descriptor, after=after))


def _of_callers() -> Iterator[Trouble]:
    for event in _EVERY:
        for closed in fault_means.STREAMS:
            name = fault_means.name_of(closed)
            yield Trouble(event, "the call", "closed: {}", name, closed=closed, recorded=False)
        for number in _SIGNALS:
            yield Trouble(event, _moment(event), "{} to the hook", number.name, signal=number, recorded=False)
        yield Trouble(
            event, _moment(event), "{} to its shell alone", "SIGTERM", signal=signal.SIGTERM, launcher_only=True
        )


def _moment(event: str) -> str:
    return "unbind" if event in ("prepare", "release") else "lock"
