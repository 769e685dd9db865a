# SPDX-License-Identifier: LGPL-2.1-or-later
"""Tells which processes may open a device by a right of their own."""

from __future__ import annotations

import os

from libhook.facts.machine import Machine
from libhook.light import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

_ACL_USER, _ACL_GROUP = 0x02, 0x08
_READ_OR_WRITE = 0o6


class Rights:
    """The users and groups that may open these nodes, and the QEMUs, to which libvirt hands devices.

    The nodes' owners, groups and access lists say who may.
    """

    def __init__(self, machine: Machine, proc: str, paths: Collection[str]) -> None:
        """Root may open every node. ``proc`` is the procfs that shows the processes."""
        self._machine, self._proc = machine, proc
        self._users, self._groups, self._everybody = {0}, set[int](), False
        self._known: dict[int, bool] = {}
        self._guests: frozenset[str] | None = None
        for path in paths:
            self._add(machine.root + path)

    def user_of(self, pid: str, *, exactly: bool) -> int:
        """The user of a process. /proc shows the effective user: root for a set-user-ID program that anybody started.

        With ``exactly``, the real user is looked up when /proc shows root.
        """
        owner = os.stat(f"{self._proc}/{pid}").st_uid
        return owner or (self._status(pid).get("Uid", [0])[0] if exactly else 0)

    def has(self, pid: str, user: int) -> bool:
        """Whether the process has a right. Its real user counts, since anybody may start a set-user-ID program."""
        if self._everybody or pid in self._of_guests():
            return True
        if user and user in self._known:  # a user may have thousands of processes
            return self._known[user]
        status = self._status(pid)
        groups = {*status.get("Gid", [])[:1], *status.get("Groups", [])}
        found = not self._users.isdisjoint(status.get("Uid", [])[:1]) or not groups.isdisjoint(self._groups)
        self._known[user] = found
        return found

    def _add(self, path: str) -> None:
        try:
            node = os.stat(path)
        except OSError:
            return
        self._users.add(node.st_uid)
        if node.st_mode >> 3 & _READ_OR_WRITE:
            self._groups.add(node.st_gid)
        self._everybody = self._everybody or bool(node.st_mode & _READ_OR_WRITE)
        for tag, permissions, number in _access_list(path):
            if permissions & _READ_OR_WRITE and tag in (_ACL_USER, _ACL_GROUP):
                (self._users if tag == _ACL_USER else self._groups).add(number)

    def _status(self, pid: str) -> dict[str, list[int]]:
        """Uid, Gid and Groups of the process, as numbers; none when it has ended."""
        fields: dict[str, list[int]] = {}
        try:
            with open(f"{self._proc}/{pid}/status", encoding="utf-8", errors="replace") as file:
                for line in file:
                    name, _, value = line.partition(":")
                    if name in ("Uid", "Gid", "Groups"):
                        fields[name] = [int(word) for word in value.split()]
        except OSError:
            pass
        return fields

    def _of_guests(self) -> frozenset[str]:
        """The pids of the QEMUs. Each has a /dev of its own from libvirt, so the host's node shows no right of it."""
        if self._guests is None:
            self._guests = frozenset(_pids(f"{self._machine.root}/run/libvirt/qemu"))
        return self._guests


def _pids(folder: str) -> Iterator[str]:
    try:
        names = [name for name in os.listdir(folder) if name.endswith(".pid")]
    except OSError:
        return
    for name in names:
        try:
            with open(f"{folder}/{name}", encoding="utf-8", errors="replace") as file:
                yield file.read(32).strip()
        except OSError:
            continue


def _access_list(path: str) -> Iterator[Iterator[int]]:
    """Tag, permissions and number of each entry of a file's access list (include/uapi/linux/posix_acl_xattr.h).

    logind adds the user who sits at the machine to the access list of its GPU.
    """
    try:
        content = os.getxattr(path, "system.posix_acl_access")
    except OSError:
        return
    for at in range(4, len(content) - 7, 8):
        tag, permissions = content[at : at + 2], content[at + 2 : at + 4]
        yield (int.from_bytes(part, "little") for part in (tag, permissions, content[at + 4 : at + 8]))
