# SPDX-License-Identifier: LGPL-2.1-or-later
"""Answers a wrong command line with the usage of that very command, and with what was probably meant.

argparse tells the top of a command's unknown options, so that the usage shown is not the command's own. It suggests
nothing before Python 3.14.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import NoReturn

from libhook.errors import harmless, named, printable
from libhook.facts.remedy import is_plain


class Parser(argparse.ArgumentParser):
    """A parser of ours. Those of its commands are of this class, too."""

    def parse_known_args(  # type: ignore[override]  # argparse's overloads are for namespaces of other types
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Parse all. A word that is left over is an error of this parser, and not of the one above it."""
        found, left = super().parse_known_args(args, namespace)
        if left:
            self.error(self._unknown(left))
        if self._commands() and not hasattr(found, "command"):
            known = ", ".join(self._commands())
            self.error(f"a command is missing; there are {known}; libhook --help says what each does")
        return found, left

    def _unknown(self, left: Sequence[str]) -> str:
        """What is wrong with words that no argument and no option took. Mostly an option is misspelt."""
        word = next((word for word in left if word.startswith("-")), "").partition("=")[0]
        if not word:
            rather = self.get_default("rather") or ""
            guest = left[0] if is_plain(left[0]) else "GUEST"
            return f"too many arguments: {' '.join(map(named, left))}{rather.format(guest)}"
        known = _options(self)
        near = meant(word, known) or f"; there are {', '.join(known)}"
        if any(word in _options(command) for command in self._commands().values()):
            near = f"; an option of a command stands after it: {self.prog} COMMAND {word}"
        return f"there is no option {named(word)}{near}"

    def _commands(self) -> Mapping[str, argparse.ArgumentParser]:
        choices = (action.choices for action in self._actions if isinstance(action, argparse._SubParsersAction))
        return next(choices, {})

    def _check_value(self, action: argparse.Action, value: object) -> None:
        """argparse's own check lists all choices, and calls a command a choice."""
        if action.choices is None or value in action.choices:
            return
        known, word = list(map(str, action.choices)), str(value)
        if isinstance(action, argparse._SubParsersAction):
            near = meant(word, known) or f"; there are {', '.join(known)}"
            self.error(f"there is no command {named(word)}{near}")
        what = "/".join(action.option_strings) or "it"
        self.error(f"{what} takes {', '.join(known[:-1])} or {known[-1]}, not {named(word)}{meant(word, known)}")

    def error(self, message: str) -> NoReturn:
        """Say what is wrong, below the usage. Exit code 2. On a terminal no word of it is broken."""
        self.print_usage(sys.stderr)
        text = printable(f"{self.prog}: {harmless(message)}")
        if sys.stderr.isatty():
            width = max(shutil.get_terminal_size().columns - 1, 20)
            text = "\n".join(textwrap.wrap(text, width, subsequent_indent="  ", break_on_hyphens=False))
        self.exit(2, f"{text}\n")


def _options(parser: argparse.ArgumentParser) -> list[str]:
    return [option for action in parser._actions for option in action.option_strings]


def meant(word: str, known: Iterable[str], nearness: float = 0.6) -> str:
    """A question with the likeliest of the other known words; "" where none is near (0.6: difflib's default)."""
    near = get_close_matches(word, [one for one in known if one != word], 1, nearness)
    return f": did you mean {named(near[0])}?" if near else ""
