# SPDX-License-Identifier: LGPL-2.1-or-later
"""Merges sections, the most specific last, into the settings of one guest. Keeps where each value comes from.

The last section that sets a key wins. But tables are merged key by key, and the items of lists add up, unless a section
says ``replace = true``.
"""

from __future__ import annotations

from libhook.facts import keys
from libhook.facts.config import HANDLERS, Config
from libhook.facts.settings import Section, Settings
from libhook.facts.written import named, written
from libhook.light import TYPE_CHECKING, MappingProxyType, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any


class Setting(NamedTuple):
    """One value in one section. An entry of a table is one, and so is an item of a list."""

    section: Section
    at: tuple[str | int, ...]
    """Where it is in the section: ``("audit", "required")``, ``("values", "vm.swappiness")``."""
    value: object

    @property
    def name(self) -> str:
        """Its name with its section: ``domains."win11".siblings``."""
        return named((*self.section.keys, *self.at))

    @property
    def line(self) -> str:
        """As in a file, but with its section: ``domains."win11".siblings = "bind"``."""
        return f"{self.name} = {written(self.value)}"

    @property
    def key(self) -> str:
        """The key that it sets: ``audit.required``."""
        return ".".join(map(str, self.at))

    @property
    def relaxes(self) -> bool:
        """Whether it consents to a risk that libhook refuses by default."""
        return keys.relaxes(self.key, self.value)

    @property
    def is_default(self) -> bool:
        """Whether it says what would be so without it."""
        return self.key == keys.REPLACE or self.value == default(self.key)


class Merged(NamedTuple):
    """One key for one guest: its value, and the settings that it is made of."""

    value: object
    settings: tuple[Setting, ...]


def default(key: str) -> object:
    """What holds where nobody sets the key; None for one that asks for actions."""
    return Config()._asdict().get(key.replace(".", "_"))


def every(found: Settings) -> list[Setting]:
    """Every setting of every section, in the order of the files."""
    return [
        one
        for section in found.sections
        for key, value in section.values.items()
        for one in _split(section, key, value)
    ]


def _split(section: Section, key: str, value: object) -> list[Setting]:
    at: tuple[str | int, ...] = tuple(key.split("."))
    if isinstance(value, dict):
        return [Setting(section, (*at, entry), inner) for entry, inner in value.items()]
    if isinstance(value, list):
        return [Setting(section, (*at, number), item) for number, item in enumerate(value)]
    return [Setting(section, at, value)]


def merge(sections: Iterable[Section]) -> dict[str, Merged]:
    """The keys that these sections set. The most specific section comes last."""
    values: dict[str, Any] = {}
    settings: dict[str, dict[object, Setting]] = {}
    """By the entry of a table, or the text of a list's item."""
    for section in sections:
        anew = section.values.get(keys.REPLACE, False)
        for key, value in section.values.items():
            if key == keys.REPLACE:
                continue
            many = isinstance(value, dict | list)
            if anew or not many or type(value) is not type(values.get(key)):
                values[key], settings[key] = type(value)() if many else value, {}
            had = settings[key]
            for one in _split(section, key, value):
                if isinstance(value, dict):
                    values[key][one.at[-1]] = one.value
                    had.pop(one.at[-1], None)  # a later entry stands last
                    had[one.at[-1]] = one
                elif (text := written(one.value)) not in had:
                    had[text] = one
                    if many:
                        values[key].append(one.value)
    return {key: Merged(value, tuple(settings[key].values())) for key, value in values.items()}


def only_of(merged: dict[str, Merged], sections: Iterable[Section]) -> dict[str, Merged]:
    """The keys, and of what asks for actions only that for which these sections ask.

    What is asked for is as it holds for the guest: a more specific section may say otherwise, or take it away. Handlers
    are asked in any case: they say themselves whether that is at hot-plug.
    """
    found = {key: one for key, one in merged.items() if key not in keys.OF_KINDS or key == HANDLERS}
    for key in keys.OF_KINDS.keys() - {HANDLERS}:
        own = [section.values[key] for section in sections if key in section.values]
        if own and (value := _of_these(merged[key].value, own)):
            found[key] = merged[key]._replace(value=value)
    return found


def _of_these(value: object, own: list[Any]) -> object:
    """The part of a table or list for which one of these asks."""
    if isinstance(value, dict):
        asked = {entry for one in own for entry in one}
        return {entry: inner for entry, inner in value.items() if entry in asked}
    if isinstance(value, list):
        asked = {written(item) for one in own for item in one}
        return [item for item in value if written(item) in asked]
    return value


def config_of(merged: dict[str, Merged]) -> Config:
    """The settings of the guest. What is not set has its default."""
    plain = {key.replace(".", "_"): one.value for key, one in merged.items() if key not in keys.OF_KINDS}
    actions = {key: one.value for key, one in merged.items() if key in keys.OF_KINDS}
    return Config(**plain, actions=MappingProxyType(actions))  # type: ignore[arg-type] # keys.expectation has checked each
