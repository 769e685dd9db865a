# SPDX-License-Identifier: LGPL-2.1-or-later
"""Every fault at every step of handing a device over and of giving it back: the rows of docs/faults.md.

As a program it plays, of every EVERYth row, each whose turn is FIRST modulo STEP and prints a line of JSON each.
"""

import errno
import json
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple
from unittest import mock

from aftermath import recover, wrong
from cases import NIC
from scenario import Host, Outcome, guest, reap

from libhook.simulation import faults
from libhook.simulation.build import scratch
from libhook.simulation.faults import Deed, Fault
from libhook.simulation.hosts import nic

ERRORS = ("EACCES", "EBUSY", "ENODEV", "ENOENT", "EIO", "EINVAL")
_HANGS = 1.5
"""Seconds until an event gives up on a driver that never lets go; any other has as long as it needs."""
_OVERRIDE = f"bus/pci/devices/{NIC}/driver_override"
_PROBE = ("write", "bus/pci/drivers_probe", NIC)
_STEPS = {
    "prepare": {
        "module": "load vfio_pci",
        "override": f"write {_OVERRIDE} vfio-pci",
        "unbind": "write bus/pci/drivers/e1000e/unbind *",
        "probe": f"write bus/pci/drivers_probe {NIC}",
    },
    "release": {
        "override": f"write {_OVERRIDE} *",
        "unbind": "write bus/pci/drivers/vfio-pci/unbind *",
        "probe": f"write bus/pci/drivers_probe {NIC}",
    },
}
_BIND = {"prepare": "write bus/pci/drivers/vfio-pci/bind *", "release": "write bus/pci/drivers/e1000e/bind *"}
_FULL = ("no room for a new file", "no room for a byte")
_THEIRS = "pci-stub"


class Trouble(NamedTuple):
    """One row before it is played."""

    event: str
    step: str
    fault: str
    injected: tuple[Fault, ...] = ()
    drivers: tuple[tuple[str, object], ...] = ()
    """How the device behaves: its ``remove`` or ``probe``."""
    holds: bool = False
    """Its driver does not let go until the event is over."""
    full: str = ""
    """What /run has no room for."""


class Row(NamedTuple):
    """One row after it was played."""

    event: str
    step: str
    fault: str
    code: int
    reads: str
    """On stderr; at ``release``, whose stderr nobody reads, in the log."""
    remains: str
    """How the device is, and what is held, when the event is over."""
    end: str
    """What differs once the fault is over and release and recover have run."""
    problems: list[str]


def troubles() -> Iterator[Trouble]:
    """All of them."""
    for event, steps in _STEPS.items():
        wanted, back = ("vfio-pci", "e1000e") if event == "prepare" else ("e1000e", "vfio-pci")
        for step, call in steps.items():
            for error in ERRORS:
                yield Trouble(event, step, error, (Fault(call, error=error),))
            yield Trouble(event, step, "succeeds and does nothing", (Fault(call, ignored=True),))
            if step != "module":
                yield Trouble(event, step, "the device vanishes before it", (Fault(call, before=(("vanish", NIC),)),))
                theirs: Deed = ("write", _OVERRIDE, _THEIRS)
                yield Trouble(
                    event, step, "somebody else sets the override before it", (Fault(call, before=(theirs,)),)
                )
        override = "\n" if event == "prepare" else "vfio-pci"
        again: tuple[Deed, ...] = (("write", _OVERRIDE, override), _PROBE)
        yield Trouble(event, "unbind", f"somebody binds {back} again", (Fault(steps["unbind"], after=again),))
        for error in ERRORS:
            nothing = Fault(steps["probe"], ignored=True)
            yield Trouble(event, "bind by name", error, (nothing, Fault(_BIND[event], error=error)))
        yield Trouble(event, "probe", f"{wanted} refuses the device", (), (("refuses", {wanted: "EIO"}),))
        yield Trouble(event, "unbind", "the driver takes its time", (), (("remove", 0.2),))
        yield Trouble(event, "unbind", "the driver does not let go", holds=True)
        yield Trouble(event, "probe", "the driver takes its time", (), (("probe", 0.2),))
        for what in _FULL:
            yield Trouble(event, "journal", what, full=what)


def play(trouble: Trouble) -> Row:
    """On a host of its own."""
    root = scratch()
    try:
        return _play(Host(root, nic(), f"write_deadline = {_HANGS}\n" if trouble.holds else ""), trouble)
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _play(host: Host, trouble: Trouble) -> Row:
    one = guest(NIC)
    if trouble.event == "release":
        host.begin(one)
    faults.inject(host.root, *trouble.injected)
    if trouble.drivers:
        faults.behave(host.root, "devices", NIC, **dict(trouble.drivers))
    if trouble.holds:
        faults.hold(host.root, NIC)
        host.patience = 0.2
    with _full(host, trouble.full):
        outcome = host.event(one, trouble.event, "-" if trouble.event == "prepare" else "shutdown")
    problems = _judge(host, trouble, outcome)
    remains = _remains(host, outcome)
    faults.heal(host.root)
    faults.let_go(host.root, NIC)
    if trouble.drivers:
        faults.behave(host.root, "devices", NIC, remove=None, probe=None, refuses={})
    host.patience = 5.0
    reap(host.patience)
    if trouble.event == "prepare":
        host.event(one, "release", "failed")
    recover(host)
    end, mine = _end(host, trouble)
    return Row(
        trouble.event, trouble.step, trouble.fault, outcome.code, _reads(host, outcome), remains, end, problems + mine
    )


def _end(host: Host, trouble: Trouble) -> tuple[str, list[str]]:
    """What differs in the end, for the table; and what of it is not somebody else's doing."""
    found = wrong(host)
    differs = "; ".join(line.replace(f"{NIC} ", "") for line in host.changed)
    if "vanishes" in trouble.fault:
        return "the device is gone", [line for line in found if "not there" not in line and "sys/class" not in line]
    if trouble.full:
        found = [line for line in found if not line.startswith("journal not written")]
    if "somebody else" in trouble.fault:
        # The override stays, and nothing on this host answers to it.
        theirs = {f"{NIC} driver: e1000e -> none", f"{NIC} override: (null) -> {_THEIRS}", "sys/class/net: eth1 -> "}
        found = [line for line in found if line not in theirs]
    return differs or "as it began", found


def _judge(host: Host, trouble: Trouble, outcome: Outcome) -> list[str]:
    """At prepare: given with exit code 0, or refused in one line that names what it is about, and nothing taken."""
    problems = []
    driver = _driver(host)
    if trouble.event == "release":
        if outcome.code or outcome.stderr:
            problems.append(f"release answers {outcome.code} {outcome.stderr}")
        return problems
    if (outcome.code == 0) != (driver == "vfio-pci"):
        problems.append(f"exit code {outcome.code}, but it is on {driver}")
    if outcome.code and (len(outcome.stderr) != 1 or not outcome.stderr[0].isprintable()):
        problems.append(f"said {outcome.stderr}")
    if outcome.code and not any(word in outcome.stderr[0] for word in (NIC, "the driver vfio-pci", "/run/libhook")):
        problems.append(f"names nothing: {outcome.stderr[0]}")
    expected = [] if outcome.code == 0 else ["start failed"]
    if [record.rsplit("res=", 1)[-1] for record in outcome.records] != ["failed"] * len(expected):
        problems.append(f"recorded {outcome.records}")
    return problems


def _driver(host: Host) -> str:
    try:
        return host.driver(NIC)
    except KeyError:
        return "gone"


def _reads(host: Host, outcome: Outcome) -> str:
    lines = [*outcome.stderr]
    if not lines:
        lines = [str(entry["reason"]) for name in ("not given back", "failed") for entry in outcome.logged(name)]
    if not lines:
        lines = [line for line in outcome.plan if line.startswith("warning")]
    return "; ".join(lines).replace(host.root, "") or "nothing"


def _remains(host: Host, outcome: Outcome) -> str:
    driver = _driver(host).replace("none", "no driver")
    override = "" if driver == "gone" else _override(host)
    held = [device for record in outcome.journal.values() for device in record.devices if device.move]
    hangs = " as hanging" if any(device.wedged for device in held) else ""
    known = f"held{hangs}" if held else "not held"
    return f"{driver}{f', override {override}' if override else ''}, {known}"


def _override(host: Host) -> str:
    path = f"{host.root}/sys/{_OVERRIDE}"
    if not os.path.isfile(path):
        return "does not answer"
    with open(path, encoding="ascii") as file:
        return file.read().strip().replace("(null)", "")


@contextmanager
def _full(host: Host, what: str) -> Iterator[None]:
    """/run without inodes, or without pages: the calls that would need one fail."""
    opening, syncing = os.open, os.fsync
    refusal = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def open_or_fail(path: str, flags: int, *rest: int) -> int:
        if flags & os.O_CREAT and str(path).startswith(host.machine.state) and not os.path.lexists(path):
            raise refusal
        return opening(path, flags, *rest)

    def sync_or_fail(descriptor: int) -> None:
        if os.readlink(f"/proc/self/fd/{descriptor}").endswith(".new"):
            raise refusal
        syncing(descriptor)

    without_inodes, without_pages = _FULL
    with (
        mock.patch("os.open", open_or_fail if what == without_inodes else opening),
        mock.patch("os.fsync", sync_or_fail if what == without_pages else syncing),
    ):
        yield


if __name__ == "__main__":
    first, step, every = map(int, sys.argv[1:])
    for number, trouble in enumerate(troubles()):
        if number % every == 0 and number // every % step == first:
            print(json.dumps([number, play(trouble)]), flush=True)
