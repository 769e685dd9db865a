# SPDX-License-Identifier: LGPL-2.1-or-later
"""Answers a wrong command line with the usage of that very command, and with what was probably meant.

argparse tells the top of a command's unknown options, so that the usage shown is not the command's own. It suggests
nothing before Python 3.14.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import NoReturn

from libhook.errors import printable


class Parser(argparse.ArgumentParser):
    """A parser of ours. Those of its commands are of this class, too."""

    def parse_known_args(  # type: ignore[override]  # argparse's overloads are for namespaces of other types
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Parse all. A word that is left over is an error of this parser, and not of the one above it."""
        found, left = super().parse_known_args(args, namespace)
        if left:
            self.error(self._unknown(left))
        return found, left

    def _unknown(self, left: Sequence[str]) -> str:
        """What is wrong with words that no argument and no option took. Mostly an option is misspelt."""
        word = next((word for word in left if word.startswith("-")), "").partition("=")[0]
        if not word:
            return f"too many arguments: {' '.join(left)}"
        known = [option for action in self._actions for option in action.option_strings]
        return f"there is no option {word}{meant(word, known)}"

    def _check_value(self, action: argparse.Action, value: object) -> None:
        """argparse's own check lists all choices, and calls a command a choice."""
        if action.choices is None or value in action.choices:
            return
        known, word = list(map(str, action.choices)), str(value)
        if isinstance(action, argparse._SubParsersAction):
            near = meant(word, known) or f"; there are {', '.join(known)}"
            self.error(f"there is no command {word}{near}")
        what = "/".join(action.option_strings) or action.metavar
        self.error(f"{what} is one of {', '.join(known)}, not {word}{meant(word, known)}")

    def error(self, message: str) -> NoReturn:
        """Say what is wrong, below the usage. Exit code 2."""
        self.print_usage(sys.stderr)
        self.exit(2, f"{printable(f'{self.prog}: {message}')}\n")


def meant(word: str, known: Iterable[str]) -> str:
    """A question with the likeliest of the known words; "" where none is near."""
    near = get_close_matches(word, list(known), 1)
    return f": did you mean {near[0]}?" if near else ""
