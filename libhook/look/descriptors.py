# SPDX-License-Identifier: LGPL-2.1-or-later
"""Asks the kernel what a descriptor of another process is open on. Slow to import (ctypes), so only children do.

stat(2) asks the server of a FUSE file system, and the user who runs that server may never answer. statx(2) with
AT_STATX_DONT_SYNC takes what the kernel knows already (fs/fuse/dir.c, fuse_update_get_attr). Python has no statx.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import select
import stat
import struct

from libhook.children import child
from libhook.light import partial

_FLAGS = 0x4000 | 0x0800 | 0x1000  # AT_STATX_DONT_SYNC, AT_NO_AUTOMOUNT, AT_EMPTY_PATH
_WANTED = 0x0001 | 0x0100 | 0x1000  # STATX_TYPE, STATX_INO, STATX_MNT_ID
_STATX = struct.Struct("=28xH2xQ88xII8xQ")  # struct statx: mode, inode, major, minor, mount
_O_PATH = 0o10000000
_PIDFD_GETFD = 438
_PATIENCE_MS = 1000
_TIMES = 16


class Descriptors:
    """Looks at descriptors. Each is named by an open ``/proc/PID/fd`` and a number in it."""

    def __init__(self) -> None:
        """Find statx in the C library: glibc has it since 2.28."""
        library = ctypes.CDLL(None, use_errno=True)
        self._statx, self._call = library.statx, library.syscall
        self._statx.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_uint, ctypes.c_void_p)
        self._buffer = ctypes.create_string_buffer(256)
        self._address = ctypes.addressof(self._buffer)

    def device(self, folder: int, number: str) -> str:
        """``c 226:0`` or ``b 8:0`` for a device, "" for any other file; OSError when it cannot be seen."""
        return self._look(folder, number)[0]

    def holds(self, pid: int, folder: int, number: str, device: str) -> bool:
        """Whether the descriptor is on that device and open for use; O_PATH only names a file, and needs no right.

        A process may change what a number stands for between two looks. So a child takes over the open file
        (pidfd_getfd) and asks it both questions. A child that does not answer in time counts as yes. If pidfd_getfd is
        not allowed (Yama, SELinux), fdinfo is read several times and must say the same each time: that finds out a
        process that keeps changing the number.
        """
        receiver, sender = os.pipe2(os.O_CLOEXEC)
        try:
            # This needs a child of its own: closing the file may sleep in its driver, or wait for a FUSE server.
            child.spawn(partial(self._tell, sender, pid, int(number), device), keep=sender).abandon()
        finally:
            os.close(sender)
        poll = select.poll()
        poll.register(receiver, select.POLLIN)
        try:
            answer = os.read(receiver, 1) if poll.poll(_PATIENCE_MS) else b"1"
        finally:
            os.close(receiver)
        if answer in (b"0", b"1"):
            return answer == b"1"
        return all(self._shown_as_open(folder, number, device) for _ in range(_TIMES))

    def _tell(self, sender: int, pid: int, number: int, device: str) -> None:
        """Write 1 when the descriptor is on that device and open, 0 when not, and nothing when that is not known."""
        try:
            file = self._call(_PIDFD_GETFD, os.pidfd_open(pid), number, 0)
        except ProcessLookupError:
            os.write(sender, b"0")
            return
        if file >= 0:
            opened = self._look(file, "")[0] == device and not fcntl.fcntl(file, fcntl.F_GETFL) & _O_PATH
            os.write(sender, b"1" if opened else b"0")
        elif ctypes.get_errno() == errno.EBADF:
            os.write(sender, b"0")  # closed meanwhile

    def _shown_as_open(self, folder: int, number: str, device: str) -> bool:
        """Whether fdinfo shows that device, open for use.

        Linux shows flags, mount and inode at once (fs/proc/fd.c, seq_show). What the driver adds comes after them.
        """
        found, mount, inode = self._look(folder, number)
        if found != device:
            return False
        file = os.open(f"../fdinfo/{number}", os.O_RDONLY | os.O_CLOEXEC, dir_fd=folder)
        try:
            lines = os.read(file, 4096).decode("ascii", "replace").splitlines()
        finally:
            os.close(file)
        shown = {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
        same = (shown.get("mnt_id"), shown.get("ino")) == (str(mount), str(inode))
        return same and not int(shown.get("flags", "0"), 8) & _O_PATH

    def _look(self, folder: int, number: str) -> tuple[str, int, int]:
        """The device as ``device`` gives it, its mount, and its inode."""
        if self._statx(folder, number.encode(), _FLAGS, _WANTED, self._address):
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), number)
        mode, inode, major, minor, mount = _STATX.unpack_from(self._buffer)
        if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
            return f"{'c' if stat.S_ISCHR(mode) else 'b'} {major}:{minor}", mount, inode
        return "", mount, inode
