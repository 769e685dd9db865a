# SPDX-License-Identifier: LGPL-2.1-or-later
"""The machine: where its files are, and what libhook asks of its kernel. The simulation implements the same types.

Paths that are written to are made from parsed addresses and checked names. No text from a guest's XML gets here
unparsed.
"""

from __future__ import annotations

from libhook.facts.host import Trail
from libhook.light import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from libhook.facts.launch import Launch


class Descriptors(Protocol):
    """Looks at what processes have open.

    ``folder`` is a descriptor of an open ``/proc/PID/fd``. ``number`` is the name of an entry in it.
    """

    def device(self, folder: int, number: str) -> str:
        """``c 226:0`` or ``b 8:0`` for a device, "" for any other file. OSError where it cannot be seen."""

    def holds(self, pid: int, folder: int, number: str, device: str) -> bool:
        """Whether the descriptor is this device, opened for use. May sleep in that device's driver."""


class Kernel(Protocol):
    """What libhook asks of the kernel.

    Many of these calls may block for ever, in a driver's remove or a module's init or exit. Run those in a child
    (children/child.py).
    """

    def write(self, path: str, value: str) -> None:
        """Write ``value`` to the attribute at ``path`` below /sys, in one write(2). OSError is the kernel's answer."""

    def set_value(self, path: str, value: str) -> None:
        """Write ``value`` in one write(2) to the file at ``path``, below /sys/ or /proc/sys/ and no link."""

    def load(self, module: str) -> None:
        """Load a module and the modules it needs. OSError when that fails."""

    def unload(self, module: str) -> None:
        """Remove this one module, named with ``_``. OSError when it is in use, absent or built in."""

    def systemctl(self, arguments: tuple[str, ...], seconds: float) -> tuple[int, str]:
        """Run systemctl, and return its exit status, ETIMEDOUT where it is late, and what it prints on stdout."""

    def systemd_run(self, arguments: tuple[str, ...], document: bytes, seconds: float) -> tuple[int, str]:
        """Run a command as a transient unit, with ``document`` as its stdin.

        Return the exit status of systemd-run, ETIMEDOUT where it is late, and what it says itself.
        """

    def run_group(self, launch: Launch, seconds: float, *, whole: bool) -> tuple[int | None, str]:
        """Run a command in a process group of its own, and wait for it. Only for a child: it may take that long.

        Return its exit status (255 for a signal, None where it was late and the group was ended), and why it was not
        begun, or "". ``whole``: what it has left running is ended, too.
        """

    def journalctl(self, arguments: tuple[str, ...], seconds: float) -> tuple[int, str]:
        """Run journalctl, as systemctl."""

    def open_exclusively(self, node: str) -> None:
        """Open a block device exclusively, and close it again. EBUSY when somebody has claimed it."""

    def open_group(self, node: str, device: str) -> None:
        """Open the node of an IOMMU group, whose device number is ``device``, and close it again.

        EBUSY means that somebody has the group, and nothing else gives EBUSY.
        """

    def descriptors(self) -> Descriptors:
        """Looks at the descriptors of other processes."""

    def processes(self) -> AbstractContextManager[str]:
        """The path of a procfs in which no process can make us wait."""

    def expect_behind_loop(self, loop: str, number: str) -> None:
        """OSError unless the disk with this device number, ``259:0``, holds the loop device's file."""

    def record(self, text: str, success: bool) -> int:
        """Send an AUDIT_VIRT_RESOURCE record. As libaudit it returns above 0 for sent, else 0 or -errno."""

    def trail(self) -> Trail | None:
        """What the kernel says about its audit trail. None when it gives no answer."""

    def label(self, path: str) -> str:
        """The SELinux context of a file. Links are followed. OSError where the file has none."""

    def ask_selinux(self, file: str, question: str) -> str:
        """The answer of selinuxfs's ``access`` or ``create``. OSError where there is none."""

    def log(self, fields: dict[str, object]) -> None:
        """Send one structured event to the system's log."""


class Machine(NamedTuple):
    """Where things are. ``root`` is "" on a real host, and a folder on a simulated one."""

    root: str
    kernel: Kernel

    @property
    def sys(self) -> str:
        """The path of sysfs."""
        return f"{self.root}/sys"

    @property
    def proc(self) -> str:
        """The path of procfs."""
        return f"{self.root}/proc"

    @property
    def state(self) -> str:
        """The folder of libhook's state. A reboot empties it, and the bindings are gone then too."""
        return f"{self.root}/run/libhook"

    @property
    def notes(self) -> str:
        """The folder with what guests' devices were at their last start. It outlives a reboot."""
        return f"{self.root}/var/lib/libhook/devices"

    @property
    def config(self) -> str:
        """The path of the configuration file."""
        return f"{self.root}/etc/libhook/config.toml"

    @property
    def drop_ins(self) -> str:
        """The folder of further files of the configuration."""
        return f"{self.root}/etc/libhook/config.d"
