# SPDX-License-Identifier: LGPL-2.1-or-later
"""``libhook watch``: records what other clients plug in and out, and gives back what libhook had bound.

libvirt calls no hook at hot-plug, but it sends events. An event names a device by its alias, and after a removal the
device is gone from the guest's XML. So the watch remembers what each guest has, in memory and, for the next watch, in
/run/libhook. It cannot see an attach that fails, since there is no event, nor who asked.

It also sees guests that are gone and still hold something (remains.py).
"""

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import NamedTuple, get_args

from libhook.effects import notes
from libhook.effects.log import Field, Level, Log
from libhook.errors import BadInput, LibhookError, fault
from libhook.facts.address import PciAddress
from libhook.facts.domain import Domain, HostDevice, Kind
from libhook.facts.entry import Held, Process
from libhook.facts.machine import Machine
from libhook.hotplug import handover
from libhook.hotplug.parts import with_pending_sent
from libhook.hotplug.remains import Remains
from libhook.look import libvirtd, processes
from libhook.story.session import Session, make_state, state_of
from libhook.xml import domxml

Look = Callable[[str], bytes | None]
"""Maps a guest's UUID to its live XML; None if the guest does not run."""
_Devices = dict[str, HostDevice]
_NOT_SEEN = "it was gone before the watch could look, or its kind is not known: it is not recorded"


_LOOK_SECONDS = 15.0
"""Between two looks for what guests that are gone have left."""


class _Seen(NamedTuple):
    """The devices that a guest had when it was last seen."""

    life: Process
    """The guest's QEMU. It outlives libvirtd, and each start of the guest has another."""
    devices: _Devices
    """By alias."""


class Watcher:
    """Knows what every guest that runs has, and acts on libvirt's events."""

    def __init__(
        self,
        machine: Machine,
        look: Look,
        alive: Callable[[], None] = lambda: None,
        show: Callable[[list[str]], None] = lambda _: None,
    ) -> None:
        """Begin with what the last watch saw.

        ``alive`` is called after each guest that ``connected`` has compared. ``show`` gets the lines that are logged.
        """
        self._machine = machine
        self._state = state_of(machine)
        self._look = look
        self._alive = alive
        self._show = show
        self._seen = _from_json(notes.watched(machine))
        self._trouble = ""
        self._remains = Remains()
        self._due = 0.0

    def connected(self, running: Mapping[str, bytes]) -> None:
        """Compare each guest with what it had before. The differences happened while we were not connected."""
        for uuid in self._seen.keys() - running.keys():
            del self._seen[uuid]
        for uuid in sorted(running):
            self._guarded(uuid, running[uuid], self._compare)
            self._alive()
        self._remember()
        self._remains.try_again()
        self._look_for_remains()
        if self._trouble:
            self._say("info", "connected to libvirtd again")
        self._trouble = ""

    def awake(self) -> None:
        """Look from time to time: libvirtd tells nobody of what it found dead when it began."""
        if time.monotonic() >= self._due:
            self._look_for_remains()

    def lost(self, reason: str) -> None:
        """Log that there is no connection. The same reason is logged only once in a row."""
        if reason != self._trouble:
            self._say("warning", "no connection to libvirtd", reason=reason)
        self._trouble = reason
        self._look_for_remains()

    def _say(self, level: Level, what: str, **fields: Field) -> None:
        with Log(self._machine, operation="watch") as log:
            log.add(level, what, **fields)
            self._show(log.lines())

    def happened(self, what: str, uuid: str, alias: str = "") -> None:
        """Handle one event: a device was ``added``, ``removed`` or ``kept``, or a guest ``began`` or ``ended``."""
        if what == "ended":
            self._seen.pop(uuid, None)
            self._look_for_remains()
        elif document := self._look(uuid):
            self._guarded(uuid, document, lambda session, guest: self._follow(session, guest, what, alias))
        self._remember()

    def _look_for_remains(self) -> None:
        self._due = time.monotonic() + _LOOK_SECONDS
        self._logged(lambda log: self._remains.look(Session.open(self._machine, log, libvirtd.find(self._machine))))

    def _guarded(self, uuid: str, document: bytes, act: Callable[[Session, Domain], None]) -> None:
        """Act on one guest."""

        def act_on_it(log: Log) -> None:
            guest = domxml.parse(document)
            log.bind(guest=guest.name)
            daemon = libvirtd.find(self._machine)
            # The sandbox of the service lets it write to PCI devices, and to nothing else.
            session = Session.open(self._machine, log, daemon, guest)._replace(only_devices=True)
            if session.config.dry_run:
                log.add("info", "dry run", reason="what is plugged in and out is not recorded")
            else:
                act(session, guest)

        self._logged(act_on_it, uuid=uuid)

    def _logged(self, act: Callable[[Log], None], **about: Field) -> None:
        """Act. Errors are logged, so the watch goes on."""
        with Log(self._machine, operation="watch", **about) as log:
            try:
                act(log)
            except LibhookError as error:
                log.add("error", "not handled", reason=error.line)
            except Exception as error:  # noqa: BLE001 - a bug is logged, and the watch goes on
                log.add("error", "libhook itself failed", reason=fault(error))
            self._show(log.lines())

    def _compare(self, session: Session, guest: Domain) -> None:
        """Compare what the guest has now with what the watch saw last and what the journal entry says."""
        held = self._state.load(guest.uuid)
        if held and held.phase == "starting":  # libvirt does not wait for ``started``, so the hook may be at work
            with self._state.locked([f"domain-{guest.uuid}"], session.deadline):
                held = self._state.load(guest.uuid)
        if held and held.phase != "started":
            return
        held = with_pending_sent(session, guest)
        seen, life, now = self._seen.get(guest.uuid), self._life(guest), _by_alias(guest)
        self._seen[guest.uuid] = _Seen(life, now)
        if seen and seen.life != life:
            seen = None  # the hook has recorded that life's end and this start
        if seen is None and held is None:
            return  # it began before anybody looked: take what it has for known
        present = {device.key: device for device in now.values()}
        before = {device.key: device for device in seen.devices.values()} if seen else {}
        has, abandoned = _journalled(session, held)
        known = before.keys() | has.keys()
        if new := [device for key, device in present.items() if key not in known or key in abandoned]:
            handover.finish_attach(session, guest, new)
        if gone := [device for key, device in {**has, **before}.items() if key not in present]:
            self._complain(session, handover.finish_detach(session, guest, gone))
        if never := [device for key, device in abandoned.items() if key not in present]:
            self._complain(session, handover.undo_attach(session, guest, never))

    def _follow(self, session: Session, guest: Domain, what: str, alias: str) -> None:
        now, life, before = _by_alias(guest), self._life(guest), self._seen.get(guest.uuid)
        if what == "began" or before is None or before.life != life:
            self._compare(session, guest)
        if before and before.life != life:
            return  # the event is of an earlier life of the guest
        seen = self._seen.setdefault(guest.uuid, _Seen(life, {})).devices
        match what:
            case "added" if device := now.get(alias):
                seen[alias] = device
                handover.finish_attach(session, guest, [device])
            case "added" if alias.startswith("hostdev"):
                session.log.add("warning", "plugged in, but not seen", alias=alias, reason=_NOT_SEEN)
            case "removed" if device := seen.pop(alias, None):
                if device.key not in _keys(seen):  # the guest may keep other namespaces of an NVMe controller
                    again = device.key in _keys(now)
                    self._complain(session, handover.finish_detach(session, guest, [device], has_again=again))
            case "kept" if device := seen.get(alias):
                handover.record_kept(session, guest, [device])

    def _life(self, guest: Domain) -> Process:
        return processes.process(self._machine, libvirtd.qemu(self._machine, guest.name, guest.uuid))

    def _complain(self, session: Session, reason: str | None) -> None:
        if reason:
            session.log.add(
                "error", "not given back", reason=reason, hint="see libhook status, then run: libhook recover"
            )

    def _remember(self) -> None:
        with suppress(LibhookError):
            make_state(self._machine)
        notes.remember_watched(
            self._machine,
            {
                uuid: {
                    "life": list(seen.life),
                    "devices": {a: [it.kind, it.source, it.managed, it.address] for a, it in seen.devices.items()},
                }
                for uuid, seen in self._seen.items()
            },
        )


def _by_alias(guest: Domain) -> _Devices:
    present = (device for device in guest.devices if device.resolved and not device.missing)
    return {alias: device for device in present for alias in device.aliases if alias}


def _keys(devices: _Devices) -> set[str]:
    return {device.key for device in devices.values()}


def _journalled(session: Session, held: Held | None) -> tuple[_Devices, _Devices]:
    """Return by key the devices that the entry says the guest has, and those whose plugging in was never ended.

    Devices that a process is plugging now are left out.
    """
    has: _Devices = {}
    abandoned: _Devices = {}
    for device in held.devices if held else ():
        if not device.audited or (device.plugging and processes.works(session.state, device.plugging)):
            continue
        it = HostDevice(device.kind, "hostdev", False, device.address, device.pci)
        if device.recorded in ("success", "unreturned"):
            has[device.key] = it
        elif device.began == "attach" and device.recorded == "nothing":
            abandoned[device.key] = it
    return has, abandoned


def _from_json(value: object) -> dict[str, _Seen]:
    """Read what the last watch wrote. A guest with any field that is not as we write it is left out."""
    seen: dict[str, _Seen] = {}
    for uuid, fields in value.items() if isinstance(value, dict) else ():
        match fields:
            case {"life": [int(pid), int(start)], "devices": dict(devices)}:
                with suppress(BadInput):
                    seen[uuid] = _Seen(Process(pid, start), {alias: _device(it) for alias, it in devices.items()})
    return seen


def _device(fields: object) -> HostDevice:
    match fields:
        case [str(kind), "hostdev" | "interface" | "disk" as source, bool(managed), str(address)] if kind in get_args(
            Kind
        ):
            pci = PciAddress.parse(address) if kind == "pci" else None
            return HostDevice(kind, source, managed, address, pci)  # type: ignore[arg-type]
    raise BadInput("not a host device")
