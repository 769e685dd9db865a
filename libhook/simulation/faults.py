# SPDX-License-Identifier: LGPL-2.1-or-later
"""Makes calls of the simulated kernel go wrong: errors, writes that do nothing, interference, killed processes."""

import errno
import os
import shutil
import signal
import time
from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, NamedTuple

from libhook.simulation import store

if TYPE_CHECKING:
    from libhook.simulation.kernel import SimulatedKernel

_POLL = 0.01
Deed = tuple[str, ...]
"""What another process does: ("write", PATH, VALUE), ("vanish", ADDRESS), ("sleep", SECONDS), ("wait", PATH) until PATH
exists, ("create", PATH), ("remove", PATH), ("unload", MODULE), ("kill", "writer") or ("kill", "parent"). The parent is
the hook when its child writes."""


class Fault(NamedTuple):
    """Something goes wrong at the ``nth`` call that matches ``call``; with 0 at each such call.

    ``call`` is a shell pattern over ``write PATH VALUE``, ``set PATH VALUE``, ``load MODULE``, ``unload MODULE``,
    ``systemctl …`` and ``record TEXT``. The line feed that clears an override
    counts as no value. Without ``error`` and ``ignored`` the call itself works as usual.
    """

    call: str
    nth: int = 1
    error: str = ""
    """An errno's name: the call fails with it and does nothing."""
    ignored: bool = False
    """The call succeeds and does nothing."""
    returns: int | None = None
    """What ``record`` returns instead; nothing is recorded then."""
    before: tuple[Deed, ...] = ()
    after: tuple[Deed, ...] = ()


def inject(root: str, *faults: Fault) -> None:
    """Install these faults instead of all earlier ones. ValueError where one can never happen."""
    for fault in faults:
        _expect_possible(fault)
    heal(root)
    os.mkdir(f"{root}/simulation/tmp/faults")
    for number, fault in enumerate(faults):
        store.create(f"{root}/simulation/tmp/faults/{number:03}", store.to_json(fault._asdict()))
    os.rename(f"{root}/simulation/tmp/faults", f"{root}/simulation/faults")


_CALLS = ("write", "set", "load", "unload", "systemctl", "systemd-run", "run-group", "journalctl", "record")
_DEEDS = {"write": 2, "vanish": 1, "sleep": 1, "wait": 1, "create": 1, "remove": 1, "unload": 1, "kill": 1}
"""The deeds, and how many words each takes."""


def _expect_possible(fault: Fault) -> None:
    verb = fault.call.partition(" ")[0]
    if not any(fnmatchcase(known, verb) for known in _CALLS):
        raise ValueError(f"no call begins with {verb!r}: it is one of {', '.join(_CALLS)}")
    if fault.error and not hasattr(errno, fault.error):
        raise ValueError(f"{fault.call}: there is no error {fault.error}: take an errno's name, such as EIO")
    if fault.nth < 0:
        raise ValueError(f"{fault.call}: nth is 0 for each call, or the number of one")
    for what, *about in (*fault.before, *fault.after):
        if _DEEDS.get(what) != len(about):
            raise ValueError(f"{fault.call}: nobody can do {what!r} with {about}")


def unmet(root: str) -> list[str]:
    """The calls of faults that no call has matched yet."""
    folder = f"{root}/simulation/faults"
    names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
    known = {name: store.load(root, "faults", name) for name in names if name.isdigit()}
    return [fields["call"] for name, fields in known.items() if fields and f"{name}.count" not in names]


def heal(root: str) -> None:
    """Remove all faults."""
    shutil.rmtree(f"{root}/simulation/faults", ignore_errors=True)


def hold(root: str, address: str) -> None:
    """Make the device's driver hang in its remove until ``let_go``. The writer hangs with it."""
    store.create(f"{root}/simulation/holds/{address}", "")


def let_go(root: str, address: str) -> None:
    """End ``hold``."""
    store.unlink(f"{root}/simulation/holds/{address}")


def behave(root: str, kind: str, name: str, **fields: object) -> None:
    """Change how one of the ``devices`` or ``drivers`` behaves: behave(root, "devices", X, remove=3.0)."""
    known = store.load(root, kind, name)
    if known is None or not fields.keys() <= known.keys():
        raise ValueError(f"{kind} {name}: not there, or does not know {', '.join(fields)}")
    store.save(root, kind, name, known | fields)


def play(kernel: "SimulatedKernel", call: str, react: Callable[[], None]) -> None:
    """Answer a call as the fault that is due says, or as usual. It is noted in var/log/calls.jsonl."""
    fault = _noted(kernel, call)
    if fault is None:
        react()
        return
    _do(kernel, fault.before)
    if fault.error:
        number = getattr(errno, fault.error)
        raise OSError(number, os.strerror(number), call)
    if not fault.ignored:
        react()
    _do(kernel, fault.after)


def returned(kernel: "SimulatedKernel", call: str, react: Callable[[], int]) -> int:
    """Answer a ``record`` in the same way, and return its result."""
    fault = _noted(kernel, call)
    if fault is None:
        return react()
    _do(kernel, fault.before)
    said = react() if fault.returns is None else fault.returns
    _do(kernel, fault.after)
    return said


def _noted(kernel: "SimulatedKernel", call: str) -> Fault | None:
    store.append(f"{kernel.root}/var/log/calls.jsonl", {"by": kernel.by, "call": call})
    return _due(kernel.root, call)


def vanish(kernel: "SimulatedKernel", address: str) -> None:
    """Pull the device out. Its driver lets go at once, and the VFs of a PF go with it."""
    from libhook.simulation import devices, vfio

    device = store.load(kernel.root, "devices", address)
    if device is None:
        return
    for vf in device["vfs"]:
        vanish(kernel, vf["address"])
    driver = store.bound(kernel.root, address)
    if driver is not None:
        store.hide_driver(kernel.root, address, driver)
        store.unlink(f"{kernel.root}/simulation/bound/{address}")
        devices.remove_children(kernel.root, device)
        if os.path.isdir(f"{kernel.root}/sys/{device['home']}/vfio-dev"):
            vfio.unregister(kernel.root, address, device)
    devices.remove(kernel.root, address)


def _due(root: str, call: str) -> Fault | None:
    folder = f"{root}/simulation/faults"
    try:
        names = sorted(os.listdir(folder))
    except FileNotFoundError:
        return None
    due = None
    with store.Lock(root, "faults"):
        for name in names:
            fields = store.load(root, "faults", name) if name.isdigit() else None
            if fields is None or not _matches(call, fields["call"]):
                continue
            counter = f"{folder}/{name}.count"
            times = len(store.read(counter)) + 1 if os.path.lexists(counter) else 1
            store.create(counter, "x" * times)
            if fields["nth"] in (0, times) and due is None:
                due = Fault(**fields)
    return due


def _matches(call: str, pattern: str) -> bool:
    """Whether a pattern means this call, as it is made or as people write it: with /sys/, and without ``--``."""
    told = {call, call.replace(" -- ", " ", 1)}
    if call.startswith("write "):
        told.add(call.replace("write ", "write /sys/", 1))
    return any(fnmatchcase(one, pattern) for one in told)


def _do(kernel: "SimulatedKernel", deeds: tuple[Deed, ...]) -> None:
    for what, *about in deeds:
        match what, about:
            case "write", [path, value]:
                # An error is for the other process, so it is dropped.
                try:
                    type(kernel)(kernel.root, by="somebody else").write_unharmed(path, value)
                except OSError:
                    continue
            case "vanish", [address]:
                vanish(kernel, address)
            case "sleep", [seconds]:
                time.sleep(float(seconds))
            case "wait", [path]:
                while os.path.isdir(kernel.root) and not os.path.lexists(f"{kernel.root}/{path}"):
                    time.sleep(_POLL)
            case "create", [path]:
                store.create(f"{kernel.root}/{path}", "")
            case "remove", [path]:
                shutil.rmtree(f"{kernel.root}/{path}", ignore_errors=True)
            case "unload", [module]:
                from libhook.simulation import modules

                modules.take_out(kernel, module)
            case "kill", ["writer"]:
                os.kill(os.getpid(), signal.SIGKILL)
            case "kill", ["parent"]:
                os.kill(os.getppid(), signal.SIGKILL)
            case _:
                raise ValueError(f"nobody can do {what} {about}")
