# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the real kernel makes of writes to its sysctls, as libhook itself reads and writes them.

If setting one changes another, that must be known (facts/knob.py, facts/samefile.py).
"""

import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress

import pytest
from calls import call
from conftest import Configure, MakeGuest
from guests import usb
from host import USB_PEN

sys.path.insert(0, "/src")
from libhook.children import tracks
from libhook.children.child import Deadline
from libhook.facts.knob import counterpart, unfit
from libhook.facts.machine import Machine
from libhook.kinds import value as content
from libhook.look import samefile
from libhook.look.linux import LinuxKernel

HOST = Machine("", LinuxKernel())
SYSCTLS = "/proc/sys/"
OF_ITSELF = {
    "fs/aio-nr", "fs/dentry-state", "fs/file-nr", "fs/inode-nr", "fs/inode-state", "kernel/ns_last_pid",
    "kernel/pty/nr", "kernel/random/entropy_avail", "kernel/random/uuid", "net/netfilter/nf_conntrack_count",
    "vm/stat_refresh",
}  # fmt: skip
"""They change without a write, or a read does something."""
LEFT_OUT = {
    "panic": "a slow machine would go down",
    "ftrace": "the kernel's code is changed, which takes seconds here",
    "stack_tracer": "the same",
    "core_pattern": "any text is a program's name",
    "sysrq": "the lab's console",
}
PORTS, ALIAS = "/proc/sys/net/ipv4/ip_local_reserved_ports", "/sys/class/net/lo/ifalias"
FIRMWARE = "/sys/module/firmware_class/parameters/path"
AT_ONCE = 30
"""So many are set before all of /proc/sys is read."""


def test_each_sysctl_comes_back_and_sets_no_other_that_is_not_known() -> None:
    """But for those that no guest may set, and of interfaces those of lo alone."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (8192, 8192))
    files = dict(_opened())
    fit = [path for path in files if os.stat(path).st_mode & 0o200 and not unfit(path, "1") and not _is_left_out(path)]
    host = _all(files)
    wrong, number = list[str](), 0
    for begin in range(0, len(fit), AT_ONCE):
        was = {}
        for path in fit[begin : begin + AT_ONCE]:
            before = _value(path, files[path])
            if before is not None and _takes(path, files[path], before) and _set_to_another(path, files[path], before):
                was[path] = before, _shown(files[path])
        meanwhile = _all(files)
        for path, (before, _) in reversed(was.items()):
            content.write(HOST, path, before)
        names = {_name(path) for path in was}
        changed = {path for path in files if meanwhile[path] != (was[path][1] if path in was else host[path])}
        wrong += [
            f"{path} is set by one of {sorted(was)}"
            for path in changed
            if not (unfit(path, "1") or _name(path) in names or counterpart(path) in was)
        ]
        after = _all(files)
        wrong += [f"{path} was {host[path]!r} and is {after[path]!r}" for path in files if after[path] != host[path]]
        host, number = after, number + len(was)
    for file in files.values():
        os.close(file)
    print(f"{number} of {len(fit)} sysctls set, and all {len(files)} compared")
    if wrong:
        print(subprocess.run(["dmesg"], check=True, capture_output=True, text=True, timeout=10).stdout[-8000:])
    assert wrong == []
    assert number > len(fit) * 3 / 4


@pytest.mark.parametrize(
    ("path", "before", "value"),
    [
        (PORTS, "", "1000"),
        (PORTS, ",".join(str(2 * number + 1) for number in range(1200)), "1000"),
        (ALIAS, "", "lab"),
        (FIRMWARE, "", "/run/lab"),
        ("/proc/sys/vm/dirty_bytes", "dirty_ratio=20", "1048576"),
    ],
    ids=["empty list", "long list", "attribute", "parameter", "pair"],
)
def test_what_was_there_comes_back(guest: MakeGuest, configure: Configure, path: str, before: str, value: str) -> None:
    """By the hook, from start to end."""
    one = guest(usb(USB_PEN))
    configure(f'[values]\n"{path}" = "{value}"\n')
    host = _now(path)
    content.write(HOST, path, before)
    assert _now(path) == before
    assert call(one, "prepare").code == 0
    assert _now(path) == value
    assert call(one, "release", "failed").code == 0
    assert _now(path) == before
    content.write(HOST, path, host or "")


def _opened() -> Iterator[tuple[str, int]]:
    """Every sysctl that can be read, with its descriptor. One read of it tells its value, also later."""
    for folder, folders, names in os.walk(SYSCTLS):
        if os.path.basename(folder) in ("conf", "neigh"):
            folders[:] = [name for name in folders if name in ("all", "default", "lo")]
        for path in (os.path.join(folder, name) for name in names):
            if os.stat(path).st_mode & 0o400 and path.removeprefix(SYSCTLS) not in OF_ITSELF:
                with suppress(OSError):
                    yield path, os.open(path, os.O_RDONLY)


def _shown(file: int) -> bytes | int:
    try:
        return os.pread(file, 1 << 14, 0)
    except OSError as error:
        return error.errno or -1


def _all(files: dict[str, int]) -> dict[str, bytes | int]:
    return {path: _shown(file) for path, file in files.items()}


def _now(path: str) -> str | None:
    """What libhook takes for its value."""
    (now,) = tracks.run([content._now(HOST, path)], Deadline.after(60))
    return now


def _value(path: str, file: int) -> str | None:
    """The same, and where it is but one file without a child. None where it cannot be read."""
    shown = _shown(file)
    return None if isinstance(shown, int) else _now(path) if counterpart(path) else shown.decode().removesuffix("\n")


def _name(path: str) -> str:
    return samefile._file(HOST, path, "2048kB").name


def _is_left_out(path: str) -> bool:
    return any(part in path for part in LEFT_OUT)


def _takes(path: str, file: int, before: str) -> bool:
    """Whether it takes the value that it has. If not, libhook refuses it."""
    with suppress(OSError):
        content.write(HOST, path, before)
        return _value(path, file) == before
    return False


def _set_to_another(path: str, file: int, before: str) -> bool:
    """Whether the kernel takes one of some values that are near."""
    *first, last = before.rpartition("=")[2].split() or [""]
    if last.lstrip("-").isdecimal():
        number = int(last)
        others = [str(other) for other in (number + 1, number - 1, number * 2, number // 2, 1, 0, 2, number + 8192)]
    else:
        others = ["1", "3", "reno", "pfifo_fast", "NONE"]
    for other in others:
        with suppress(OSError):
            content.write(HOST, path, " ".join((*first, other)))
            if _value(path, file) != before:
                return True
    return False
