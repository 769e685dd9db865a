# SPDX-License-Identifier: LGPL-2.1-or-later
"""Tells what systemd has started a process for, by its control group."""

from __future__ import annotations

from libhook.light import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def group_of(proc: str, pid: int) -> str:
    """The control group that systemd has made for the process; "" when that cannot be seen."""
    try:
        with open(f"{proc}/{pid}/cgroup", encoding="utf-8", errors="replace") as file:
            lines = dict(line.rstrip("\n").split(":", 2)[1:] for line in file)
    except (OSError, ValueError):
        return ""
    return lines.get("name=systemd") or lines.get("", "")


def service_of(parts: Sequence[str]) -> str:
    """The service of the host that a group with these parts is of; "" for any other group."""
    of_host = parts if parts[:1] == ["system.slice"] else []
    unit = next((part for part in of_host if part.endswith((".service", ".scope"))), "")
    return unit if unit.endswith(".service") else ""  # in a scope may be a container, with units of its own
