# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a descriptor of another process is open on, by the kernel's word. Slow to import (ctypes), so only children do.

stat(2) asks the server of a FUSE file system, and whoever runs that server may let us wait for ever. statx(2) with
AT_STATX_DONT_SYNC takes what the kernel knows already (fs/fuse/dir.c, fuse_update_get_attr). Python has no statx.
"""

import ctypes
import os
import stat
import struct

_FLAGS = 0x4000 | 0x0800  # AT_STATX_DONT_SYNC, AT_NO_AUTOMOUNT
_WANTED = 0x0001 | 0x0100 | 0x1000  # STATX_TYPE, STATX_INO, STATX_MNT_ID
_STATX = struct.Struct("=28xH2xQ88xII8xQ")  # struct statx: mode, inode, major, minor, mount
_O_PATH = 0o10000000


class Descriptors:
    """Looks at descriptors that are named by an open ``/proc/PID/fd`` and a number in it."""

    def __init__(self) -> None:
        """Find statx in the C library: glibc has it since 2.28."""
        self._statx = ctypes.CDLL(None, use_errno=True).statx
        self._statx.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_uint, ctypes.c_void_p)
        self._buffer = ctypes.create_string_buffer(256)
        self._address = ctypes.addressof(self._buffer)

    def device(self, folder: int, number: str) -> str:
        """``c 226:0`` or ``b 8:0`` where it is a device, "" for any other file; OSError where it cannot be seen."""
        return self._look(folder, number)[0]

    def holds(self, folder: int, number: str, device: str) -> bool:
        """Whether it is that device, and opened: not named only (O_PATH), which takes no right to it.

        A process may change what a number stands for between two looks. So the flags count only where they come with
        the mount and inode of the device. Linux shows all three at once, in ``fdinfo`` (fs/proc/fd.c, seq_show). That
        file ends with what the driver adds, and a driver may sleep there: only of what is open in that driver.
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
        """The device, its mount and its inode."""
        if self._statx(folder, number.encode(), _FLAGS, _WANTED, self._address):
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), number)
        mode, inode, major, minor, mount = _STATX.unpack_from(self._buffer)
        if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
            return f"{'c' if stat.S_ISCHR(mode) else 'b'} {major}:{minor}", mount, inode
        return "", mount, inode
