# SPDX-License-Identifier: LGPL-2.1-or-later
"""The lab host seen from inside: its devices by name, what /sys says of them, and the means to change it."""

import ctypes
import json
import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

# The devices of machine.py, in the order of its root ports.
NIC, NIC2, NIC3, NIC4, NIC5 = (f"0000:{bus}:00.0" for bus in ("01", "03", "04", "05", "0e"))
PF = "0000:02:00.0"
VFS = tuple(f"0000:02:10.{function}" for function in (0, 2, 4, 6))
NVME, NVME2 = "0000:06:00.0", "0000:07:00.0"
XHCI = "0000:08:00.0"
TWO_FUNCTIONS = ("0000:09:00.0", "0000:09:00.1")
SCSI_CONTROLLER = "0000:0a:00.0"
GPU = "0000:0b:00.0"
SOUND = "0000:10:00.0"
BEHIND_BRIDGE = ("0000:0d:01.0", "0000:0d:02.0")
USB_STICK, USB_TABLET, USB_PEN = ("46f4", "0001"), ("0627", "0001"), ("056a", "0000")

PCI = Path("/sys/bus/pci")
STATE = Path("/run/libhook")
UNDER_SYSTEMD = Path("/run/systemd/system").exists()
PATIENCE = 300.0
"""Seconds for what shall come: ten times what a quiet machine may need. What a test leaves asleep sleeps longer."""


def driver_of(address: str) -> str | None:
    """The driver a device is bound to now."""
    try:
        return os.path.basename(os.readlink(PCI / "devices" / address / "driver"))
    except FileNotFoundError:
        return None


def override_of(address: str) -> str | None:
    """The driver_override a device has now."""
    text = (PCI / "devices" / address / "driver_override").read_text().strip()
    return None if text == "(null)" else text or None


def hand_over(address: str, driver: str | None, override: str | None) -> None:
    """What an administrator does by hand: leave a device on this driver, or on none, with this override."""
    device = PCI / "devices" / address
    if driver == "vfio-pci":
        subprocess.run(["modprobe", "vfio-pci"], check=True, timeout=600)
    (device / "driver_override").write_text(f"{driver or override or ''}\n")
    if driver_of(address) not in (None, driver):
        (device / "driver" / "unbind").write_text(address)
    if driver:
        (PCI / "drivers_probe").write_text(address)
    (device / "driver_override").write_text(f"{override or ''}\n")
    assert driver_of(address) == driver


def netdev_of(address: str) -> str:
    """The name of a network card's interface."""
    return next((PCI / "devices" / address / "net").iterdir()).name


def vf_mac(vf: str) -> str:
    """The MAC address that the PF has set for a VF."""
    shown = subprocess.run(["ip", "-j", "link", "show", netdev_of(PF)], capture_output=True, check=True, timeout=600)
    entries = json.loads(shown.stdout)[0]["vfinfo_list"]
    return str(entries[VFS.index(vf)]["address"])


def usb_address(ids: tuple[str, str]) -> tuple[int, int]:
    """Bus and device number of the USB device with this vendor and product."""
    for device in Path("/sys/bus/usb/devices").iterdir():
        try:
            if ids == tuple((device / name).read_text().strip() for name in ("idVendor", "idProduct")):
                return int((device / "busnum").read_text()), int((device / "devnum").read_text())
        except FileNotFoundError:
            continue
    raise LookupError(f"no USB device {ids}")


def scsi_target(address: str, target: int) -> str:
    """The host:channel:target:lun of a disk behind a SCSI controller."""
    return next((PCI / "devices" / address).glob(f"virtio*/host*/target*/*:0:{target}:0")).name


def wait_for(what: str, condition: Callable[[], object], seconds: float = PATIENCE) -> None:
    """Wait until a condition holds, and fail saying which one did not."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.1)


def settled(find: Callable[[], list[str]], seconds: float = PATIENCE) -> list[str]:
    """What is still found after this time. As soon as nothing is, it looks no more: helpers come and go."""
    deadline = time.monotonic() + seconds
    while (found := find()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return found


@dataclass(frozen=True)
class HostState:
    """All that a guest's life must leave as it was."""

    devices: dict[str, tuple[str | None, str | None]]
    vf_macs: tuple[str, ...]
    held: tuple[str, ...]

    def differences(self, other: "HostState") -> list[str]:
        """What is otherwise in the other state, in words."""
        found = [
            f"{address}: driver and override were {self.devices.get(address)}, are {other.devices.get(address)}"
            for address in sorted(self.devices.keys() | other.devices.keys())
            if self.devices.get(address) != other.devices.get(address)
        ]
        if self.vf_macs != other.vf_macs:
            found.append(f"MAC addresses of the VFs were {self.vf_macs}, are {other.vf_macs}")
        return found + [f"left behind: {path}" for path in other.held if path not in self.held]


def host_state() -> HostState:
    """The host as it is now."""
    addresses = sorted(path.name for path in (PCI / "devices").iterdir())
    held = [str(path) for name in ("domains", "claims") for path in sorted((STATE / name).glob("*"))]
    return HostState(
        {address: (driver_of(address), override_of(address)) for address in addresses},
        tuple(vf_mac(vf) for vf in VFS) if driver_of(PF) == "igb" else (),
        tuple(held),
    )


class SysfsWrites:
    """Counts the writes to the files of /sys that bind drivers, whoever makes them, while the block runs."""

    IN_MODIFY = 2

    def __enter__(self) -> "SysfsWrites":
        libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        assert self._descriptor >= 0, os.strerror(ctypes.get_errno())
        files = [
            PCI / "drivers_probe",
            *(PCI / "devices").glob("*/driver_override"),
            *(PCI / "devices").glob("*/sriov_numvfs"),
            *(PCI / "drivers").glob("*/*bind"),
            *(PCI / "drivers").glob("*/new_id"),
        ]
        self._names = {
            libc.inotify_add_watch(self._descriptor, os.fsencode(file), self.IN_MODIFY): str(file) for file in files
        }
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)

    def seen(self) -> list[str]:
        """The files written so far."""
        try:
            events = os.read(self._descriptor, 1 << 16)
        except BlockingIOError:
            return []
        # No file is a folder, so each event is a bare header of 16 bytes that begins with its watch.
        return [self._names[int.from_bytes(events[at : at + 4], "little")] for at in range(0, len(events), 16)]
