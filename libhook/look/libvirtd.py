# SPDX-License-Identifier: LGPL-2.1-or-later
"""libvirt's daemon, as /proc shows it, and what it says of its guests in /run."""

from __future__ import annotations

import errno
import os
import select

from libhook.facts.machine import Machine
from libhook.light import TYPE_CHECKING, NamedTuple, suppress
from libhook.look.processes import stat

if TYPE_CHECKING:
    import re
    from collections.abc import Iterator

NOT_KNOWN = 0
"""In the stead of a pid: a daemon is there, but it is no ancestor of whoever called the hook."""
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
    """The effective user, also of one that is not dumpable: its folder, unlike what is in it (proc(5)), is its own."""


def of(machine: Machine, caller: int) -> int:
    """The daemon that a call of the hook comes from: its caller, or what stands above a script that passes it on.

    NOT_KNOWN where that leads to none though one is there; on a host without any, the caller itself.
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
    """Whether nobody reads our stderr any more: the launcher, which does until we end, was killed.

    libvirt then has its answer, and may have called ``release`` already, which found nothing to give back.
    """
    poll = select.poll()
    poll.register(2, 0)  # POLLERR: a pipe without a reader (fs/pipe.c, pipe_poll)
    return any(events & select.POLLERR for _, events in poll.poll(0))


def any_lives(machine: Machine) -> bool:
    """Whether a process of the daemon's name is there."""
    return bool(_daemons(machine))


def find(machine: Machine) -> int:
    """The pid of the daemon, for whoever it has not called; NOT_KNOWN where there is none, or more than one."""
    found = _daemons(machine)
    return found[0] if len(found) == 1 else NOT_KNOWN


def name(machine: Machine, pid: int) -> str:
    """What a daemon is called: ``virtqemud`` is one of several, each for a part of what libvirtd does."""
    process = _look(machine.proc, str(pid))
    return process.name.decode("utf-8", "replace") if process else "libvirtd"


def by_pid_file(machine: Machine) -> Iterator[tuple[str, int]]:
    """The system's own, by name and pid: neither a session's nor a container's, which /proc shows, too."""
    for name in _NAMES:
        with suppress(OSError, ValueError), open(f"{machine.root}/run/{name.decode()}.pid", "rb") as file:
            pid = int(file.read(32))
            process = _look(machine.proc, str(pid))
            if process and process.name == name and process.owner in (0, os.geteuid()):
                yield name.decode(), pid


def _daemons(machine: Machine) -> list[int]:
    """Root's alone: anybody may call a process so, and a user's session daemon is called so, too."""
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
    """Whether libvirt has a status file for this very guest, as while it runs; None where even the folder is missing.

    The file goes by name, and may be that of another guest which has the name by now.
    """
    if not os.path.isdir(_folder(machine)):
        return None
    try:
        whose = _search(_UUID, _status(machine, name))
    except OSError as error:  # ENAMETOOLONG: libvirt cannot have written one either
        return error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG)
    return whose is None or _is(whose[1], uuid)


def with_host_devices(machine: Machine) -> frozenset[str]:
    """The UUIDs of the guests that run and have host devices, as far as libvirt's status files can be read."""
    found = set()
    with suppress(OSError):
        for name in os.listdir(_folder(machine)):
            with suppress(OSError):
                status = _status(machine, name.removesuffix(".xml"))
                whose = _search(_UUID, status)
                uuid = whose[1].strip().lower() if whose and _search(_HOST_DEVICE, status) else b""
                if _search(rb"\A[0-9a-f-]{36}\Z", uuid):
                    found.add(uuid.decode())
    return frozenset(found)


def qemu(machine: Machine, name: str, uuid: str) -> int:
    """The pid of the guest's QEMU, which outlives a libvirtd; NOT_KNOWN where no status file is of this very guest."""
    with suppress(OSError):
        status = _status(machine, name)
        whose, pid = _search(_UUID, status), _search(_PID, status)
        if whose and pid and _is(whose[1], uuid):
            return int(pid[1])
    return NOT_KNOWN


def live(machine: Machine, name: str, uuid: str) -> bytes:
    """The XML of a guest that runs, out of libvirt's status file; empty where there is none of this very guest."""
    with suppress(OSError):
        document = _search(rb"<domain[\s>].*", _status(machine, name))
        if document and (whose := _search(_UUID, document[0])) and _is(whose[1], uuid):
            return document[0].rpartition(b"</domstatus>")[0]
    return b""


def _folder(machine: Machine) -> str:
    return f"{machine.root}/run/libvirt/qemu"


def _status(machine: Machine, name: str) -> bytes:
    with open(f"{_folder(machine)}/{name}.xml", "rb") as file:
        return file.read(_STATUS_READ)


def _search(pattern: bytes, text: bytes) -> re.Match[bytes] | None:
    import re  # as long as a third of Python's start, and no guest's status is read where all is as it should be

    return re.search(pattern, text, re.DOTALL)


def _is(found: bytes, uuid: str) -> bool:
    return found.strip().lower() == uuid.lower().encode()
