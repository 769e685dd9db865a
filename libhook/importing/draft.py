# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is to be written for one guest, and what became of each line. Pure."""

from typing import NamedTuple

from libhook.importing.done import Place
from libhook.importing.effect import Effect

DO, UNDO = ("prepare", "start", "started"), ("stopped", "release")


class Fate(NamedTuple):
    """What became of one line."""

    place: Place
    how: str
    """``kept``, ``undone``, ``needless``, ``danger``, ``left``, ``wrong``."""
    text: str


class Draft(NamedTuple):
    """The settings of one section, and the fates of the lines that they come from."""

    units: dict[str, str]
    modules: list[str]
    values: dict[str, str | int]
    mounts: list[str]
    end: list[str]
    along: list[str]
    sleep: list[str]
    run: dict[str, dict[str, object]]
    require: dict[str, dict[str, object]]
    fates: dict[Fate, None]
    found: list[str]
    """What the reader should know."""
    bound: list[str]
    """The devices that the scripts hand to vfio."""
    places: dict[str, dict[str, int]]
    """Where in the guest's life the scripts do, and undo, what an entry of ``run`` does."""

    @classmethod
    def empty(cls) -> "Draft":
        """One without anything."""
        return cls({}, [], {}, [], [], [], [], {}, {}, {}, [], [], {})

    @property
    def is_empty(self) -> bool:
        """Whether nothing would be written."""
        return not any((self.units, self.modules, self.values, self.mounts, self.end, self.along, self.sleep, self.run,
                        self.require))  # fmt: skip

    def tell(self, effect: Effect, how: str, text: str) -> None:
        """Note what became of an effect's line."""
        if effect.place.line:
            self.note(effect.place, how, text)

    def note(self, place: Place, how: str, text: str) -> None:
        """Note what became of a line."""
        self.fates[Fate(place, how, text)] = None

    def find(self, text: str) -> None:
        """Note what the reader should know."""
        if text not in self.found:
            self.found.append(text)


def moved(one: Effect) -> str:
    """A setting holds from prepare on, whenever the script did it."""
    return f" (now from prepare on, and not from {one.operation} on)" if one.operation in ("start", "started") else ""
