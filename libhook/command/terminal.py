# SPDX-License-Identifier: LGPL-2.1-or-later
"""Input and output of the commands: files or stdin, JSON or lines, help text, seconds.

Lines are made printable here. So the code that makes a line may put any text into it.
"""

import argparse
import json
import sys
import textwrap

from libhook.errors import LibhookError, named, printable
from libhook.xml.prolog import MAX_BYTES

_LARGEST = MAX_BYTES + 1
_MOST_SECONDS = 3600


class Help(argparse.HelpFormatter):
    """Formats help without a line break at a hyphen, so that libhook-watch and week-ago can be copied."""

    def _split_lines(self, text: str, width: int) -> list[str]:
        return textwrap.wrap(" ".join(text.split()), width, break_on_hyphens=False)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return "\n".join(indent + line for line in self._split_lines(text, width - len(indent)))


def seconds(text: str) -> float:
    """Parse an option's value in seconds: more than 0, and at most an hour."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= _MOST_SECONDS:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds between 0 and {_MOST_SECONDS}")
    return value


def complain(broken: list[str]) -> int:
    """Print these lines to stderr, made printable. Return the exit code: 1 if there are any, else 0."""
    for line in broken:
        print(printable(line), file=sys.stderr)
    return 1 if broken else 0


def read(path: str, what: str) -> bytes:
    """Read a file, or stdin for ``-``, but no more than can be parsed.

    LibhookError if that fails. ``what`` says what to name instead, for its remedy.
    """
    try:
        if path == "-":
            return sys.stdin.buffer.read(_LARGEST)
        with open(path, "rb") as file:
            return file.read(_LARGEST)
    except OSError as error:
        raise LibhookError(f"{named(path)}: {error.strerror}", f"give {what}, or - for stdin") from None


def show(what: dict[str, object] | list[object] | list[str]) -> None:
    """Print a list of lines as text, made printable, and anything else as JSON. json escapes all but ASCII."""
    lines = [printable(line) for line in what if isinstance(line, str)] if isinstance(what, list) else []
    if isinstance(what, list) and len(lines) == len(what):
        for line in lines:
            print(line)
    else:
        print(json.dumps(what, indent=2, ensure_ascii=True))
