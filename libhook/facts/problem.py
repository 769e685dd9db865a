# SPDX-License-Identifier: LGPL-2.1-or-later
"""An error in the settings, and how a person is told: file, section, key, what is wrong, what was probably meant."""

from __future__ import annotations

from libhook.errors import BadInput
from libhook.errors import named as called
from libhook.facts.written import DEVICES, named
from libhook.light import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

_MORE = "libhook config shows them"
_LONGEST = 80
"""What is compared of a key. difflib takes long for long ones."""
_EXPLAINED = 100
"""For so many errors is said what was probably meant: difflib takes some milliseconds for each."""


class Problem(NamedTuple):
    """One error."""

    path: str
    """The file."""
    keys: tuple[str, ...]
    """Where it is in the file; () for the whole file."""
    what: str
    remedy: str
    near: tuple[str, ...] = ()
    """What may have been meant: the likely one of these stands in place of ``remedy``."""
    typed: str = ""
    """What was written, to compare with ``near``."""

    @property
    def message(self) -> str:
        """Where it is, and what: ``/etc/libhook/config.toml: unknown key siblngs``."""
        return self.what if self.path in self.what else f"{self.path}: {self.what}"

    @property
    def text(self) -> str:
        """The message and the remedy. Not escaped."""
        return f"{self.message}: {self.remedy}"

    def to_json(self) -> dict[str, str]:
        """As ``libhook config --json`` has it."""
        return {"file": self.path, "key": named(self.keys), "what": self.what, "remedy": self.remedy}


def explained(problems: Iterable[Problem]) -> list[Problem]:
    """These errors, each with the remedy that names what was probably meant."""
    return [
        one._replace(remedy=(number < _EXPLAINED and _meant(one)) or one.remedy) for number, one in enumerate(problems)
    ]


def refusal(every: Sequence[Problem], own: Collection[Problem]) -> BadInput | None:
    """The error for a guest that its ``own`` problems refuse, or None: the first, and how many others there are."""
    if not own:
        return None
    (first,) = explained([next(one for one in every if one in own)])
    return BadInput(first.message, first.remedy + (f"; and {len(every) - 1} more: {_MORE}" if len(every) > 1 else ""))


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
