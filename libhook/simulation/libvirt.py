# SPDX-License-Identifier: LGPL-2.1-or-later
"""libvirtd's and QEMU's part in a guest's life, on a simulated host; the hook is a function that is called.

The order of things is qemu_process.c's, what is done to PCI devices virhostdev.c's and virpci.c's of libvirt 11.
Left out: the MAC address of a VF, reset, and every device that is not PCI.
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
"""Called with NAME OPERATION SUBOPERATION EXTRA and the XML; its exit status and what it said on stderr."""


class Call(NamedTuple):
    """One call of the hook, and how it ended."""

    operation: str
    extra: str
    status: int
    said: str


class Outcome(NamedTuple):
    """``error`` is what the caller of virsh reads; empty when all went well."""

    error: str
    calls: tuple[Call, ...]

    @property
    def operations(self) -> str:
        """``prepare start started``; release with its reason, ``release:failed``."""
        return " ".join(call.operation + (f":{call.extra}" if call.extra != "-" else "") for call in self.calls)


@dataclass
class _Running:
    guest: Guest
    number: int
    pid: int = 0
    ended: bool = False
    job: threading.RLock = field(default_factory=threading.RLock)
    """What changes the guest waits for what does so already, a hook included."""


class Libvirt:
    """One daemon's life; several threads may start and stop guests at once. ``tell`` hears what it does.

    The calling process is libvirtd: a hook that is a program sees its pid as its parent's, and finds it in /proc.
    """

    def __init__(self, root: str, hook: Hook, tell: Callable[[str], None] = lambda _: None) -> None:
        """A daemon that has just started and knows no guest."""
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
        """Each life of the daemon begins at another time, by which it is told from the one before."""
        self._lives += 1
        processes.add(self.root, self.pid, "libvirtd", started=self.pid + self._lives)
        store.create(f"{self.root}/run/libvirtd.pid", f"{self.pid}\n")

    def start(self, guest: Guest, fails: str = "") -> Outcome:
        """Start a guest. ``fails``: where something of libvirt's own goes wrong; "validation", "host" or "qemu"."""
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
        """The guest ends: ``shutdown``, ``destroyed``, ``crashed``, ``saved``, ``migrated``, ``from snapshot``."""
        calls: list[Call] = []
        run = self._running[name]
        with run.job:
            self._end(calls, run, reason)
        return Outcome("", tuple(calls))

    @property
    def guests(self) -> list[Guest]:
        """Those that run, with the devices that they have now."""
        return [run.guest for run in self._running.values() if run.pid and not run.ended]

    def attach(self, name: str, device: Assigned, fails: str = "") -> str:
        """virsh attach-device --live: no hook is called; what its caller reads, "" when all went well.

        ``fails``: "monitor": QEMU refuses in device_add, when the device is bound and reserved already.
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
        """The guest lets a device go: no hook is called. A managed device goes back to its host driver.

        Of a guest that refuses, or does not answer, there is nothing to play: it keeps the device, and virsh
        detach-device itself has returned before either is known.
        """
        run = self._running[name]
        with run.job:
            devices = tuple(device for device in run.guest.devices if device.address != address)
            run.guest = run.guest._replace(devices=devices)
            self._close(run, address)
            self._save_status(run)
            self._lists.reattach(name, [address])

    def restart(self) -> Outcome:
        """The daemon ends and starts again, guests live on: it forgets which devices it left unbound."""
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
        """The daemon ends; guests live on."""
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
        """QEMU opens each group's node; the guest's status file is there from now on."""
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
    """One guest's life under a daemon of its own, from start to end; what ``fails`` is as in Libvirt.start."""
    daemon = Libvirt(root, hook)
    begun = daemon.start(guest, fails)
    if begun.error:
        return begun
    return Outcome("", begun.calls + daemon.stop(guest.name, reason).calls)
