# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which units the setting ``units`` means, and which it may not mean.

A mount point is away while its unit is down: systemd makes a unit of every mount.
"""

from __future__ import annotations

from libhook.errors import named, pasted, printable
from libhook.facts.mountpoint import path_of
from libhook.facts.plan import Refusal, Verdict, Warn
from libhook.facts.unit import Unit, is_name, is_protected, of_guest
from libhook.kinds.unit.state import DOWN, NAME, UP, State
from libhook.light import TYPE_CHECKING, NamedTuple
from libhook.look import systemd

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from libhook.facts.config import Config
    from libhook.facts.situation import Situation
    from libhook.kinds.kind import Work

_SETTING = "units"
_CORRECT = f"correct {_SETTING} in the settings; libhook config shows where"


class Asked(NamedTuple):
    """An entry of the settings."""

    entry: str
    """As it is written: ``/srv/data``, ``my@{name}.service``."""
    unit: str
    state: str


def _asked(config: Config, guest: str) -> list[Asked]:
    return [Asked(entry, of_guest(entry, guest), state) for entry, state in config.actions.get(_SETTING, {}).items()]


def look(work: Work) -> Mapping[str, Unit]:
    """See Kind. The units that the settings name, by these names."""
    names = [one.unit for one in _asked(work.config, work.name) if is_name(one.unit)]
    return systemd.units(work.machine, names, work.deadline)


def wanted(situation: Situation) -> Iterator[Verdict]:
    """See Kind. What the settings ask for, without what is journalled already, or goes down with another unit."""
    done = {action.key for action in situation.held.actions} if situation.held else set[str]()
    devices = tuple(f"{device.pci} is free" for device in situation.domain.pci)
    seen: Mapping[str, Unit] = situation.looked.get(NAME, {})
    found: dict[str, tuple[Unit, Asked]] = {}
    for one in _asked(situation.config, situation.domain.name):
        unit = seen.get(one.unit)
        if unit is None:
            yield Refusal("", f"{named(one.unit)} is no unit's name", "give the guest a shorter name")
        elif unit.load == "not-found" and path_of(one.unit) and one.state == DOWN:
            if f"{NAME} {unit.name}" not in done:
                nothing = f"nothing is mounted at {_shown(one.unit)}, and no unit would mount it"
                yield Warn(printable(nothing))
        elif complaint := _complaint(unit, one, found):
            yield Refusal("", *complaint)
        else:
            found.setdefault(unit.name, (unit, one))
    going_along = _going_along([unit for unit, one in found.values() if one.state == DOWN])
    for unit, one in found.values():
        frees = (*devices, *map(_gone, filter(path_of, (unit.name, *unit.family)))) if one.state == DOWN else ()
        action = State(unit.name, one.state, "" if unit.name in (one.entry, one.unit) else one.entry, frees)
        if action.key not in done and not (one.state == DOWN and unit.name in going_along):
            yield action


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
    path, name = path_of(unit.name), _shown(unit.name)
    never = "may not be unmounted" if path else "may not be stopped"
    if unit.load == "not-found" or not is_name(unit.name):
        return f"there is no unit {_shown(one.unit)} on this host", _CORRECT
    if unit.name in found and found[unit.name][1].state != one.state:
        other = found[unit.name][1]
        what = f"{named(other.entry)} is to be {other.state}, and {named(one.entry)} {one.state}: they are one unit"
        return what, _CORRECT
    if is_protected(unit.name):
        return f"{name} {never}: libvirt or the host itself depends on it", _CORRECT
    if along := next(filter(is_protected, unit.family), ""):
        return f"{name} {never}: it would take {named(along)} along", _CORRECT
    if one.state == UP and unit.load == "masked":
        return f"{named(unit.name)} is masked", _CORRECT
    if not unit.may_start and (one.state == UP or unit.is_on):
        return f"{named(unit.name)} refuses to be started by hand", _CORRECT
    if path and unit.is_on and not unit.has_file:
        return (
            f"{name} was mounted by hand: nobody could mount it again",
            f"put it into /etc/fstab, or to unmount it, run: umount {pasted(path)}",
        )
    if unit.is_transient or (unit.is_on and not unit.may_return):
        why = "is masked" if unit.load == "masked" else "has no file"
        return f"{named(unit.name)} {why}: nobody could start it again", _CORRECT
    if path and unit.lost:
        lost = _shown(unit.lost[0])
        return f"{name} {never}: it would take {lost} along, and nobody could start that again", f"stop {lost} first"
    return None if unit.may_stop else (f"{named(unit.name)} refuses to be stopped by hand", _CORRECT)
