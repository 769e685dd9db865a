# SPDX-License-Identifier: LGPL-2.1-or-later
"""Start and stop of a guest with one card, managed='yes', by what libvirtd finds as its hook: a part of the bench."""

import json
import os
import signal
import sys
from pathlib import Path
from typing import NamedTuple

from calls import CONFIG
from guests import Guest, libhook, pci, virsh
from host import NIC, driver_of, wait_for
from measuring import Medians, three_medians, timed

ROUNDS = 5
HOOK = Path("/etc/libvirt/hooks/qemu")
HOOK_OF_DAEMON = Path("/etc/libvirt/hooks/daemon")
LOOKED = Path("/run/lab-looked")


class Way(NamedTuple):
    """What stands as hook, if anything, with which configuration, and who then binds the card by libhook's journal."""

    hook: bytes | None
    config: str = ""
    binds: str | None = None


def lives() -> dict[str, Medians]:
    """Milliseconds of start, of stop and of both, by way. All in one run and turn about."""
    own = HOOK.read_bytes()
    ways = {
        "no hook": Way(None),
        "empty hook": Way(b"#!/bin/sh\nexit 0\n"),
        "libhook": Way(own, binds="libvirt"),
        "bind_managed": Way(own, "bind_managed = true\n", binds="libhook"),
    }
    home = driver_of(NIC) or ""
    took: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    # libvirtd runs it after it has looked for hooks anew.
    _place(HOOK_OF_DAEMON, f'#!/bin/sh\n[ "$2" != reload ] || : >{LOOKED}\n'.encode())
    try:
        for _ in range(ROUNDS + 1):
            for name, way in ways.items():
                _set_up(way)
                guest = Guest([pci(NIC, managed=True)], "bench-managed")
                start = timed(guest.create, {NIC: "vfio-pci"})
                _expect_bound_by(way, guest)
                took[name].append((start, timed(guest.destroy, {NIC: home})))
    finally:
        HOOK_OF_DAEMON.unlink()
        _set_up(ways["libhook"])
    # The first round warms the caches.
    return {name: three_medians(times[1:]) for name, times in took.items()}


def show(medians: dict[str, Medians]) -> None:
    """As a table."""
    print(f"one card, managed='yes', medians of {ROUNDS}, ms")
    print(f"{'hook':<14}{'start':>12}{'stop':>12}{'both':>12}{'- no hook':>12}")
    for name, (start, stop, both) in medians.items():
        print(f"{name:<14}{start:>12.0f}{stop:>12.0f}{both:>12.0f}{both - medians['no hook'][2]:>12.0f}", flush=True)


def show_json(medians: dict[str, Medians]) -> None:
    """Each row as a line for programs."""
    for name, (start, stop, both) in medians.items():
        shown = {"start_ms": start, "stop_ms": stop, "both_ms": both}
        print(json.dumps({"hook": name, "devices": 1, "managed": True, **shown}))


def _set_up(way: Way) -> None:
    """Put it in place, and have libvirtd look again, as install.sh does."""
    if way.hook is None:
        HOOK.unlink()
    else:
        _place(HOOK, way.hook)
    CONFIG.unlink(missing_ok=True)
    if way.config:
        CONFIG.parent.mkdir(exist_ok=True)
        CONFIG.write_text(way.config)
        CONFIG.chmod(0o644)
    LOOKED.unlink(missing_ok=True)
    os.kill(int(Path("/run/libvirtd.pid").read_text()), signal.SIGHUP)
    if HOOK_OF_DAEMON.exists():
        wait_for("libvirtd to look for its hooks", LOOKED.exists)
        virsh("list")


def _place(path: Path, text: bytes) -> None:
    new = path.with_name(f"{path.name}.new")
    new.write_bytes(text)
    new.chmod(0o755)
    new.replace(path)


def _expect_bound_by(way: Way, guest: Guest) -> None:
    held = [one for one in json.loads(libhook("status", "--json"))["guests"] if one["uuid"] == guest.uuid]
    binds = [device["move"]["by"] for one in held for device in one["devices"]]
    if binds != ([way.binds] if way.binds else []):
        sys.exit(f"bound by {binds}, not by {way.binds}")
