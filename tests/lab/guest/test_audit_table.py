# SPDX-License-Identifier: LGPL-2.1-or-later
"""What libvirtd and libhook write of each kind of device at each moment: the table of docs/audit.md is made of it.

A run leaves the document with its own table as audit.md among its artifacts, to be copied where it is no longer true.
"""

import re
import subprocess
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from amounts import sample
from conftest import MakeGuest
from guests import Device, Guest, Refused, boot_sector, nvme_disk, pci, scsi, usb, vf_interface
from host import (
    BEHIND_BRIDGE,
    NIC,
    NVME,
    SCSI_CONTROLLER,
    USB_PEN,
    USB_STICK,
    VFS,
    scsi_target,
)
from test_refusals import BAD_OPTION
from trail import in_log, wait_until_all_is_recorded

DOCUMENT = Path("/src/docs/audit.md")
RESULT = Path("/share/audit.md")
MOMENTS = {
    "start": "start",
    "refused start": "start",
    "failed start": "start",
    "stop": "stop",
    "attach": "attach",
    "failed attach": "attach",
    "detach": "detach",
    "refused detach": "detach",
}
"""Each with the reason of its records."""
WWPN = "naa.5001405bd4e8476d"
TARGET = Path("/sys/kernel/config/target")
VIRTIO_SCSI = "<controller type='scsi' model='virtio-scsi'/>"
NO_USB = "<controller type='usb' model='none'/>"
HEAD = "| device | start |"


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A SCSI target of the kernel's own, which stays, with one disk out of a file: what a SCSI host hands over."""
    subprocess.run(["modprobe", "-a", "configfs", "target_core_mod", "target_core_file", "vhost_scsi"], check=True)
    if not TARGET.is_dir():
        subprocess.run(["mount", "-t", "configfs", "configfs", str(TARGET.parent)], check=True)
    backing = tmp_path_factory.mktemp("target") / "disk"
    disk, port = TARGET / "core/fileio_0/disk0", TARGET / f"vhost/{WWPN}/tpgt_1"
    backing.write_bytes(bytes(1 << 20))
    disk.mkdir(parents=True)
    (disk / "control").write_text(f"fd_dev_name={backing},fd_dev_size={1 << 20}")
    (disk / "enable").write_text("1")
    port.mkdir(parents=True)
    (port / "nexus").write_text(WWPN.replace("naa.5", "naa.6"))
    (port / "lun/lun_0").mkdir()
    (port / "lun/lun_0/disk0").symlink_to(disk)


def every_kind(iscsi_disk: Device) -> dict[str, Device]:
    """One device of each kind, none of them another's PF, sibling or namespace."""
    network = "<interface type='network'><mac address='52:54:00:6c:68:0a'/><source network='pool'/></interface>"
    vhost = f"<hostdev mode='subsystem' type='scsi_host'><source protocol='vhost' wwpn='{WWPN}'/></hostdev>"
    return {
        "PCI": pci(NIC),
        "VF as hostdev": pci(VFS[2]),
        "VF as interface": vf_interface(VFS[1], "52:54:00:6c:68:0b"),
        "VF out of a pool": Device(network, "pci", VFS[0]),
        "NVMe disk": nvme_disk(NVME),
        "USB by address": usb(USB_STICK, by_address=True),
        "USB by vendor and product": usb(USB_PEN),
        "SCSI": scsi(scsi_target(SCSI_CONTROLLER, 0)),
        "iSCSI": iscsi_disk,
        "SCSI host": Device(vhost, "scsi_host", WWPN),
    }


def written(guest: Guest, device: Device, reason: str, ours: bool) -> list[str]:
    """The results recorded of a device so far, with the address where it is not the device's."""
    found = []
    for record in in_log(guest, reason, ours=ours):
        if record.is_about(device):
            found.append(record.result)
        elif "<vendor " in device.xml and record.field("device") == '"000.000"':
            found.append(f"{record.result} of 000.000")
    return found


class Table:
    """What was seen, by kind and moment."""

    def __init__(self, devices: dict[str, Device]) -> None:
        self.devices = devices
        self.seen: dict[str, dict[str, str]] = {kind: {} for kind in self.devices}

    def note(self, moment: str, guest: Guest, kinds: Iterable[str] = ()) -> None:
        """Write down what was recorded at this moment: libvirtd's and ours, in that order."""
        reason = MOMENTS[moment]
        wait_until_all_is_recorded()
        for kind in kinds or self.devices:
            device = self.devices[kind]
            cell = (", ".join(written(guest, device, reason, ours)) or "none" for ours in (False, True))
            self.seen[kind][moment] = " / ".join(cell)

    def lines(self) -> list[str]:
        """As Markdown."""
        head = [f"| device | {' | '.join(MOMENTS)} |", "|---" * (len(MOMENTS) + 1) + "|"]
        rows = ((seen.get(moment, "not seen") for moment in MOMENTS) for seen in self.seen.values())
        return head + [f"| {kind} | {' | '.join(row)} |" for kind, row in zip(self.seen, rows, strict=True)]


@pytest.mark.usefixtures("pool", "target")
def test_whole_lives_are_recorded_as_the_table_says(guest: MakeGuest, iscsi_disk: Device) -> None:
    """Of two kinds, which the seed chooses. The next test comes after this one, since it uses up the SCSI host."""
    devices = every_kind(iscsi_disk)
    table = Table({kind: devices[kind] for kind in sample([*devices], len(devices) // 2, "kinds of the table")})
    whole_lives(table, guest)
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table_of(DOCUMENT.read_text())]
    told = {kind: dict(zip(MOMENTS, cells, strict=True)) for kind, *cells in rows}
    assert table.seen == {kind: {each: told[kind][each] for each in seen} for kind, seen in table.seen.items()}


@pytest.mark.rest
@pytest.mark.usefixtures("pool", "target")
def test_the_table_of_the_document_is_what_is_recorded(guest: MakeGuest, iscsi_disk: Device) -> None:
    """Every cell of it, for every kind that this machine has."""
    table = Table(every_kind(iscsi_disk))
    try:
        whole_lives(table, guest)
        plugging(table, guest)
    finally:
        document = DOCUMENT.read_text()
        RESULT.write_text(document.replace("\n".join(table_of(document)), "\n".join(table.lines())))
    assert table.lines() == table_of(document)


def whole_lives(table: Table, guest: MakeGuest) -> None:
    """A guest that runs, one that libhook refuses on account of another device, one that QEMU does not start."""
    devices = table.devices.values()
    one = guest(*devices, more_devices=VIRTIO_SCSI).start()
    table.note("start", one)
    one.destroy()
    one.wait_until_gone()
    table.note("stop", one)
    refused = guest(*devices, pci(BEHIND_BRIDGE[0]), more_devices=VIRTIO_SCSI)
    refused.start_refused()
    table.note("refused start", refused)
    failing = guest(*devices, more_devices=VIRTIO_SCSI, more=BAD_OPTION)
    failing.start_refused()
    table.note("failed start", failing)


def plugging(table: Table, guest: MakeGuest) -> None:
    """By libhook's own commands: a guest that answers, one that does not, and one that has no place for anything."""
    answering = guest(machine="pc", more_devices=boot_sector("eject", "hda", "ide") + VIRTIO_SCSI).start()
    silent = [guest(machine="pc", more_devices=VIRTIO_SCSI).start() for _ in range(2)]
    # Of these, too, one waits while the others are at work: libvirt itself takes 5 s where no answer comes.
    with ThreadPoolExecutor(1) as one, ThreadPoolExecutor(1) as another:
        asked = []
        for number, (kind, device) in enumerate(table.devices.items()):
            answering.plug("attach", device)
            table.note("attach", answering, [kind])
            answering.plug("detach", device)
            table.note("detach", answering, [kind])
            asked.append((one, another)[number % 2].submit(not_answered, table, silent[number % 2], kind, device))
        for answer in asked:
            answer.result(1000)
    for each in (answering, *silent):
        each.destroy()
    # Last, since libvirt takes a SCSI host for in use after it could not be plugged in.
    full = guest(machine="pc", more_devices=NO_USB)
    full.xml = full.xml.replace("<acpi/>", "")
    full.start()
    for kind, device in table.devices.items():
        with pytest.raises(Refused):
            full.plug("attach", device)
        table.note("failed attach", full, [kind])
    full.destroy()


def not_answered(table: Table, silent: Guest, kind: str, device: Device) -> None:
    """A device comes to a guest that does not answer when it is asked for it."""
    silent.plug("attach", device)
    try:
        silent.plug("detach", device, "--timeout", "8")
    except Refused as refusal:
        if "did not answer within 8 s" not in str(refusal):
            raise
        table.note("refused detach", silent, [kind])
    else:
        table.seen[kind]["refused detach"] = "not asked"


def table_of(document: str) -> list[str]:
    """The lines of the table."""
    found = re.search(rf"^{re.escape(HEAD)}[^\n]*\n(\|[^\n]*\n)*", document, flags=re.M)
    return found[0].splitlines() if found else []
