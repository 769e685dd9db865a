# SPDX-License-Identifier: LGPL-2.1-or-later
"""A guest's devices are noted as the kernel shows them, and another one at the address is refused."""

import json
from pathlib import Path

from calls import at_work
from conftest import MakeGuest
from guests import libhook, nvme_disk, pci
from host import NIC, NVME, PCI, driver_of, wait_for

NOTES = Path("/var/lib/libhook/devices")


def _ids(address: str, kind: str) -> str:
    folder = PCI / "devices" / address
    return ":".join((folder / f"{kind}{name}").read_text().strip()[2:] for name in ("vendor", "device"))


def test_another_disk_of_the_same_model_is_refused(guest: MakeGuest) -> None:
    """By its serial number alone. Nothing is handed over before it is accepted, and virsh says how."""
    (controller,) = (PCI / "devices" / NVME / "nvme").iterdir()
    serial = (controller / "serial").read_text().strip()
    one = guest(pci(NIC), nvme_disk(NVME)).start()
    one.destroy()
    path = NOTES / f"{one.uuid}.json"
    wait_for("the note of the start", lambda: not at_work())  # nobody waits for it, the guest's end neither
    text = path.read_text()
    noted = sorted(json.loads(text)["devices"], key=lambda each: each["address"])
    assert [tuple(each[key] for key in ("address", "ids", "subsystem", "serial")) for each in noted] == [
        (NIC, _ids(NIC, ""), _ids(NIC, "subsystem_"), ""),
        (NVME, _ids(NVME, ""), _ids(NVME, "subsystem_"), serial),
    ]  # fmt: skip
    assert serial
    assert (NOTES.stat().st_mode & 0o777, path.stat().st_mode & 0o777) == (0o700, 0o600)
    path.write_text(path.read_text().replace(f'"{serial}"', '"another"'))
    said = one.start_refused()
    assert f"{NVME} is another device than the guest had there" in said
    assert "serial another, and now it is" in said
    assert f"libhook accept {one.uuid}" in said
    assert (driver_of(NIC), driver_of(NVME)) == ("e1000e", "nvme")
    said = libhook("accept", one.name)
    assert said.startswith(f"{NVME}: was ")
    assert f"serial {serial}: accepted" in said
    one.start()
    one.destroy()
    wait_for("the note of the start", lambda: not at_work())
    assert f'"{serial}"' in path.read_text()
    assert (driver_of(NIC), driver_of(NVME)) == ("e1000e", "nvme")
