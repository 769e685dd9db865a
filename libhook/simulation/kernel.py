# SPDX-License-Identifier: LGPL-2.1-or-later
"""The simulated kernel: takes libhook's writes, and changes links, nodes and files as Linux would.

All state is in files (store.py), so many processes may write at once, and any may be killed. As in the kernel, a writer
holds the device's lock while the driver works, and no signal interrupts it. SIGKILL is the exception: here it ends the
write, but in the kernel the write still lands. So do not send it to a writer.
"""

import errno
import os
import time
from _signal import (  # type: ignore[import-not-found] # the module signal makes an enum of each signal
    SIG_BLOCK,
    SIG_SETMASK,
    pthread_sigmask,
    valid_signals,
)
from collections.abc import Callable
from typing import Any

from libhook.simulation import buses, devices, store, vfio
from libhook.simulation.answers import refuse
from libhook.simulation.programs import Programs
from libhook.simulation.sleepers import locked

PAGE_SIZE = 4096
_ALL_SIGNALS = valid_signals()
_POLL = 0.005
_FOREVER = 300.0
_LONG = 0.5
"""If a driver takes at least this many seconds, readers wait, too. Below that it would only slow the simulation."""


class SimulatedKernel(Programs):
    """Implements effects.kernel.Kernel on the folder ``root``. ``by`` is the writer's name in writes.jsonl."""

    def __init__(self, root: str, by: str = "libhook") -> None:
        """Remember the folder. All state is there."""
        self.root = root
        self.by = by
        self._pci = f"{root}/sys/bus/pci"

    def write(self, path: str, value: str) -> None:
        """Do one write(2) to /sys/``path``."""
        if not value:
            raise ValueError(f"an empty string makes no write(2), so it never reaches /sys/{path}")
        call = f"write {path} {value.strip()}"
        self._traced(path, value, lambda: self._answer(call, lambda: self._store(path, value)))

    def write_unharmed(self, path: str, value: str) -> None:
        """Do the same without any injected fault."""
        self._traced(path, value, lambda: self._store(path, value))

    def _traced(self, path: str, value: str, write: Callable[[], None]) -> None:
        """Append a line to var/log/writes.jsonl when the write ends. Until then all signals are blocked."""
        began, answer = time.monotonic(), "ok"
        mask = pthread_sigmask(SIG_BLOCK, _ALL_SIGNALS)
        try:
            write()
        except OSError as error:
            answer = errno.errorcode.get(error.errno or 0, "?")
            raise
        finally:
            fields = {"by": self.by, "pid": os.getpid(), "path": path, "value": value, "answer": answer}
            fields["seconds"] = round(time.monotonic() - began, 6)
            store.append(f"{self.root}/var/log/writes.jsonl", fields)
            pthread_sigmask(SIG_SETMASK, mask)

    def set_value(self, path: str, value: str) -> None:
        """Write a sysctl or another attribute that keeps its value. ENOENT if it does not exist."""
        from libhook.simulation import knobs

        def store_value() -> None:
            if not os.path.isfile(f"{self.root}{path}"):
                raise refuse(errno.ENOENT, path)
            knobs.write(self.root, path, value)

        self._traced(path, value, lambda: self._answer(f"set {path} {value}", store_value))

    def load(self, module: str) -> None:
        """Load a module as modprobe does. ENOENT if this host has no such module."""
        from libhook.simulation import modules

        self._answer(f"load {module}", lambda: modules.load(self, module))

    def unload(self, module: str) -> None:
        """Remove a module as rmmod does. Raises the errors of delete_module(2), where rmmod itself has only one."""
        from libhook.simulation import modules

        self._answer(f"unload {module}", lambda: modules.unload(self, module))

    def record(self, text: str, success: bool) -> int:
        """Append to var/log/audit.jsonl, and to auditd's log where the host has one.

        Return the serial number, or what a fault says instead.
        """
        if not os.path.lexists(f"{self.root}/simulation/faults"):
            return self._append(text, success)
        from libhook.simulation import faults

        return faults.returned(self, f"record {text}", lambda: self._append(text, success))

    def _append(self, text: str, success: bool) -> int:
        with store.Lock(self.root, "audit"):
            serial = int(store.read(f"{self.root}/simulation/serial")) + 1
            store.replace(self.root, f"{self.root}/simulation/serial", str(serial))
            path = f"{self.root}/var/log/audit.jsonl"
            now = time.time()
            store.append(path, {"serial": serial, "time": now, "text": text, "success": success})
            if os.path.isdir(f"{self.root}/var/log/audit"):
                with open(f"{self.root}/var/log/audit/audit.log", "a", encoding="utf-8") as log:
                    log.write(_audited(serial, now, text, success))
        return serial

    def _store(self, path: str, value: str) -> None:
        """Pass a write on to the attribute's own function."""
        match path.split("/"):
            case ["bus", "pci", "drivers_probe"]:
                self.probe(value.rstrip("\n"))
            case ["bus", "pci", "drivers", driver, "unbind"] if self.loaded(driver):
                self.unbind(driver, value.rstrip("\n"))
            case ["bus", "pci", "drivers", driver, "bind"] if self.loaded(driver):
                self.bind(driver, value.rstrip("\n"))
            case ["bus", "pci", "devices", address, "driver", "unbind"]:
                # The path goes through the driver link, so without that link there is no file.
                self.unbind(self._linked(address, path), value.rstrip("\n"))
            case ["bus", "pci", "devices", address, "driver_override"]:
                self._override(address, value)
            case ["class", "vtconsole", console, "bind"] if os.path.lexists(f"{self.root}/sys/{path}"):
                from libhook.simulation import consoles

                consoles.bind(self.root, console, value)
            case ["bus", "pci", "devices", address, "sriov_numvfs"]:
                from libhook.simulation import sriov

                sriov.set_count(self, address, value)
            case _:
                exists = os.path.lexists(f"{self.root}/sys/{path}")
                raise refuse(errno.EACCES if exists else errno.ENOENT, path)

    def device(self, address: str, otherwise: int = errno.ENODEV) -> dict[str, Any]:
        """Return what is known of a device. The errno ``otherwise`` if it does not exist."""
        found = store.load(self.root, "devices", address)
        if found is None:
            raise refuse(otherwise, address)
        return found

    def loaded(self, driver: str) -> bool:
        """Whether the driver is registered with the bus."""
        return os.path.isdir(f"{self._pci}/drivers/{driver}")

    def _linked(self, address: str, path: str) -> str:
        try:
            return os.path.basename(os.readlink(f"{self._pci}/devices/{address}/driver"))
        except FileNotFoundError:
            raise refuse(errno.ENOENT, path) from None

    def _override(self, address: str, value: str) -> None:
        """driver_set_override(): takes the text up to the first line feed. An empty text clears the override."""
        if len(value) >= PAGE_SIZE - 1:
            raise refuse(errno.EINVAL, "driver_override")
        self.device(address, errno.ENOENT)
        name = value.split("\n")[0]
        with store.device_lock(self.root, address):
            marker = f"{self.root}/simulation/overridden/{address}"
            if name:
                store.create(marker, "")
            store.replace(
                self.root,
                f"{self._pci}/devices/{address}/driver_override",
                f"{name}\n" if name else store.UNSET,
            )
            if not name:
                store.unlink(marker)

    def override(self, address: str) -> str:
        """Return the driver_override, or ""."""
        text = store.read(f"{self._pci}/devices/{address}/driver_override")
        return "" if text == store.UNSET else text.rstrip("\n")

    def unbind(self, driver: str, address: str) -> None:
        """unbind_store(): checks before it takes the lock, then releases whatever driver is bound by then."""
        if store.bound(self.root, address) != driver:
            raise refuse(errno.ENODEV, f"{driver}/unbind")
        with store.device_lock(self.root, address):
            self.release(address)

    def release(self, address: str) -> None:
        """__device_release_driver(), under the device's lock.

        Both links go *before* the driver's remove runs. So while remove hangs, /sys shows no driver, but the device is
        still bound in the kernel. What the driver made goes before remove takes its time. Only then does this wait for
        a process that has the device open in vfio. For one that has an mdev open it waits first.
        """
        driver = store.bound(self.root, address)
        if driver is None:
            return
        device, behaviour = self.device(address), store.load(self.root, "drivers", driver) or {}
        store.hide_driver(self.root, address, driver)
        if device["children"] and behaviour["kind"] == "host":
            if buses.has_open_mdev(self.root, device):
                self._sleep_while(device, lambda: buses.has_open_mdev(self.root, device))
            devices.remove_children(self.root, device)
        self._take_time(device, behaviour, "remove")
        self._wait_for_owner(address, device)
        if device["vfs"]:
            from libhook.simulation import sriov

            sriov.disable(self, address)
        with store.group_lock(self.root, device["group"]):
            store.unlink(f"{self.root}/simulation/bound/{address}")
            if behaviour["kind"] == "vfio":
                vfio.unregister(self.root, address, device)

    def probe(self, address: str) -> None:
        """drivers_probe_store(): succeeds also if a probe failed, or no driver wants the device.

        An error from before the probe (see ``_try``) is different: __device_attach_driver() passes it on, and it always
        comes out as EINVAL.
        """
        self.device(address)
        if store.bound(self.root, address) is not None:
            return
        with store.device_lock(self.root, address):
            if self.attach(address, self.device(address)) < 0:
                raise refuse(errno.EINVAL, "drivers_probe")

    def attach(self, address: str, device: dict[str, Any]) -> int:
        """__device_attach(), under the device's lock: binds the first driver that matches and succeeds."""
        if store.bound(self.root, address) is not None or not self._may_probe(address, device):
            return 0
        override = self.override(address)
        for driver in [override] if override else device["drivers"]:
            if self.loaded(driver):
                answer = self._try(address, device, driver)
                if answer <= 0:
                    return answer
        return 0

    def _may_probe(self, address: str, device: dict[str, Any]) -> bool:
        """pci_device_can_probe(): if the PF has autoprobe off, its VFs bind only by override."""
        if device["physfn"] is None or self.override(address):
            return True
        return store.read(f"{self._pci}/devices/{device['physfn']}/sriov_drivers_autoprobe") != "0\n"

    def bind(self, driver: str, address: str) -> None:
        """bind_store(): the driver must match, by override or else by id. Fails with the probe's own error."""
        device = self.device(address)
        override = self.override(address)
        if (driver != override) if override else (driver not in device["drivers"]):
            raise refuse(errno.ENODEV, f"{driver}/bind")
        with store.device_lock(self.root, address):
            if store.bound(self.root, address) is not None:
                raise refuse(errno.EBUSY, f"{driver}/bind")
            answer = (
                self._try(address, self.device(address), driver) if self._may_probe(address, device) else errno.ENODEV
            )
            if answer:
                raise refuse(abs(answer), f"{driver}/bind")

    def _try(self, address: str, device: dict[str, Any], driver: str) -> int:
        """really_probe(): returns 0 if bound, the errno of a failed probe, or below 0 for a failure before the probe.

        The links appear before the probe, and vanish if it fails. A driver that uses the kernel's DMA may not bind a
        device while a guest owns its IOMMU group (iommu_device_use_default_domain()).
        """
        behaviour = store.load(self.root, "drivers", driver) or {}
        with store.group_lock(self.root, device["group"]):
            if behaviour["kind"] == "host" and os.path.lexists(f"{self.root}/simulation/owners/{device['group']}"):
                return -errno.EBUSY
            store.link(driver, f"{self.root}/simulation/bound/{address}")
        store.show_driver(self.root, address, device["home"], driver)
        self._take_time(device, behaviour, "probe")
        refused = device["refuses"].get(driver)
        if refused is None and behaviour["kind"] == "vfio" and device["group"] is None:
            refused = "EINVAL"  # vfio_register_group_dev() without an IOMMU
        if refused is not None:
            store.hide_driver(self.root, address, driver)
            store.unlink(f"{self.root}/simulation/bound/{address}")
            return int(getattr(errno, refused))
        if behaviour["kind"] == "vfio":
            with store.group_lock(self.root, device["group"]):
                vfio.register(self.root, device)
        if device["children"] and behaviour["kind"] == "host":
            devices.add_children(self.root, device)
        return 0

    def _take_time(self, device: dict[str, Any], behaviour: dict[str, Any], what: str) -> None:
        """Wait while the driver's own code runs: the device's time, else the driver's. Then wait for ``let_go``."""
        seconds = device[what] if device[what] is not None else behaviour.get(what, 0)
        if 0 < seconds < _LONG:
            time.sleep(seconds)
        elif seconds:
            with locked(self.root, device["home"]):
                time.sleep(seconds)
        hold = f"{self.root}/simulation/holds/{device['address']}"
        if what == "remove" and os.path.lexists(hold):
            self._sleep_while(device, lambda: os.path.lexists(hold))

    def _wait_for_owner(self, address: str, device: dict[str, Any]) -> None:
        """vfio_unregister_group_dev(): waits without limit until nobody has the device open."""
        if vfio.opened(self.root, address, device["group"]):
            self._sleep_while(device, lambda: vfio.opened(self.root, address, device["group"]))

    def _sleep_while(self, device: dict[str, Any], hung: Callable[[], bool]) -> None:
        """Sleep as in state D, but five minutes at most, so that a killed test leaves no process behind for good."""
        end = time.monotonic() + _FOREVER
        with locked(self.root, device["home"]):
            while hung() and time.monotonic() < end:
                time.sleep(_POLL)


def _audited(serial: int, when: float, text: str, success: bool) -> str:
    """A record as auditd writes it down."""
    result = "success" if success else "failed"
    return (
        f"type=VIRT_RESOURCE msg=audit({when:.3f}:{serial}): pid={os.getpid()} uid=0 auid=4294967295 ses=4294967295 "
        f"subj=unconfined msg='{text} exe=\"/usr/bin/python3\" hostname=? addr=? terminal=? res={result}'\n"
    )
