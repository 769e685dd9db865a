# SPDX-License-Identifier: LGPL-2.1-or-later
"""Finds the hooks where libvirtd looks for them, and tries whether ours answers."""

import os
import stat
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

from libhook.facts.machine import Machine

HOOKS = "/etc/libvirt/hooks"
_VERSION = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
"""The folder of this version: PREFIX/lib/libhook/versions/ID."""
_NOWHERE = "ffff:ff:1f.7"
"""A PCI address that has no device."""
_GUEST = b"""<domain type='kvm'><name>doctor</name><uuid>00000000-0000-4000-8000-000000000000</uuid><devices>
<hostdev mode='subsystem' type='pci' managed='no'><source><address domain='0xffff' bus='0xff' slot='0x1f' function='0x7'
/></source></hostdev></devices></domain>"""
_OURS = b"# install.sh sets this"
_GROUP_OR_OTHERS = 0o022


class Script(NamedTuple):
    """A file that libvirtd runs as a hook, or would run if it were executable."""

    path: str
    """The path as libvirtd knows it, without the root of a simulated host."""
    ours: bool
    executable: bool
    trusted: bool
    """Root owns the file, and only root may write to it."""


def scripts(machine: Machine) -> tuple[Script, ...]:
    """Return the hooks in the order in which libvirtd runs them: ``qemu``, then ``qemu.d`` (virhook.c, virHookCall)."""
    return tuple(_scripts(machine.root, folder(machine)))


def folder(machine: Machine) -> str:
    """Return the folder into which install.sh has put the hook: libvirt's own, or the one that it has remembered."""
    top, versions = os.path.split(os.path.dirname(_VERSION))
    name = ""
    if versions == "versions":  # this is no clone
        with suppress(OSError), open(f"{machine.root}{top}/hook-dir", encoding="utf-8", errors="replace") as file:
            name = file.readline().rstrip("\n")
    return name if name.startswith("/") else HOOKS


def _scripts(root: str, hooks: str) -> Iterator[Script]:
    names = ["qemu"]
    with suppress(OSError):
        names += [f"qemu.d/{name}" for name in sorted(os.listdir(f"{root}{hooks}/qemu.d"))]
    for name in names:
        with suppress(OSError), open(f"{root}{hooks}/{name}", "rb") as file:
            status = os.fstat(file.fileno())
            if stat.S_ISREG(status.st_mode):
                trusted = status.st_uid in (0, os.geteuid()) and not status.st_mode & _GROUP_OR_OTHERS
                ours = _OURS in file.read(4096)
                yield Script(f"{hooks}/{name}", ours, bool(status.st_mode & 0o111), trusted)


def call(machine: Machine, path: str, seconds: float) -> str:
    """Call our hook as libvirtd does, but as a dry run, for a guest with a device that no host has.

    Return "" if it answers that the device is not there. Otherwise return what it said instead.
    """
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C", "LIBHOOK_DRY_RUN": "unlogged"}
    if machine.root:
        environment["LIBHOOK_ROOT"] = machine.root
    command = (f"{machine.root}{path}", "doctor", "prepare", "begin", "-")
    try:
        done = subprocess.run(command, input=_GUEST, capture_output=True, env=environment, timeout=seconds, check=False)
    except OSError as error:
        return f"it cannot be run: {error.strerror}"
    except subprocess.TimeoutExpired:
        return f"it does not answer within {seconds:g} s"
    said = done.stderr.decode("utf-8", "replace").strip()
    if done.returncode == 0 and f"{_NOWHERE} is not on this host" in said:
        return ""
    return said.rpartition("\n")[2] or f"it says nothing, and ends with status {done.returncode}"


def changed(machine: Machine, path: str) -> float:
    """Return when a file was put in its place, in seconds since the epoch."""
    return os.stat(f"{machine.root}{path}").st_ctime


def began(machine: Machine, ticks: int) -> float | None:
    """Return when a process began, in seconds since the epoch; None if /proc/stat has no boot time.

    ``ticks`` is field 22 of /proc/PID/stat.
    """
    with suppress(OSError), open(f"{machine.proc}/stat", encoding="ascii", errors="replace") as file:
        for line in file:
            if line.startswith("btime "):
                return int(line.split()[1]) + ticks / os.sysconf("SC_CLK_TCK")
    return None
