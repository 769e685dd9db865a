# SPDX-License-Identifier: LGPL-2.1-or-later
"""The machine: where its files are, and the few things that are asked of its kernel. The simulation answers them too.

A path is relative to /sys. It is made from parsed addresses and checked driver names: nothing that a guest's author
wrote gets here unparsed.
"""

from __future__ import annotations

from libhook.facts.host import Trail
from libhook.light import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from contextlib import AbstractContextManager


class Descriptors(Protocol):
    """Looks at what processes have open: ``folder`` is an open ``/proc/PID/fd``, ``number`` a descriptor in it."""

    def device(self, folder: int, number: str) -> str:
        """``c 226:0`` or ``b 8:0`` where it is a device, "" for any other file; OSError where it cannot be seen."""

    def holds(self, pid: int, folder: int, number: str, device: str) -> bool:
        """Whether it is this device, opened for use. May sleep, in that device's driver."""


class Kernel(Protocol):
    """Each call may block for ever (a driver's remove, a module's init or exit): call it in a child
    (effects/child.py)."""

    def write(self, path: str, value: str) -> None:
        """Write ``value`` to the attribute at ``path`` below /sys, in one write(2); OSError is the kernel's answer."""

    def set_value(self, path: str, value: str) -> None:
        """Write ``value`` to the file at ``path``, which is below /sys/ or /proc/sys/, and no link."""

    def load(self, module: str) -> None:
        """Load a module and what it needs; OSError when it cannot be had."""

    def unload(self, module: str) -> None:
        """Take out this module alone, by its name with ``_``; OSError when it is in use, not there, or built in."""

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
