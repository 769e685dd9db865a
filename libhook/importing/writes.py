# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the files are for that scripts write: the kernel's, logs, notes, and libvirt's own. Pure."""

import re
from collections.abc import Iterator, Mapping

from libhook.importing.done import Done
from libhook.importing.effect import Effect, address
from libhook.importing.programs import of_sysctl
from libhook.importing.sources import HOOKS

_NOTES = ("/tmp/", "/run/", "/var/run/", "/var/tmp/", f"{HOOKS}/")  # noqa: S108 - only compared
"""Where scripts keep what they must know later."""
_KERNEL = ("/sys/", "/proc/")
_MEMORY = "/dev/shm/"  # noqa: S108 - as above
_LIBVIRT = ("/var/lib/libvirt/dnsmasq", "/var/lib/libvirt/network")
_CONFIGURATION = "/etc/libvirt/"
_FOLDERS = ("qemu", "storage", "nwfilter", "secrets", "hooks", "lxc", "libxl", "nodedev")
"""What libvirt keeps there, besides files; any other folder is somebody's own."""


def of_file(one: Done, operation: str, tool: Done | None, again: Mapping[str, str]) -> Iterator[Effect]:
    """Return what writing, making or removing this file does.

    ``tool`` is the program that did it. ``again`` are files for notes, and why they need not be.
    """
    path, data = one.path, one.data.strip()
    if path.startswith(_KERNEL):
        if one.what == "write" or (one.what == "fail" and not path.startswith("/proc/self")):
            yield _of_kernel(_as_written(path), data if one.what == "write" else "", one, operation)
    elif one.what == "write" or path in ("/", ""):
        return
    elif one.shown == "exec":
        yield Effect("needless", "open", "what it has open: libhook has its own log and locks", one, operation)
    elif _is_log(one):
        yield Effect("needless", "log", "a log: journalctl -t libhook has libhook's", one, operation)
    elif path.startswith("/dev/") and not path.startswith(_MEMORY):
        yield Effect("left", path, f"no setting writes to {path}", one, operation)
    elif _is_note(one, again):
        yield Effect(
            "needless",
            "notes",
            again[one.path],
            one,
            operation,
        )
    elif path.startswith(HOOKS):
        yield Effect("file", path, "", tool or one, operation)
    elif (_is_libvirts(path) or path.startswith("/var/lib/libvirt/")) and one.what == "remove":
        yield Effect("danger", path, f"it takes away {path}, which is libvirt's", one, operation)
    elif _is_libvirts(path):
        yield Effect("danger", path, f"it changes {path}, which is libvirt's", one, operation)
    else:
        yield Effect("file", path, "", tool or one, operation)


def is_ones_own(one: Done, again: Mapping[str, str]) -> bool:
    """Whether a file that was opened is none of the kernel's or libvirt's, and neither a log nor a note for later."""
    is_device = one.path.startswith("/dev/") and not one.path.startswith(_MEMORY)
    if one.path.startswith(_KERNEL) or _is_libvirts(one.path) or is_device:
        return False
    return not _is_log(one) and not _is_note(one, again)


def _is_libvirts(path: str) -> bool:
    name, slash, _ = path.removeprefix(_CONFIGURATION).partition("/")
    return path.startswith(_LIBVIRT) or (path.startswith(_CONFIGURATION) and (not slash or name in _FOLDERS))


def _is_log(one: Done) -> bool:
    """Whether it is called as a log is, or the script has it open for all that it says."""
    return one.path.startswith(("/var/log/", "/dev/kmsg")) or one.path.endswith(".log") or one.shown == "exec"


def _is_note(one: Done, again: Mapping[str, str]) -> bool:
    return one.path.startswith(_NOTES) and one.path in again


def _as_written(path: str) -> str:
    """A path below /sys as people write it: strace shows where the links lead to."""
    found = re.match(r"/sys/devices/pci[^/]*(?:/[^/]*)*?/([0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7])/(.+)", path)
    return f"/sys/bus/pci/devices/{found[1]}/{found[2]}" if found else path


def _of_kernel(path: str, data: str, one: Done, operation: str) -> Effect:
    last = path.rpartition("/")[2]
    if "/vtconsole/" in path:
        return Effect(
            "needless",
            "console",
            "consoles: libhook unbinds them where a module must go, and binds them again",
            one,
            operation,
        )
    if "framebuffer" in path:
        return Effect("needless", "framebuffer", "framebuffer: vfio-pci takes it away by itself", one, operation)
    if "/bus/pci/" in path or "/pci" in path:
        if last in ("bind", "unbind", "driver_override", "drivers_probe", "new_id", "remove_id"):
            driver = (
                data
                if last == "driver_override"
                else path.split("/drivers/")[-1].split("/")[0]
                if last == "bind"
                else ""
            )
            return Effect("bind", address(path if last == "driver_override" else data) or data, driver, one, operation)
        if last in ("remove", "rescan", "reset") or last.endswith("_resize"):
            return Effect(
                "left", last, f"no setting writes to {last}: nothing comes between a driver and vfio", one, operation
            )
    if path == "/proc/sysrq-trigger":
        return Effect("danger", path, "it ends or changes the whole host", one, operation)
    if path == "/sys/power/state":
        return Effect("left", "suspend", "no setting suspends the host, and other guests with it", one, operation)
    if path.startswith("/proc/sys/"):
        return of_sysctl(path.removeprefix("/proc/sys/").replace("/", "."), data, one, operation)
    if path.startswith(("/proc/", "/sys/fs/cgroup")) or last in ("bind", "unbind"):
        return Effect("written", path, data, one, operation)
    return Effect("value", path, data, one, operation)
