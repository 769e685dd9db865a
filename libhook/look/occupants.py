# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the processes are that have a device open: which program each runs, and in which session of logind it is.

The kernel says both: by /proc/PID/exe, and by the control group, into which no user can put a process of their own.
"""

from __future__ import annotations

import errno
import os

from libhook.children.tracks import Late, Step, paper
from libhook.errors import LibhookError, named, printable
from libhook.facts.program import may_end
from libhook.facts.unit import is_protected
from libhook.light import TYPE_CHECKING, NamedTuple, partial, suppress
from libhook.look.cgroups import group_of
from libhook.look.processes import stat

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from libhook.children.tracks import Track
    from libhook.facts.machine import Machine

_SECONDS = 20.0
_MOST_ANCESTORS = 64
_AGENTS = ("/system.slice/systemd-logind.service", "/system.slice/seatd.service")
"""seatd closes what it has open for a compositor when that ends (seatd/client.c, client_destroy)."""


class Session(NamedTuple):
    """A session of logind."""

    name: str
    """logind's own: ``2``."""
    user: str
    """The user's number."""

    @property
    def group(self) -> str:
        """The control group of its scope."""
        return f"/user.slice/user-{self.user}.slice/session-{self.name}.scope"

    def __str__(self) -> str:
        """As a message names it."""
        return f"session {self.name} of the user {self.user}"


class Occupant(NamedTuple):
    """A process that has a device open."""

    pid: int
    start: int
    """When it began, in clock ticks since boot."""
    state: str
    name: str
    """Printable."""
    program: str
    """Of the programs asked for, the one that it runs; "" for another."""
    session: Session | None
    """The session that it belongs to; of what a user's manager runs, that user's graphical session."""
    service: str
    """The service of the host that it belongs to; "" for any other process."""
    is_agent: bool
    """PID 1, logind or seatd, which hold devices for sessions (logind-session-device.c)."""
    is_spared: bool
    """It is never ended: of systemd, libvirt or D-Bus, a QEMU, or this very process or one above it."""

    def __str__(self) -> str:
        """``sunshine (pid 812)``, printable."""
        return f"{named(self.name)} (pid {self.pid})"


def of_pids(machine: Machine, pids: Iterable[int], programs: Sequence[str]) -> Track[tuple[Occupant, ...]]:
    """Those of these processes that are still there. LibhookError where a look fails. A child looks."""
    with paper() as sheet:
        note = partial(_note, machine, sheet.descriptor, tuple(dict.fromkeys(pids)), tuple(programs))
        try:
            code = yield Step(note, keep=sheet.descriptor, looks=True)
        except Late:
            code = errno.ETIMEDOUT
        if code:
            raise LibhookError(
                f"libhook cannot tell which processes have the device open ({os.strerror(code)})",
                "start the guest again; if that does not help, this says more: loginctl",
            )
        return tuple(map(_read, sheet.lines()))


def is_same(machine: Machine, one: Occupant) -> bool:
    """Whether the process is still the one that was seen, and runs the same program. May block: only for a child."""
    found = stat(machine.proc, one.pid)
    path, program = _program(machine, machine.proc, one.pid, (one.program,))
    return found is not None and (found.start, program) == (one.start, one.program) and _may_end(path)


def _note(machine: Machine, sheet: int, pids: tuple[int, ...], programs: tuple[str, ...]) -> None:
    known: dict[str, Session | None] = {}
    with machine.kernel.processes() as proc:
        ours = _with_those_above(proc)
        found = [one for pid in pids if (one := _one(machine, proc, pid, programs, known, ours))]
    text = "".join("\0".join(_written(one)) + "\n" for one in found)
    with open(sheet, "wb", closefd=False) as file:
        file.write(os.fsencode(text))


def _written(one: Occupant) -> Iterator[str]:
    yield from (str(one.pid), str(one.start), one.state, one.name, one.program, one.service)
    yield from one.session or ("", "")
    yield from ("yes" if true else "" for true in (one.is_agent, one.is_spared))


def _read(line: str) -> Occupant:
    pid, start, state, name, program, service, session, user, agent, spared = line.split("\0")
    belongs = Session(session, user) if session else None
    return Occupant(int(pid), int(start), state, name, program, belongs, service, bool(agent), bool(spared))


def _one(
    machine: Machine,
    proc: str,
    pid: int,
    programs: Sequence[str],
    known: dict[str, Session | None],
    ours: Sequence[int],
) -> Occupant | None:
    found = stat(proc, pid)
    if found is None:
        return None
    group = group_of(proc, pid)
    path, program = _program(machine, proc, pid, programs)
    parts = group.split("/")[1:]
    session = _session(machine, parts, known)
    of_user = parts[:1] == ["user.slice"]  # its units are protected as units, and end with their session
    protected = any(map(is_protected, parts)) and not of_user
    spared = pid == 1 or pid in ours or protected or not _may_end(path)
    if session and any(_session(machine, group_of(proc, one).split("/")[1:], known) == session for one in ours):
        session = None  # it is the one in which this hook runs
    name = printable(found.name.decode("utf-8", "replace")).replace("\0", "")
    agent = pid == 1 or group in _AGENTS
    from libhook.facts.cgroup import owner_of

    return Occupant(pid, found.start, found.state, name, program, session, owner_of(group).service, agent, spared)


def _may_end(path: str) -> bool:
    return may_end(path.removesuffix(" (deleted)"))


def _with_those_above(proc: str) -> list[int]:
    """This process, and those above it but PID 1."""
    pids, pid = list[int](), 0
    with suppress(OSError):
        pid = int(os.readlink(f"{proc}/self"))
    while pid > 1 and len(pids) < _MOST_ANCESTORS:
        pids.append(pid)
        found = stat(proc, pid)
        pid = found.parent if found else 0
    return pids


def _program(machine: Machine, proc: str, pid: int, programs: Sequence[str]) -> tuple[str, str]:
    """The path of what the process runs, and which of these programs that is. The file counts, not the path."""
    try:
        path = os.readlink(f"{proc}/{pid}/exe")
        runs = os.stat(f"{proc}/{pid}/exe")
    except OSError:  # a thread of the kernel has none
        return "", ""
    for program in filter(None, programs):
        try:
            if os.path.samestat(runs, os.stat(machine.root + program)):
                return path, program
        except OSError:
            continue
    return path, ""


def _session(machine: Machine, parts: Sequence[str], known: dict[str, Session | None]) -> Session | None:
    """By the place that only PID 1 can give a process: a user may make groups, but below their own manager's."""
    match parts:
        case ["user.slice", slice_, unit, *_] if slice_.startswith("user-") and slice_.endswith(".slice"):
            user = slice_.removeprefix("user-").removesuffix(".slice")
            name = unit.removeprefix("session-").removesuffix(".scope")
            if unit == f"session-{name}.scope" and user.isdecimal() and name.isalnum():
                return Session(name, user)
            if unit == f"user@{user}.service" and user.isdecimal():
                if user not in known:
                    known[user] = _graphical(machine, user)
                return known[user]
    return None


def _graphical(machine: Machine, user: str) -> Session | None:
    """The user's graphical session. OSError where logind does not answer in time.

    loginctl also fails for a user whom logind has forgotten, while the manager of that user still ends.
    """
    status, text = machine.kernel.loginctl(("show-user", "--property=Display", "--value", "--", user), _SECONDS)
    if status == errno.ETIMEDOUT:
        raise OSError(status, os.strerror(status), "loginctl show-user")
    name = text.strip()
    return Session(name, user) if not status and name.isascii() and name.isalnum() else None
