# SPDX-License-Identifier: LGPL-2.1-or-later
"""Goes through what every process has open, in a child: looks for devices, by number.

A process may have as many descriptors as it likes, and make them in no time (dup), and each look costs 5 us. So one
that has no right to open the device itself, and can only have been handed it, has a budget.
"""

import errno
import os
import struct
from collections.abc import Collection, Iterator, Mapping
from functools import partial
from typing import NamedTuple

from libhook.effects import child
from libhook.effects.kernel import Descriptors, Machine

EACH = 4096
"""Descriptors of a process without a right to the device that are looked at, the lowest first."""
TOGETHER = 100_000
"""Descriptors, of all processes, from which on only those with a right are looked at: half a second's worth."""
_GONE = (errno.ENOENT, errno.ESRCH)
_ACL_USER, _ACL_GROUP = 0x02, 0x08
_READ_OR_WRITE = 0o6


class Found(NamedTuple):
    """What the child has said by now."""

    holders: tuple[tuple[int, str], ...]
    """Processes, and which device each has open."""
    hidden: tuple[tuple[int, int], ...]
    """Processes whose descriptors cannot be seen, and why: an errno."""


def scan(machine: Machine, wanted: Mapping[str, str], report: int) -> None:
    """Write to ``report`` which processes have these devices open: the paths of their nodes, by number."""

    def say(*words: object) -> None:
        os.write(report, f"{' '.join(map(str, words))}\n".encode())

    descriptors = machine.kernel.descriptors()
    room, rights = TOGETHER, _rights(machine, wanted.values())
    passed: list[str] = []
    for pid in filter(str.isdigit, os.listdir(machine.proc)):
        try:
            if not room and not rights.has(machine, pid):
                passed.append(pid)
                continue
            folder = os.open(f"{machine.proc}/{pid}/fd", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                budget = min(EACH, room or EACH)
                for count, number in enumerate(_numbers(folder)):
                    if count == budget and not rights.has(machine, pid):
                        passed.append(pid)
                        break
                    room -= room > 0
                    device = _device(descriptors, folder, number)
                    if device in wanted:
                        say("perhaps", pid, device)
                        say("yes" if _holds(descriptors, folder, number, device) else "no")
            finally:
                os.close(folder)
        except OSError as error:
            # One that ended at that very moment is refused as well (fs/proc/base.c, proc_fd_access_allowed).
            if error.errno not in _GONE and os.path.exists(f"{machine.proc}/{pid}"):
                say("hidden", pid, error.errno)
    if passed:
        fields: dict[str, object] = {
            "level": "warning",
            "event": "not looked at",
            "what": f"the files of {len(passed)} processes that have no right to {', '.join(sorted(wanted.values()))}",
            "why": f"they have more than {EACH} open, or all together more than {TOGETHER}",
            "pids": ", ".join(passed[:10]),
        }
        child.spawn(partial(machine.kernel.log, fields)).abandon()  # the log may not answer


def heard(lines: Collection[str]) -> Found:
    """What those lines say. The child may hang in a driver that shows an open file: then somebody has it open."""
    holders: list[tuple[int, str]] = []
    hidden: list[tuple[int, int]] = []
    for line in lines:
        match line.split(" ", 2):
            case ["perhaps", pid, device]:
                holders.append((int(pid), device))
            case ["no"]:
                holders.pop()
            case ["hidden", pid, code]:
                hidden.append((int(pid), int(code)))
    return Found(tuple(dict.fromkeys(holders)), tuple(hidden))


def _numbers(folder: int) -> Iterator[str]:
    """The descriptors' numbers; no more are read than are asked for."""
    with os.scandir(folder) as entries:
        for entry in entries:
            yield entry.name


def _device(descriptors: Descriptors, folder: int, number: str) -> str:
    """OSError where the process may not be looked at: root without CAP_SYS_PTRACE lists its files, and sees none."""
    try:
        return descriptors.device(folder, number)
    except PermissionError:
        try:
            os.readlink(number, dir_fd=folder)
        except PermissionError:
            raise
        except OSError:
            pass  # closed meanwhile
        return ""  # its path is shown: it is a FUSE file system that refuses (fs/fuse/dir.c, fuse_getattr)
    except OSError:
        return ""  # closed meanwhile, or on a file system that has no answer: not a device


def _holds(descriptors: Descriptors, folder: int, number: str, device: str) -> bool:
    try:
        return descriptors.holds(folder, number, device)
    except OSError as error:
        return error.errno not in _GONE  # closed meanwhile; what cannot be told is taken for open


class _Rights(NamedTuple):
    """Whom a node's owner, group and access list let open it."""

    users: frozenset[int]
    groups: frozenset[int]
    everybody: bool
    known: dict[int, bool]
    """By user, as one process of his told: he may have thousands."""

    def has(self, machine: Machine, pid: str) -> bool:
        """Whether the process has them by the user that started it: a set-user-ID program is anybody's to start."""
        if self.everybody:
            return True
        owner = os.stat(f"{machine.proc}/{pid}").st_uid  # of who may not be looked into, as of such a program, root
        if not owner:
            return self._has(machine, pid)
        if owner not in self.known:
            self.known[owner] = self._has(machine, pid)
        return self.known[owner]

    def _has(self, machine: Machine, pid: str) -> bool:
        fields: dict[str, list[int]] = {}
        try:
            with open(f"{machine.proc}/{pid}/status", encoding="utf-8", errors="replace") as file:
                for line in file:
                    name, _, value = line.partition(":")
                    if name in ("Uid", "Gid", "Groups"):
                        fields[name] = [int(word) for word in value.split()]
        except OSError:
            return False  # it has ended
        groups = {*fields.get("Gid", [])[:1], *fields.get("Groups", [])}
        return bool({*fields.get("Uid", [])[:1]} & self.users or groups & self.groups)


def _rights(machine: Machine, paths: Collection[str]) -> _Rights:
    users, groups, everybody = {0}, set[int](), False
    for path in paths:
        try:
            node = os.stat(machine.root + path)
        except OSError:
            continue
        users.add(node.st_uid)
        if node.st_mode >> 3 & _READ_OR_WRITE:
            groups.add(node.st_gid)
        everybody = everybody or bool(node.st_mode & _READ_OR_WRITE)
        for tag, permissions, number in _access_list(machine.root + path):
            if permissions & _READ_OR_WRITE and tag in (_ACL_USER, _ACL_GROUP):
                (users if tag == _ACL_USER else groups).add(number)
    return _Rights(frozenset(users), frozenset(groups), everybody, {})


def _access_list(path: str) -> Iterator[tuple[int, int, int]]:
    """By logind who sits at the machine is in the access list of its GPU (include/uapi/linux/posix_acl_xattr.h)."""
    try:
        content = os.getxattr(path, "system.posix_acl_access")
    except OSError:
        return
    yield from struct.iter_unpack("<HHI", content[4 : 4 + (len(content) - 4) // 8 * 8])
