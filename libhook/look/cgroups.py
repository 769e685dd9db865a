# SPDX-License-Identifier: LGPL-2.1-or-later
"""Tells what systemd has started a process for, by its control group."""

from __future__ import annotations

import os

from libhook.children.tracks import Late, Step, paper
from libhook.errors import printable
from libhook.light import TYPE_CHECKING, partial

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from libhook.children.tracks import Track
    from libhook.facts.machine import Machine


def services(machine: Machine, pids: Iterable[int]) -> Track[dict[int, str]]:
    """The service that each of these processes belongs to, for those of services. A child looks: the kernel may block.

    What cannot be seen in time is left out.
    """
    with paper() as sheet:
        note = partial(_note, machine.proc, tuple(pids), sheet.descriptor)
        try:
            yield Step(note, keep=sheet.descriptor, looks=True)
        except Late:
            return {}
        return {int(pid): service for pid, _, service in (line.partition(" ") for line in sheet.lines())}


def _note(proc: str, pids: Iterable[int], sheet: int) -> None:
    found = ((pid, service_of(group_of(proc, pid).split("/")[1:])) for pid in pids)
    os.write(sheet, "".join(f"{pid} {printable(service)}\n" for pid, service in found if service).encode())


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
