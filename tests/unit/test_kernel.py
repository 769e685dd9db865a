# SPDX-License-Identifier: LGPL-2.1-or-later
"""The real kernel's interface by real calls, where they leave nothing behind on the machine that runs the tests."""

import errno
import fcntl
import os
import resource
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, Self
from unittest import mock

import pytest
from disturbing import refusing
from generated import generated
from hypothesis import strategies as st

from libhook.children import child, telling
from libhook.children.child import Deadline
from libhook.effects.log import Log
from libhook.facts.host import Trail
from libhook.facts.machine import Machine
from libhook.look import linux, patient
from libhook.look.linux import LinuxKernel

NOBODY = 65534
KERNEL = LinuxKernel()


def _in_a_child(task: Callable[[], object], *, alone: bool = False) -> str:
    """What a call returns in a process without privileges, or with ``alone`` in one that can open nothing more."""

    def act(say: Callable[[bytes], None]) -> None:
        if alone:
            resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))
        elif os.geteuid() == 0:
            os.setresuid(NOBODY, NOBODY, NOBODY)
        say(repr(task()).encode())

    (answer,) = telling.lines(act, Deadline.after(300))
    return answer


def test_a_value_is_written_in_one_write(tmp_path: Path) -> None:
    """To the attribute below /sys; the kernel's refusal comes as it is."""
    attribute = tmp_path / "attribute"
    attribute.touch()
    started = child.spawn(lambda: KERNEL.write(f"..{attribute}", "\n"))  # which closes it by ending
    assert child.ended([started.handle], Deadline.after(300))
    assert started.result() == 0
    assert attribute.read_text() == "\n"
    with pytest.raises(FileNotFoundError):
        KERNEL.write("no/such/attribute", "1")


def test_an_override_of_any_bytes_is_written_as_it_was_read(tmp_path: Path) -> None:
    """The administrator's own is restored also where it is no text."""
    attribute = tmp_path / "attribute"
    attribute.write_bytes(b"my\xffdriver")
    (read,) = patient.read_all([str(attribute)], Deadline.after(300), 300)
    assert isinstance(read, str)
    started = child.spawn(lambda: KERNEL.write(f"..{attribute}", read))
    assert child.ended([started.handle], Deadline.after(300))
    assert started.result() == 0
    assert attribute.read_bytes() == b"my\xffdriver"


def test_a_value_of_which_only_a_part_was_taken_is_not_written(tmp_path: Path) -> None:
    """A short count is no success, nor may the rest follow in another write: an attribute takes each for a whole."""
    attribute = tmp_path / "attribute"
    attribute.touch()

    def write() -> None:
        with mock.patch("os.write", lambda _, value: len(value) - 1):
            KERNEL.write(f"..{attribute}", "vfio-pci")

    started = child.spawn(write)
    assert child.ended([started.handle], Deadline.after(300))
    assert started.result() == errno.EIO


def test_a_module_that_is_not_there_cannot_be_loaded() -> None:
    """The child becomes modprobe: its failure, or that there is none, is the child's."""
    started = child.spawn(lambda: KERNEL.load("libhook_no_such_module"))
    assert child.ended([started.handle], Deadline.after(300))
    assert started.result() != 0


def test_a_module_that_is_not_there_cannot_be_taken_out() -> None:
    """The child becomes rmmod, for this one module."""
    started = child.spawn(lambda: KERNEL.unload("libhook_no_such_module"))
    assert child.ended([started.handle], Deadline.after(300))
    assert started.result() != 0
    with mock.patch("os.execve") as become:
        KERNEL.unload("nvidia_drm")
    become.assert_called_once_with("/sbin/rmmod", ["rmmod", "--", "nvidia_drm"], mock.ANY)


def test_a_disk_is_opened_and_closed_again(tmp_path: Path) -> None:
    """Nothing is left open, and one that is missing says so."""
    (tmp_path / "disk").touch()
    KERNEL.open_exclusively(str(tmp_path / "disk"))
    with pytest.raises(FileNotFoundError):
        KERNEL.open_exclusively(str(tmp_path / "none"))


@pytest.mark.parametrize(
    ("behind", "is_it"), [((259, 1), True), ((259, 0x54321), True), ((259, 0), False), ((0, 0), False), (None, False)]
)
def test_the_kernel_says_what_is_behind_a_loop_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, behind: tuple[int, int] | None, is_it: bool
) -> None:
    """By the number of the disk (loop_get_status(): huge_encode_dev()), in struct loop_info64."""
    loop = tmp_path / "loop0"
    loop.touch()

    def ioctl(_: int, request: int, information: bytearray) -> None:
        assert (request, len(information)) == (0x4C05, struct.calcsize("@5Q4I64s64s32s2Q"))
        if behind is None:
            raise OSError(errno.ENXIO, "nothing is behind it")
        major, minor = behind
        struct.pack_into("@3Q", information, 0, 1, 2, minor & 0xFF | major << 8 | (minor & ~0xFF) << 12)

    monkeypatch.setattr(fcntl, "ioctl", ioctl)
    number = f"259:{behind[1] if behind and is_it else 1}"
    if is_it:
        KERNEL.expect_behind_loop(str(loop), number)
    else:
        with pytest.raises(OSError, match="No such device"):
            KERNEL.expect_behind_loop(str(loop), number)


def test_a_record_without_the_privilege_is_not_sent() -> None:
    """0 or less from the real libaudit, whatever this kernel says: never taken for sent."""
    pytest.importorskip("audit", reason="python3-audit is not installed")
    assert int(_in_a_child(lambda: KERNEL.record("libhook's test", True))) <= 0
    KERNEL.trail()  # imported before no file can be opened
    assert int(_in_a_child(lambda: KERNEL.record("libhook's test", True), alone=True)) == -errno.EMFILE


def test_the_trail_is_asked_of_the_kernel() -> None:
    """A status where the kernel gives one, None where it refuses or cannot be asked."""
    status = KERNEL.trail()
    assert status is None or status == Trail(status.enabled, status.daemon, status.lost, stopped=status.stopped)
    assert _in_a_child(KERNEL.trail) == "None"
    assert _in_a_child(KERNEL.trail, alone=True) == "None"


def test_an_auditd_that_cannot_write_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel still names one that is stopped, dead or gone: the first is told apart, the others are none."""
    with subprocess.Popen(["sleep", "600"]) as auditd:
        monkeypatch.setattr(socket, "socket", lambda *_: _Netlink(auditd.pid))
        assert KERNEL.trail() == Trail(True, auditd.pid, 7, *_may_send_and(stopped=False))
        auditd.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, auditd.pid, os.WSTOPPED)
        assert KERNEL.trail() == Trail(True, auditd.pid, 7, *_may_send_and(stopped=True))
        auditd.kill()
        os.waitid(os.P_PID, auditd.pid, os.WEXITED | os.WNOWAIT)
        assert KERNEL.trail() == Trail(True, 0, 7, *_may_send_and(stopped=False))
    assert KERNEL.trail() == Trail(True, 0, 7, *_may_send_and(stopped=False))


def _may_send_and(*, stopped: bool) -> tuple[bool, bool]:
    return linux._may_send(), stopped


class _Netlink:
    """A socket on which the kernel says that this process is its auditd, and that 7 records were lost."""

    def __init__(self, auditd: int) -> None:
        self._status = struct.pack("=7I", 0, 1, 1, auditd, 0, 64, 7)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def settimeout(self, seconds: float) -> None:
        assert seconds

    def sendto(self, *_: object) -> None:
        pass

    def recv(self, _size: int) -> bytes:
        return struct.pack("=IHHII", 44, 1000, 0, 1, 0) + self._status


def _journal() -> tuple[ModuleType, list[tuple[str, dict[str, str]]]]:
    """A module like systemd.journal, and what was sent to it."""
    sent: list[tuple[str, dict[str, str]]] = []
    systemd, journal = ModuleType("systemd"), ModuleType("systemd.journal")
    vars(journal)["send"] = lambda line, **fields: sent.append((line, fields))
    vars(systemd)["journal"] = journal
    return systemd, sent


def _entry(name: str) -> dict[str, object]:
    """One event's entry of a guest of this name, as the log's child hands it over."""
    found: list[dict[str, object]] = []

    class Heard(LinuxKernel):
        def log(self, fields: dict[str, object]) -> None:
            found.append(dict(fields))

    with mock.patch("os.nice"), refusing("fork", errno.EAGAIN), Log(Machine("", Heard()), guest=name) as log:
        log.add("warning", "passed over", reason=f"because of {name}")
    return found[0]


def _assert_printable(name: str) -> None:
    systemd, sent = _journal()
    with mock.patch.dict(sys.modules, {"systemd": systemd}):
        KERNEL.log(_entry(name))
    lines: list[Any] = []
    with (
        mock.patch.dict(sys.modules, {"systemd": None}),
        mock.patch("syslog.syslog", lambda level, line: lines.append((level, line))),
    ):
        KERNEL.log(_entry(name))
    (line, fields), (level, shown) = sent[0], lines[0]
    assert (fields["PRIORITY"], level) == ("4", 4)
    assert all(text.isprintable() for text in (line, shown, *fields.values()))
    assert line.startswith("passed over ")


@pytest.mark.parametrize("byte", range(1, 256))
def test_no_raw_byte_of_a_name_reaches_the_log(byte: int) -> None:
    """Journal and syslog get one printable line, whatever the guest is called."""
    _assert_printable(bytes([0x61, byte]).decode("utf-8", "surrogateescape"))


@generated("names", st.text(st.characters()))
def test_no_raw_character_of_a_name_reaches_the_log(name: str) -> None:
    """Line separators, directions and lone surrogates included."""
    _assert_printable(name)


def test_selinux_is_asked_by_one_write_and_one_read() -> None:
    """On the same open file, as selinuxfs has it; what the kernel refuses comes as it is, and the file is closed."""
    for answer in (b"2000 ffffffff 0 ffffffff 7 0\0", None):
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        if answer:
            theirs.send(answer)
        else:
            ours.shutdown(socket.SHUT_WR)
        with theirs, mock.patch("os.open", return_value=ours.detach()) as opened:
            if answer:
                assert KERNEL.ask_selinux("access", "a:b:c d:e:f 9 2000") == "2000 ffffffff 0 ffffffff 7 0"
                assert theirs.recv(4096) == b"a:b:c d:e:f 9 2000"
            else:
                with pytest.raises(BrokenPipeError):
                    KERNEL.ask_selinux("access", "a:b:c d:e:f 9 2000")
            opened.assert_called_once_with("/sys/fs/selinux/access", os.O_RDWR | os.O_CLOEXEC)
            assert theirs.recv(1) == b""  # nobody has the other end open


def test_a_file_s_label_is_read_without_the_null_at_its_end(tmp_path: Path) -> None:
    """The kernel keeps it, and a question with it would end there; a file that is not there is told apart."""
    with mock.patch("os.getxattr", return_value=b"system_u:object_r:virt_hook_t:s0\0") as read:
        assert KERNEL.label("/etc/libvirt/hooks/qemu") == "system_u:object_r:virt_hook_t:s0"
    read.assert_called_once_with("/etc/libvirt/hooks/qemu", "security.selinux")
    with pytest.raises(FileNotFoundError):
        KERNEL.label(str(tmp_path / "none"))


def test_a_groups_node_is_opened_only_where_it_is_that_device() -> None:
    """Whatever else stands in its place says nothing about the group."""
    LinuxKernel().open_group("/dev/null", "c 1:3")
    with pytest.raises(OSError, match="No such device"):
        LinuxKernel().open_group("/dev/null", "c 243:3")
    with pytest.raises(FileNotFoundError):
        LinuxKernel().open_group("/dev/vfio/none", "c 243:3")


def _ended() -> int:
    """The number of a process that is no more."""
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    return pid


def test_descriptors_are_looked_at_by_the_kernels_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of this very process."""
    folder = os.open("/proc/self/fd", os.O_RDONLY)
    null = os.open("/dev/null", os.O_RDONLY)
    try:
        descriptors = LinuxKernel().descriptors()
        assert descriptors.device(folder, str(null)) == "c 1:3"
        assert descriptors.holds(os.getpid(), folder, str(null), "c 1:3")
        assert descriptors.device(folder, str(folder)) == ""
        assert not descriptors.holds(os.getpid(), folder, str(null), "c 1:5")
        assert not descriptors.holds(os.getpid(), folder, "9999", "c 1:3")
        assert not descriptors.holds(_ended(), folder, str(null), "c 1:3")
        monkeypatch.setattr("libhook.look.descriptors._PIDFD_GETFD", -1)
        assert not descriptors.holds(os.getpid(), folder, str(null), "c 1:5")
        with pytest.raises(FileNotFoundError):
            descriptors.device(folder, "9999")
    finally:
        os.close(null)
        os.close(folder)
