# SPDX-License-Identifier: LGPL-2.1-or-later
"""Plays libvirtd and QEMU on a simulated host. The hook is a function that it calls.

The order of steps follows qemu_process.c of libvirt 11, and the work on PCI devices virhostdev.c and virpci.c. Left
out are the MAC address of a VF, reset, and every device that is not PCI.
"""

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from libhook.simulation import processes, store, vfio
from libhook.simulation.guests import Assigned, Guest
from libhook.simulation.pcilist import DeviceLists, Failed

Hook = Callable[[str, str, str, str, bytes], tuple[int, str]]
"""Takes NAME OPERATION SUBOPERATION EXTRA and the XML. Returns the exit status and the text on stderr."""


class Call(NamedTuple):
    """One call of the hook, and how it ended."""

    operation: str
    extra: str
    status: int
    said: str


class Outcome(NamedTuple):
    """The result. ``error`` is what the user of virsh reads; "" if all went well."""

    error: str
    calls: tuple[Call, ...]

    @property
    def operations(self) -> str:
        """The calls as text, such as ``prepare start started``. ``release`` has its reason: ``release:failed``."""
        return " ".join(call.operation + (f":{call.extra}" if call.extra != "-" else "") for call in self.calls)


@dataclass
class _Running:
    guest: Guest
    number: int
    pid: int = 0
    ended: bool = False
    job: threading.RLock = field(default_factory=threading.RLock)
    """Only one thread at a time may change the guest, and it keeps the lock while a hook runs."""


class Libvirt:
    """A libvirtd. Several threads may start and stop guests at once. ``tell`` gets a line for each thing it does.

    The calling process plays libvirtd. So a hook that is a program has it as its parent, and finds it in /proc.
    """

    def __init__(self, root: str, hook: Hook, tell: Callable[[str], None] = lambda _: None) -> None:
        """Start a daemon that knows no guest."""
        self.root = root
        self.pid = os.getpid()
        self._hook = hook
        self._tell = tell
        self._lists = DeviceLists(root, tell)
        self._running: dict[str, _Running] = {}
        self._lock = threading.Lock()
        self._number = 0
        self._lives = 0
        self._appear()

    def _appear(self) -> None:
        """Show the daemon in /proc. Each of its lives has another start time, so that they can be told apart."""
        self._lives += 1
        processes.add(self.root, self.pid, "libvirtd", started=self.pid + self._lives)
        store.create(f"{self.root}/run/libvirtd.pid", f"{self.pid}\n")

    def start(self, guest: Guest, fails: str = "") -> Outcome:
        """Start a guest. ``fails`` says where libvirt itself fails: "validation", "host" or "qemu"."""
        calls: list[Call] = []
        if fails == "validation":
            return Outcome("unsupported configuration: told to fail", ())
        with self._lock:
            if guest.name in self._running:
                return Outcome("Requested operation is not valid: domain is already running", ())
            self._number += 1
            run = self._running[guest.name] = _Running(guest, self._number)
        with run.job:
            return self._start(calls, run, fails)

    def _start(self, calls: list[Call], run: _Running, fails: str) -> Outcome:
        guest = run.guest
        try:
            self._call(calls, run, "prepare")
            self._lists.prepare(guest.name, guest.devices)
            if fails == "host":
                raise Failed("internal error: told to fail")
            self._call(calls, run, "start", prepared=True)
            self._run_qemu(run, fails)
            self._call(calls, run, "started", prepared=True)
        except Failed as failure:
            self._end(calls, run, "failed")
            return Outcome(str(failure), tuple(calls))
        return Outcome("", tuple(calls))

    def stop(self, name: str, reason: str = "destroyed") -> Outcome:
        """End the guest: ``shutdown``, ``destroyed``, ``crashed``, ``saved``, ``migrated`` or ``from snapshot``."""
        calls: list[Call] = []
        run = self._running[name]
        with run.job:
            self._end(calls, run, reason)
        return Outcome("", tuple(calls))

    @property
    def guests(self) -> list[Guest]:
        """The guests that run, with the devices that they have now."""
        return [run.guest for run in self._running.values() if run.pid and not run.ended]

    def attach(self, name: str, device: Assigned, fails: str = "") -> str:
        """Do ``virsh attach-device --live``, which calls no hook. Return virsh's error, or "".

        With ``fails="monitor"`` QEMU refuses in device_add, when the device is already bound and reserved.
        """
        run = self._running.get(name)
        if run is None:
            return "Requested operation is not valid: domain is not running"
        try:
            with run.job:
                if run.ended:
                    raise Failed("Requested operation is not valid: domain is not running")
                self._lists.prepare(name, [device])
                try:
                    if fails == "monitor":
                        raise Failed("internal error: unable to execute QEMU command 'device_add': told to fail")
                    self._open(run, (device,))
                except (Failed, OSError):
                    self._lists.reattach(name, [device.address])
                    raise
                run.guest = run.guest._replace(devices=(*run.guest.devices, device))
                self._save_status(run)
        except (Failed, OSError) as failure:
            return str(failure)
        return ""

    def unplug(self, name: str, address: str) -> None:
        """The guest lets a device go. No hook is called. A managed device goes back to its host driver.

        A guest that refuses or does not answer needs no simulation: it keeps the device, and ``virsh detach-device``
        has returned before.
        """
        run = self._running[name]
        with run.job:
            devices = tuple(device for device in run.guest.devices if device.address != address)
            run.guest = run.guest._replace(devices=devices)
            self._close(run, address)
            self._save_status(run)
            self._lists.reattach(name, [address])

    def restart(self) -> Outcome:
        """End the daemon and start it again. Guests live on. The daemon loses its list of inactive devices."""
        calls: list[Call] = []
        self.end()
        self._appear()
        self._lists.restart()
        for run in list(self._running.values()):
            try:
                self._call(calls, run, "reconnect", prepared=True)
            except Failed:
                self._end(calls, run, "daemon")
        return Outcome("", tuple(calls))

    def end(self) -> None:
        """End the daemon. Guests live on."""
        processes.end(self.root, self.pid)

    def _call(self, calls: list[Call], run: _Running, operation: str, extra: str = "-", prepared: bool = False) -> None:
        over = operation in ("stopped", "release")
        self._tell(f"hook {run.guest.name} {operation}{'' if extra == '-' else ' ' + extra}")
        xml = run.guest.xml(-1 if over else run.number, prepared)
        status, said = self._hook(run.guest.name, operation, "end" if over else "begin", extra, xml)
        calls.append(Call(operation, extra, status, said))
        if status and not over:
            arguments = f"{run.guest.name} {operation} begin -"
            raise Failed(
                f"Hook script execution failed: internal error: Child process (/etc/libvirt/hooks/qemu {arguments}) "
                f"unexpected exit status {status}: {said}"
            )

    def _run_qemu(self, run: _Running, fails: str) -> None:
        """Start QEMU, write the guest's status file, and let QEMU open the node of each group."""
        if fails == "qemu":
            raise Failed("internal error: QEMU unexpectedly closed the monitor: told to fail")
        run.pid = processes.spawn(self.root, "qemu-system-x86", self.pid)
        self._save_status(run)
        store.create(f"{self.root}/run/libvirt/qemu/{run.guest.name}.pid", f"{run.pid}\n")
        try:
            self._open(run, run.guest.devices)
        except OSError as error:
            raise Failed(f"internal error: QEMU: vfio: {error.filename}: {error.strerror}") from error

    def _save_status(self, run: _Running) -> None:
        status = (
            f"<domstatus state='running' pid='{run.pid}'>\n{run.guest.xml(run.number, True).decode()}</domstatus>\n"
        )
        store.replace(self.root, f"{self.root}/run/libvirt/qemu/{run.guest.name}.xml", status)

    def _group(self, address: str) -> int:
        try:
            link = os.readlink(f"{self.root}/sys/bus/pci/devices/{address}/iommu_group")
        except FileNotFoundError as error:
            raise OSError(error.errno, "no such host device", address) from error
        return int(os.path.basename(link))

    def _open(self, run: _Running, devices: tuple[Assigned, ...]) -> None:
        by_group: dict[int, list[str]] = {}
        for device in devices:
            by_group.setdefault(self._group(device.address), []).append(device.address)
        for group, addresses in by_group.items():
            had = vfio.claim(self.root, group, run.pid, tuple(addresses))
            if not had:
                processes.open_file(self.root, run.pid, f"/dev/vfio/{group}")
                self._tell(f"QEMU opens /dev/vfio/{group}")

    def _close(self, run: _Running, address: str) -> None:
        group = self._group(address)
        if not vfio.release(self.root, group, address):
            processes.close_file(self.root, run.pid, f"/dev/vfio/{group}")

    def _end(self, calls: list[Call], run: _Running, reason: str) -> None:
        """qemuProcessStop()."""
        name, run.ended = run.guest.name, True
        if run.pid:
            processes.end(self.root, run.pid)
        prepared = run.pid > 0
        self._call(calls, run, "stopped", prepared=prepared)
        self._lists.reattach(name)
        for suffix in ("xml", "pid"):
            store.unlink(f"{self.root}/run/libvirt/qemu/{name}.{suffix}")
        self._call(calls, run, "release", reason, prepared)
        del self._running[name]


def play(root: str, guest: Guest, hook: Hook, fails: str = "", reason: str = "shutdown") -> Outcome:
    """Play one guest's life from start to end under a new daemon. ``fails`` is as in Libvirt.start."""
    daemon = Libvirt(root, hook)
    begun = daemon.start(guest, fails)
    if begun.error:
        return begun
    return Outcome("", begun.calls + daemon.stop(guest.name, reason).calls)
