# SPDX-License-Identifier: LGPL-2.1-or-later
"""Programs that the settings may name, so that libhook ends their processes. Pure."""

from __future__ import annotations

SESSIONS = "sessions"
"""In the list ``end``: graphical sessions of logind."""
_PROTECTED = ("systemd", "dbus", "libvirt", "virtqemud", "qemu", "kvm")
"""The first letters of programs whose processes are never ended: PID 1, logind, D-Bus, libvirt's daemon, any QEMU."""


def is_path(text: str) -> bool:
    """Whether this is the absolute path of a file, without ``..`` and the like."""
    return text.startswith("/") and all(part not in ("", ".", "..") for part in text[1:].split("/"))


def may_end(path: str) -> bool:
    """Whether processes of this program may be ended at all, by its name."""
    return not path.rpartition("/")[2].startswith(_PROTECTED)
