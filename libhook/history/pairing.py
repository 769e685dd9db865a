# SPDX-License-Identifier: LGPL-2.1-or-later
"""Takes records in the order of the log, and finds who had which device from when to when. Pure.

Who writes what, and when (libvirt 11.3.0, domain_audit.c and qemu_process.c; our records are from handlers/audit.py):

- A start that succeeds: our record comes from the hook ``started``. libvirtd mostly does not wait for that, so ours
  mostly comes after libvirtd's record and its VIRT_CONTROL.
- A start that fails: our record says failed. Then libvirtd's record says success for every device, and its
  VIRT_CONTROL says failed.
- An end: our record has reason stop. libvirtd writes no record of a device, only a VIRT_CONTROL of the guest.
- Hot-plug: libvirtd's record comes first, and is true. Then comes ours.
- A host that dies writes nothing. What a guest held is over when the host boots, or when the guest starts again.
"""

from collections.abc import Callable, Iterable, Iterator
from operator import itemgetter

from libhook.history.entry import TRUSTED, Entry, Silence, began_at, ended, merged, with_ids, with_writer
from libhook.history.guest import NAMELESS, ONE_START, UNRESOLVED, Guest
from libhook.history.records import DeviceRecord, GuestRecord, Record, TrailRecord
from libhook.history.silence import Silences

_MOMENT = 30_000
"""Two records within so many milliseconds are of the same failed hot-plug. libhook records only once the device is
back, and that may take until write_deadline.
"""
_SETTLED = 300_000
"""After so many milliseconds no record adds to an entry that has ended or failed. No hook may take so long."""
_SWEEP = 16_384
"""After so many records all settled entries are given out, even of guests without new records."""
_EVER = 1 << 60
_IDLE = 4_096
"""How many guests without devices to remember, so that a late record of one of them makes no new entry."""


class Pairing:
    """Takes records, and gives each entry once nothing can add to it. Memory grows only with what guests hold."""

    def __init__(self, give: Callable[[Entry], None], silent: Callable[[Silence], None]) -> None:
        self._give = give
        self._silences = Silences(silent)
        self.nodes: dict[str | None, dict[str, Guest]] = {}
        """The guests of each node, by their UUIDs."""
        self._since_sweep, self._next_sweep = 0, _SWEEP

    def add(self, records: Iterable[Record]) -> int:
        """Take the next records. Return how many there were."""
        nodes, silent = self.nodes, self._silences.open
        count, time = 0, 0
        for count, record in enumerate(records, 1):  # noqa: B007 - ends as the number of records
            time, node = record.time, record.node
            if isinstance(record, TrailRecord):
                self._silences.happened(record)
                if record.happening == "boot":
                    self._boot(node, time)
                continue
            if silent:
                self._silences.heard(node, time)
            if (guests := nodes.get(node)) is None:
                guests = nodes[node] = {}
            uuid = record.uuid if isinstance(record, GuestRecord) else record.subject.uuid
            if (guest := guests.get(uuid)) is None:
                guest = guests[uuid] = Guest()
            guest.heard = time
            if isinstance(record, GuestRecord):
                self._control(guest, record)
            elif record.reason in TRUSTED:
                self._begin(guest, record)
            elif record.reason in ("stop", "detach"):
                self._end(guest, record)
        self._since_sweep += count
        if self._since_sweep >= self._next_sweep:
            self._since_sweep = 0
            self._sweep(time)
        return count

    def close(self) -> None:
        """End the trail, and give all entries that are left. What is held now stays open."""
        for _, entry in self.known():
            self._give(entry)
        self.nodes.clear()
        self._silences.close()

    def known(self) -> Iterator[tuple[int, Entry]]:
        """Give what would be left if the trail ended here: when the guest was heard of last, and the entry."""
        for guests in self.nodes.values():
            lost = self._lost(list(guests.values()))
            for guest in guests.values():
                for key, entry in guest.held.items():
                    end = lost.get(key, -1)
                    yield guest.heard, entry._replace(end=end) if end > began_at(entry) else entry
                for entries in (guest.recent, guest.unreturned):
                    for entry in entries.values():
                        yield guest.heard, entry

    def _lost(self, guests: list[Guest]) -> dict[str, int]:
        """Return when each PCI device was given last. A guest that got it earlier has it no more, without a record."""
        began: dict[str, int] = {}
        for guest in guests:
            for key, entry in guest.held.items():
                may_fail = entry.began == "start" and entry.recorded_by == ("libvirtd",) and key in guest.fresh
                if entry.bus == "pci" and not may_fail:
                    began[key] = max(began.get(key, -1), began_at(entry))
        return began

    def _begin(self, guest: Guest, record: DeviceRecord) -> None:
        time, node, who, reason, (vm, uuid, bus, device, key, ids), success, serial = record
        if key in NAMELESS:
            guest.unresolved = True
            key = guest.free(key, who)
        entry = guest.held.get(key)
        if entry is None:
            if self._adds_to_recent(guest, key, record):
                return
            if reason == "start" and who == "libvirtd" and guest.runs:
                self._again(guest, time)
        elif (
            who not in entry.recorded_by
            and entry.began == reason
            and (success or time - began_at(entry) <= (_MOMENT if reason == "attach" else ONE_START))
        ):
            guest.held[key] = entry = merged(entry, who, success, ids, int(serial))
            if not entry.success:
                self._leave(guest, key, guest.held.pop(key))
            return
        elif reason == "start":
            self._again(guest, time)
        elif success:
            self._give(guest.held.pop(key)._replace(end=time))
        end = None if success else time
        more = (who,), False, False, ids, int(serial), False, int(serial)
        new = tuple.__new__(Entry, (node, vm, uuid, bus, device, reason, None, time, end, success, *more))
        if success:
            guest.held[key] = new
            if guest.indexed:
                guest.takes(key, new)
            if guest.recent or guest.unreturned:
                for old in (guest.recent, guest.unreturned):
                    if key in old:
                        self._give(old.pop(key))
        else:
            self._leave(guest, key, new)
        guest.begins(key)

    def _adds_to_recent(self, guest: Guest, key: str, record: DeviceRecord) -> bool:
        """Whether a record of a beginning is the other writer's, of an entry that has failed or ended already.

        If so, it is added to that entry.
        """
        entry = guest.recent.get(key)
        if entry is None or entry.end is None or record.writer in entry.recorded_by or entry.began != record.reason:
            return False
        if record.reason == "attach":
            if entry.success:  # plugged in and out before libhook's watch could write
                in_turn = "libvirtd" in entry.recorded_by and record.writer == "libhook" and record.success
            else:
                in_turn = record.writer == "libhook" or not record.success  # else it is another try by other means
            same = in_turn and record.time - entry.end <= _MOMENT
        else:
            same = key in guest.fresh and record.time - entry.end <= _SETTLED
        if same:
            entry = merged(entry, record.writer, record.success, record.subject.ids, int(record.serial))
            del guest.recent[key]
            if entry.end is None:
                guest.held[key] = entry
                guest.takes(key, entry)
            else:
                self._leave(guest, key, entry)
        return same

    def _end(self, guest: Guest, record: DeviceRecord) -> None:
        time, node, who, reason, (vm, uuid, bus, device, key, ids), success, serial = record
        if key in NAMELESS:
            key = guest.first(key)
        late = who == "libhook" and key in guest.owed
        if late and (success or reason == "stop"):
            guest.owed.remove(key)
        entry = guest.held.get(key)
        if entry is not None:
            if reason == "detach" and not success:  # the guest still has the device
                return
            del guest.held[key]
            entry = ended(entry, reason, time, who, not success, ids, int(serial))
            self._over(guest, key, entry)
        elif key in guest.unreturned:
            if success:
                self._give(guest.unreturned.pop(key)._replace(unreturned=False, last=int(serial)))
        elif (entry := guest.recent.get(key)) and entry.end is not None and time - entry.end <= _SETTLED:
            if entry.success:
                del guest.recent[key]
                ids = with_ids(entry, who, ids)
                writers = with_writer(entry.recorded_by, who)
                entry = entry._replace(recorded_by=writers, unreturned=not success, ids=ids, last=int(serial))
                self._over(guest, key, entry)
        elif success and not late:  # the guest got it before the trail began, or while it was silent
            first = None, reason, None, time, True, (who,), False, False, ids, int(serial), False, int(serial)
            self._leave(guest, key, Entry(node, vm, uuid, bus, device, *first))

    def _control(self, guest: Guest, record: GuestRecord) -> None:
        time, last = record.time, int(record.serial)
        if record.operation == "start":
            if guest.unresolved:
                guest.unresolved = False
                self._resolve(guest)
            if guest.runs:
                self._again(guest, time)
            if not record.success:
                self._refute(guest, time, last)
            guest.runs = record.success
            if record.success:
                guest.began = time
        elif record.operation == "stop":
            for key in guest.told():  # libhook has recorded that end, too
                self._give(guest.recent.pop(key))
            for key, entry in guest.held.items():
                self._leave(guest, key, entry._replace(ended="stop", end=time, last=last))
            guest.held.clear()
            guest.runs = False
        else:
            return
        guest.controlled = True
        guest.forget()
        if guest.recent and guest.has_waited():
            self._settle(guest, time - _SETTLED)

    def _refute(self, guest: Guest, time: int, last: int) -> None:
        """The start has failed. The guest never had what only libvirtd recorded. It had until now what we recorded."""
        for key, entry in guest.held.items():
            if entry.began != "start" or key not in guest.fresh:
                self._give(entry._replace(end=time))
                guest.frees(key)
            elif "libhook" in entry.recorded_by:
                self._leave(guest, key, entry._replace(ended="stop", end=time, disagree=True, last=last))
            else:
                self._leave(guest, key, entry._replace(success=False, end=entry.start, last=last))
        guest.held.clear()

    def _resolve(self, guest: Guest) -> None:
        """Join libvirtd's record of a USB device without an address with ours, if each has exactly one."""
        theirs, ours = [], []
        for key in guest.fresh:
            for entry in (part[key] for part in (guest.held, guest.recent) if key in part):
                if entry.bus == "usb" and entry.began == "start":
                    if key.startswith(UNRESOLVED):
                        theirs += [key] if entry.recorded_by == ("libvirtd",) else []
                    else:
                        ours += [key] if entry.recorded_by == ("libhook",) else []
        if len(theirs) == 1 and len(ours) == 1 and theirs[0] in guest.held:
            del guest.held[theirs[0]]
            part = guest.held if ours[0] in guest.held else guest.recent
            part[ours[0]] = merged(part[ours[0]], "libvirtd", True, "", part[ours[0]].last)

    def _again(self, guest: Guest, time: int) -> None:
        """The guest starts again without a record of its end. What it held was over by this start's first record."""
        former, time = guest.former(time)
        for key in former:
            self._give(guest.held.pop(key)._replace(end=time))
        guest.runs = False

    def _boot(self, node: str | None, time: int) -> None:
        """The host has booted: no guest from before runs now."""
        for guest in self.nodes.pop(node, {}).values():
            for entry in guest.held.values():
                self._give(entry._replace(end=time))
            for entries in (guest.recent, guest.unreturned):
                for entry in entries.values():
                    self._give(entry)

    def _leave(self, guest: Guest, key: str, entry: Entry) -> None:
        """Keep an entry that has ended or failed, since another record may add to it. Give the one kept before."""
        recent = guest.recent
        if key in recent:
            self._give(recent.pop(key))
        recent[key] = entry
        if guest.indexed:
            guest.leaves(key, entry)

    def _over(self, guest: Guest, key: str, entry: Entry) -> None:
        """The guest no longer has the device. The host may not have it back yet."""
        if not entry.unreturned:
            self._leave(guest, key, entry)
            return
        if key in guest.unreturned:
            self._give(guest.unreturned.pop(key))
        guest.unreturned[key] = entry
        guest.frees(key)

    def _settle(self, guest: Guest, before: int) -> None:
        for key in guest.settled(before):
            self._give(guest.recent.pop(key))

    def _sweep(self, time: int) -> None:
        """Give settled entries, and forget guests without any. This bounds the memory, whatever the log holds."""
        waiting = sum(len(guest.recent) for guests in self.nodes.values() for guest in guests.values())
        before = time - _SETTLED if waiting < _SWEEP else _EVER
        idle = []
        for guests in self.nodes.values():
            for uuid, guest in guests.items():
                if guest.recent:
                    self._settle(guest, before)
                if guest.idle:
                    idle.append((guest.heard, uuid, guests))
        if len(idle) > _IDLE:
            idle.sort(key=itemgetter(0))
            for _, uuid, guests in idle[:-_IDLE]:
                del guests[uuid]
            for node in [node for node, guests in self.nodes.items() if not guests]:
                del self.nodes[node]
        self._next_sweep = max(_SWEEP, sum(map(len, self.nodes.values())))
