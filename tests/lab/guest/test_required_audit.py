# SPDX-License-Identifier: LGPL-2.1-or-later
"""`audit.required`: no device is handed over that the trail would not tell of, however it is that it cannot."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from conftest import MakeGuest
from guests import Guest, kill_libvirtd, pci, start_libvirtd
from host import NIC, SysfsWrites, driver_of, override_of, wait_for
from trail import expect_failed, expect_given, expect_returned, in_log, records

CONFIG = Path("/etc/libhook/config.toml")
AFTER_PREPARE = Path("/etc/libvirt/hooks/qemu.d/after-prepare")
PATIENCE = 60
"""Seconds for a refusal, and it is the emulated machine's; where it waits for the kernel it must not do so for ever."""


@pytest.fixture
def required() -> Iterator[None]:
    """The trail is required."""
    CONFIG.parent.mkdir(exist_ok=True)
    CONFIG.write_text("[audit]\nrequired = true\n")
    CONFIG.chmod(0o644)
    yield
    CONFIG.unlink()


def auditctl(*arguments: str) -> dict[str, str]:
    """What the kernel says of its trail after this change."""
    done = subprocess.run(["auditctl", *arguments], capture_output=True, text=True, check=True, timeout=600)
    return dict(line.split(maxsplit=1) for line in done.stdout.splitlines() if " " in line)


def auditd() -> int:
    """The pid that the kernel has of its auditd, as libhook is told it; 0: none."""
    return int(auditctl("-s")["pid"])


def start_auditd() -> None:
    """Another one."""
    old = auditd()
    subprocess.run(["auditd"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True, timeout=600)
    wait_for("auditd", lambda: auditd() not in (0, old))


def send(count: int) -> None:
    """Send records that are about nothing, by a process of its own, since each may have to wait."""
    text = (
        "import audit; connection = audit.audit_open()\n"
        f"for _ in range({count}): audit.audit_log_user_message(connection, 1107, 'op=filler', None, None, None, 1)"
    )
    subprocess.run(["/usr/bin/python3", "-c", text], check=True, timeout=600)


@contextmanager
def off() -> Iterator[None]:
    """The kernel drops every record."""
    auditctl("-e", "0")
    try:
        yield
    finally:
        auditctl("-e", "1")


@contextmanager
def gone() -> Iterator[None]:
    """There is no auditd."""
    os.kill(auditd(), signal.SIGTERM)
    wait_for("the end of auditd", lambda: not auditd())
    try:
        yield
    finally:
        start_auditd()


@contextmanager
def stopped() -> Iterator[None]:
    """auditd is there and does nothing; that makes no difference to what the kernel says."""
    said = auditctl("-s")
    os.kill(auditd(), signal.SIGSTOP)
    try:
        yield
        now = auditctl("-s")
        assert [now[key] for key in ("enabled", "pid", "lost")] == [said[key] for key in ("enabled", "pid", "lost")]
    finally:
        os.kill(int(said["pid"]), signal.SIGCONT)


@contextmanager
def killed() -> Iterator[None]:
    """auditd is dead, which the kernel does not know until it has a record for it."""
    pid = auditd()
    os.kill(pid, signal.SIGKILL)
    wait_for("the end of auditd", lambda: not Path(f"/proc/{pid}").exists())
    assert auditd() == pid
    try:
        yield
    finally:
        start_auditd()


@contextmanager
def gone_and_full() -> Iterator[None]:
    """There is no auditd, and no room left to keep records for one."""
    with gone():
        auditctl("-f", "1", "-b", "4")
        lost = int(auditctl("-s")["lost"])
        send(20)
        assert int(auditctl("-s")["lost"]) > lost
        try:
            yield
        finally:
            auditctl("-b", "8192")


@contextmanager
def without_capabilities(*names: str) -> Iterator[None]:
    """libvirtd, and so the hook, is in a container, say, that has not these capabilities."""
    kill_libvirtd()
    start_libvirtd("setpriv", f"--bounding-set={','.join(f'-{name}' for name in names)}")
    try:
        yield
    finally:
        kill_libvirtd()
        start_libvirtd()


@contextmanager
def lost_after_prepare() -> Iterator[None]:
    """The kernel loses records once libhook's `prepare` has been answered: another hook, which runs after it."""
    AFTER_PREPARE.parent.mkdir(exist_ok=True)
    loses = "auditctl -r 1; auditctl -m one; auditctl -m two; auditctl -m three; auditctl -r 0"
    AFTER_PREPARE.write_text(f'#!/bin/sh\ncat >/dev/null\n[ "$2" = prepare ] || exit 0\n{loses}\n')
    AFTER_PREPARE.chmod(0o755)
    try:
        yield
    finally:
        AFTER_PREPARE.unlink()


def refused(one: Guest, reason: str) -> None:
    """In one line with the reason, in time, before anything is written to a device."""
    began = time.monotonic()
    with SysfsWrites() as writes:
        said = one.start_refused()
        assert writes.seen() == []
    assert f"unexpected exit status 1: {NIC}: the audit trail is required, but {reason}" in said, said
    assert "Traceback" not in said
    assert time.monotonic() - began < PATIENCE
    assert (driver_of(NIC), override_of(NIC)) == ("e1000e", None)


@pytest.mark.rest
@pytest.mark.usefixtures("required")
@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (off, "it is off in the kernel: with auditd installed, to turn it on, run: auditctl -e 1"),
        (gone, "no auditd runs: with auditd installed, start it; under systemd, run: systemctl start auditd"),
        (gone_and_full, "no auditd runs: with auditd installed, start it; under systemd, run: systemctl start auditd"),
        (killed, "no auditd runs: with auditd installed, start it; under systemd, run: systemctl start auditd"),
        (stopped, "auditd (pid {0}) is stopped: to let it go on, run: kill -CONT {0}"),
    ],
)
def test_no_start_while_the_trail_is_broken(
    guest: MakeGuest, broken: Callable[[], AbstractContextManager[None]], reason: str
) -> None:
    """The start is refused and nothing is written; with the trail mended the same guest starts and is recorded."""
    one = guest(pci(NIC))
    pid = auditd()
    with broken():
        refused(one, reason.format(pid))
        assert in_log(one, result="success", ours=True) == []
    one.start()
    wait_for("the record of the start", lambda: in_log(one, "start", ours=True, result="success"))
    assert len(records(one, "start", ours=True, result="success")) == 1
    one.destroy()
    expect_returned(one)


@pytest.mark.rest
@pytest.mark.usefixtures("required")
def test_no_start_without_the_means_to_write(guest: MakeGuest) -> None:
    """The kernel's trail is well, but not libhook's to write, or to ask about."""
    one = guest(pci(NIC))
    with without_capabilities("audit_write"):
        refused(one, "libhook cannot write to it: run install.sh again, for python3-audit")
    with without_capabilities("audit_write", "audit_control"):
        refused(one, "the kernel does not answer questions about it: start the guest again; libhook doctor asks it")
    one.start()
    expect_given(one)
    one.destroy()
    expect_returned(one)


@pytest.mark.rest
@pytest.mark.usefixtures("required")
def test_records_lost_after_prepare(guest: MakeGuest) -> None:
    """The device is taken back before the guest runs, and the same guest starts once nothing is lost any more."""
    one = guest(pci(NIC))
    with lost_after_prepare():
        said = one.start_refused()
        assert "qemu-system" not in said
        assert (
            "the audit trail is required, but records were lost since the guest was prepared: have it hold more" in said
        )
        assert (driver_of(NIC), override_of(NIC)) == ("e1000e", None)
    expect_failed(one)
    one.start()
    wait_for("the record of the start", lambda: in_log(one, "start", ours=True, result="success"))
    assert len(records(one, "start", ours=True, result="success")) == 1
    one.destroy()
    expect_returned(one)


def test_a_record_that_cannot_be_sent_is_logged_whole(guest: MakeGuest) -> None:
    """Where the trail is not required the guest starts, and the log has the texts that the trail has not.

    The start's is tried, and logged, once more at the end.
    """
    with without_capabilities("audit_write"):
        one = guest(pci(NIC)).start()
        one.destroy()
        assert records(one) == []
        wait_for("both records in the journal", lambda: set(logged(one)) == {"start", "stop"})


def logged(one: Guest) -> list[str]:
    """The reasons of the whole records of success in the journal."""
    command = ["journalctl", "--no-pager", "-o", "cat", "-t", "libhook"]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=600).stdout
    whole = f'virt=qemu resrc=dev reason={{}} vm="{one.name}" uuid={one.uuid} bus=pci device="{NIC}" res=success'
    return [
        reason
        for line in shown.splitlines()
        for reason in ("start", "stop")
        if line.startswith("not recorded ") and whole.format(reason) in line
    ]
