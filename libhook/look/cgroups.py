# SPDX-License-Identifier: LGPL-2.1-or-later
"""Tells whose a process is, by its control group: the kernel's word, which no process can change for itself."""

from __future__ import annotations

import os

from libhook import plainjson
from libhook.children.tracks import Late, Step, paper
from libhook.facts.host import Owner
from libhook.light import TYPE_CHECKING, partial, suppress
from libhook.look.processes import stat

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from libhook.children.tracks import Track
    from libhook.facts.machine import Machine


def owners(machine: Machine, pids: Iterable[int], desktop: str) -> Track[dict[int, tuple[Owner, str]]]:
    """The owner of each of these processes, and the unit of the host's display manager if they end with that, or "".

    ``desktop`` is that unit. A session ends with it that it has begun, and then the units of the session's user.
    A child looks: the kernel may block. What cannot be seen in time is left out.
    """
    with paper() as sheet:
        note = partial(_note, machine, tuple(pids), desktop, sheet.descriptor)
        with suppress(Late):  # what it had seen by then counts
            yield Step(note, keep=sheet.descriptor, looks=True)
        said = map(plainjson.loads, sheet.lines())
        return {pid: (_owner(machine, group), desktop if is_desktop else "") for pid, group, is_desktop in said}


def _owner(machine: Machine, group: str) -> Owner:
    """As ``owner_of``. A service that systemd-run has begun is as a scope: once it is stopped, nobody can start it.

    Its file is in a folder of its own (src/libsystemd/sd-path/path-lookup.c, acquire_transient_dir).
    """
    from libhook.facts.cgroup import owner_of

    owner = owner_of(group)
    is_transient = owner.service and os.path.lexists(f"{machine.root}/run/systemd/transient/{owner.service}")
    return Owner(scope=owner.service) if is_transient else owner


def _note(machine: Machine, pids: Iterable[int], desktop: str, sheet: int) -> None:
    """Write the owners first: the display manager's sessions take a look at all processes."""
    from libhook.facts.cgroup import owner_of

    with machine.kernel.processes() as proc:
        groups = {pid: group_of(proc, pid) for pid in pids}
        known = {pid: owner_of(group) for pid, group in groups.items()}
        _write(sheet, groups, dict.fromkeys(known, False))
        if desktop:
            of_session = any(owner.session or owner.unit for owner in known.values())
            begun, users = _begun_by(machine, proc, desktop) if of_session else (frozenset[Owner](), frozenset[str]())
            ends = {
                pid: owner.service == desktop or owner in begun or bool(owner.unit and owner.user in users)
                for pid, owner in known.items()
            }
            _write(sheet, groups, ends)


def _write(sheet: int, groups: Mapping[int, str], ends: Mapping[int, bool]) -> None:
    os.write(sheet, "".join(f"{plainjson.dumps([pid, groups[pid], end])}\n" for pid, end in ends.items()).encode())


def _begun_by(machine: Machine, proc: str, service: str) -> tuple[frozenset[Owner], frozenset[str]]:
    """The sessions that this service has begun, and the users whose manager ends with these.

    A process of such a session is the service's child, by which PAM has opened the session. A user's manager ends with
    the last session, unless the user lingers.
    """
    from libhook.facts.cgroup import owner_of

    sessions, services = dict[int, Owner](), set[int]()
    for pid in map(int, filter(str.isdecimal, os.listdir(proc))):
        owner = owner_of(group_of(proc, pid))
        if owner.session:
            sessions[pid] = owner
        elif owner.service == service:
            services.add(pid)
    begun = frozenset(one for pid, one in sessions.items() if (found := stat(proc, pid)) and found.parent in services)
    others = {one.user for one in sessions.values() if one not in begun}
    users = {one.user for one in begun} - others
    return begun, frozenset(user for user in users if not _lingers(machine, user))


def _lingers(machine: Machine, user: str) -> bool:
    """Whether the user of this number has a manager without a session, by logind's files (logind-user.c).

    A name with other than letters, digits, ``-``, ``_`` and ``.`` is not found: logind escapes it.
    """
    with (
        suppress(OSError),
        open(f"{machine.root}/run/systemd/users/{user}", encoding="utf-8", errors="replace") as file,
    ):
        name = next((line[5:].rstrip("\n") for line in file if line.startswith("NAME=")), "")
        return bool(name) and "/" not in name and os.path.lexists(f"{machine.root}/var/lib/systemd/linger/{name}")
    return False


def group_of(proc: str, pid: int) -> str:
    """The control group that systemd has made for the process; "" when that cannot be seen."""
    try:
        with open(f"{proc}/{pid}/cgroup", encoding="utf-8", errors="replace") as file:
            lines = dict(line.rstrip("\n").split(":", 2)[1:] for line in file)
    except (OSError, ValueError):
        return ""
    return lines.get("name=systemd") or lines.get("", "")
