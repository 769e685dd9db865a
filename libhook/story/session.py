# SPDX-License-Identifier: LGPL-2.1-or-later
"""What one process has at hand while it works: the machine, its state, the log, and how to plan and apply.

The operations (life.py) and the give-back (giveback.py) both stand on this.
"""

from __future__ import annotations

import time

from libhook.effects import audit, files
from libhook.effects.child import Deadline
from libhook.effects.log import Log
from libhook.effects.state import State
from libhook.errors import LibhookError, pasted
from libhook.facts import config as configuration
from libhook.facts.address import PciAddress
from libhook.facts.config import Config
from libhook.facts.domain import Domain, HostDevice
from libhook.facts.entry import Held
from libhook.facts.event import OPERATIONS, Event, Operation
from libhook.facts.host import NOTHING, Claim, Host, Tenant, Trail
from libhook.facts.machine import Machine
from libhook.facts.plan import Action, Plan, Record
from libhook.facts.situation import Situation
from libhook.handlers.preflight import waits_for
from libhook.handlers.registry import plan_for
from libhook.kinds import registry as kinds
from libhook.kinds.kind import Outcome, Work
from libhook.light import TYPE_CHECKING, NamedTuple, suppress
from libhook.look import libvirtd, sysfs

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence
    from contextlib import AbstractContextManager

_GRACE = 10.0
"""Seconds that an undo has at least, unless ``write_deadline`` is shorter still."""
_LOOK_AGAIN = 0.1
"""Seconds between two looks at who has a device open."""
_LOOK_FOR_WRITES = 0.01
"""Seconds between two looks at whether a killed hook's last write has ended."""


def load_config(machine: Machine, name: str, uuid: str) -> Config:
    """The guest's settings, from the file or the defaults. LibhookError when they are broken."""
    text = read_config(machine)
    return configuration.parse(text, name, uuid) if text else Config()


def read_config(machine: Machine) -> str:
    """The configuration's text, "" where there is none. LibhookError where others than root may write or remove it."""
    files.expect_trusted(machine.config.rpartition("/")[0], machine.root)
    path = pasted(machine.config)
    return files.read(machine.config, f"chown root:root {path}; chmod 644 {path}") or ""


def state_of(machine: Machine) -> State:
    """The state in /run/libhook, whose folders may not be there."""
    return State(machine, kinds.read)


def make_state(machine: Machine) -> State:
    """The state in /run/libhook, with its folders. LibhookError when they cannot be made, or are not root's own."""
    state = state_of(machine)
    state.make(lambda: libvirtd.with_host_devices(machine))
    return state


class Session(NamedTuple):
    """One run on one machine."""

    machine: Machine
    state: State
    log: Log
    config: Config
    deadline: Deadline
    libvirtd: int
    """The pid of the libvirtd that called, or of whoever did (look/libvirtd.py)."""
    broken: LibhookError | None = None
    """What is wrong with the settings, where these are only the defaults. Nothing is handed over then."""

    @classmethod
    def open(cls, machine: Machine, log: Log, libvirtd: int, name: str | None = None, uuid: str = "") -> Session:
        """With the settings of the guest of this name and UUID, or the defaults where no guest is named."""
        settings, broken = Config(), None
        if name is not None:
            try:
                settings = load_config(machine, name, uuid)
            except LibhookError as error:
                broken = error
                log.add("error", "configuration ignored", reason=error.message)
        return cls(machine, state_of(machine), log, settings, Deadline.after(settings.write_deadline), libvirtd, broken)

    def strict(self) -> Session:
        """The same, but LibhookError where the settings are broken."""
        if self.broken:
            raise self.broken
        return self

    def prepare(self) -> None:
        """Make the folders of the state, as make_state."""
        self.state.make(lambda: libvirtd.with_host_devices(self.machine))

    def with_grace(self) -> Session:
        """The same with time to undo what was begun, when the event's own may have run out."""
        grace = Deadline.after(min(_GRACE, self.config.write_deadline))
        return self._replace(deadline=max(self.deadline, grace))

    def for_record(self, held: Held) -> Session:
        """The same with the settings of the guest of a record, or the defaults where they are broken."""
        settings = Config()
        with suppress(LibhookError):
            settings = load_config(self.machine, held.name, held.uuid)
        return self._replace(config=settings)

    def related(self, addresses: Collection[PciAddress]) -> set[PciAddress]:
        """These devices, the others of their groups, and the PFs and VFs of all of them: whose guests matter."""
        groups = {group for address in addresses if (group := sysfs.group(self.machine, address)) is not None}
        related = {*addresses, *(other for group in groups for other in sysfs.members(self.machine, group))}
        for address in tuple(related):
            pf, vfs = sysfs.related(self.machine, address)
            related.update((pf, *vfs) if pf else vfs)
        return related

    def look(self, addresses: Collection[PciAddress], guest: Domain | None = None) -> Host:
        """The whole picture of these devices: before they are handed to a ``guest``, or else to be shown."""
        from libhook.look import uses  # only who hands something over needs it

        survey = guest is None
        claims, in_flight = self.state.claims(self.related(addresses)), self.state.in_flight()
        siblings = self.config.siblings == "bind"
        host = sysfs.look(self.machine, addresses, claims, in_flight, self.deadline, siblings=siblings, survey=survey)
        wanted = [
            device
            for address, device in host.devices.items()
            if (siblings or address in addresses) and device.is_at_home and address not in host.in_flight
        ]
        return host._replace(
            tenants=self.tenants((device.address for device in wanted), guest),
            uses=uses.of_devices(self.machine, wanted, self.deadline, must_see=not survey),
        )

    def tenants(
        self, addresses: Iterable[PciAddress], guest: Domain | None = None
    ) -> dict[PciAddress, tuple[Tenant, ...]]:
        """Who has something below these devices; a ``guest`` to which they go also what it is to have besides."""
        from libhook.look import tenants  # likewise

        own = [device for device in guest.devices if not device.pci] if guest else []
        others = (Claim(guest.uuid, guest.name), own) if guest else None
        return tenants.below(self.machine, self.state, addresses, self.deadline, others, must_see=guest is not None)

    def guest(self, uuid: str) -> AbstractContextManager[None]:
        """Hold the guest's lock."""
        return self.state.locked([f"domain-{uuid}"], self.deadline)

    def devices(self, addresses: Iterable[PciAddress]) -> AbstractContextManager[None]:
        """Hold the locks of these devices' groups. The guest's comes first."""
        return self.state.locked(sysfs.names_of_locks(self.machine, addresses), self.deadline)

    def work(self, uuid: str) -> Work:
        """What a kind of action has at hand."""
        return Work(self.machine, self.state, self.deadline, self.config, uuid)

    def plan(self, event: Event, domain: Domain, held: Held | None) -> Plan:
        """What this event asks for: of what is given back its kinds are asked, of all else the handlers."""
        undone = kinds.way_back(self.work(held.uuid), held) if held and event.operation.gives_back else ()
        return plan_for(self.situation(event, domain, held), undone)

    def plan_in_time(self, event: Event, domain: Domain, held: Held | None) -> Plan:
        """The same; for a hand-over once no process has a device open any more, or has had time enough to close it.

        Nothing is written meanwhile: unbinding a device that is in use is how hosts hang.
        """
        patience = Deadline.after(self.config.holder_wait)
        while True:
            situation = self.situation(event, domain, held)
            plan = plan_for(situation)
            may_help = event.operation.takes and plan.refusals and waits_for(situation)
            if not (may_help and patience.left and self.deadline.left):
                return plan
            time.sleep(_LOOK_AGAIN)

    def situation(self, event: Event, domain: Domain, held: Held | None) -> Situation:
        """What the event's handlers may consider; no more of the host is looked at than they need."""
        operation = event.operation
        domain = self.with_extra(domain, held, before=operation.takes)
        addresses = domain.addresses
        host = NOTHING
        if operation.looks == "all":
            host = self.look(addresses, domain)
        elif operation.looks == "devices":
            host = sysfs.glance(self.machine, addresses, self.state.claims(addresses), self.state.in_flight())
        elif operation.looks == "taken" and held is None:
            claims = self.state.claims(addresses)
            host = sysfs.glance(self.machine, addresses, claims, self.state.in_flight(), self.deadline)
        trail = self.trail() if operation.may_veto else None
        return Situation(event, domain, host, held, self.config, trail)

    def with_extra(self, guest: Domain, held: Held | None = None, *, before: bool = False) -> Domain:
        """The guest with what its devices' records shall say besides, where the configuration wants that.

        From the guest's record, else as the host is now: ``before`` the devices are handed over, or later.
        """
        if not self.config.audit_extra:
            return guest
        from libhook.look import extra  # few want it

        known = {device.key: device.extra for device in held.devices} if held else {}

        def complete(device: HostDevice) -> HostDevice:
            told = device.extra or known.get(device.key) or extra.of_device(self.machine, device, before=before)
            return device._replace(extra=told)

        return guest._replace(devices=tuple(map(complete, guest.devices)))

    def trail(self) -> Trail | None:
        """What is known of the audit trail; not asked where it is not required."""
        return audit.trail(self.machine, self.deadline) if self.config.audit_required else None

    def plan_release(
        self,
        held: Held,
        shutoff: str = "-",
        at_its_end: Sequence[HostDevice] = (),
        operation: Operation = OPERATIONS["release"],
    ) -> Plan:
        """What gives back everything of a journal entry.

        The guest's XML is not asked, but for which devices it had ``at_its_end``.
        """
        event = Event(held.name, operation, shutoff)
        return self.plan(event, Domain(held.name, held.uuid, held.virt, tuple(at_its_end)), held)

    def wait_for_writes(self, held: Held) -> None:
        """Until no write to a record's devices is on its way, as when a hook was killed, or patience ends.

        A device that is known to hang is not waited for.
        """
        patience = Deadline.after(min(self.config.holder_wait, self.deadline.left / 2))
        moved = {device.pci for device in held.devices if device.pci and held.action(device.key) and not device.wedged}
        while self.state.in_flight() & moved and patience.left:
            time.sleep(_LOOK_FOR_WRITES)

    def log_plan(self, plan: Plan) -> None:
        """Every line of it, the same that a dry run prints; what a handler did wrong besides as an error."""
        for line in plan.describe():
            self.log.add("info", "plan", line=line)
        for fault in plan.faults:
            self.log.add("error", "handler failed", handler=fault.handler, reason=fault.what)

    def apply(self, uuid: str, actions: Iterable[Action]) -> list[Outcome]:
        """Carry out those that are ours, up to the first that fails, and log each."""
        return self._logged(kinds.carry_out(self.work(uuid), [action for action in actions if action.ours]))

    def undo(self, uuid: str, actions: Iterable[Action]) -> list[Outcome]:
        """The same of what gives back: there what fails keeps nothing else."""
        return self._logged(kinds.go_back(self.work(uuid), list(actions)))

    def _logged(self, outcomes: list[Outcome]) -> list[Outcome]:
        for action, failure, milliseconds, told in outcomes:
            self.log.add(
                "error" if failure else "info",
                "not done" if failure else "done",
                action=action.key,
                **told,
                outcome=failure.reason if failure else "done",
                ms=round(milliseconds, 1),
            )
        return outcomes

    def send(self, records: Sequence[Record]) -> frozenset[str]:
        """Send audit records, also when the event's time has run out; the devices whose record was not taken."""
        return audit.send(self.machine, records, self.log, self.with_grace().deadline)
