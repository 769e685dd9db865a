# SPDX-License-Identifier: LGPL-2.1-or-later
"""Says the errors of the settings to a person: file, line, what is wrong, what was probably meant.

Imported only where there are errors.
"""

from __future__ import annotations

from libhook.errors import BadInput
from libhook.errors import named as called
from libhook.facts import places
from libhook.facts.problem import Problem
from libhook.facts.settings import Section, Settings
from libhook.facts.written import DEVICES, named
from libhook.light import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MORE = "libhook config shows them"
_LONGEST = 80
"""What is compared of a key. difflib takes long for long ones."""
_EXPLAINED = 100
"""For so many errors is said what was probably meant: difflib takes some milliseconds for each."""


class Complaint(NamedTuple):
    """One error."""

    file: str
    line: int
    """0 where it is not about a line."""
    key: str
    """With its section; "" where it is about the file."""
    what: str
    remedy: str

    @property
    def message(self) -> str:
        """Where it is, and what: ``/etc/libhook/config.toml, line 3: unknown key siblngs``."""
        if self.line:
            return f"{self.file}, line {self.line}: {self.what}"
        return self.what if self.file in self.what else f"{self.file}: {self.what}"

    @property
    def text(self) -> str:
        """The message and the remedy. Not escaped."""
        return f"{self.message}: {self.remedy}"


def of(settings: Settings, problems: Iterable[Problem]) -> list[Complaint]:
    """These errors, in the order of the files and lines."""
    return list(_in_order(settings, problems))


def _in_order(settings: Settings, problems: Iterable[Problem]) -> Iterator[Complaint]:
    lines: dict[int, dict[tuple[str | int, ...], int]] = {}
    found = []
    for problem in problems:
        if problem.file not in lines:
            lines[problem.file] = places.lines(settings.sources[problem.file].text)
        found.append((problem.file, problem.line or lines[problem.file].get(problem.keys, 0), problem))
    found.sort(key=lambda one: one[:2])
    for number, (file, line, problem) in enumerate(found):
        remedy = (number < _EXPLAINED and _meant(problem)) or problem.remedy
        yield Complaint(settings.sources[file].path, line, named(problem.keys), problem.what, remedy)


def refusal(settings: Settings, sections: Iterable[Section]) -> BadInput | None:
    """The error for a guest that these sections are about, or None. It says the first, and how many more there are."""
    own = [problem for section in sections for problem in section.problems]
    if not own:
        return None
    first = next(_in_order(settings, own))
    more = len({*settings.problems, *own}) - 1
    return BadInput(first.message, first.remedy + (f"; and {more} more: {MORE}" if more else ""))


def _meant(problem: Problem) -> str:
    """The remedy that names what was probably meant, or "" where nothing is like it."""
    if not problem.near:
        return ""
    from difflib import get_close_matches

    typed = problem.typed.lower()[:_LONGEST]
    tails = {one.rpartition(".")[2]: one for one in problem.near}  # required, for audit.required
    likely: list[str] = [typed] if typed in tails else get_close_matches(typed, [*problem.near, *tails], 1)
    if not likely:
        return ""
    meant = tails.get(likely[0], likely[0])
    is_device = problem.keys[0] == DEVICES and len(problem.keys) == 2
    return f"it should probably be {named((DEVICES, meant)) if is_device else called(meant)}"
