# SPDX-License-Identifier: LGPL-2.1-or-later
"""The few things that are asked of the kernel, behind one narrow interface that the simulation also answers.

A path is always relative to /sys and made by plan.py from parsed addresses and checked driver names: nothing that a
guest's author wrote gets here unparsed.
"""

import errno
import fcntl
import os
import sys
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol

from libhook.host import Trail

_AUDIT_GET = 1000
_AUDIT_VIRT_RESOURCE = 2501
_CAP_AUDIT_WRITE = 29
_LOOP_GET_STATUS64 = 0x4C05
_LOOP_INFO, _LO_RDEVICE = 232, 16
"""Size of struct loop_info64 (linux/loop.h), and where in it the device number of a backing disk stands."""
_NETLINK_AUDIT = 9
_NLM_F_REQUEST = 1
_GONE = ("", "Z", "X")
_STOPPED = ("T", "t")
_PRIORITY = {"info": 6, "warning": 4, "error": 3}


class Descriptors(Protocol):
    """Looks at what processes have open: ``folder`` is an open ``/proc/PID/fd``, ``number`` a descriptor in it."""

    def device(self, folder: int, number: str) -> str:
        """``c 226:0`` or ``b 8:0`` where it is a device, "" for any other file; OSError where it cannot be seen."""

    def holds(self, pid: int, folder: int, number: str, device: str) -> bool:
        """Whether it is this device, opened for use. May sleep, in that device's driver."""


class Kernel(Protocol):
    """Each call may block for ever (a driver's remove, a module's init): call it in a child (effects/child.py)."""

    def write(self, path: str, value: str) -> None:
        """Write ``value`` to the attribute at ``path`` below /sys, in one write(2); OSError is the kernel's answer."""

    def load(self, module: str) -> None:
        """Load a module and what it needs; OSError when it cannot be had."""

    def open_exclusively(self, node: str) -> None:
        """Open a block device as one who wants it alone, and close it; EBUSY when somebody has claimed it."""

    def open_group(self, node: str, device: str) -> None:
        """Open an IOMMU group's node, which is ``device``, and close it; EBUSY exactly while somebody has the group."""

    def descriptors(self) -> Descriptors:
        """What looks at the descriptors of other processes."""

    def processes(self) -> AbstractContextManager[str]:
        """A procfs in which no process can keep us waiting: its path."""

    def expect_behind_loop(self, loop: str, number: str) -> None:
        """OSError when the disk of this device number, ``259:0``, is not what the loop device has as its file."""

    def record(self, text: str, success: bool) -> int:
        """Send an AUDIT_VIRT_RESOURCE record. As libaudit: above 0 sent, 0 or less not sent (-errno)."""

    def trail(self) -> Trail | None:
        """What the kernel says of its audit trail; None when it does not say."""

    def label(self, path: str) -> str:
        """The SELinux context of a file, links followed; OSError where it has none."""

    def ask_selinux(self, file: str, question: str) -> str:
        """The answer of ``access`` or ``create`` of selinuxfs; OSError where there is none."""

    def log(self, fields: dict[str, object]) -> None:
        """Hand one structured event to the system's log."""


class Machine(NamedTuple):
    """Where things are. ``root`` is "" on a real host and a folder on a simulated one; both are read alike."""

    root: str
    kernel: Kernel

    @property
    def sys(self) -> str:
        """Where sysfs is."""
        return f"{self.root}/sys"

    @property
    def proc(self) -> str:
        """Where procfs is."""
        return f"{self.root}/proc"

    @property
    def state(self) -> str:
        """Where libhook keeps what it holds; gone with a reboot, as the bindings are."""
        return f"{self.root}/run/libhook"

    @property
    def config(self) -> str:
        """The configuration's file."""
        return f"{self.root}/etc/libhook/config.toml"


class LinuxKernel:
    """The real one."""

    def write(self, path: str, value: str) -> None:
        """See Kernel. O_NOFOLLOW is not set: /sys/bus/pci/devices/* are links by nature."""
        attribute = os.open(f"/sys/{path}", os.O_WRONLY | os.O_CLOEXEC)
        content = os.fsencode(value)  # an override is whatever bytes the administrator wrote
        if os.write(attribute, content) != len(content):  # it did take a part: what that means nobody knows
            raise OSError(errno.EIO, os.strerror(errno.EIO), path)

    def load(self, module: str) -> None:
        """See Kernel. Becomes modprobe, whose exit status is then the child's: any but 0 is failure."""
        os.execve("/sbin/modprobe", ["modprobe", "--", module], {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"})

    def open_exclusively(self, node: str) -> None:
        """See Kernel. For reading only: closing it then wakes no udev rule."""
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
        from libhook.effects import descriptors

        return descriptors.Descriptors()

    def processes(self) -> AbstractContextManager[str]:
        """See Kernel."""
        from libhook.effects import ownproc

        return ownproc.mounted()

    def expect_behind_loop(self, loop: str, number: str) -> None:
        """See Kernel. Where the file's own file system does not say, it is no disk: a disk's node always does."""
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

    def record(self, text: str, success: bool) -> int:
        """See Kernel. No host name is passed: libaudit would look it up in the DNS."""
        import audit  # the distribution's python3-audit

        try:
            connection = audit.audit_open()
        except OSError as error:
            return -(error.errno or errno.EIO)
        try:
            return int(
                audit.audit_log_user_message(connection, _AUDIT_VIRT_RESOURCE, text, None, None, None, int(success))
            )
        finally:
            audit.audit_close(connection)

    def trail(self) -> Trail | None:
        """See Kernel. Asked over netlink: the bindings of audit 4.0 have no call for it.

        The kernel names its auditd also when that is stopped, and when it was killed, until a record cannot be handed
        to it (kernel/audit.c, kauditd_send_queue).
        """
        import socket
        import struct

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
        state = _state(daemon)
        return Trail(enabled != 0, daemon if state not in _GONE else 0, lost, _may_send(), state in _STOPPED)

    def label(self, path: str) -> str:
        """See Kernel. The kernel answers itself, also where the file system keeps none (xattr_getsecurity)."""
        return os.getxattr(path, "security.selinux").rstrip(b"\0").decode("ascii")

    def ask_selinux(self, file: str, question: str) -> str:
        """See Kernel. One write, then one read of the same open file (selinuxfs.c, selinux_transaction_write)."""
        transaction = os.open(f"/sys/fs/selinux/{file}", os.O_RDWR | os.O_CLOEXEC)
        try:
            os.write(transaction, question.encode("ascii"))
            return os.read(transaction, 4096).rstrip(b"\0").decode("ascii")
        finally:
            os.close(transaction)

    def log(self, fields: dict[str, object]) -> None:
        """See Kernel. To the journal with its fields; where python3-systemd is missing, to syslog as one line."""
        level = _PRIORITY[str(fields.pop("level", "info"))]
        event = fields.pop("event", "")
        line = " ".join((str(event), *(f"{name}={value}" for name, value in fields.items())))
        try:
            from systemd import journal
        except ImportError:
            import syslog

            syslog.openlog("libhook")
            syslog.syslog(level, line)
        else:
            named = {f"LIBHOOK_{name.upper()}": str(value) for name, value in fields.items()}
            journal.send(line, PRIORITY=str(level), SYSLOG_IDENTIFIER="libhook", **named)


def _state(pid: int) -> str:
    """The state of a process, as /proc/PID/stat has it; "" where there is none of that number."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def _may_send() -> bool:
    """Whether ``record`` could. AUDIT_GET needs another capability than a record, so its answer does not say so."""
    import importlib.util

    with open("/proc/self/status", "rb") as file:
        effective = next(line.split()[1] for line in file if line.startswith(b"CapEff:"))
    return bool(int(effective, 16) >> _CAP_AUDIT_WRITE & 1) and importlib.util.find_spec("audit") is not None
