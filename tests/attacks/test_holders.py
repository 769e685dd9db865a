# SPDX-License-Identifier: LGPL-2.1-or-later
"""Users without any right to a device, on this kernel: what they have open is no reason to refuse or to wait."""

import ctypes
import fcntl
import mmap
import os
import stat
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cases import GPU, NIC, SOUND
from family import state, until
from neighbour import neighbour
from place import LONG, Place, here, opens
from scenario import Host, guest

from libhook.children import telling
from libhook.children.child import Deadline
from libhook.look import descriptors
from libhook.simulation import processes
from libhook.simulation.hosts import nic, workstation

pytestmark = pytest.mark.race


@pytest.fixture(name="place")
def _place(tmp_path: Path) -> Iterator[Place]:
    with here(tmp_path) as it:
        yield it


@pytest.mark.parametrize("flags", [os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_WRONLY | os.O_RDWR])
def test_who_has_opened_the_device_is_found(place: Place, flags: int) -> None:
    """Under whatever path, and also by the fourth access mode, which is for ioctl alone (open(2))."""
    with neighbour(opens(place.device, flags)) as pid:
        assert place.who() == [pid]


def test_who_only_names_the_device_does_not_hold_it(place: Place) -> None:
    """O_PATH takes no right to it."""
    with neighbour(opens(place.device, os.O_PATH)):
        assert place.who() == []


@pytest.mark.parametrize(("flags", "counts"), [(os.O_RDWR, True), (os.O_PATH, False)])
def test_where_nobody_may_take_a_file_over_it_is_told_by_what_is_shown(
    place: Place, monkeypatch: pytest.MonkeyPatch, flags: int, counts: bool
) -> None:
    """Yama, or SELinux, may refuse pidfd_getfd(2)."""
    monkeypatch.setattr(descriptors, "_PIDFD_GETFD", -1)
    with neighbour(opens(place.device, flags)) as pid:
        assert place.who() == ([pid] if counts else [])


def test_another_file_of_that_path_is_not_the_device(place: Place) -> None:
    """As in a /dev of one's own: a path is what a process says."""
    place.node.chmod(0o666)
    with open(place.node, "r+b"):
        assert place.who() == []


def test_who_changes_what_a_descriptor_stands_for_holds_nothing(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name of the device, and a file that is open for use, in turn as fast as can be: never both at once.

    A child that is late counts as a holder. On a busy machine it may be late.
    """
    monkeypatch.setattr(descriptors, "_PATIENCE_MS", 60_000)

    def task(ready: Callable[[], None]) -> None:
        named, used = os.open(place.device, os.O_PATH), os.open("/dev/null", os.O_RDWR)
        ready()
        while True:
            for what in (named, used):
                for number in range(100, 160):
                    os.dup2(what, number)

    with neighbour(task):
        assert [place.who() for _ in range(30)] == [[]] * 30


class Library:
    """System calls that Python has not."""

    def __init__(self) -> None:
        self.library = ctypes.CDLL(None, use_errno=True)

    def mount(self, kind: str, target: str, options: str = "") -> None:
        """A file system."""
        done = self.library.mount(kind.encode(), target.encode(), kind.encode(), 0, options.encode())
        assert done == 0, os.strerror(ctypes.get_errno())


def test_two_files_that_look_alike_are_told_apart(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On one mount, with one inode number, as an overlay may have them: the device, named only, and a file in use."""
    monkeypatch.setattr(descriptors, "_PATIENCE_MS", 60_000)

    def task(ready: Callable[[], None]) -> None:
        for name in ("device", "file", "both"):
            (tmp_path / name).mkdir()
        library = Library()
        library.mount("tmpfs", f"{tmp_path}/device")
        library.mount("tmpfs", f"{tmp_path}/file")
        os.mknod(tmp_path / "device/node", 0o600 | stat.S_IFCHR, os.stat(place.device).st_rdev)
        wanted, number = os.stat(tmp_path / "device/node").st_ino, 0
        while True:
            path = tmp_path / f"file/{number}"
            path.touch()
            if os.stat(path).st_ino == wanted:
                break
            number += 1
        library.mount("overlay", f"{tmp_path}/both", f"lowerdir={tmp_path}/file:{tmp_path}/device,xino=off")
        named = os.open(tmp_path / "both/node", os.O_PATH)
        used = os.open(tmp_path / f"both/{number}", os.O_RDONLY)
        shown = {Path(f"/proc/self/fdinfo/{one}").read_text().split("mnt_id")[1] for one in (named, used)}
        assert len(shown) == 1
        ready()
        while True:
            for what in (named, used):
                for descriptor in range(100, 800):
                    os.dup2(what, descriptor)

    with neighbour(task, private=True):
        assert [place.who() for _ in range(30)] == [[]] * 30


def test_nobody_can_keep_a_look_waiting(place: Place) -> None:
    """One thread lists its descriptors into memory that never comes, and one wants a change there."""

    def task(ready: Callable[[], None]) -> None:
        call = Library().library.syscall
        fault = call(323, os.O_CLOEXEC)  # userfaultfd
        assert fault >= 0, os.strerror(ctypes.get_errno())
        memory = mmap.mmap(-1, mmap.PAGESIZE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        fcntl.ioctl(fault, 0xC018AA3F, struct.pack("QQQ", 0xAA, 0, 0))  # UFFDIO_API
        fcntl.ioctl(fault, 0xC020AA00, struct.pack("QQQQ", address, mmap.PAGESIZE, 1, 0))  # UFFDIO_REGISTER
        folder = os.open("/proc/self/fd", os.O_RDONLY)
        lists = threading.Thread(target=lambda: call(217, folder, ctypes.c_void_p(address), mmap.PAGESIZE), daemon=True)
        changes = threading.Thread(target=lambda: os.mkdir("/proc/self/fd/x"), daemon=True)
        lists.start()
        os.read(fault, 32)  # it has come to the memory
        changes.start()
        until(lambda: state(changes.native_id or 0) == "D")  # in open_last_lookups(), which locks the folder
        ready()
        time.sleep(LONG)

    with neighbour(task, private=True) as waiting, neighbour(opens(place.device, os.O_RDWR)) as pid:
        listing = telling.listen(lambda say: say(str(len(os.listdir(f"/proc/{waiting}/fd"))).encode()))
        assert listing.lines(Deadline.after(1)) == []
        assert place.who() == [pid]


@pytest.mark.parametrize("how", [{"named_only": True}, {"shown_as": "/dev/vfio/12"}])
def test_a_device_comes_home_though_somebody_claims_to_have_it(root: str, how: dict[str, object]) -> None:
    """By a name that takes no right, or by a file of that path: nobody waits for him, and the end is recorded true."""
    host = Host(root, nic(), "holder_wait = 30\nwrite_deadline = 60\n")
    host.begin(guest(NIC))
    path = "/dev/vfio/12" if "named_only" in how else "/etc/libhook"
    processes.open_file(root, processes.spawn(root, "neighbour"), path, **how)  # type: ignore[arg-type] # either
    ended = host.event(guest(NIC), "release", "shutdown")
    assert (ended.code, host.driver(NIC)) == (0, "e1000e")
    assert host.records == [f"start {NIC} success", f"stop {NIC} success"]
    assert (host.changed, host.leftovers) == ([], [])


def test_a_device_is_handed_over_though_somebody_names_it(root: str) -> None:
    """A GPU, whose node anybody may name."""
    host = Host(root, workstation(), "holder_wait = 30\n")
    processes.open_file(root, processes.spawn(root, "neighbour"), "/dev/dri/card0", named_only=True)
    assert host.event(guest(GPU, SOUND), "prepare").code == 0
