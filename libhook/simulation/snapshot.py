# SPDX-License-Identifier: LGPL-2.1-or-later
"""What must be as before after a guest's life, taken before and after it."""

import os

from libhook.simulation import store
from libhook.simulation.sleepers import answers


def snapshot(root: str) -> dict[str, str]:
    """Each device's driver and override, each PF's VFs, vfio's nodes, network interfaces and disks.

    Not the logs, and not the modules: nobody unloads those.
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
    return found


def differences(before: dict[str, str], after: dict[str, str]) -> list[str]:
    """One line for each difference; none when the host is as it was."""
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
