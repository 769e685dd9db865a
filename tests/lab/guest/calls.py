# SPDX-License-Identifier: LGPL-2.1-or-later
"""libhook called by hand, which takes none of the seconds of a QEMU, and processes that are in its way."""

import fcntl
import os
import subprocess
import time
from array import array
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from guests import Guest
from host import PATIENCE

HOOK = "/etc/libvirt/hooks/qemu"
CONFIG = Path("/etc/libhook/config.toml")


class Answer(NamedTuple):
    """What came back, and after how many seconds."""

    code: int
    said: str
    seconds: float


def call(guest: Guest, operation: str, extra: str = "-") -> Answer:
    """The installed hook, as libvirtd runs it; its caller is this process, not libvirtd."""
    return _run([HOOK, guest.name, operation, "end" if operation == "release" else "begin", extra], guest.xml)


def command(*arguments: str) -> Answer:
    """The installed command; what it prints on stdout and stderr."""
    return _run(["libhook", *arguments], "")


def _run(command: list[str], text: str) -> Answer:
    began = time.monotonic()
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe) as process:
        try:
            out, err = process.communicate(text.encode(), timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            what = dump_of_hooks()  # before it is killed, which would end what is to be seen
            process.kill()
            raise AssertionError(f"{command} did not return within {PATIENCE:.0f} s:\n{what}") from None
    return Answer(process.returncode, (out + err).decode().strip(), time.monotonic() - began)


def at_work() -> list[int]:
    """The processes of hooks, launcher and children included."""
    return [int(folder.name) for folder in Path("/proc").glob("[0-9]*") if _is_hook(folder)]


def _is_hook(folder: Path) -> bool:
    try:
        line = (folder / "cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return f"\0{HOOK}\0".encode() in line or b"launched()" in line


def dump_of_hooks() -> str:
    """Every process of libhook's, and every one that sleeps in the kernel for good: where it is, what it has open."""
    return "\n".join(text for folder in Path("/proc").glob("[0-9]*") if (text := _dump(folder)))


def _dump(folder: Path) -> str:
    try:
        line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        stat = (folder / "stat").read_text()
        if "hook" not in line and stat.rpartition(")")[2].split()[0] != "D":
            return ""
        opened = [f"{path.name}={os.readlink(path)}" for path in (folder / "fd").iterdir()]
        return "\n".join((f"{stat.strip()} [{line}]", " ".join(opened), (folder / "stack").read_text()))
    except OSError:
        return ""  # it has ended


@contextmanager
def holding(*paths: str) -> Iterator["subprocess.Popen[bytes]"]:
    """A process called sleep that has these files open, and ends with the block."""
    opened = [os.open(path, os.O_RDONLY) for path in paths]
    try:
        process = subprocess.Popen(["sleep", "3600"], pass_fds=opened)
    finally:
        for descriptor in opened:
            os.close(descriptor)
    try:
        yield process
    finally:
        process.kill()
        process.wait(PATIENCE)


def waiting_in(function: str) -> list[int]:
    """The processes that wait in this function of the kernel."""
    return [int(folder.name) for folder in Path("/proc").glob("[0-9]*") if _waits_in(folder) == function]


def _waits_in(folder: Path) -> str:
    try:
        return (folder / "wchan").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


@contextmanager
def used_through_vfio(address: str, *, hidden: bool) -> Iterator[None]:
    """This process uses the device as QEMU does; ``hidden``: without the node by which others could see that.

    The ioctl numbers are those of linux/vfio.h; the type of the IOMMU is VFIO_TYPE1_IOMMU.
    """
    group_number = os.path.basename(os.readlink(f"/sys/bus/pci/devices/{address}/iommu_group"))
    opened = [os.open("/dev/vfio/vfio", os.O_RDWR), os.open(f"/dev/vfio/{group_number}", os.O_RDWR)]
    container, group = opened
    try:
        fcntl.ioctl(group, 0x3B68, container.to_bytes(4, "little"))  # VFIO_GROUP_SET_CONTAINER
        fcntl.ioctl(container, 0x3B66, 1)  # VFIO_SET_IOMMU
        device = array("b", address.encode() + b"\0")
        opened.append(fcntl.ioctl(group, 0x3B6A, device, True))  # VFIO_GROUP_GET_DEVICE_FD
        if hidden:
            os.close(opened.pop(1))
            os.close(opened.pop(0))
        yield
    finally:
        for descriptor in reversed(opened):
            os.close(descriptor)


def shared_with_others(child: int) -> set[str]:
    """What all processes have open of these kinds, but for this child and the hook that started it.

    The two talk by pipes of their own, for whose end nobody waits.
    """
    status = Path(f"/proc/{child}/status").read_text()
    parent = next(line.split()[1] for line in status.splitlines() if line.startswith("PPid:"))
    found: set[str] = set()
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal() and folder.name not in (str(child), parent):
            with suppress(OSError):  # it has ended
                found |= pipes_and_sockets(int(folder.name))
    return found


def pipes_and_sockets(pid: int) -> set[str]:
    """What the process has open of the kinds that somebody may wait on at the other end."""
    found = set[str]()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # it was closed since the folder was read
            found.add(os.readlink(descriptor))
    return {target for target in found if target.startswith(("pipe:", "socket:"))}
