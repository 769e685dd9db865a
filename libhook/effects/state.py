# SPDX-License-Identifier: LGPL-2.1-or-later
"""Locks, the journal, and claims, in /run/libhook.

The crash argument: a guest's record says the binding each device had and shall get, and stands on disk before the
first write to /sys. It is written whole, fsynced and renamed, so that a reader finds the old one or the new one. What
is undone later is decided by comparing the record with /sys (plan.way_back), never by how far somebody had come. A
record of another boot is void: a boot undoes every binding. A claim is a file with the guest's UUID in it, made
before the record's first write and removed after the give-back, both under the lock of the device's group.

    domains/UUID.json     one guest's record
    claims/0000:01:00.0   the UUID of the guest that has the device
    locks/                one a guest, one an IOMMU group
    in-flight/            one a device while a write is on its way (effects/child.py)
    homes/0000:01:00.0    where a device was that libhook took and gave back, in this libvirtd's life
"""

import errno
import fcntl
import json
import os
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress

from libhook.address import PciAddress
from libhook.effects import sysfs
from libhook.effects.child import Deadline
from libhook.effects.kernel import Machine
from libhook.errors import BadInput, DeadlineExpired, LibhookError
from libhook.held import Held, Process
from libhook.host import Binding, Claim

_FOLDERS = ("domains", "claims", "locks", "in-flight", "homes")
_PAUSE = 0.01
_LONGEST = 1 << 24


class State:
    """The folder of one machine. Making one makes nothing: reading needs no folder."""

    def __init__(self, machine: Machine) -> None:
        """Remember where it is."""
        self._machine = machine
        self._folder = machine.state

    def prepare(self) -> None:
        """Make the folders, and refuse any that somebody else could write to.

        LibhookError when they cannot be made, or are not root's own.
        """
        for folder in (self._folder, *(f"{self._folder}/{name}" for name in _FOLDERS)):
            try:
                with suppress(FileExistsError):
                    os.mkdir(folder, 0o700)
                status = os.lstat(folder)
            except OSError as error:
                raise LibhookError(
                    f"{folder}: {error.strerror}", "libhook keeps there what it must give back"
                ) from None
            if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o022:
                raise LibhookError(
                    f"{folder} is not a folder that only root may write to", "find out who made it, then remove it"
                )

    @contextmanager
    def locked(self, names: Iterable[str], deadline: Deadline) -> Iterator[None]:
        """Hold these locks, taken in sorted order so that nobody waits in a circle. DeadlineExpired names the lock."""
        taken: list[tuple[int, str]] = []
        try:
            for name in sorted(set(names)):
                path = f"{self._folder}/locks/{name.removesuffix('.shared')}"
                mode = fcntl.LOCK_SH if name.endswith(".shared") else fcntl.LOCK_EX
                taken.append((self._lock(path, mode, deadline), path))
            yield
        finally:
            for descriptor, path in taken:
                if self._is_alone(descriptor, path):
                    os.unlink(path)
                os.close(descriptor)

    @staticmethod
    def _is_alone(descriptor: int, path: str) -> bool:
        """Whether the file may be removed: nobody else has the lock.

        To find out, one that is shared is let go for an instant, in which others may have had it and removed the file.
        """
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return os.path.samestat(os.fstat(descriptor), os.stat(path))
        except (BlockingIOError, FileNotFoundError):
            return False

    @staticmethod
    def _lock(path: str, mode: int, deadline: Deadline) -> int:
        while True:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                fcntl.flock(descriptor, mode | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                if not deadline.left:
                    raise DeadlineExpired(f"the lock {path} is not free", "another libhook is at work there") from None
                time.sleep(_PAUSE)
                continue
            # Whoever had it before us removed the file: a lock on a file that is gone locks nothing.
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                    return descriptor
            os.close(descriptor)

    def names_of_locks(self, addresses: Iterable[PciAddress]) -> set[str]:
        """The locks that devices need: their groups', and, shared, their PFs' groups'.

        A PF and its VF are in different groups, and may not go to two guests; two VFs may, and do not wait for each
        other.
        """
        own, shared = set(), set()
        for address in addresses:
            own.add(self._name_of_lock(address))
            pf, vfs = sysfs.related(self._machine, address)
            own.update(self._name_of_lock(vf) for vf in vfs)
            if pf is not None:
                shared.add(self._name_of_lock(pf))
        return own | {f"{name}.shared" for name in shared - own}

    def _name_of_lock(self, address: PciAddress) -> str:
        group = sysfs.group(self._machine, address)
        return f"device-{address}" if group is None else f"group-{group}"

    def load(self, uuid: str) -> Held | None:
        """A guest's record; None when there is none, or it is of another boot. BadInput when it is broken."""
        path = self._record(uuid)
        text = self._read(path)
        if text is None:
            return None
        try:
            held = Held.from_json(json.loads(text))
        except (ValueError, BadInput) as error:
            reason = error.message if isinstance(error, BadInput) else str(error)
            raise BadInput(
                f"{path} is broken ({reason})", "look at its devices, give them back by hand, remove it"
            ) from None
        return held if held.boot == self.boot() else None

    def save(self, held: Held) -> None:
        """Write a guest's record; OSError when it cannot be written.

        Where there is no room for a second file, the one that is there is overwritten: a phase, or what is recorded
        already, must not be lost because something else filled /run.
        """
        path, text = self._record(held.uuid), json.dumps(held.to_json())
        try:
            self._replace(path, text)
        except OSError as error:
            if error.errno != errno.ENOSPC or not os.path.exists(path):
                raise
            self._overwrite(path, text)

    def forget(self, uuid: str) -> None:
        """Remove a guest's record."""
        for path in (self._record(uuid), f"{self._record(uuid)}.new"):
            with suppress(FileNotFoundError):
                os.unlink(path)

    def uuids(self) -> tuple[str, ...]:
        """The guests that have a record."""
        names = self._names("domains")
        return tuple(sorted(name.removesuffix(".json") for name in names if name.endswith(".json")))

    def claim(self, address: PciAddress, uuid: str) -> None:
        """Say that this guest has the device. Under the lock of its group."""
        self._replace(f"{self._folder}/claims/{address}", uuid)

    def disclaim(self, address: PciAddress, uuid: str) -> None:
        """Say that this guest has the device no more. A guest that was refused never had it: another's claim stays."""
        path = f"{self._folder}/claims/{address}"
        with suppress(FileNotFoundError, BadInput):
            if self._read(path) == uuid:
                os.unlink(path)

    def claims(self, addresses: Iterable[PciAddress]) -> dict[PciAddress, Claim]:
        """Who has these devices. A claim without a record, left by a crash between the two, is nobody's."""
        found = {}
        for address in addresses:
            uuid = self._read(f"{self._folder}/claims/{address}")
            if uuid and (held := self.load(uuid)) is not None:
                found[address] = Claim(uuid, held.name)
        return found

    def remember_home(self, address: PciAddress, binding: Binding, libvirtd: Process) -> None:
        """Note where the device was before libhook took it. For ``home``; without the note only that is lost."""
        with suppress(OSError):
            self._replace(f"{self._folder}/homes/{address}", json.dumps([*binding, *libvirtd]))

    def home(self, address: PciAddress, libvirtd: Process) -> Binding | None:
        """Where the device belongs, if this same libvirtd has seen it unmanaged before.

        It takes such a device for unmanaged for the rest of its life (virhostdev.c:628), and leaves it on vfio-pci when
        it is next used managed.
        """
        with suppress(BadInput, ValueError):
            match json.loads(self._read(f"{self._folder}/homes/{address}") or "null"):
                case [str() | None as driver, str(override), int(pid), int(start)] if (
                    pid,
                    start,
                ) == libvirtd and "/" not in (driver or ""):
                    return Binding(driver, override)
        return None

    def in_flight_path(self, name: str) -> str:
        """The lock that says a write to this device, or the load of this module, is on its way."""
        return f"{self._folder}/in-flight/{name}"

    def in_flight(self) -> frozenset[PciAddress]:
        """The devices with a write on its way; files that nobody holds any more are removed."""
        found = set()
        for name in self._names("in-flight"):
            with suppress(BadInput):
                address = PciAddress.parse(name)
                if self._is_locked(self.in_flight_path(name)):
                    found.add(address)
        return frozenset(found)

    def settle_in_flight(self, address: PciAddress) -> None:
        """Remove the file of a write that has come back. Under the lock of its group."""
        path = self.in_flight_path(str(address))
        if not self._is_locked(path):
            with suppress(FileNotFoundError):
                os.unlink(path)

    def is_busy(self, uuid: str) -> bool:
        """Whether some process is at work on this guest."""
        return self._is_locked(f"{self._folder}/locks/domain-{uuid}")

    def boot(self) -> str:
        """The kernel's boot id."""
        with open(f"{self._machine.proc}/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()

    def process(self, pid: int) -> Process:
        """The process that has this number now; its start is 0 when there is none."""
        try:
            with open(f"{self._machine.proc}/{pid}/stat", "rb") as file:
                # Field 2 is the program's name in parentheses and may hold anything, a parenthesis too.
                after_name = file.read().rpartition(b")")[2].split()
        except OSError:
            return Process(pid, 0)
        return Process(pid, int(after_name[19]))

    def lives(self, process: Process) -> bool:
        """Whether it is still that process."""
        return process.start != 0 and self.process(process.pid) == process

    def _record(self, uuid: str) -> str:
        return f"{self._folder}/domains/{uuid}.json"

    def _names(self, folder: str) -> list[str]:
        try:
            return os.listdir(f"{self._folder}/{folder}")
        except FileNotFoundError:
            return []

    @staticmethod
    def _is_locked(path: str) -> bool:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False

    @staticmethod
    def _read(path: str) -> str | None:
        """A file of ours; None when there is none. BadInput when it is a link, or another could have written it."""
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except FileNotFoundError:
            return None
        except OSError as error:
            reason = "is a link" if error.errno == errno.ELOOP else f"cannot be read: {error.strerror}"
            raise BadInput(f"{path} {reason}", "libhook did not make it so: find out who did, then remove it") from None
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o022:
                raise BadInput(
                    f"{path} is not a file that only root may write to", "find out who made it, then remove it"
                )
            return file.read(_LONGEST).decode("utf-8", "surrogateescape")

    @staticmethod
    def _overwrite(path: str, text: str) -> None:
        """In place, in one write(2), padded with blanks to the length it had: as long as it fits, no page is needed."""
        with os.fdopen(os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW), "r+b", buffering=0) as file:
            content = text.encode("utf-8", "surrogateescape")
            file.write(content.ljust(os.fstat(file.fileno()).st_size))
            os.fsync(file.fileno())

    def _replace(self, path: str, text: str) -> None:
        """All or nothing: a new file, fsynced, renamed over the old one, the folder fsynced."""
        temporary = f"{path}.new"
        with suppress(FileNotFoundError):
            os.unlink(temporary)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(temporary, flags, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(text.encode("utf-8", "surrogateescape"))
                file.flush()
                os.fsync(descriptor)
            os.rename(temporary, path)
        except OSError:
            with suppress(FileNotFoundError):
                os.unlink(temporary)
            raise
        folder = os.open(os.path.dirname(path), os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
