# SPDX-License-Identifier: LGPL-2.1-or-later
"""The audit trail as auditd wrote it: records by guest, ours and libvirtd's told apart, and what is due."""

import re
import subprocess
import uuid
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from calls import at_work
from guests import Device, Guest
from host import PATIENCE, wait_for

LOG = Path("/var/log/audit/audit.log")
ROTATED = LOG.with_name("audit.log.1")
RECORD = re.compile(
    r"type=VIRT_RESOURCE msg=audit\([0-9.:]+\): pid=\d+ (?P<who>.*?) msg='(?P<text>.*?) "
    r'exe="(?P<exe>[^"]*)" (?P<end>.*?) res=(?P<result>\w+)\'(?P<enriched>.*)'
)


@dataclass(frozen=True)
class Record:
    """One VIRT_RESOURCE record about a host device, without its time, serial and pid."""

    exe: str
    result: str
    text: str
    all_but_exe: tuple[str, ...]

    @property
    def ours(self) -> bool:
        """Whether libhook wrote it: the exe of a Python hook is the interpreter."""
        return self.exe.startswith("/usr/bin/python3")

    def field(self, name: str) -> str:
        """A field's value as it is in the log: quoted, hexadecimal or bare."""
        found = re.search(rf"(?:^| ){name}=(\S+)", self.text)
        return found.group(1) if found else ""

    def is_about(self, device: Device) -> bool:
        """Whether it names the device."""
        return self.field("bus") == device.bus and self.field("device") == f'"{device.record}"'


def wait_until_all_is_recorded() -> None:
    """Wait until hooks have recorded all and auditd has written it: what is not in the log then never comes."""
    wait_for("the end of all hooks", lambda: not at_work())
    _wait_until_written()


def _wait_until_written() -> None:
    """Records keep their order from the kernel's queue to the file: the one made here comes after all of them."""
    mark = f"lab-{uuid.uuid4()}"
    subprocess.run(["auditctl", "-m", mark], stdout=subprocess.DEVNULL, check=True, timeout=PATIENCE)
    wait_for("auditd to write", lambda: any(mark in _read(path) for path in (LOG, ROTATED)))


def _read(path: Path) -> str:
    with suppress(FileNotFoundError):  # not yet rotated, or just now
        return path.read_text(errors="surrogateescape")
    return ""


def rotate() -> None:
    """Have auditd begin a new log."""
    before = _inode()
    subprocess.run(["killall", "-USR1", "auditd"], check=True, timeout=PATIENCE)
    wait_for("a new log", lambda: _inode() not in (None, before))


def _inode() -> int | None:
    with suppress(FileNotFoundError):  # the old one has its new name, and the new one is not there yet
        return LOG.stat().st_ino
    return None


def records(
    guest: Guest, reason: str | None = None, ours: bool | None = None, result: str | None = None
) -> list[Record]:
    """The host-device records of a guest that were sent before now, oldest first. auditd must run."""
    _wait_until_written()
    return in_log(guest, reason, ours, result)


def in_log(
    guest: Guest, reason: str | None = None, ours: bool | None = None, result: str | None = None
) -> list[Record]:
    """The same, but only what auditd has written so far: for what waits until more comes."""
    found = []
    for line in _read(LOG).splitlines():
        match = RECORD.match(line)
        if match and "resrc=dev " in match["text"] and f" uuid={guest.uuid} " in match["text"]:
            found.append(
                Record(
                    match["exe"],
                    match["result"],
                    match["text"],
                    tuple(match.group("who", "text", "end", "result", "enriched")),
                )
            )
    return [
        record
        for record in found
        if reason in (None, record.field("reason")) and ours in (None, record.ours) and result in (None, record.result)
    ]


def expect_given(guest: Guest) -> None:
    """Each of the guest's devices has one success record, libvirtd's but for time, serial, pid and exe."""
    wait_for(
        f"libhook's records of the start of {guest.name}",
        lambda: len(in_log(guest, "start", ours=True)) >= len(guest.devices),
    )
    wait_for(
        f"libvirtd's records of the start of {guest.name}",
        lambda: len(in_log(guest, "start", ours=False)) >= sum(device.libvirt_records for device in guest.devices),
    )
    ours, theirs = records(guest, "start", ours=True), records(guest, "start", ours=False)
    assert len(ours) == len(guest.devices), [record.text for record in ours]
    for device in guest.devices:
        [our] = [record for record in ours if record.is_about(device)]
        assert our.result == "success"
        if device.libvirt_records:
            assert our.all_but_exe in [their.all_but_exe for their in theirs], [their.text for their in theirs]


def expect_returned(guest: Guest) -> None:
    """Each of the guest's devices has one success record of ours with reason stop."""
    wait_for(
        f"libhook's records of the end of {guest.name}",
        lambda: len(in_log(guest, "stop", ours=True)) >= len(guest.devices),
    )
    ended = records(guest, "stop", ours=True)
    assert len(ended) == len(guest.devices)
    for device in guest.devices:
        [record] = [record for record in ended if record.is_about(device)]
        assert record.result == "success"


def expect_failed(guest: Guest, *devices: Device) -> None:
    """The devices (all of the guest's, unless named) have one record of ours, and it says failed."""
    wait_for(
        f"libhook's failed records of {guest.name}",
        lambda: len(in_log(guest, "start", ours=True)) >= len(devices or guest.devices),
    )
    for device in devices or guest.devices:
        assert [record.result for record in records(guest, ours=True) if record.is_about(device)] == ["failed"]
