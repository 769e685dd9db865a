# SPDX-License-Identifier: LGPL-2.1-or-later
"""``python3 -m libhook.simulation FOLDER [XML]``: makes a host to try libhook on, and plays a guest's life there."""

import argparse
import os
import sys
from contextlib import suppress

from libhook.cli import broken, hold_streams
from libhook.command import terminal
from libhook.errors import LibhookError
from libhook.simulation import hosts, store
from libhook.simulation.build import build
from libhook.simulation.demo import Demo, Page
from libhook.simulation.guests import Assigned, Guest
from libhook.simulation.libvirt import Libvirt
from libhook.simulation.snapshot import snapshot

_LAUNCHER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "hooks", "qemu")
_NIC = (Assigned("0000:01:00.0"),)
_GUESTS = (Guest("win11", _NIC), Guest("other", _NIC, "1c15a1a0-a802-4b8e-8f5c-2a6d8a7c1f0e"))
_VALUES = {
    "/proc/sys/vm/swappiness": "60\n",
    "/sys/kernel/mm/transparent_hugepage/enabled": "always [madvise] never\n",
}
_ENTER = "runs. Look at the host from another terminal; press Enter here to shut the guest down"


def main(arguments: list[str]) -> int:
    """Return the exit code: 1 if the guest does not start, or the host is not as before. The reason is on stderr."""
    hold_streams()
    parser = argparse.ArgumentParser(
        prog="python3 -m libhook.simulation",
        description="Makes a host in FOLDER, where there is none yet, and guests for it. With XML, plays libvirtd and "
        "QEMU for the whole life of that guest there, and shows what the hook does at each step.",
        formatter_class=terminal.Help,
    )
    parser.add_argument("folder", metavar="FOLDER", help="for LIBHOOK_ROOT; new, empty, or a host that this made")
    parser.add_argument("xml", metavar="XML", nargs="?", help="the guest's domain XML: a file")
    options = parser.parse_args(arguments)
    try:
        _make(options.folder)
        if options.xml:
            _play(options.folder, Guest.of(terminal.read(options.xml, "a file with a domain's XML")))
    except LibhookError as error:
        return terminal.complain([error.line])
    except ImportError as error:  # lxml
        return terminal.complain([broken(error)])
    except OSError as error:
        return terminal.complain([LibhookError(f"{error.filename}: {error.strerror}", "name another folder").line])
    return 0


def _make(folder: str) -> None:
    """Make a workstation with an auditd and a few values, and two guests that both want its network card."""
    names = " and ".join(f"{folder}/{guest.name}.xml" for guest in _GUESTS)
    if os.path.exists(f"{folder}/simulation/serial"):
        terminal.show([f"the workstation in {folder} is there; guests for it are {names}"])
        return
    try:
        if os.path.exists(folder) and os.listdir(folder):
            raise LibhookError(f"{folder} is not empty, and no simulated host", "name another folder")
        build(folder, hosts.workstation())
        for path, value in _VALUES.items():
            os.makedirs(os.path.dirname(f"{folder}{path}"), exist_ok=True)
            store.create(f"{folder}{path}", value)
        os.makedirs(f"{folder}/etc/libvirt/qemu")
        os.makedirs(f"{folder}/var/log/audit")
        for guest in _GUESTS:
            for path in (f"{folder}/{guest.name}.xml", f"{folder}/etc/libvirt/qemu/{guest.name}.xml"):
                store.create(path, guest.xml())
    except OSError as error:
        raise LibhookError(f"{folder}: {error.strerror}", "name a folder in which you may write") from None
    terminal.show([f"made a workstation in {folder}, and guests for it, {names}"])


def _play(folder: str, guest: Guest) -> None:
    """Play a guest's life from start to shutdown. LibhookError with what virsh would say."""
    page, before = Page(sys.stdout), snapshot(folder)
    shown = Demo(os.path.abspath(folder), os.path.normpath(_LAUNCHER), page)
    daemon = Libvirt(shown.root, shown.hook, shown.hear)
    try:
        if error := daemon.start(guest).error:
            raise LibhookError(error)
        page.show("guest", f"{guest.name} {_ENTER}")
        with suppress(KeyboardInterrupt, OSError):
            _wait()
        daemon.stop(guest.name, "shutdown")
    finally:
        daemon.end()
    if not shown.prove(before):
        raise LibhookError("the host is not as before", "see above")


def _wait() -> None:
    """Wait for Enter, or the end of stdin."""
    os.read(0, 1 << 12)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
