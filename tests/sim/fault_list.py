# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which faults there are, and at which step: each is defined here and played by fault_rows.py."""

import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import NamedTuple

import fault_happenings
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
_LOADED = (partial(fault_happenings.load, "e1000e"),)
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


def troubles() -> Iterator[Trouble]:
    """All of them."""
    for event, steps in _STEPS.items():
        yield from _at_writes(event, steps)
        yield from _of_drivers(event)
    yield from _of_what_every_process_needs()
    yield from _of_callers()
    for event in _EVERY[1:]:
        for one in fault_happenings.BETWEEN:
            yield Trouble(
                event,
                one.step,
                one.fault,
                meanwhile=one.happens,
                afterwards=one.mends,
                gone=one.gone,
                left=one.left,
                recorded=one.recorded,
            )
    for event in _EVERY:
        for what in fault_happenings.SPOILT:
            if event in what.events:
                spoilt = partial(fault_happenings.spoilt, what=what)
                yield Trouble(event, what.step, what.fault, scarce=spoilt, recorded=event == "prepare")
        yield Trouble(event, "log", "it takes nothing", scarce=fault_happenings.without_log)
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
        for what in (fault_means.WITHOUT_INODES, fault_means.WITHOUT_PAGES):
            yield Trouble(event, "journal", what, scarce=partial(_full, what=what), unwritten=True)
    for event in _EVERY:
        for after in range(_FORKS[event]):
            none = partial(_no_process, after=after)
            what = "no process is to be had after {}"
            yield Trouble(event, "any", what, str(after), scarce=none, recorded=False)
        for after in range(_LEAST, _DESCRIPTORS[event]):
            none = partial(_no_descriptor, after=after)
            yield Trouble(
                event,
                "any",
                "no descriptor is to be had but {}",
                str(after),
                scarce=none,
                unwritten=True,
                recorded=False,
            )


def _full(host: Host, what: str) -> AbstractContextManager[None]:
    return fault_means.full(host.machine.state, what)


def _no_process(_host: Host, after: int) -> AbstractContextManager[None]:
    return fault_means.no_process(after)


def _no_descriptor(_host: Host, after: int) -> AbstractContextManager[None]:
    return fault_means.no_descriptor(after)


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
