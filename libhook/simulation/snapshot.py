# SPDX-License-Identifier: LGPL-2.1-or-later
"""Takes a snapshot of what a guest's life must leave as it was, and compares two of them."""

import os
from collections.abc import Iterable

from libhook.simulation import store, systemd
from libhook.simulation.sleepers import answers


def snapshot(root: str) -> dict[str, str]:
    """Return the devices' drivers and overrides, PFs' VFs, names of nodes, interfaces and disks, and the consoles.

    Logs and modules are not part of it.
    """
    pci = f"{root}/sys/bus/pci/devices"
    found = {}
    for address in sorted(os.listdir(pci)):
        device = f"{pci}/{address}"
        try:
            shown = os.path.basename(os.readlink(f"{device}/driver"))
        except FileNotFoundError:
            shown = "none"
        except OSError:
            shown = "cannot be read"
        known = store.bound(root, address) or "none"
        found[f"{address} driver"] = shown if shown == known else f"{shown}, in the kernel still {known}"
        found[f"{address} override"] = _text(f"{device}/driver_override")
        if os.path.lexists(f"{device}/sriov_numvfs"):
            found[f"{address} VFs"] = _text(f"{device}/sriov_numvfs")
    for folder in (
        "dev/vfio",
        "dev/vfio/devices",
        "sys/class/vfio-dev",
        "sys/class/net",
        "sys/class/block",
        "dev/dri",
    ):
        found[folder] = " ".join(sorted(set(_names(f"{root}/{folder}")) - {"vfio", "devices"}))
    consoles = f"{root}/sys/class/vtconsole"
    if not os.path.isdir(consoles):
        return found
    bound = (f"{_text(f'{consoles}/{name}/name')}: {_text(f'{consoles}/{name}/bind')}" for name in _names(consoles))
    found["consoles"] = ", ".join(sorted(bound))
    return found


def whole(root: str, values: Iterable[str] = ()) -> dict[str, str]:
    """Return that, and the files ``values``, the modules but vfio's, the units that systemd keeps, and the mounts."""
    found = snapshot(root)
    found |= {path: _text(f"{root}{path}") for path in values}
    modules = (name for name in _names(f"{root}/sys/module") if not name.startswith("vfio"))
    found["modules"] = " ".join(sorted(modules))
    found |= systemd.units(root)
    found["mounts"] = _text(f"{root}/proc/self/mountinfo")
    return found


def differences(before: dict[str, str], after: dict[str, str]) -> list[str]:
    """Return one line for each difference; none if the host is as before."""
    return [
        f"{what}: {before.get(what, 'not there')} -> {after.get(what, 'not there')}"
        for what in sorted(before.keys() | after.keys())
        if before.get(what) != after.get(what)
    ]


def _text(path: str) -> str:
    try:
        return store.read(path).rstrip("\n") if answers(path) else "does not answer"
    except OSError:
        return "cannot be read"


def _names(folder: str) -> list[str]:
    return os.listdir(folder) if os.path.isdir(folder) else []
