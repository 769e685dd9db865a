# SPDX-License-Identifier: LGPL-2.1-or-later
"""Plays a fault at a step of handing a device over, or of giving it back: a row of docs/faults.md.

As a program it plays, of every EVERYth row, each whose turn is FIRST modulo STEP and shows each.
"""

import errno
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import fault_means
import hanging
from aftermath import recover, wrong
from cases import NIC
from fault_list import OVERRIDE, THEIRS, Trouble, troubles
from scenario import Host, guest
from stage import show

from libhook.simulation import faults, store
from libhook.simulation.build import scratch
from libhook.simulation.hosts import nic
from libhook.testing import Outcome

_EVENTS = ("prepare", "start", "started", "release")
_GUEST = guest(NIC)
_NAMED = (
    *(NIC, "the driver vfio-pci", "/run/libhook", "/sys/", "/proc/", "/lib/modules"),
    *("no child process", "by signal", "the XML is empty", "wrong"),
)
"""One of these is in each line: what it is about."""


class Row(NamedTuple):
    """One row after it was played."""

    event: str
    step: str
    fault: str
    """With ``{}`` where the ``variant`` belongs."""
    variant: str
    code: int
    reads: str
    """On stderr; at ``started`` and ``release``, whose stderr nobody reads, in the log."""
    remains: str
    """How the device is, and what is held, when the event is over."""
    end: str
    """What differs once the fault is over and release and recover have run."""
    problems: list[str]


def play(trouble: Trouble) -> Row:
    """On a host of its own."""
    root = scratch()
    try:
        return _play(Host(root, nic(), launcher=trouble.launched), trouble)
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _play(host: Host, trouble: Trouble) -> Row:
    host.launcher = False
    for event in _EVENTS[: _EVENTS.index(trouble.event)]:
        before = host.event(_GUEST, event)
        assert (before.code, before.stderr) == (0, ())
    for happens in trouble.meanwhile:
        happens(host)
    faults.inject(host.root, *trouble.injected)
    if trouble.drivers:
        faults.behave(host.root, "devices", NIC, **dict(trouble.drivers))
    logged = len(_log(host))
    if trouble.holds:
        hanging.hold(host.root, NIC)
        host.patience = 0  # what hangs is not waited for
    with _hampered(host, trouble):
        outcome = host.event(_GUEST, trouble.event, "shutdown" if trouble.event == "release" else "-")
    host.settle()
    problems = _judge(host, trouble, outcome)
    remains = _remains(host, outcome)
    faults.heal(host.root)
    faults.let_go(host.root, NIC)
    if trouble.drivers:
        faults.behave(host.root, "devices", NIC, remove=None, probe=None, refuses={})
    host.patience = 60.0
    host.settle()
    if trouble.holds:
        outcome = outcome._replace(log=tuple(_log(host)[logged:]))
    _go_on(host, trouble, outcome)
    end, mine = _end(host, trouble)
    reads = _reads(host, outcome).replace(f"by signal {int(trouble.signal)} ", "by signal N ")
    if hasattr(errno, trouble.variant):
        reads = reads.replace(f"({os.strerror(getattr(errno, trouble.variant))})", "(the kernel's answer)")
    row = (trouble.event, trouble.step, trouble.fault, trouble.variant, outcome.code, reads, remains, end)
    return Row(*row, problems + mine + _trail(host, trouble, outcome))


@contextmanager
def _hampered(host: Host, trouble: Trouble) -> Iterator[None]:
    """The call itself: by the launcher where it is about a process of its own."""
    host.launcher = trouble.launched
    if trouble.closed:
        host.launching = fault_means.launch_without(trouble.closed)
    if trouble.signal:
        host.launching = fault_means.launch_and_signal(
            host, _GUEST, trouble.event, trouble.signal, launcher_only=trouble.launcher_only
        )
    with trouble.scarce(host):
        yield
    host.launcher = False


def _go_on(host: Host, trouble: Trouble, outcome: Outcome) -> None:
    """What libvirtd does next: the guest runs to its end, or its start has failed.

    The administrator mends what is broken at once, but not below a guest that runs.
    """
    if trouble.event != "started":
        for happens in trouble.afterwards:
            happens(host)
    if trouble.event == "start" and not outcome.code:
        host.event(_GUEST, "started")
    if trouble.event != "release":
        failed = outcome.code or trouble.event == "prepare"
        host.event(_GUEST, "release", "failed" if failed else "shutdown")
    if trouble.event == "started":
        for happens in trouble.afterwards:
            happens(host)
    recover(host)


def _end(host: Host, trouble: Trouble) -> tuple[str, list[str]]:
    """What differs in the end, for the table; and what of it is not somebody else's doing."""
    found = wrong(host)
    differs = "; ".join(line.replace(f"{NIC} ", "") for line in host.changed)
    if trouble.gone:
        return "the device is gone", [line for line in found if "not there" not in line and "sys/class" not in line]
    if trouble.unwritten:
        found = [line for line in found if not line.startswith("journal not written")]
    if trouble.theirs:
        # The override stays, and nothing on this host answers to it.
        theirs = {f"{NIC} driver: e1000e -> none", f"{NIC} override: (null) -> {THEIRS}", "sys/class/net: eth1 -> "}
        found = [line for line in found if line not in theirs]
    if trouble.untold:
        found = [line for line in found if "does not end" not in line]
    found = [line for line in found if line not in trouble.left]
    return differs or "as it began", found


def _judge(host: Host, trouble: Trouble, outcome: Outcome) -> list[str]:
    """Given with exit code 0, or refused in one line that names what it is about, and nothing taken."""
    problems = [f"on stdout: {outcome.stdout}"] if outcome.stdout else []
    if trouble.event in ("started", "release"):
        if outcome.code or outcome.stderr:
            problems.append(f"{trouble.event} answers {outcome.code} {outcome.stderr}")
        return problems
    given = _driver(host) == "vfio-pci"
    if (outcome.code == 0) != given and ((trouble.event == "prepare" and not trouble.signal) or not outcome.code):
        problems.append(f"exit code {outcome.code}, but it is on {_driver(host)}")
    said = outcome.stderr if 2 not in trouble.closed else ("/run/libhook, if stderr were open",) * outcome.code
    if len(said) != outcome.code or not all(line.isprintable() for line in said):
        problems.append(f"said {outcome.stderr}")
    problems += [f"names nothing: {line}" for line in said if not any(word in line for word in _NAMED)]
    if outcome.code and trouble.recorded and [record[-10:] for record in outcome.records] != ["res=failed"]:
        problems.append(f"recorded {outcome.records}")
    if outcome.code == 0 and outcome.records:
        problems.append(f"recorded {outcome.records}")
    return problems


def _trail(host: Host, trouble: Trouble, outcome: Outcome) -> list[str]:
    """In the end a refusal is in it once, and what was given has its end; no stop stands alone (aftermath.wrong)."""
    refused = outcome.code and outcome.operation in ("prepare", "start")
    expected = [f"start {NIC} failed"] if refused or outcome.operation == "prepare" else [f"start {NIC} success"]
    if outcome.operation == "prepare" and 0 in trouble.closed:
        expected = []  # nobody knows of which device
    found = [record for record in host.trail if record.startswith("start")]
    return [] if found == expected else [f"the trail is {host.trail}"]


def _log(host: Host) -> list[dict[str, Any]]:
    return store.lines(f"{host.root}/var/log/libhook.jsonl")


def _driver(host: Host) -> str:
    try:
        return host.driver(NIC)
    except KeyError:
        return "gone"


def _reads(host: Host, outcome: Outcome) -> str:
    lines = [*outcome.stderr]
    if not lines:
        told = ("not given back", "failed", "configuration ignored")
        lines = [str(entry["reason"]) for name in told for entry in outcome.logged(name)]
        lines += [f"{entry['device']} not recorded: {entry['reason']}" for entry in outcome.logged("not recorded")]
    if not lines:
        lines = [line.removeprefix("warning: ") for line in outcome.plan if line.startswith("warning")]
    return "; ".join(lines).replace(host.root, "") or "nothing"


def _remains(host: Host, outcome: Outcome) -> str:
    driver = _driver(host).replace("none", "no driver")
    override = "" if driver == "gone" else _override(host)
    held = [one for entry in outcome.journal.values() for one in entry.devices if one.key in entry.actions_by_key()]
    hangs = " as hanging" if any(device.wedged for device in held) else ""
    known = f"held{hangs}" if held else "not held"
    return f"{driver}{f', override {override}' if override else ''}, {known}"


def _override(host: Host) -> str:
    path = f"{host.root}/sys/{OVERRIDE}"
    if not os.path.isfile(path):
        return "does not answer"
    with open(path, encoding="ascii") as file:
        return file.read().strip().replace("(null)", "")


if __name__ == "__main__":
    first, step, begin, every = map(int, sys.argv[1:])
    for number, trouble in enumerate(troubles()):
        if number % every == begin and number // every % step == first:
            show(number, play(trouble))
