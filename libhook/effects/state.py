# SPDX-License-Identifier: LGPL-2.1-or-later
"""Locks, journal entries and claims, in /run/libhook.

A crash is survived because a guest's journal entry says which binding each device had and which it gets, and is on disk
before the first write to /sys. The entry is replaced whole: a reader finds the old one or the new one (``save`` has the
one exception). What to undo later is decided by comparing the entry with /sys (kinds/), never by how far a process had
come. An entry of another boot is void, because a boot undoes every binding.

A claim is a file with a guest's UUID in it. It leads from a device to the guest's entry, and counts only if that entry
says the same. So the claim is made before the entry and removed after it, under the lock of the device's group: an
entry can be found by its devices at every moment.

    domains/UUID.json     one guest's journal entry
    claims/0000:01:00.0   the UUID of the guest that has the device
    shared/NAME.json      a thing of the host that guests share, and their claims to it (kinds/claims.py)
    locks/                one for each guest, each IOMMU group, each shared thing
    in-flight/            one for each write on its way to a device or shared thing (children/child.py), one for each
                          request to libvirt, and each command and call of an old script that is run
    homes/0000:01:00.0    where a device was before libhook took it and gave it back, for as long as this libvirtd lives
    unwaited/UUID         libvirtd need not wait for this guest's `started` (hooks/qemu)
    lost/UUID             a guest that already had host devices when domains/ was made: its entry was removed
    served                the guests without host devices that the settings ask something for (hooks/qemu)
    watched.json          which host devices `libhook watch` last saw in each guest
"""

from __future__ import annotations

import os

from libhook import plainjson
from libhook.children.child import Deadline
from libhook.effects import files, locks
from libhook.errors import BadInput, LibhookError, TooNew, pasted, unanswered
from libhook.facts.address import PciAddress
from libhook.facts.entry import Held, Process
from libhook.facts.host import Claim
from libhook.facts.machine import Machine
from libhook.facts.plan import Action
from libhook.light import TYPE_CHECKING, NamedTuple, suppress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Set
    from contextlib import AbstractContextManager

_LENGTH_OF_UUID = 36
_WRITABLE = "make sure that root can write there: it holds libhook's journal"
FOLDERS = ("lost", "domains", "unwaited", "claims", "shared", "locks", "in-flight", "homes")


class _Kept(NamedTuple):
    """What no other guest may have, and whose it is."""

    claim: Claim
    addresses: frozenset[PciAddress]

    @classmethod
    def of(cls, held: Held) -> _Kept:
        return cls(Claim(held.uuid, held.name), held.kept())


class State:
    """The folder /run/libhook of one machine. The constructor makes no folder, since reading needs none."""

    def __init__(self, machine: Machine, read: Callable[[object], Action]) -> None:
        """``read`` makes an action from what a journal entry says of it."""
        self.machine = machine
        self._read = read
        self._folder = machine.state

    def make(self, with_host_devices: Callable[[], Iterable[str]]) -> None:
        """Make the folders, and refuse one that somebody else could write to.

        ``with_host_devices`` names the guests that have host devices. It is asked only when domains/ is missing: then
        somebody removed their entries. LibhookError when it cannot, or a folder cannot be made or is not root's own.
        """
        for folder in self._folders:
            try:
                if folder.endswith("/domains") and not os.path.lexists(folder):  # once it is there, nobody can tell
                    for uuid in with_host_devices():
                        files.replace(f"{self._folder}/lost/{uuid}", "")
                with suppress(FileExistsError):
                    os.mkdir(folder, 0o700)
                files.expect_own(folder)
            except OSError as error:
                remedy = "run it as root" if isinstance(error, PermissionError) and os.geteuid() else _WRITABLE
                raise LibhookError(f"{folder}: {error.strerror}", remedy) from None

    def check(self) -> None:
        """Refuse a folder that somebody else could write to. Makes none: a missing folder is fine."""
        for folder in self._folders:
            with suppress(FileNotFoundError):
                files.expect_own(folder)

    @property
    def _folders(self) -> tuple[str, ...]:
        return (self._folder, *(f"{self._folder}/{name}" for name in FOLDERS))

    @property
    def stands(self) -> bool:
        """Whether the folders that ``make`` made are still there."""
        return os.path.isdir(f"{self._folder}/in-flight")

    @property
    def missing(self) -> str:
        """What to say when they are not there."""
        return f"somebody removed the journal in {self._folder}"

    def locked(self, names: Iterable[str], deadline: Deadline) -> AbstractContextManager[None]:
        """Hold these locks (locks.locked)."""
        return locks.locked(f"{self._folder}/locks", names, deadline)

    def load(self, uuid: str) -> Held | None:
        """A guest's journal entry; None when there is none of this boot. BadInput when broken, TooNew when too new."""
        path = self._entry_path(uuid)
        text = files.read(path)
        if text is None:
            return None
        try:
            held = Held.from_json(plainjson.loads(text), self._read)
            if held.uuid != uuid:
                raise BadInput(f"it belongs to {held.uuid}")
        except TooNew as error:
            hint = "install that version again, as only it knows what to give back"
            raise TooNew(f"{path}: a later libhook wrote it, {error.message}", hint) from None
        except (ValueError, RecursionError, BadInput) as error:
            reason = error.message if isinstance(error, BadInput) else str(error)
            own = pasted(path if uuid[:1] in ("", "-") else uuid)  # else it is no word, or an option
            by_hand = f"give back by hand the devices that it names, then run: libhook recover --give-up {own}"
            raise BadInput(f"{path} is broken ({reason})", by_hand) from None
        boot = held.boot
        with suppress(LibhookError):  # if the boot id is unknown: each boot empties /run, so the entry is of this one
            boot = self.boot()
        return held if held.boot == boot else None

    def save(self, held: Held) -> None:
        """Write a guest's journal entry; OSError when that fails. libvirtd waits for its `started`, until ``unwait``.

        If no second file can be made, for want of room say, the entry that is there is overwritten in place: the phase,
        and which records were sent, must not be lost.
        """
        self.remove("unwaited", held.uuid)
        _replace(self._entry_path(held.uuid), plainjson.dumps(held.to_json()))

    def unwait(self, uuid: str) -> None:
        """Note that libvirtd need not wait for the guest's `started`. If that cannot be noted, libvirtd waits."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        with suppress(OSError):
            os.close(os.open(f"{self._folder}/unwaited/{uuid}", flags, 0o600))

    def forget(self, uuid: str) -> None:
        """Remove a guest's journal entry."""
        with suppress(FileNotFoundError):
            os.unlink(self._entry_path(uuid))
        self.remove("domains", f"{uuid}.json.new")
        self.remove("unwaited", uuid)

    def folder_instead(self, uuid: str) -> str:
        """The path of a folder that stands where a guest's journal entry would; "" where none does."""
        return path if os.path.isdir(path := self._entry_path(uuid)) and not os.path.islink(path) else ""

    def uuids(self) -> tuple[str, ...]:
        """The guests that have a journal entry."""
        names = self.names("domains")
        return tuple(sorted(name.removesuffix(".json") for name in names if name.endswith(".json")))

    def claim(self, address: PciAddress, uuid: str) -> None:
        """Note that this guest has the device. Call it under the lock of the device's group."""
        with suppress(BadInput):
            if files.read(f"{self._folder}/claims/{address}") == uuid:
                return
        files.replace(f"{self._folder}/claims/{address}", uuid)

    def disclaim(self, address: PciAddress, uuid: str) -> None:
        """Remove the guest's claim to the device. Another's claim stays: a refused guest never had the device."""
        self.remove("lost", uuid)
        with suppress(BadInput):
            if files.read(f"{self._folder}/claims/{address}") == uuid:
                self.remove("claims", str(address))

    def claims(self, addresses: Iterable[PciAddress], known: Held | None = None) -> dict[PciAddress, Claim]:
        """Which guest has each of these devices. A claim without an entry is left from a crash and does not count.

        Each entry is read once, and not at all if it is ``known``.
        """
        entries: dict[str, _Kept | None] = {known.uuid: _Kept.of(known)} if known else {}
        found = ((address, self._holder(address, entries)) for address in addresses)
        return {address: claim for address, claim in found if claim}

    def _holder(self, address: PciAddress, entries: dict[str, _Kept | None]) -> Claim | None:
        """The guest that the claim names, if its entry agrees. If the claim cannot be read, search every entry."""
        try:
            uuid = files.read(f"{self._folder}/claims/{address}")
        except BadInput:
            uuid = ""
        if uuid is None:
            return None
        named = len(uuid) == _LENGTH_OF_UUID and "/" not in uuid
        for candidate in (uuid,) if named else self.uuids():
            try:
                if candidate not in entries:
                    held = self.load(candidate)
                    entries[candidate] = _Kept.of(held) if held else None
            except BadInput as error:
                if named:
                    return Claim.unread(uuid, too_new=isinstance(error, TooNew))
            else:
                if (kept := entries[candidate]) and address in kept.addresses:
                    return kept.claim
        return None

    def claimed_by(self, uuid: str) -> list[PciAddress]:
        """The devices that a claim says this guest has, whatever its entry says."""
        found = []
        for name in self.names("claims"):
            with suppress(BadInput):
                address = PciAddress.parse(name)
                if files.read(f"{self._folder}/claims/{address}") == uuid:
                    found.append(address)
        return sorted(found)

    def disclaim_for_nobody(self, address: PciAddress) -> None:
        """Remove a claim whose guest has no entry. Call it under the lock of the device's group."""
        uuid = files.read(f"{self._folder}/claims/{address}")
        if uuid is not None and not os.path.lexists(self._entry_path(uuid)):
            self.remove("claims", str(address))

    def has_lost(self, uuid: str, addresses: Iterable[PciAddress]) -> bool:
        """Whether this guest, which has no entry, had one that somebody removed.

        Then its claim is left, or domains/ is missing, or domains/ was made anew while the guest ran.
        """
        if not os.path.isdir(f"{self._folder}/domains") or os.path.lexists(f"{self._folder}/lost/{uuid}"):
            return True
        for address in addresses:
            with suppress(BadInput):
                if files.read(f"{self._folder}/claims/{address}") == uuid:
                    return True
        return False

    def forget_lost(self, running: Set[str]) -> None:
        """Remove from lost/ the guests that have ended."""
        for name in set(self.names("lost")) - running:
            self.remove("lost", name)

    def remove(self, folder: str, name: str) -> None:
        """Remove a file that nobody needs. If that fails, the file does no harm."""
        with suppress(OSError):
            os.unlink(f"{self._folder}/{folder}/{name}")

    def read_shared(self, name: str) -> str | None:
        """The text that is kept of a shared thing; None when there is none. BadInput when the file cannot be ours."""
        return files.read(self.shared_path(name))

    def save_shared(self, name: str, text: str) -> None:
        """Write the text, as ``save`` does."""
        _replace(self.shared_path(name), text)

    def forget_shared(self, name: str) -> None:
        """Remove the text, and a half-written one. If that fails, the text only says that nobody wants the thing."""
        self.remove("shared", f"{name}.json")
        self.remove("shared", f"{name}.json.new")

    def shared_path(self, name: str) -> str:
        """Where the text of a shared thing is kept."""
        return f"{self._folder}/shared/{name}.json"

    def in_flight_path(self, name: str) -> str:
        """The path of the lock that says that a write to this device is on its way."""
        return f"{self._folder}/in-flight/{name}"

    def in_flight(self) -> frozenset[PciAddress]:
        """The devices with a write on its way. A file without a lock means nothing: a killed writer leaves it."""
        found = set()
        for name in self.names("in-flight"):
            with suppress(BadInput):
                address = PciAddress.parse(name)
                if locks.is_locked(self.in_flight_path(name)):
                    found.add(address)
        return frozenset(found)

    def settle_in_flight(self, address: PciAddress) -> None:
        """Remove the file of a write that has come back. Call it under the lock of the device's group."""
        path = self.in_flight_path(str(address))
        if not locks.is_locked(path):
            self.remove("in-flight", str(address))

    def remove_unused_locks(self) -> None:
        """Remove the lock files that nobody has locked. A killed process leaves them."""
        locks.remove_unused(f"{self._folder}/locks")

    def is_busy(self, uuid: str) -> bool:
        """Whether some process is at work on this guest."""
        return locks.is_locked(f"{self._folder}/locks/domain-{uuid}")

    def boot(self) -> str:
        """The kernel's boot id. LibhookError when it cannot be read: an entry without it would later be void."""
        path = f"{self.machine.proc}/sys/kernel/random/boot_id"
        try:
            with open(path, encoding="utf-8") as file:
                boot = file.read().strip()
        except OSError as error:
            raise unanswered(error) from None
        if not boot:
            raise LibhookError(f"{path} is empty", "make sure that the kernel's own /proc is mounted there")
        return boot

    def mark_of(self, process: Process) -> str:
        """The path of the lock that a child of this process has while it asks libvirt for something."""
        return self.in_flight_path(f"asking-{process.pid}-{process.start}")

    def _entry_path(self, uuid: str) -> str:
        return f"{self._folder}/domains/{uuid}.json"

    def names(self, folder: str) -> list[str]:
        """The names in one of the folders; none if it is missing."""
        try:
            return os.listdir(f"{self._folder}/{folder}")
        except (FileNotFoundError, NotADirectoryError):
            return []


def _replace(path: str, text: str) -> None:
    """Replace the file whole. If no second file can be made, overwrite the one that is there."""
    try:
        files.replace(path, text)
    except OSError:
        if not os.path.exists(path):
            raise
        files.overwrite(path, text)
