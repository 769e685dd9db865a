# SPDX-License-Identifier: LGPL-2.1-or-later
"""Processes and sessions that are never ended, whatever they call themselves and whatever the settings list."""

import os
from pathlib import Path

import pytest
from holding import CARD, KWIN, MANAGER, OTHER, STREAM, SUNSHINE, host_with, refused, shorten, signals, stream

from libhook.simulation import logind, processes


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    shorten(monkeypatch)


def test_a_program_that_was_replaced_is_not_the_listed_one(root: str) -> None:
    """An upgrade has put another file there; what runs is the old one."""
    host = host_with(root, SUNSHINE)
    stream(root)
    Path(root, f"proc/{STREAM}/exe").unlink()
    Path(root, "old").write_text("old")
    Path(root, f"proc/{STREAM}/exe").symlink_to(f"{root}/old")
    refused(host)
    Path(root + SUNSHINE).unlink()
    refused(host)
    Path(root, f"proc/{STREAM}/exe").unlink()
    refused(host)
    assert signals(host) == []


@pytest.mark.parametrize(
    "group",
    [
        f"{MANAGER}/app.slice/session-2.scope",
        "/user.slice/user-1000.slice/session-2.scope.d",
        "/user.slice/user-0x.slice/session-2.scope",
        "/user.slice/user-1000.slice/user@1001.service",
        "/user.slice/user-abc.slice/user@abc.service",
        "/lxc/user.slice/user-1000.slice/session-2.scope",
    ],
)
def test_no_user_can_put_a_process_into_the_session_of_another(root: str, group: str) -> None:
    """A user may make groups of any name below their own manager's; a container has its own."""
    host = host_with(root, "sessions")
    logind.begin(root, "2", user="1001")
    stream(root, group=group)
    refused(host)
    assert logind.is_there(root, "2")


@pytest.mark.parametrize(
    ("program", "group"),
    [
        ("/usr/bin/qemu-system-x86_64", "/user.slice/user-1000.slice/session-2.scope"),
        (SUNSHINE, "/machine.slice/machine-qemu\\x2d1\\x2dwin10.scope/libvirt/emulator"),
        (SUNSHINE, "/work.slice/machine-qemu\\x2d1\\x2dwin10.scope"),
        (SUNSHINE, "/machine.slice/machine-lxc\\x2d1\\x2dweb.scope/system.slice/sunshine.service"),
        (SUNSHINE, "/system.slice/libvirtd.service"),
        ("/usr/lib/systemd/systemd-logind", "/system.slice/systemd-logind.service"),
        ("/usr/lib/systemd/systemd", f"{MANAGER}/init.scope"),
    ],
)
def test_what_is_never_ended(root: str, program: str, group: str) -> None:
    """A guest's QEMU, libvirt's own, and systemd's, whatever the settings list."""
    host = host_with(root, SUNSHINE, "sessions")
    logind.begin(root, "2")
    stream(root, program=program, group=group)
    refused(host)
    assert (signals(host), logind.is_there(root, "2")) == ([], True)


def test_neither_pid_1_nor_what_called_the_hook_is_ended(root: str) -> None:
    """Nor the session in which the hook itself runs."""
    host = host_with(root, SUNSHINE, "sessions")
    processes.add(root, OTHER, "sh", [CARD])
    logind.place(root, OTHER, SUNSHINE, "/system.slice/x.service")
    processes.add(root, os.getpid(), "python3", parent=OTHER)
    Path(f"{root}/proc/self").rename(f"{root}/proc/its")  # a folder where no process is ours
    Path(f"{root}/proc/self").symlink_to(str(os.getpid()))
    refused(host)
    processes.close_file(root, OTHER, CARD)
    processes.open_file(root, 1, CARD)
    logind.place(root, 1, SUNSHINE, "/init.scope")
    refused(host)
    processes.close_file(root, 1, CARD)
    logind.begin(root, "2", processes=[KWIN])
    processes.add(root, KWIN, "kwin", [CARD])
    logind.place(root, KWIN, group=logind.group_of("2"))
    logind.place(root, OTHER, group=logind.group_of("2"))
    refused(host)
    assert (signals(host), logind.is_there(root, "2")) == ([], True)
