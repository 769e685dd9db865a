# SPDX-License-Identifier: LGPL-2.1-or-later
"""The real kernel: what it is asked. What it is told to change is in effects/kernel.py."""

from __future__ import annotations

import errno
import fcntl
import os
import sys

from libhook.effects.kernel import Writing
from libhook.facts.host import Trail
from libhook.facts.machine import Descriptors
from libhook.light import TYPE_CHECKING

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

_AUDIT_GET = 1000
_CAP_AUDIT_WRITE = 29
_LOOP_GET_STATUS64 = 0x4C05
_LOOP_INFO, _LO_RDEVICE = 232, 16
"""Size of struct loop_info64 (linux/loop.h), and the offset of the backing disk's device number in it."""
_NETLINK_AUDIT = 9
_NLM_F_REQUEST = 1
_GONE = ("", "Z", "X")
_STOPPED = ("T", "t")


class LinuxKernel(Writing):
    """The whole Kernel (facts/machine.py)."""

    def open_exclusively(self, node: str) -> None:
        """See Kernel. Opens for reading only: then closing wakes no udev rule."""
        os.close(os.open(node, os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC | os.O_NONBLOCK))

    def open_group(self, node: str, device: str) -> None:
        """See Kernel: vfio_group_fops_open() and vfio_df_group_open() refuse each other (drivers/vfio/group.c)."""
        file = os.open(node, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        number = os.fstat(file).st_rdev
        os.close(file)
        if f"c {os.major(number)}:{os.minor(number)}" != device:
            raise OSError(errno.ENODEV, os.strerror(errno.ENODEV), node)

    def descriptors(self) -> Descriptors:
        """See Kernel."""
        from libhook.look import descriptors

        return descriptors.Descriptors()

    def processes(self) -> AbstractContextManager[str]:
        """See Kernel."""
        from libhook.look import ownproc

        return ownproc.mounted()

    def expect_behind_loop(self, loop: str, number: str) -> None:
        """See Kernel.

        The ioctl asks the backing file's own file system. If that fails, the file is no disk: a disk's node answers.
        """
        major, minor = map(int, number.split(":"))
        file = os.open(loop, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        information = bytearray(_LOOP_INFO)
        try:
            fcntl.ioctl(file, _LOOP_GET_STATUS64, information)
        except OSError as error:
            raise OSError(errno.ENODEV, os.strerror(errno.ENODEV), loop) from error
        finally:
            os.close(file)
        if int.from_bytes(information[_LO_RDEVICE : _LO_RDEVICE + 8], sys.byteorder) != os.makedev(major, minor):
            raise OSError(errno.ENODEV, os.strerror(errno.ENODEV), loop)

    def trail(self) -> Trail | None:
        """See Kernel. Asks over netlink, because the bindings of audit 4.0 have no call for it.

        The kernel still names an auditd that is stopped. It also names one that was killed, until it fails to hand that
        one a record (kernel/audit.c, kauditd_send_queue).
        """
        import socket
        import struct

        from libhook.look.processes import stat

        header = struct.Struct("=IHHII")  # struct nlmsghdr
        try:
            with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_AUDIT) as netlink:
                netlink.settimeout(1)
                netlink.sendto(header.pack(header.size, _AUDIT_GET, _NLM_F_REQUEST, 1, 0), (0, 0))
                answer = netlink.recv(8192)
        except OSError:
            return None
        _, kind, _, _, _ = header.unpack_from(answer)
        if kind != _AUDIT_GET:
            return None
        _, enabled, _, daemon, _, _, lost = struct.unpack_from("=7I", answer, header.size)  # struct audit_status
        process = stat("/proc", daemon)
        state = process.state if process else ""
        return Trail(enabled != 0, daemon if state not in _GONE else 0, lost, _may_send(), state in _STOPPED)

    def label(self, path: str) -> str:
        """See Kernel. The kernel itself answers, even when the file system keeps no label (xattr_getsecurity)."""
        return os.getxattr(path, "security.selinux").rstrip(b"\0").decode("ascii")

    def ask_selinux(self, file: str, question: str) -> str:
        """See Kernel. One write, then one read of the same open file (selinuxfs.c, selinux_transaction_write)."""
        transaction = os.open(f"/sys/fs/selinux/{file}", os.O_RDWR | os.O_CLOEXEC)
        try:
            os.write(transaction, question.encode("ascii"))
            return os.read(transaction, 4096).rstrip(b"\0").decode("ascii")
        finally:
            os.close(transaction)


def _may_send() -> bool:
    """Whether ``record`` could send. AUDIT_GET needs another capability, so its answer does not say."""
    import importlib.util

    with open("/proc/self/status", "rb") as file:
        effective = next(line.split()[1] for line in file if line.startswith(b"CapEff:"))
    return bool(int(effective, 16) >> _CAP_AUDIT_WRITE & 1) and importlib.util.find_spec("audit") is not None
