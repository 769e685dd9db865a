# SPDX-License-Identifier: LGPL-2.1-or-later
"""Guests: their XML in few words, their life under libvirtd, and libvirtd's own life."""

import os
import re
import signal
import subprocess
import tempfile
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

import pytest
from host import PATIENCE, STATE, usb_address, wait_for

BOOT_SECTORS = Path(__file__).parent / "boot-sectors"
IMAGES = Path("/var/lib/libvirt/images")
ADDRESS = "<address type='pci' domain='0x{}' bus='0x{}' slot='0x{}' function='0x{}'/>"


class Refused(Exception):
    """virsh failed; the text is what its caller reads."""


@dataclass(frozen=True)
class Device:
    """A host device as a guest's XML names it, and as an audit record must."""

    xml: str
    bus: str
    record: str
    libvirt_records: bool = True


def _pci_address(address: str) -> str:
    domain, bus, rest = address.split(":")
    slot, function = rest.split(".")
    return ADDRESS.format(domain, bus, slot, function)


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def pci(address: str, managed: bool = False) -> Device:
    """A PCI device."""
    source = _pci_address(address).replace(" type='pci'", "")
    return Device(
        f"<hostdev mode='subsystem' type='pci' managed='{_yes(managed)}'><source>{source}</source></hostdev>",
        "pci",
        address,
    )


def vf_interface(address: str, mac: str, managed: bool = False) -> Device:
    """A VF as a network interface."""
    return Device(
        f"<interface type='hostdev' managed='{_yes(managed)}'><mac address='{mac}'/>"
        f"<source>{_pci_address(address)}</source></interface>",
        "pci",
        address,
    )


def nvme_disk(address: str, managed: bool = False) -> Device:
    """An NVMe disk, for which libvirtd has no record. Skips the test where QEMU cannot use it (docs/limits.md)."""
    version = subprocess.check_output(["qemu-system-x86_64", "--version"], text=True, timeout=600)
    major, minor = re.findall(r"version (\d+)\.(\d+)", version)[0]
    if (int(major), int(minor)) >= (10, 1):
        pytest.skip(f"QEMU {major}.{minor} itself cannot use the NVMe disk")
    return Device(
        f"<disk type='nvme' device='disk'><driver name='qemu' type='raw'/><source type='pci' "
        f"managed='{_yes(managed)}' namespace='1'>{_pci_address(address)}</source>"
        "<target dev='vda' bus='virtio'/></disk>",
        "pci",
        address,
        libvirt_records=False,
    )


def usb(ids: tuple[str, str], by_address: bool = False) -> Device:
    """A USB device, named by its address or by vendor and product."""
    bus, device = usb_address(ids)
    source = (
        f"<address bus='{bus}' device='{device}'/>"
        if by_address
        else f"<vendor id='0x{ids[0]}'/><product id='0x{ids[1]}'/>"
    )
    return Device(
        f"<hostdev mode='subsystem' type='usb'><source>{source}</source></hostdev>",
        "usb",
        f"{bus:03}.{device:03}",
    )


def scsi(host_channel_target_lun: str) -> Device:
    """A SCSI device behind an adapter."""
    host, channel, target, lun = host_channel_target_lun.split(":")
    return Device(
        f"<hostdev mode='subsystem' type='scsi'><source><adapter name='scsi_host{host}'/>"
        f"<address bus='{channel}' target='{target}' unit='{lun}'/></source></hostdev>",
        "scsi",
        f"scsi_host{host}:{channel}:{target}:{lun}",
    )


def iscsi(name: str) -> Device:
    """A unit of an iSCSI target of this machine, for which libvirtd has no record."""
    return Device(
        f"<hostdev mode='subsystem' type='scsi'><source protocol='iscsi' name='{name}'>"
        "<host name='127.0.0.1' port='3260'/></source></hostdev>",
        "scsi",
        name,
        libvirt_records=False,
    )


def file_disk(path: Path, target: str = "sda", bus: str = "sata") -> str:
    """A disk out of a file."""
    return (
        f"<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='{path}'/>"
        f"<target dev='{target}' bus='{bus}'/></disk>"
    )


def boot_sector(name: str, target: str = "sda", bus: str = "sata") -> str:
    """A disk that makes the guest act by itself: power off, panic, reset, answer (boot-sectors/README.md)."""
    image = IMAGES / f"{name}.img"
    IMAGES.mkdir(parents=True, exist_ok=True)
    # Padded: on a disk of a single sector the firmware counts no cylinder, and does not boot from it.
    image.write_bytes((BOOT_SECTORS / f"{name}.bin").read_bytes().ljust(1 << 20, b"\0"))
    return file_disk(image, target, bus)


def why_it_ended(reason: str) -> str:
    """What libvirtd tells its hook at `release`: it has the reason from libvirt 10.5 on."""
    version = subprocess.check_output(["libvirtd", "--version"], text=True, timeout=600)
    major, minor = re.findall(r"libvirt\) (\d+)\.(\d+)", version)[0]
    return reason if (int(major), int(minor)) >= (10, 5) else "-"


def virsh(*arguments: str) -> str:
    """What virsh prints; Refused with what it says when it fails."""
    done = subprocess.run(
        ["virsh", "-q", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    if done.returncode != 0:
        raise Refused(done.stderr.strip())
    return done.stdout


def nothing_is_held() -> bool:
    """Whether ``libhook status`` says so. It fails as long as a dead guest has something."""
    with suppress(Refused):
        return libhook("status") == "nothing is held\n"
    return False


def libhook(*arguments: str, timeout: float = PATIENCE) -> str:
    """What the installed command prints; Refused with what it says when it fails."""
    done = subprocess.run(
        ["libhook", *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout
    )
    if done.returncode != 0:
        raise Refused(done.stderr.strip())
    return done.stdout


class Guest:
    """A transient guest of 64 MiB with the given host devices, known to virsh by its UUID."""

    def __init__(
        self, devices: Sequence[Device], name: str, more_devices: str = "", more: str = "", machine: str = "q35"
    ) -> None:
        self.devices, self.name, self.uuid = tuple(devices), name, str(uuid.uuid4())
        self.xml = f"""
            <domain type='qemu' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
              <name>{escape(name)}</name><uuid>{self.uuid}</uuid><memory unit='MiB'>64</memory><vcpu>1</vcpu>
              <os><type arch='x86_64' machine='{machine}'>hvm</type></os><features><acpi/></features>
              <on_reboot>destroy</on_reboot><on_crash>destroy</on_crash>
              <devices>
                <panic model='isa'/>{more_devices}{"".join(device.xml for device in devices)}
              </devices>{more}
            </domain>"""

    def start(self) -> "Guest":
        """Create it, and come back when it runs, and its hook has ended."""
        self.create()
        self.wait_for_hook()
        return self

    def create(self) -> None:
        """Create it, and come back as soon as virsh does."""
        with tempfile.NamedTemporaryFile("w", suffix=".xml") as file:
            file.write(self.xml)
            file.flush()
            virsh("create", file.name)

    def wait_for_hook(self) -> None:
        """At `started` libvirtd does not wait until all is recorded and noted: the guest's lock says how long."""
        lock = STATE / "locks" / f"domain-{self.uuid}"
        wait_for(f"the hook of {self.name}", lambda: not lock.exists())

    def start_refused(self) -> str:
        """Try to start, and give back what the caller reads when it is refused, as it must be."""
        try:
            self.start()
        except Refused as refusal:
            return str(refusal)
        raise AssertionError(f"{self.name} started")

    def plug(self, verb: str, device: Device, *options: str, by: str = "libhook") -> str:
        """attach or detach by libhook or by virsh: what is printed; Refused with what is said when it fails."""
        with tempfile.NamedTemporaryFile("w", suffix=".xml") as file:
            file.write(device.xml)
            file.flush()
            if by == "libhook":
                return libhook(verb, self.uuid, file.name, *options)
            had = self._host_devices()
            said = virsh(f"{verb}-device", self.uuid, file.name, *options)
            # virsh does not wait for the guest's answer beyond a few seconds.
            wait_for(f"{verb} of {device.record}", lambda: self._host_devices() != had)
            return said

    def _host_devices(self) -> int:
        return virsh("dumpxml", self.uuid).count("<hostdev ")

    def destroy(self) -> None:
        """End it as `virsh destroy` does.

        libvirtd may take the end of QEMU for an error of its monitor, and has then done with a transient guest before
        the destroy looks for it again: "Domain not found" is the end that was asked for.
        """
        try:
            virsh("destroy", self.uuid)
        except Refused as refusal:
            if "Domain not found" not in str(refusal) or self.pid():
                raise

    def running(self) -> bool:
        """Whether libvirtd says so."""
        try:
            return virsh("domstate", self.uuid).strip() == "running"
        except Refused:
            return False

    def pid(self) -> int | None:
        """The process of the guest's QEMU."""
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                command = (folder / "cmdline").read_bytes()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if b"qemu-system" in command.split(b"\0")[0] and self.uuid.encode() in command:
                return int(folder.name)
        return None

    def kill_qemu(self) -> None:
        """SIGKILL to the guest's QEMU."""
        pid = self.pid()
        assert pid
        os.kill(pid, signal.SIGKILL)

    def wait_until_gone(self) -> None:
        """Wait until libvirtd has forgotten the guest, which is after its `release` hook."""
        wait_for(f"the end of {self.name}", lambda: self.uuid not in virsh("list", "--all", "--uuid"))


def libvirts_own_xml(guest: Guest) -> str:
    """The guest's XML as libvirtd writes it for the hook."""
    with tempfile.NamedTemporaryFile("w", suffix=".xml") as file:
        file.write(guest.xml)
        file.flush()
        virsh("define", file.name)
    try:
        return virsh("dumpxml", guest.uuid)
    finally:
        virsh("undefine", guest.uuid)


def kill_libvirtd() -> None:
    """SIGKILL, so that libvirtd can put nothing in order."""
    pid = int(Path("/run/libvirtd.pid").read_text())
    os.kill(pid, signal.SIGKILL)
    wait_for("the end of libvirtd", lambda: not Path(f"/proc/{pid}/exe").exists())


def start_libvirtd(*under: str) -> None:
    """Start libvirtd, by way of another command if there is one, and wait until it knows its guests."""
    subprocess.run(
        [*under, "libvirtd", "-d"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=True,
        timeout=600,
    )
    wait_for("an answer of libvirtd", _libvirtd_answers)


def _libvirtd_answers() -> bool:
    try:
        return bool(virsh("list", "--all", "--uuid") or True)
    except Refused:
        return False
