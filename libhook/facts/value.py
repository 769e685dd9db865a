# SPDX-License-Identifier: LGPL-2.1-or-later
"""Files that have a value, and how the settings name them. Pure."""

from __future__ import annotations

from libhook.errors import BadInput

_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-:@+")
_ACTS = frozenset((
    "bind", "unbind", "uevent", "remove", "rescan", "scan", "reset", "delete", "new_id", "remove_id", "drivers_probe",
    "driver_override", "sriov_numvfs", "rom", "new_device", "delete_device", "export", "unexport", "create", "unload",
    "reload", "flush", "compact", "power", "md/array_state", "md/sync_action", "bonding_masters", "bonding/slaves",
    "cgroup.procs", "cgroup.threads", "cgroup.kill", "cgroup.type", "cgroup.subtree_control", "vm/drop_caches",
    "vm/compact_memory", "vm/stat_refresh", "kernel/ns_last_pid", "power/state", "power/disk", "power/resume",
    "power/autosleep", "power/wake_lock", "power/wake_unlock",
))  # fmt: skip
"""The last part of a path, or the last two (Documentation/ABI, Documentation/admin-guide/sysctl)."""


def path_of(name: str) -> str:
    """The file of a sysctl, or the path itself. BadInput where the name is neither.

    As in sysctl(8), ``/`` and ``.`` change places in a name whose first separator is a dot.
    """
    path = name
    if not name.startswith("/"):
        dots, slashes = name.find("."), name.find("/")
        swapped = dots >= 0 and (slashes < 0 or dots < slashes)
        path = f"/proc/sys/{name.translate(str.maketrans('./', '/.')) if swapped else name}"
    if not _is_below(path) or not all(set(part) <= _PLAIN for part in path.split("/")):
        raise BadInput(f'"{name}" is neither a sysctl nor a file below /sys or /proc/sys')
    return path


def file_below(path: str) -> str:
    """The path of a file below /sys or /proc/sys, once it has no links. BadInput for any other text.

    The kernel's own names may have more characters than those of the settings: ``Fixed MDIO bus.0``.
    """
    if not _is_below(path) or not (path.isascii() and path.isprintable()):
        raise BadInput(f'"{path}" is no file below /sys or /proc/sys')
    return path


def is_act(path: str) -> bool:
    """Whether a write to the file does something, and keeps no value."""
    folder, last = path.split("/")[-2:]
    return last in _ACTS or f"{folder}/{last}" in _ACTS


def _is_below(path: str) -> bool:
    parts = path.split("/")[1:]
    whole = path.startswith(("/sys/", "/proc/sys/")) and len(parts) > 2 + (parts[0] == "proc")
    return whole and not any(set(part) <= {"."} for part in parts)
