# SPDX-License-Identifier: LGPL-2.1-or-later
"""Tells whose a process is, by its control group: the kernel's word, which no process can change for itself."""

from __future__ import annotations

import os

from libhook import plainjson
from libhook.children.tracks import Late, Step, paper
from libhook.facts.cgroup import owner_of
from libhook.facts.host import Owner
from libhook.light import TYPE_CHECKING, partial
from libhook.look import attributes
from libhook.look.processes import stat

if TYPE_CHECKING:
    from collections.abc import Iterable

    from libhook.children.tracks import Track
    from libhook.facts.machine import Machine


def owners(machine: Machine, pids: Iterable[int], desktop: str) -> Track[dict[int, tuple[Owner, str]]]:
    """The owner of each of these processes, and the unit of the host's display manager if they end with that, or "".

    ``desktop`` is that unit. A session ends with it that it has begun, and then the units of the session's user.
    A child looks: the kernel may block. What cannot be seen in time is left out.
    """
    with paper() as sheet:
        note = partial(_note, machine.proc, tuple(pids), desktop, sheet.descriptor)
        try:
            yield Step(note, keep=sheet.descriptor, looks=True)
        except Late:
            return {}
        said = map(plainjson.loads, sheet.lines())
        return {pid: (owner_of(group), desktop if is_desktop else "") for pid, group, is_desktop in said}


def _note(proc: str, pids: Iterable[int], desktop: str, sheet: int) -> None:
    groups = {pid: group_of(proc, pid) for pid in pids}
    known = {pid: owner_of(group) for pid, group in groups.items()}
    begun = frozenset[Owner]()
    if desktop and any(owner.session or owner.unit for owner in known.values()):
        begun = _begun_by(proc, desktop)
    users = {owner.user for owner in begun}
    for pid, owner in known.items():
        ends_with_it = owner.service == desktop or owner in begun or bool(owner.unit and owner.user in users)
        os.write(sheet, f"{plainjson.dumps([pid, groups[pid], bool(desktop) and ends_with_it])}\n".encode())


def _begun_by(proc: str, service: str) -> frozenset[Owner]:
    """The sessions that this service has begun: a process of each is its child, by which PAM has opened the session."""
    sessions, services = dict[int, Owner](), set[int]()
    for pid in map(int, filter(str.isdecimal, attributes.entries(proc))):
        owner = owner_of(group_of(proc, pid))
        if owner.session:
            sessions[pid] = owner
        elif owner.service == service:
            services.add(pid)
    return frozenset(one for pid, one in sessions.items() if (found := stat(proc, pid)) and found.parent in services)


def group_of(proc: str, pid: int) -> str:
    """The control group that systemd has made for the process; "" when that cannot be seen."""
    try:
        with open(f"{proc}/{pid}/cgroup", encoding="utf-8", errors="replace") as file:
            lines = dict(line.rstrip("\n").split(":", 2)[1:] for line in file)
    except (OSError, ValueError):
        return ""
    return lines.get("name=systemd") or lines.get("", "")
