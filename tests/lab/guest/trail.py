# SPDX-License-Identifier: LGPL-2.1-or-later
"""The audit trail as auditd wrote it: records by guest, ours and libvirtd's told apart, and what is due."""

import re
import subprocess
import uuid
from dataclasses import dataclass
from pathlib import Path

from calls import at_work
from guests import Device, Guest
from host import wait_for

LOG = Path("/var/log/audit/audit.log")
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


def wait_until_written() -> None:
    """Wait until all that hooks have recorded is in the log, so that what is not there by then never comes.

    Records keep their order from the kernel's queue to the file: the one made here comes after all of them.
    """
    wait_for("the end of all hooks", lambda: not at_work())
    mark = f"lab-{uuid.uuid4()}"
    subprocess.run(["auditctl", "-m", mark], stdout=subprocess.DEVNULL, check=True, timeout=60)
    wait_for("a record of our own", lambda: mark in LOG.read_text(errors="surrogateescape"))


def records(
    guest: Guest, reason: str | None = None, ours: bool | None = None, result: str | None = None
) -> list[Record]:
    """The host-device records of a guest, oldest first."""
    found = []
    for line in LOG.read_text(errors="surrogateescape").splitlines():
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
        lambda: len(records(guest, "start", ours=True)) >= len(guest.devices),
        10,
    )
    wait_for(
        f"libvirtd's records of the start of {guest.name}",
        lambda: len(records(guest, "start", ours=False)) >= sum(device.libvirt_records for device in guest.devices),
        10,
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
        lambda: len(records(guest, "stop", ours=True)) >= len(guest.devices),
        30,
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
        lambda: len(records(guest, "start", ours=True)) >= len(devices or guest.devices),
        30,
    )
    for device in devices or guest.devices:
        assert [record.result for record in records(guest, ours=True) if record.is_about(device)] == ["failed"]
