# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which units the settings ``units`` and ``mounts`` mean, and which they may not mean.

A mount point is away while its unit is down: systemd makes a unit of every mount.
"""

from __future__ import annotations

from fnmatch import fnmatchcase

from libhook import plainjson
from libhook.children import tracks
from libhook.errors import BadInput, LibhookError, named, pasted, printable
from libhook.facts.mountpoint import path_of, unit_of
from libhook.facts.plan import Refusal, Verdict, Warn
from libhook.facts.program import SESSIONS
from libhook.facts.shared import Shared
from libhook.facts.unit import Unit, is_anyones, is_name, is_protected, is_seat, is_user, owner_of
from libhook.kinds.unit.state import DOWN, NAME, UP, State
from libhook.light import TYPE_CHECKING, MappingProxyType, NamedTuple, suppress
from libhook.look import occupants, seats, systemd
from libhook.look.systemd import NoManager

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from libhook.facts.config import Config
    from libhook.facts.situation import Situation
    from libhook.kinds.kind import Work
    from libhook.look.occupants import Occupant

_UNITS, _MOUNTS = "units", "mounts"
_OVERLAP = "name the same mount points for both guests, or stop the other; if it has ended, run: libhook recover"
_WRITE = "write {} instead of {} under units; libhook config shows where"
_CORRECT = "correct {} in the settings; libhook config shows where"


class Asked(NamedTuple):
    """An entry of the settings."""

    pattern: str
    """A unit's name, or a pattern, of the system's units or a user's."""
    state: str
    setting: str = _UNITS


class Seen(NamedTuple):
    """What systemd says of the units."""

    units: Mapping[str, Sequence[Unit]]
    """By what the settings ask for."""
    kept: Sequence[Unit] = ()
    """Those that guests keep in some state."""
    absent: Mapping[str, tuple[str, str]] = MappingProxyType({})
    """By what the settings ask for, where nobody's systemd could be asked: why, and what would help."""
    occupants: Mapping[int, Occupant] = MappingProxyType({})
    """The processes that have a device open, by pid, where something is to go down for that."""


def _asked(config: Config) -> list[Asked]:
    return [
        *(Asked(pattern, state) for pattern, state in config.actions.get(_UNITS, {}).items()),
        *(Asked(unit_of(path), DOWN, _MOUNTS) for path in config.actions.get(_MOUNTS, ())),
    ]


def look(work: Work) -> Seen:
    """See Kind. The units that the settings name, by name, pattern or mount point, each as its own systemd sees it.

    systemd forgets a unit that is down and that nobody names. So patterns match what guests keep down, too.
    """
    owned: dict[str, dict[str, None]] = {}
    for one in _asked(work.config):
        owned.setdefault(owner_of(one.pattern), {})[one.pattern] = None
    names, absent, kept = list(_kept(work)), dict[str, tuple[str, str]](), list[Unit]()
    units: dict[str, Sequence[Unit]] = {}
    for owner, patterns in owned.items():
        try:
            user = _user(work, owner)
            own = [name for name in names if owner_of(name) == user]
            found = _of(work, user, [_bare(name) for name in (*patterns, *own)])
        except NoManager as error:
            absent |= dict.fromkeys(patterns, (error.message, error.hint))
            continue
        mine = [one for name in own for one in found[_bare(name)]]
        for pattern in patterns:
            bare = _bare(pattern)
            those = () if is_name(bare) else mine  # a name has found its own unit
            more = [one for one in those if fnmatchcase(_bare(one.name), bare) and one not in found[bare]]
            units[pattern] = (*found[bare], *more)
        kept += mine
    return Seen(units, kept, absent, _occupants(work))


def _user(work: Work, owner: str) -> str:
    """The user whose units these are, by the one name that counts: guests meet by it. "" for the system's."""
    user = seats.user_on(work.machine, owner[1:], work.deadline) if is_seat(owner) else owner
    if owner and not user:
        raise NoManager(f"nobody is logged in at {owner[1:]}", "log in there")
    first = systemd.first_name(work.machine, user, work.deadline) if user else ""
    if not is_user(first):  # such as tim@example.org, which the settings cannot have
        return user
    if user not in (first, owner):
        return first
    if user != first:
        raise LibhookError(
            f"{named(user)} is another name of the user {named(first)}", _WRITE.format(f"{first}/", f"{user}/")
        )
    return user


def _occupants(work: Work) -> Mapping[int, Occupant]:
    """See Seen. Nobody knows what the old scripts of the settings end, and the commands that come before the units."""
    pids = [use.pid for uses in work.host.uses.values() for use in uses if use.pid]
    those = work.config.actions.get("run", {}).values()
    early = [one for one in those if "command" in one and one.get("at", "prepare") == "prepare" and "after" not in one]
    if not pids or early or "legacy" in work.config.actions:
        return {}
    programs = [item for item in work.config.actions.get("end", ()) if item != SESSIONS]
    (found,) = tracks.run([occupants.of_pids(work.machine, pids, programs)], work.deadline)
    return {one.pid: one for one in found}


def _of(work: Work, user: str, patterns: Sequence[str]) -> dict[str, tuple[Unit, ...]]:
    """What a user's systemd says of these, each unit named with its user."""
    found = systemd.matching(work.machine, dict.fromkeys(patterns), work.deadline, user)
    if not user:
        return found
    return {pattern: tuple(_named(one, user) for one in units) for pattern, units in found.items()}


def _named(one: Unit, user: str) -> Unit:
    family, lost = (tuple(f"{user}/{name}" for name in names) for names in (one.family, one.lost))
    return one._replace(name=f"{user}/{one.name}", family=family, lost=lost)


def _bare(name: str) -> str:
    return name.rpartition("/")[2]


def _kept(work: Work) -> Iterator[str]:
    """The units that guests keep in some state."""
    for file in work.state.names("shared"):
        with suppress(BadInput, ValueError, RecursionError):
            shared = Shared.from_json(plainjson.loads(work.state.read_shared(file.removesuffix(".json")) or "null"))
            name = shared.resource.removeprefix(f"{NAME} ")
            if name != shared.resource and is_anyones(name):
                yield name


def wanted(situation: Situation) -> Iterator[Verdict]:
    """See Kind. What the settings ask for, without what is journalled already, or goes down with another unit."""
    done = {action.key for action in situation.held.actions} if situation.held else set[str]()
    devices = tuple(f"{device.pci} is free" for device in situation.domain.pci)
    seen: Seen = situation.looked.get(NAME, Seen({}))
    found: dict[str, tuple[Unit, Asked]] = {}
    for one in _asked(situation.config):
        if one.state == UP and one.pattern in seen.absent and not _is_done(one, done):
            why, remedy = seen.absent[one.pattern]
            yield Refusal("", f"{named(one.pattern)} cannot be started: {why}", remedy)
        if (nothing := _nothing(one, seen)) and not _is_done(one, done):
            yield Warn(printable(nothing))
            continue
        for unit in seen.units.get(one.pattern, ()):
            if complaint := _complaint(unit, one, found):
                yield Refusal("", *complaint)
            else:
                found.setdefault(unit.name, (unit, one))
    going_along = _going_along([unit for unit, one in found.values() if one.state == DOWN])
    going = {name for unit, one in found.values() if one.state == DOWN for name in (unit.name, *unit.family)}
    yield from _others(situation, seen, going)
    kept = [(other.name, {*other.family}) for other in seen.kept if other.name not in found]
    for unit, one in found.values():
        frees = (*devices, *map(_gone, filter(path_of, (unit.name, *unit.family)))) if one.state == DOWN else ()
        asked = "" if one.pattern == unit.name else one.pattern
        action = State(unit.name, one.state, asked, frees)
        if action.key in done or (one.state == DOWN and unit.name in going_along):
            continue
        if overlap := _overlap(unit, kept) if path_of(unit.name) else "":
            yield Refusal(
                "",
                f"{_shown(unit.name)} would be unmounted with {named(overlap)}, which another guest keeps as it is",
                _OVERLAP,
            )
        else:
            yield action


def _others(situation: Situation, seen: Seen, going: Collection[str]) -> Iterator[Refusal]:
    """The devices that a service of the host has open which does not go down with these.

    That is said before a desktop is down for nothing. Of any other process nobody knows what it ends with.
    """
    for address, uses in situation.host.uses.items() if going else ():
        for use in uses:
            one, counts = seen.occupants.get(use.pid), situation.config.strictness(use.kind) == "refuse"
            if (
                one
                and counts
                and one.service not in ("", *going)
                and not (one.program or one.is_agent or one.is_spared)
            ):
                reason = f"{address} is in use by the host: {use.what}, and {named(one.service)} does not go down"
                from libhook.facts import remedy

                yield Refusal(f"pci {address}", printable(reason), remedy.of_process(situation, use))


def _nothing(one: Asked, seen: Seen) -> str:
    """Why an entry asks for nothing on this host, or "". It may be misspelt, and nothing refuses that."""
    if one.pattern in seen.absent:
        return f"{named(one.pattern)}: {seen.absent[one.pattern][0]}, so it is left alone" if one.state == DOWN else ""
    found = seen.units.get(one.pattern, ())
    if one.setting == _MOUNTS:
        nothing = f"nothing is mounted at {_shown(one.pattern)}, and no unit would mount it"
        return nothing if all(unit.load == "not-found" for unit in found) else ""
    return "" if found else f"no unit is called {named(one.pattern)}"


def _is_done(one: Asked, done: Collection[str]) -> bool:
    """Whether the unit was started for the guest. Since then its user may have left the seat."""
    return any(key.startswith(f"{NAME} ") and _bare(key) == _bare(one.pattern) for key in done)


def _shown(unit: str) -> str:
    """As a sentence names it: a mount point by its path."""
    return named(path_of(unit) or unit)


def _gone(mount: str) -> str:
    return f"{path_of(mount)} is not mounted"


def _going_along(down: Sequence[Unit]) -> set[str]:
    """Those that go down and come back with another of these. Of two that go with each other, the second does."""
    families = {unit.name: {*unit.family} for unit in down}
    places = {name: place for place, name in enumerate(families)}
    return {
        name
        for other, family in families.items()
        for name in family & families.keys()
        if name != other and (places[other] < places[name] or other not in families[name])
    }


def _complaint(unit: Unit, one: Asked, found: Mapping[str, tuple[Unit, Asked]]) -> tuple[str, str] | None:
    """Why this unit may not be put into this state, and what would help.

    What is up for a guest is stopped at its end.
    """
    remedy, path = _CORRECT.format(one.setting), path_of(unit.name)
    name, never = _shown(unit.name), "may not be unmounted" if path else "may not be stopped"
    if unit.load == "not-found" or not is_anyones(unit.name):
        return f"there is no unit {named(one.pattern)} on this host", remedy
    if unit.name in found and found[unit.name][1].state != one.state:
        before = found[unit.name][1].state
        other = f"{named(one.pattern)} to be {one.state}"
        return f"{named(unit.name)} is to be {before}, and {other}: they are one unit", remedy
    if is_protected(unit.name):
        return f"{name} {never}: libvirt or the host itself depends on it", remedy
    if along := next(filter(is_protected, unit.family), ""):
        return f"{name} {never}: it would take {named(along)} along", remedy
    if one.state == UP and unit.load == "masked":
        return f"{named(unit.name)} is masked", remedy
    if not unit.may_start and (one.state == UP or unit.is_on):
        return f"{named(unit.name)} refuses to be started by hand", remedy
    if path and unit.is_on and not unit.has_file:
        return (
            f"{name} was mounted by hand: nobody could mount it again",
            f"put it into /etc/fstab, or to unmount it, run: umount {pasted(path)}",
        )
    if unit.is_transient or (unit.is_on and not unit.may_return):
        why = "is masked" if unit.load == "masked" else "has no file"
        return f"{named(unit.name)} {why}: nobody could start it again", remedy
    if path and unit.lost:
        lost = _shown(unit.lost[0])
        return f"{name} {never}: it would take {lost} along, and nobody could start that again", f"stop {lost} first"
    return None if unit.may_stop else (f"{named(unit.name)} refuses to be stopped by hand", remedy)


def _overlap(unit: Unit, kept: Sequence[tuple[str, set[str]]]) -> str:
    """Which of these is below this mount point or above it, or needs it.

    With two guests, one of them would find it mounted while it uses the disk.
    """
    own = {*unit.family}
    return next((name for name, family in kept if name in own or unit.name in family), "")
