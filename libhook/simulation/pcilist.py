# SPDX-License-Identifier: LGPL-2.1-or-later
"""libvirt's lists of active and inactive PCI devices, and its work on these devices (virhostdev.c, virpci.c)."""

import os
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase

from libhook.simulation import store
from libhook.simulation.guests import Assigned
from libhook.simulation.kernel import SimulatedKernel


class Failed(Exception):
    """An error that libvirt gives its caller."""


@dataclass
class _Entry:
    managed: bool
    unbind_from_stub: bool = False
    """Whether libvirt itself bound the device, and so will give it back."""
    guest: str = ""


def rebind(kernel: SimulatedKernel, address: str, override: str) -> None:
    """Move a device to the driver that its override names, as everybody does it; a line feed clears the override."""
    kernel.write(f"bus/pci/devices/{address}/driver_override", override)
    if store.shown(kernel.root, address):
        kernel.write(f"bus/pci/devices/{address}/driver/unbind", address)
    kernel.write("bus/pci/drivers_probe", address)


class DeviceLists:
    """Both lists, under one lock. libvirt also locks both together, even while the kernel takes its time."""

    def __init__(self, root: str, tell: Callable[[str], None]) -> None:
        """Start with empty lists, as a new daemon does."""
        self._root = root
        self._kernel = SimulatedKernel(root, by="libvirtd")
        self._tell = tell
        self._active: dict[str, _Entry] = {}
        self._inactive: dict[str, _Entry] = {}
        self._lock = threading.Lock()

    def prepare(self, guest: str, devices: Iterable[Assigned]) -> None:
        """virHostdevPreparePCIDevices(). If it raises Failed, managed devices are as before."""
        # A device that is not on the host is skipped without a message. QEMU fails on it later.
        there = [device for device in devices if os.path.lexists(self._path(device.address))]
        with self._lock:
            for device in there:
                self._check(guest, device)
            detached: list[str] = []
            try:
                for device in there:
                    if device.managed:
                        detached.append(device.address)
                        self._detach(device)
                    else:
                        self._accept(device)
            except (Failed, OSError) as error:
                for address in detached:
                    self._give_back(address)
                raise error if isinstance(error, Failed) else Failed(f"internal error: {error}") from error
            for device in there:
                entry = self._inactive.pop(device.address)
                entry.guest = guest
                self._active[device.address] = entry

    def reattach(self, guest: str, only: Iterable[str] | None = None) -> None:
        """virHostdevReAttachPCIDevices(): all devices of the guest in the active list, or ``only`` these of them."""
        with self._lock:
            mine = [address for address, entry in self._active.items() if entry.guest == guest]
            for address in mine if only is None else [address for address in mine if address in only]:
                self._inactive[address] = self._active.pop(address)
                self._inactive[address].guest = ""
                if self._inactive[address].managed:
                    self._give_back(address)
            for address in [a for a in self._inactive if not os.path.lexists(self._path(a))]:
                del self._inactive[address]

    def restart(self) -> None:
        """Lose the inactive list. The active list stays, because libvirt reads it back from the status files."""
        self._inactive.clear()

    def _path(self, address: str) -> str:
        return f"{self._root}/sys/bus/pci/devices/{address}"

    def _check(self, guest: str, device: Assigned) -> None:
        with open(f"{self._path(device.address)}/config", "rb") as config:
            if config.read(64)[14] & 0x7F:
                raise Failed("unsupported configuration: Non-endpoint PCI devices cannot be assigned to guests")
        group = f"{self._path(device.address)}/iommu_group/devices"
        for other in [device.address, *(os.listdir(group) if os.path.isdir(group) else ())]:
            entry = self._active.get(other)
            if entry is not None and (entry.guest != guest or other == device.address):
                used = f"PCI device {other} is in use by driver QEMU, domain {entry.guest}"
                raise Failed(f"Requested operation is not valid: {used}")

    def _accept(self, device: Assigned) -> None:
        """Take an unmanaged device. In the inactive list its driver is not checked again (virhostdev.c:743)."""
        if device.address in self._inactive:
            return
        if not os.path.isdir(f"{self._path(device.address)}/vfio-dev"):
            raise Failed(
                f"internal error: Unmanaged PCI device {device.address} must be manually detached from the host"
            )
        self._inactive[device.address] = _Entry(managed=False)

    def _detach(self, device: Assigned) -> None:
        """virPCIDeviceDetach(): an entry that is already in the inactive list stays as it is, even an unmanaged one."""
        address, driver = device.address, device.model or self._best_driver(device.address)
        bound = store.shown(self._root, address) or ""
        mine = bound.replace("_", "-") != driver.replace("_", "-")
        if mine:
            name = self._registered(driver)
            self._tell(f"libvirtd binds {address} to {name}")
            rebind(self._kernel, address, name)
        self._inactive.setdefault(address, _Entry(managed=True, unbind_from_stub=mine))

    def _registered(self, driver: str) -> str:
        """Return the driver's registered name. Load its module first if needed."""
        for _ in range(2):
            for name in (driver, driver.replace("-", "_"), driver.replace("_", "-")):
                if os.path.isdir(f"{self._root}/sys/bus/pci/drivers/{name}"):
                    return name
            try:
                self._kernel.load(driver)
            except OSError as error:
                raise Failed(f"internal error: Failed to load PCI driver module {driver}: {error.strerror}") from error
        raise Failed(f"internal error: Failed to load PCI driver module {driver}")

    def _best_driver(self, address: str) -> str:
        """Return the module of the matching vfio_pci: alias with the fewest wildcards."""
        what = store.read(f"{self._path(address)}/modalias").strip().removeprefix("pci:")
        best, wildcards = "vfio-pci", 100
        for line in store.read(f"{self._root}/lib/modules/{os.uname().release}/modules.alias").splitlines():
            pattern, _, module = line.removeprefix("alias vfio_pci:").partition(" ")
            if line.startswith("alias vfio_pci:") and fnmatchcase(what, pattern) and pattern.count("*") < wildcards:
                best, wildcards = module, pattern.count("*")
        return best

    def _give_back(self, address: str) -> None:
        """virPCIDeviceReattach(): only what libvirt itself has bound. It does not remember the driver from before."""
        entry = self._inactive.pop(address, None)
        if entry is None or not entry.unbind_from_stub or not os.path.lexists(self._path(address)):
            return
        self._tell(f"libvirtd gives {address} back")
        self._kernel.write(f"bus/pci/devices/{address}/driver_override", "\n")
        if store.shown(self._root, address):
            self._kernel.write(f"bus/pci/devices/{address}/driver/unbind", address)
        with suppress(OSError):  # libvirt only logs it: QEMU may still have another device of the group
            self._kernel.write("bus/pci/drivers_probe", address)
