# SPDX-License-Identifier: LGPL-2.1-or-later
"""``libhook recover --give-up THING``: what is meant by THING, and what becomes of it."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence, Set
from typing import NamedTuple

from libhook import plainjson
from libhook.command.usage import meant
from libhook.effects.state import State
from libhook.errors import BadInput, LibhookError, TooNew, named, pasted, unanswered
from libhook.facts.domain import Domain
from libhook.facts.entry import Held
from libhook.facts.mountpoint import unit_of
from libhook.facts.remedy import called, told
from libhook.facts.shared import Shared
from libhook.facts.unit import is_name
from libhook.facts.value import path_of
from libhook.kinds import claimants
from libhook.kinds import registry as kinds
from libhook.kinds.kind import Work
from libhook.kinds.resource import Resource
from libhook.light import suppress
from libhook.look import sysfs, systemd
from libhook.story import giveback, giveup
from libhook.story.orphans import settle_orphans
from libhook.story.session import Session

Said = tuple[str, bool]
"""A line, and whether it says that something could not be done."""


class Things(NamedTuple):
    """Everything that may be given up, or is another's."""

    entries: Sequence[tuple[Held, str | None]]
    """Each with why it may not be touched."""
    broken: Sequence[str]
    """The UUIDs of entries that cannot be read."""
    resources: Mapping[str, Resource]
    """What guests share, by the key of the actions that claim it."""
    orphans: frozenset[str]
    """The keys of those with a claim that no entry names."""

    @property
    def subjects(self) -> dict[str, str]:
        """What messages call it, by the key."""
        found = {key: resource.says for key, resource in self.resources.items() if key in self.orphans}
        for held, _ in self.entries:
            found |= {device.key: device.address for device in held.devices}
            found |= {action.key: action.subject for action in held.actions}
        return found

    def key(self, thing: str, work: Work) -> str:
        """The key that is meant. BadInput where there is none, or more than one.

        It may be spelt as in the settings, but for a file, which has its real path. LibhookError where systemd does not
        say whose alias it is.
        """
        subjects = self.subjects
        names = {thing, f"module {thing.replace('-', '_')}", unit_of(thing) if thing.startswith("/") else ""}
        found = _with_name(subjects, names)
        with suppress(BadInput):
            found = found or _with_name(subjects, {path_of(thing)})
        if not found and is_name(thing) and any(key.startswith("unit ") for key in subjects):
            found = _with_name(subjects, {f"unit {systemd.units(work.machine, [thing], work.deadline)[thing].name}"})
        if len(found) > 1:
            raise BadInput(f"{named(thing)} is {' and '.join(map(told, found))}", "name one of these, in quotes")
        if not found:
            near = meant(thing, [*map(called, subjects), *subjects, *self.broken])
            status = f"{near.removeprefix(': ')} libhook status shows what it holds".lstrip()
            raise BadInput(f"libhook holds nothing called {named(thing)}", status)
        return found[0]

    def of(self, uuid: str) -> "Things":
        """Only what this guest's entry has."""
        return self._replace(entries=[one for one in self.entries if one[0].uuid == uuid], orphans=frozenset())

    def with_key(self, key: str) -> list[tuple[Held, str | None]]:
        """The entries that have this."""
        return [one for one in self.entries if key in one[0].by_key() or key in one[0].actions_by_key()]


def _with_name(subjects: Mapping[str, str], names: Set[str]) -> list[str]:
    return [key for key, subject in subjects.items() if names & {key, called(key), subject}]


def look(session: Session) -> Things:
    """Look at all entries and claims."""
    state, entries, broken = session.state, giveback.read_entries(session)[0], list[str]()
    for uuid in state.uuids():
        try:
            state.load(uuid)
        except TooNew:
            pass
        except BadInput:
            broken.append(uuid)
    resources, orphans, read = dict[str, Resource](), set[str](), dict[str, Collection[str] | None]()
    claimed = {action.key for held, _ in entries for action in held.actions}
    for name in sorted(state.names("shared")):
        with suppress(BadInput, ValueError, RecursionError):
            shared = Shared.from_json(plainjson.loads(state.read_shared(name.removesuffix(".json")) or "null"))
            if found := kinds.shared(session.machine, shared.resource):
                key, resources[found[0]] = found
                alive = claimants.in_entries(state, key, read)
                if not all(map(alive, shared.wants)) or not (shared.wants or key in claimed):
                    orphans.add(key)
    return Things(entries, broken, resources, frozenset(orphans))


def words(state: State) -> Iterator[str]:
    """What may stand behind ``--give-up``, for completion. Nobody is asked whether a guest lives."""
    for uuid in state.uuids():
        try:
            held = state.load(uuid)
        except BadInput:
            yield uuid
        else:
            yield from sorted({called(action.key) for action in held.actions} if held else ())


def give_up(session: Session, things: Iterable[str], *, dry_run: bool) -> Iterator[Said]:
    """Give all these up, or say what would be. BadInput, before anything is done, where one is not known."""
    known = look(session)
    for uuid, key in dict.fromkeys([_meant(session, known, thing) for thing in things]):
        fresh = session.with_settings_of(Domain("", "", "", ())).with_time()
        try:
            if key:
                yield from _thing(fresh, known.of(uuid) if uuid else known, key, dry_run)
            else:
                yield from _entry(fresh, uuid, dry_run)
        except LibhookError as error:
            yield error.line, True
        except OSError as error:
            yield unanswered(error).line, True


def _meant(session: Session, known: Things, thing: str) -> tuple[str, str]:
    """The guest, where one is named, and the key of what it has; "" for its whole entry, which is broken.

    BadInput where several dead guests have it, and none is named.
    """
    name = thing.rpartition("/")[2]
    for uuid in (name, name.removesuffix(".json")):
        if uuid in known.broken:
            return uuid, ""
    uuid, colon, own = thing.partition(":")
    if colon and known.of(uuid).entries:
        return uuid, known.of(uuid).key(own, session.work(""))
    key = known.key(thing, session.work(""))
    dead = [held for held, alive in known.with_key(key) if alive is None]
    if len(dead) > 1:
        have = " and ".join(f"{named(held.name)} ({held.uuid})" for held in dead)
        given = " ".join(f"--give-up {pasted(f'{held.uuid}:{key}')}" for held in dead)
        raise BadInput(
            f"{have} have {named(thing)}", f"leave out whose is to come back, and run: libhook recover {given}"
        )
    return "", key


def _thing(session: Session, known: Things, key: str, dry_run: bool) -> Iterator[Said]:
    resource, entries, what = known.resources.get(key), known.with_key(key), told(key)
    anybody = key in known.orphans or any(alive is None for _, alive in entries)
    for held, alive in entries:
        name = named(held.name)
        if alive:
            yield f"{name}: {what} left alone, because {alive}", not anybody
        elif dry_run:
            yield f"{name}: {what} would be given up: {_stays(session, held, key)}", False
        elif reason := giveup.give_up(session.with_settings_of(held).with_time(), held.uuid, key, resource):
            yield f"{name}: {what} left alone, because {reason}", reason != giveup.GONE
        else:
            yield f"{name}: {what} is given up: {_stays(session, held, key)}", False
    if resource and key in known.orphans:
        what = f"a guest without a journal entry: {what}"
        if dry_run or giveup.give_up_orphans(session, key, resource):
            yield f"{what} {'would be' if dry_run else 'is'} given up", False
        else:
            yield f"{what} left alone, because {giveup.GONE}", False


def _stays(session: Session, held: Held, key: str) -> str:
    device = held.by_key().get(key)
    where = giveup.stays(session, [device.pci]) if device and device.pci else ""
    return f"it stays as it is{where and f', {where}'}"


def _entry(session: Session, uuid: str, dry_run: bool) -> Iterator[Said]:
    what, left = f"the broken journal entry {uuid}", _left(session, uuid)
    if reason := giveup.in_the_way(session, uuid) if dry_run else giveup.give_up_entry(session, uuid):
        yield f"{what} left alone: {reason}", reason != giveup.GONE
        return
    yield f"{what} {'would be' if dry_run else 'is'} given up{left}", False
    yield from settle_orphans(session.work(""), dry_run=dry_run)


def _left(session: Session, uuid: str) -> str:
    """Where the guest's devices stay. After its end no claim says which it had: then whose they may be is nobody's."""
    if addresses := session.state.claimed_by(uuid):
        return f": left where they are: {giveup.stays(session, addresses)}"
    every = [one for one in sysfs.addresses(session.machine) if sysfs.on_vfio(session.machine, one)]
    has = session.state.claims(every)
    lone = giveup.stays(session, [one for one in every if one not in has])
    return lone and f": what it had may be among these, which no guest has: {lone}"
