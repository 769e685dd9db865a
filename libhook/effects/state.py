# SPDX-License-Identifier: LGPL-2.1-or-later
"""Locks, the journal, and claims, in /run/libhook.

The crash argument: a guest's record says the binding each device had and shall get, and stands on disk before the
first write to /sys. It is written whole, fsynced and renamed, so that a reader finds the old one or the new one. What
is undone later is decided by comparing the record with /sys (kinds/), never by how far somebody had come. A
record of another boot is void: a boot undoes every binding. A claim is a file with the guest's UUID in it, by which
the record of a device is found. It counts only with a record that says the same, so it is made before the record is
and removed after it, under the lock of the device's group: at no moment does a record stand that nobody would find.

    domains/UUID.json     one guest's record
    claims/0000:01:00.0   the UUID of the guest that has the device
    shared/NAME.json      a thing of the host that guests share, and their claims to it (kinds/claims.py)
    locks/                one a guest, one an IOMMU group, one a shared thing
    in-flight/            one a device, or shared thing, while a write is on its way (effects/child.py), one a question
                          to libvirt
    homes/0000:01:00.0    where a device was that libhook took and gave back, in this libvirtd's life
    unwaited/UUID         libvirtd need not wait for what this guest's `started` does (hooks/qemu)
    lost/UUID             a guest that had host devices already when domains/ was made: its record was removed
    watched.json          which host devices `libhook watch` last saw in each guest
"""

from __future__ import annotations

import os

from libhook import plainjson
from libhook.effects import files, locks
from libhook.effects.child import Deadline
from libhook.errors import BadInput, LibhookError, TooNew, unanswered
from libhook.facts.address import PciAddress
from libhook.facts.entry import Held, Process
from libhook.facts.host import Binding, Claim
from libhook.facts.machine import Machine
from libhook.facts.plan import Action
from libhook.light import TYPE_CHECKING, suppress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Set
    from contextlib import AbstractContextManager

_LENGTH_OF_UUID = 36
FOLDERS = ("lost", "domains", "unwaited", "claims", "shared", "locks", "in-flight", "homes")


class State:
    """The folder of one machine. Making one makes nothing: reading needs no folder."""

    def __init__(self, machine: Machine, read: Callable[[object], Action]) -> None:
        """Remember where it is. ``read`` makes an action of what a journal entry says of it."""
        self.machine = machine
        self._read = read
        self._folder = machine.state

    def make(self, with_host_devices: Callable[[], Iterable[str]]) -> None:
        """Make the folders, and refuse any that somebody else could write to.

        ``with_host_devices`` names the guests that have some already: their records were removed with the folder.

        LibhookError when they cannot be made, or are not root's own.
        """
        for folder in self._folders:
            try:
                if folder.endswith("/domains") and not os.path.lexists(folder):  # from then on it says nothing
                    for uuid in with_host_devices():
                        files.replace(f"{self._folder}/lost/{uuid}", "")
                with suppress(FileExistsError):
                    os.mkdir(folder, 0o700)
                files.expect_own(folder)
            except OSError as error:
                raise LibhookError(
                    f"{folder}: {error.strerror}", "libhook keeps there what it must give back"
                ) from None

    def check(self) -> None:
        """The same of the folders that are there. Makes none."""
        for folder in self._folders:
            with suppress(FileNotFoundError):
                files.expect_own(folder)

    @property
    def _folders(self) -> tuple[str, ...]:
        return (self._folder, *(f"{self._folder}/{name}" for name in FOLDERS))

    @property
    def stands(self) -> bool:
        """Whether nobody has removed it since ``make``."""
        return os.path.isdir(f"{self._folder}/in-flight")

    @property
    def missing(self) -> str:
        """What to say where it does not."""
        return f"somebody removed the journal in {self._folder}"

    def locked(self, names: Iterable[str], deadline: Deadline) -> AbstractContextManager[None]:
        """Hold these locks (locks.locked)."""
        return locks.locked(f"{self._folder}/locks", names, deadline)

    def load(self, uuid: str) -> Held | None:
        """A guest's record; None when there is none, or it is of another boot. BadInput when broken, or TooNew."""
        path = self._record(uuid)
        text = files.read(path)
        if text is None:
            return None
        try:
            held = Held.from_json(plainjson.loads(text), self._read)
            if held.uuid != uuid:
                raise BadInput(f"it is of {held.uuid}")
        except TooNew as error:
            hint = "install that one again: it knows what to give back"
            raise TooNew(f"{path}: a later libhook wrote it, {error.message}", hint) from None
        except (ValueError, RecursionError, BadInput) as error:
            reason = error.message if isinstance(error, BadInput) else str(error)
            raise BadInput(
                f"{path} is broken ({reason})", "look at its devices, give them back by hand, remove it"
            ) from None
        boot = held.boot
        with suppress(LibhookError):  # /run is emptied at every boot: where nobody can say, it is of this one
            boot = self.boot()
        return held if held.boot == boot else None

    def save(self, held: Held) -> None:
        """Write a guest's record; OSError when it cannot be written. Its `started` is waited for, until ``unwait``.

        Where there can be no second file, for want of room or whatever else, the one that is there is overwritten: a
        phase, or what is recorded already, must not be lost because of it.
        """
        self.remove("unwaited", held.uuid)
        _replace(self._record(held.uuid), plainjson.dumps(held.to_json()))

    def unwait(self, uuid: str) -> None:
        """Say that the guest's `started` need not be waited for. Where that cannot be said, it is."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        with suppress(OSError):
            os.close(os.open(f"{self._folder}/unwaited/{uuid}", flags, 0o600))

    def forget(self, uuid: str) -> None:
        """Remove a guest's record."""
        with suppress(FileNotFoundError):
            os.unlink(self._record(uuid))
        self.remove("domains", f"{uuid}.json.new")
        self.remove("unwaited", uuid)

    def uuids(self) -> tuple[str, ...]:
        """The guests that have a record."""
        names = self.names("domains")
        return tuple(sorted(name.removesuffix(".json") for name in names if name.endswith(".json")))

    def claim(self, address: PciAddress, uuid: str) -> None:
        """Say that this guest has the device. Under the lock of its group."""
        with suppress(BadInput):
            if files.read(f"{self._folder}/claims/{address}") == uuid:
                return
        files.replace(f"{self._folder}/claims/{address}", uuid)

    def disclaim(self, address: PciAddress, uuid: str) -> None:
        """Say that this guest has the device no more. A guest that was refused never had it: another's claim stays."""
        self.remove("lost", uuid)
        with suppress(BadInput):
            if files.read(f"{self._folder}/claims/{address}") == uuid:
                self.remove("claims", str(address))

    def claims(self, addresses: Iterable[PciAddress]) -> dict[PciAddress, Claim]:
        """Who has these devices. A claim without a record, left by a crash between the two, is nobody's."""
        found = ((address, self._holder(address)) for address in addresses)
        return {address: claim for address, claim in found if claim}

    def _holder(self, address: PciAddress) -> Claim | None:
        """Whoever the claim names, if his record agrees; where the claim is not ours to read, every record is asked."""
        try:
            uuid = files.read(f"{self._folder}/claims/{address}")
        except BadInput:
            uuid = ""
        if uuid is None:
            return None
        named = len(uuid) == _LENGTH_OF_UUID and "/" not in uuid
        for candidate in (uuid,) if named else self.uuids():
            try:
                held = self.load(candidate)
            except BadInput as error:
                if named:
                    return Claim.unread(uuid, too_new=isinstance(error, TooNew))
            else:
                if held and held.holds(address):
                    return Claim(held.uuid, held.name)
        return None

    def disclaim_for_nobody(self, address: PciAddress) -> None:
        """Remove a claim whose guest has no record. Under the lock of its group."""
        uuid = files.read(f"{self._folder}/claims/{address}")
        if uuid is not None and not os.path.lexists(self._record(uuid)):
            self.remove("claims", str(address))

    def has_lost(self, uuid: str, addresses: Iterable[PciAddress]) -> bool:
        """Whether a guest without a record had one that somebody removed: its claim is left, or our folder is gone, or
        was made anew while it ran."""
        if not os.path.isdir(f"{self._folder}/domains") or os.path.lexists(f"{self._folder}/lost/{uuid}"):
            return True
        for address in addresses:
            with suppress(BadInput):
                if files.read(f"{self._folder}/claims/{address}") == uuid:
                    return True
        return False

    def forget_lost(self, with_host_devices: Set[str]) -> None:
        """Of those that have lost their record, the guests that have ended, or have no host device any more."""
        for name in set(self.names("lost")) - with_host_devices:
            self.remove("lost", name)

    def remove(self, folder: str, name: str) -> None:
        """Remove a file that holds nothing. Where that cannot be done it is in nobody's way."""
        with suppress(OSError):
            os.unlink(f"{self._folder}/{folder}/{name}")

    def remember_home(self, address: PciAddress, binding: Binding, libvirtd: Process) -> None:
        """Note where the device was before libhook took it. For ``home``; without the note only that is lost."""
        with suppress(OSError):
            files.replace(f"{self._folder}/homes/{address}", plainjson.dumps([*binding, *libvirtd]))

    def home(self, address: PciAddress, libvirtd: Process) -> Binding | None:
        """Where the device belongs, if this same libvirtd has seen it unmanaged before.

        It takes such a device for unmanaged for the rest of its life (virhostdev.c:628), and leaves it on vfio-pci when
        it is next used managed.
        """
        with suppress(BadInput, ValueError, RecursionError):
            match plainjson.loads(files.read(f"{self._folder}/homes/{address}") or "null"):
                case [str() | None as driver, str(override), int(pid), int(start)]:
                    # Where nobody knows which libvirtd it was, nobody knows that it is the same.
                    if start and (pid, start) == libvirtd and "/" not in (driver or ""):
                        return Binding(driver, override)
        return None

    def read_shared(self, name: str) -> str | None:
        """What is written of a shared thing; None where nothing is. BadInput where it cannot be ours."""
        return files.read(self.shared_path(name))

    def save_shared(self, name: str, text: str) -> None:
        """Write it, as ``save`` does."""
        _replace(self.shared_path(name), text)

    def forget_shared(self, name: str) -> None:
        """Remove it, and half of one. Where that cannot be done, it says no more than that nobody wants the thing."""
        self.remove("shared", f"{name}.json")
        self.remove("shared", f"{name}.json.new")

    def shared_path(self, name: str) -> str:
        """For messages."""
        return f"{self._folder}/shared/{name}.json"

    def watched(self) -> object:
        """What ``watch`` wrote last; None where there is nothing that can be read."""
        with suppress(BadInput, ValueError, RecursionError):
            seen: object = plainjson.loads(files.read(f"{self._folder}/watched.json") or "null")
            return seen
        return None

    def remember_watched(self, seen: object) -> None:
        """Write it. Without it a later ``watch`` only takes for known what it finds."""
        with suppress(OSError):
            files.replace(f"{self._folder}/watched.json", plainjson.dumps(seen))

    def in_flight_path(self, name: str) -> str:
        """The lock that says a write to this device is on its way."""
        return f"{self._folder}/in-flight/{name}"

    def in_flight(self) -> frozenset[PciAddress]:
        """The devices with a write on its way. A file alone says nothing: its writer may have been killed."""
        found = set()
        for name in self.names("in-flight"):
            with suppress(BadInput):
                address = PciAddress.parse(name)
                if locks.is_locked(self.in_flight_path(name)):
                    found.add(address)
        return frozenset(found)

    def settle_in_flight(self, address: PciAddress) -> None:
        """Remove the file of a write that has come back. Under the lock of its group."""
        path = self.in_flight_path(str(address))
        if not locks.is_locked(path):
            self.remove("in-flight", str(address))

    def remove_unused_locks(self) -> None:
        """Remove those that nobody has: a killed process leaves the files."""
        locks.remove_unused(f"{self._folder}/locks")

    def is_busy(self, uuid: str) -> bool:
        """Whether some process is at work on this guest."""
        return locks.is_locked(f"{self._folder}/locks/domain-{uuid}")

    def boot(self) -> str:
        """The kernel's boot id. LibhookError where it does not say: what is held would be taken for void later."""
        path = f"{self.machine.proc}/sys/kernel/random/boot_id"
        try:
            with open(path, encoding="utf-8") as file:
                boot = file.read().strip()
        except OSError as error:
            raise unanswered(error) from None
        if not boot:
            raise LibhookError(f"{path} is empty", "is /proc the kernel's own there?")
        return boot

    def mark_of(self, process: Process) -> str:
        """The lock that such a child of this process has."""
        return self.in_flight_path(f"asking-{process.pid}-{process.start}")

    def _record(self, uuid: str) -> str:
        return f"{self._folder}/domains/{uuid}.json"

    def names(self, folder: str) -> list[str]:
        """What is in one of the folders."""
        try:
            return os.listdir(f"{self._folder}/{folder}")
        except (FileNotFoundError, NotADirectoryError):
            return []


def _replace(path: str, text: str) -> None:
    """Whole; where there can be no second file, what is there already is overwritten."""
    try:
        files.replace(path, text)
    except OSError:
        if not os.path.exists(path):
            raise
        files.overwrite(path, text)
