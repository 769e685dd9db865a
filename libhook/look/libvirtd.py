# SPDX-License-Identifier: LGPL-2.1-or-later
"""libvirt's daemon, as /proc shows it, and what libvirt's files in /run say of its guests."""

from __future__ import annotations

import errno
import os
import select

from libhook.errors import unanswered
from libhook.facts.machine import Machine
from libhook.light import TYPE_CHECKING, NamedTuple, suppress
from libhook.look.processes import stat

if TYPE_CHECKING:
    import re
    from collections.abc import Iterator

NOT_KNOWN = 0
"""Stands for a pid that is not known."""
_NAMES = (b"libvirtd", b"virtqemud")
_MOST_ANCESTORS = 64
_STATUS_READ = 1 << 22
_PID = rb"<domstatus\s[^>]*?\bpid=['\"]([0-9]{1,9})['\"]"
_HOST_DEVICE = rb"<hostdev[\s>]|\stype=['\"](?:hostdev|nvme)['\"]"
_UUID = rb"<domain[\s>].*?<uuid>([^<]*)</uuid>"


class _Process(NamedTuple):
    name: bytes
    parent: int
    owner: int
    """The effective user. /proc gives a process's folder to that user even if the process is not dumpable (proc(5))."""


def of(machine: Machine, caller: int) -> int:
    """The pid of the daemon that called the hook: the caller, or an ancestor of it when a script passes the call on.

    NOT_KNOWN when no ancestor is a daemon but one runs. The caller itself when no daemon runs.
    """
    pid = caller
    for _ in range(_MOST_ANCESTORS):
        process = _look(machine.proc, str(pid))
        if process is None:
            break
        if process.name in _NAMES:
            return pid
        pid = process.parent
    return NOT_KNOWN if any_lives(machine) else caller


def caller_is_gone() -> bool:
    """Whether nobody reads our stderr any more. The launcher reads it until we end, so somebody killed the launcher.

    libvirt then has its answer. It may have called ``release`` already, which found nothing to give back.
    """
    poll = select.poll()
    poll.register(2, 0)  # POLLERR: a pipe without a reader (fs/pipe.c, pipe_poll)
    return any(events & select.POLLERR for _, events in poll.poll(0))


def any_lives(machine: Machine) -> bool:
    """Whether one of libvirt's daemons runs."""
    return bool(_daemons(machine))


def find(machine: Machine) -> int:
    """The pid of the daemon, for a process that it has not called; NOT_KNOWN when there is none, or more than one."""
    found = _daemons(machine)
    return found[0] if len(found) == 1 else NOT_KNOWN


def name(machine: Machine, pid: int) -> str:
    """The daemon's name; ``libvirtd`` when it is gone. ``virtqemud`` is one of several, each for a part of libvirt."""
    process = _look(machine.proc, str(pid))
    return process.name.decode("utf-8", "replace") if process else "libvirtd"


def by_pid_file(machine: Machine) -> Iterator[tuple[str, int]]:
    """The system's own daemons, by name and pid. /proc also shows those of sessions and containers: not these."""
    for name in _NAMES:
        with suppress(OSError, ValueError), open(f"{machine.root}/run/{name.decode()}.pid", "rb") as file:
            pid = int(file.read(32))
            process = _look(machine.proc, str(pid))
            if process and process.name == name and process.owner in (0, os.geteuid()):
                yield name.decode(), pid


def _daemons(machine: Machine) -> list[int]:
    """The pids of root's daemons. Any process may take that name, and a user's session daemon has it too."""
    with machine.kernel.processes() as proc:
        found = [(pid, process) for pid in filter(str.isdigit, os.listdir(proc)) if (process := _look(proc, pid))]
    return [int(pid) for pid, process in found if process.name in _NAMES and process.owner in (0, os.geteuid())]


def _look(proc: str, pid: str) -> _Process | None:
    try:
        owner = os.stat(f"{proc}/{pid}").st_uid
    except OSError:
        return None
    found = stat(proc, pid)
    return _Process(found.name, found.parent, owner) if found else None


def has_status_file(machine: Machine, name: str, uuid: str) -> bool | None:
    """Whether libvirt has a status file for this very guest, as it does while the guest runs; None without the folder.

    The file has the guest's name, and may belong to another guest that has the name now.
    """
    try:
        whose = _search(_UUID, _status(machine, name))
    except OSError as error:  # ENAMETOOLONG: libvirt cannot have written such a file
        may_be = error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG)
        return True if may_be else False if os.path.isdir(_folder(machine)) else None
    return whose is None or _is(whose[1], uuid)


def with_host_devices(machine: Machine, but: type[OSError] = OSError) -> frozenset[str]:
    """The UUIDs of guests that run and have host devices. No guest runs where there is no folder of status files.

    LibhookError where the folder cannot be listed, or a file cannot be read because of anything ``but`` this.
    """
    try:
        return frozenset(uuid for uuid, status in _each(machine, but) if _search(_HOST_DEVICE, status))
    except FileNotFoundError:
        return frozenset()
    except OSError as error:
        raise unanswered(error) from None


def running(machine: Machine) -> frozenset[str] | None:
    """The UUIDs of guests that run, whatever their names are; None without the folder of status files, or where one of
    these cannot be read."""
    try:
        return frozenset(uuid for uuid, _ in _each(machine, FileNotFoundError))
    except OSError:
        return None


def _each(machine: Machine, but: type[OSError]) -> Iterator[tuple[str, bytes]]:
    """The UUID of each running guest with its status file. One that cannot be read because of this is left out."""
    for name in os.listdir(_folder(machine)):
        with suppress(but):
            status = _status(machine, name.removesuffix(".xml")) if name.endswith(".xml") else b""
            whose = _search(_UUID, status)
            uuid = whose[1].strip().lower() if whose else b""
            if _search(rb"\A[0-9a-f-]{36}\Z", uuid):
                yield uuid.decode(), status


def qemu(machine: Machine, name: str, uuid: str) -> int:
    """The pid of the guest's QEMU, which outlives libvirtd; NOT_KNOWN when no status file is of this very guest."""
    with suppress(OSError):
        status = _status(machine, name)
        whose, pid = _search(_UUID, status), _search(_PID, status)
        if whose and pid and _is(whose[1], uuid):
            return int(pid[1])
    return NOT_KNOWN


def live(machine: Machine, name: str, uuid: str) -> bytes:
    """The XML of a running guest from libvirt's status file; empty when there is none of this very guest."""
    with suppress(OSError):
        document = domain_in(_status(machine, name))
        if (whose := _search(_UUID, document)) and _is(whose[1], uuid):
            return document
    return b""


def domain_in(status: bytes) -> bytes:
    """The guest's XML in a status file; empty when there is none."""
    document = _search(rb"<domain[\s>].*", status)
    return document[0].rpartition(b"</domstatus>")[0] if document else b""


def uuid_in(document: bytes) -> str:
    """The UUID in a guest's XML, as it is in audit records; "" where there is none."""
    whose = _search(_UUID, document)
    return whose[1].strip().lower().decode("ascii", "replace") if whose else ""


def _folder(machine: Machine) -> str:
    return f"{machine.root}/run/libvirt/qemu"


def _status(machine: Machine, name: str) -> bytes:
    with open(f"{_folder(machine)}/{name}.xml", "rb") as file:
        return file.read(_STATUS_READ)


def _search(pattern: bytes, text: bytes) -> re.Match[bytes] | None:
    import re  # takes a third of Python's start, and mostly no status file is read

    return re.search(pattern, text, re.DOTALL)


def _is(found: bytes, uuid: str) -> bool:
    return found.strip().lower() == uuid.lower().encode()
