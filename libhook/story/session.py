# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a process needs while it works: the machine, its state, the log, and the ways to plan and apply.

The hook (run.py), the give-back (giveback.py), hot-plug and the commands all use it.
"""

from __future__ import annotations

import time

from libhook.children.child import Deadline
from libhook.children.worker import Crew
from libhook.effects import audit, files
from libhook.effects.log import Log
from libhook.effects.state import State
from libhook.errors import BadInput, LibhookError, pasted, unanswered
from libhook.facts.address import PciAddress
from libhook.facts.config import Config, Served, Source
from libhook.facts.domain import Domain, HostDevice
from libhook.facts.entry import Held
from libhook.facts.event import OPERATIONS, Event, Operation
from libhook.facts.host import NOTHING, Trail
from libhook.facts.machine import Machine
from libhook.facts.plan import Action, Plan, Record, Verdict
from libhook.facts.situation import Situation
from libhook.handlers.registry import plan_for
from libhook.kinds import registry as kinds
from libhook.kinds.kind import Outcome, Work
from libhook.light import TYPE_CHECKING, MappingProxyType, NamedTuple, contextmanager, suppress
from libhook.look import attributes, libvirtd, sysfs

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from typing import Any

    from libhook.facts.identity import Changed
    from libhook.facts.settings import Settings

_OWN_IT = "check what is in it, then run: chown root:root {0}; chmod 644 {0}"
_GRACE = 10.0
"""The least time for an undo, in seconds. ``write_deadline`` is the limit if it is shorter."""
_LOOK_AGAIN = 0.1
"""Seconds between two looks at who has a device open."""


def load_config(
    machine: Machine,
    guest: Domain | Held,
    entry: Callable[[], Held | None] = lambda: None,
    tell: Callable[[Served], None] | None = None,
    plugged: Collection[PciAddress] | None = None,
    parsed: Settings | None = None,
) -> Config:
    """Return the guest's settings from the files, or the defaults if there are none. LibhookError if they are broken.

    ``entry`` reads the guest's journal entry. It is asked only where the settings name devices. ``tell`` is told who is
    served, if there are files. At hot-plug only the sections for the ``plugged`` devices may ask for actions.
    ``parsed`` has the files where they are read already.
    """
    read = time.time_ns()
    sources = parsed.sources if parsed else read_settings(machine)
    if not any(source.text or source.trouble for source in sources):
        if sources and tell:
            tell(Served((), read))
        return Config()
    from libhook.story import settings  # most hosts have none

    found = parsed or settings.read(sources)
    note = (lambda asks: tell(Served(found.served, read, asks))) if tell else None
    return settings.of_guest(machine, found, guest, entry, note, plugged)


def read_settings(machine: Machine) -> list[Source]:
    """Return the files of the settings. LibhookError if others may write to their folders."""
    files.expect_trusted(machine.drop_ins, machine.root)
    try:
        names = attributes.entries(machine.drop_ins, FileNotFoundError)
    except OSError as error:
        raise unanswered(error) from None
    # Hidden files and other endings are what editors and packages leave behind.
    names = [name for name in names if name.endswith(".toml") and not name.startswith(".")]
    names.sort(key=lambda name: name.encode("utf-8", "surrogateescape"))
    paths = (machine.config, *(f"{machine.drop_ins}/{name}" for name in names))
    return [source for path in paths if (source := _source(machine, path))]


def _source(machine: Machine, path: str) -> Source | None:
    """Read one file, or say why it is not read, as where others may write to it. None if it is not there."""
    name, remedy = path.removeprefix(machine.root), _OWN_IT.format(pasted(path))
    try:
        text = files.read(path, remedy)
    except BadInput as error:
        return Source(name, "", error)
    return None if text is None else Source(name, text)


def state_of(machine: Machine) -> State:
    """Return the state in /run/libhook. Its folders may not exist."""
    return State(machine, kinds.read)


def make_state(machine: Machine) -> State:
    """Return the state in /run/libhook, and make its folders. LibhookError if that fails, or root does not own them."""
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
    """The pid of libvirtd as look/libvirtd.py found it, or NOT_KNOWN. For most commands: the pid of the parent."""
    broken: LibhookError | None = None
    """What is wrong with the configuration. ``config`` then has the defaults, and nothing is handed over."""
    crew: Crew | None = None
    """During a give-back, the devices' workers. They read, write, and send the records."""
    document: bytes = b""
    """The guest's XML as libvirtd gave it, where it did."""
    only_devices: bool = False
    """What was taken for a device besides is not given back with it, but at the guest's end."""
    event: Event | None = None
    """libvirt's event that ends the guest, at ``release``."""
    served: Served | None = None
    """Who is served without host devices, where there are settings."""
    said: tuple[Verdict, ...] = ()
    """What handlers by others say to the event (story/consult.py). ``config`` has what they set, too."""
    settled: Mapping[str, Mapping[str, Any]] = MappingProxyType({})
    """What they set, by the handler."""
    changed: Sequence[Changed] = ()
    """The guest's addresses that hold another device than it had there. Only at ``prepare``."""
    parsed: Settings | None = None
    """The files of the settings, read once for all guests of a command."""
    entries: dict[str, Collection[str] | None] | None = None
    """As in Work, for all guests of a command."""

    @classmethod
    def open(
        cls,
        machine: Machine,
        log: Log,
        libvirtd: int,
        guest: Domain | None = None,
        plugged: Collection[PciAddress] | None = None,
    ) -> Session:
        """Open a session with this guest's settings (``load_config``), or the defaults. Its XML may be unknown."""
        settings, broken, state, served = Config(), None, state_of(machine), list[Served]()
        if guest is not None:
            try:
                settings = load_config(machine, guest, lambda: state.load(guest.uuid), served.append, plugged)
            except LibhookError as error:
                broken = error
                log.add("error", "configuration ignored", reason=error.message)
        session = cls(machine, state, log, settings, Deadline.after(settings.write_deadline), libvirtd, broken)
        return session._replace(served=served[0] if served else None)

    @classmethod
    def of_command(cls, machine: Machine, log: Log, parent: int) -> Session:
        """Open a session for what is of no one guest: with the defaults, and more time if the settings give it to all.

        What is short for a write may be too short to look at all devices, of which some do not answer.
        """
        from libhook.story import settings

        session = cls.open(machine, log, parent)
        with suppress(LibhookError):
            session = session._replace(parsed=settings.read(read_settings(machine)))
        in_settings = session.with_settings_of(Domain("", "", "", ())).with_time().deadline
        return session._replace(deadline=max(session.deadline, in_settings), entries={})

    def strict(self) -> Session:
        """Return this session. LibhookError if the settings are broken."""
        if self.broken:
            raise self.broken
        return self

    def prepare(self) -> None:
        """Make the folders of the state, as make_state does."""
        self.state.make(lambda: libvirtd.with_host_devices(self.machine))

    def with_time(self) -> Session:
        """Return this session with the whole time of an event."""
        return self._replace(deadline=Deadline.after(self.config.write_deadline))

    def with_grace(self) -> Session:
        """Return this session with enough time for an undo, even if the event's time has run out."""
        grace = Deadline.after(min(_GRACE, self.config.write_deadline))
        return self._replace(deadline=max(self.deadline, grace))

    @contextmanager
    def with_crew(self) -> Iterator[Session]:
        """Return this session with workers."""
        with Crew(self.machine, self.state.in_flight_path) as crew:
            yield self._replace(crew=crew)

    def with_settings_of(self, guest: Held | Domain) -> Session:
        """Return this session with the settings of a guest, such as a journal entry's; the defaults if they are broken.

        A guest without a name has those that hold for all.
        """
        settings = Config()
        with suppress(LibhookError):
            settings = load_config(self.machine, guest, parsed=self.parsed)
        return self._replace(config=settings, document=b"", event=None)  # these are another guest's

    def guest(self, uuid: str) -> AbstractContextManager[None]:
        """Hold the guest's lock."""
        return self.state.locked([f"domain-{uuid}"], self.deadline)

    def devices(self, addresses: Iterable[PciAddress]) -> AbstractContextManager[None]:
        """Hold the locks of these devices' IOMMU groups. Take the guest's lock first."""
        return self.state.locked(sysfs.names_of_locks(self.machine, addresses), self.deadline)

    def work(self, uuid: str) -> Work:
        """Return what a kind of action needs to work."""
        work = Work(self.machine, self.state, self.deadline, self.config, uuid, self.document, self.crew)
        return work._replace(event=self.event, entries=self.entries)

    def plan(self, event: Event, domain: Domain, held: Held | None, said: Sequence[Verdict] = ()) -> Plan:
        """Plan this event: the kinds of action the give-back, the handlers all else. ``said``: as in the session."""
        undone = kinds.way_back(self.work(held.uuid), held) if held and event.operation.gives_back else ()
        return plan_for(self.situation(event, domain, held), (*said, *undone))

    def plan_when_free(self, event: Event, domain: Domain, held: Held | None) -> Plan:
        """Plan this event. Before a hand-over, wait until no process has a device open, but ``holder_wait`` at most."""
        patience = Deadline.after(self.config.holder_wait)
        while True:
            situation = self.situation(event, domain, held)
            plan = plan_for(situation, self.said)
            may_help = event.operation.takes and plan.refusals and situation.waits_for_process
            if not (may_help and patience.left and self.deadline.left):
                return plan
            time.sleep(_LOOK_AGAIN)

    def situation(self, event: Event, domain: Domain, held: Held | None) -> Situation:
        """Return what the event's handlers may consider. Of the host it looks only at what they need."""
        operation = event.operation
        domain = self.with_extra(domain, held, before=operation.takes)
        addresses = domain.addresses
        host = NOTHING
        if operation.looks == "all":
            from libhook.story import survey  # only prepare looks at everything

            host = survey.look(self, addresses, domain)
        elif operation.looks == "devices" or (operation.looks == "taken" and held is None):
            deadline = None if operation.looks == "devices" else self.deadline
            claims = self.state.claims(addresses)
            host = sysfs.glance(self.machine, addresses, claims, self.state.in_flight(), deadline)
        trail = self.trail() if operation.may_veto else None
        work = self.work(domain.uuid)._replace(host=host, devices=addresses, name=event.guest)
        looked = kinds.look(work, operation.name) if operation.takes else {}
        return Situation(event, domain, host, held, self.config, trail, looked, self.changed)

    def with_along(self, guest: Domain, held: Held | None = None) -> Domain:
        """Return the guest with the devices that it takes along: those of its journal entry, else of its settings."""
        if held:
            return guest.with_along(device.pci for device in held.devices if device.named and device.pci)
        return guest.with_along(map(PciAddress.parse, self.config.along))

    def with_extra(self, guest: Domain, held: Held | None = None, *, before: bool = False) -> Domain:
        """Return the guest with the extra fields of its audit records, if the configuration asks for them.

        A device that has them already keeps them. ``before`` says that the devices are not handed over yet.
        """
        if not self.config.audit_extra:
            return guest
        from libhook.look import extra  # few configurations ask for it

        return extra.complete(self.machine, guest, held, before=before)

    def trail(self) -> Trail | None:
        """Return the state of the audit trail. None if the trail is not required, or the kernel gives no answer."""
        return audit.trail(self.machine, self.deadline) if self.config.audit_required else None

    def plan_release(
        self,
        held: Held,
        shutoff: str = "-",
        at_its_end: Sequence[HostDevice] = (),
        operation: Operation = OPERATIONS["release"],
    ) -> Plan:
        """Plan the give-back of everything in a journal entry.

        ``at_its_end`` has the devices of the guest's last XML; nothing else of that XML is needed.
        """
        event = Event(held.name, operation, shutoff)
        return self.plan(event, Domain(held.name, held.uuid, held.virt, tuple(at_its_end)), held)

    def log_plan(self, plan: Plan) -> None:
        """Log each line of the plan, as a dry run prints it. Log the faults of handlers as errors, too."""
        for line in plan.describe():
            self.log.add("info", "plan", line=line)
        for fault in plan.faults:
            self.log.add("error", "handler failed", handler=fault.handler, reason=fault.what)

    def apply(self, uuid: str, actions: Iterable[Action]) -> list[Outcome]:
        """Carry out the actions that are ours, stop at the first that fails, and log each."""
        return self._logged(kinds.carry_out(self.work(uuid), [action for action in actions if action.ours]))

    def undo(self, uuid: str, actions: Iterable[Action]) -> list[Outcome]:
        """Carry out actions that give back, and log each. A failure does not stop the others."""
        return self._logged(kinds.go_back(self.work(uuid), list(actions)))

    def _logged(self, outcomes: list[Outcome]) -> list[Outcome]:
        for action, failure, milliseconds, fields, done, left, *_ in outcomes:
            fields = {**fields, "left": left} if left else fields
            self.log.add(
                "error" if failure or left else "info",
                f"not {done}" if failure else done,
                **(fields if "device" in fields else {"action": action.key, **fields}),
                outcome=failure.reason if failure else "done",
                ms=round(milliseconds, 1),
            )
        return outcomes

    def send(self, records: Sequence[Record]) -> frozenset[str]:
        """Send audit records, even if the event's time has run out. Return the devices whose record was not taken."""
        return audit.send(self.machine, records, self.log, self.with_grace().deadline, self.crew)
