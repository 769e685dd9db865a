# SPDX-License-Identifier: LGPL-2.1-or-later
"""What scripts did, as types. Pure."""

from typing import NamedTuple


class Place(NamedTuple):
    """A line of a script, as it is in the sandbox. Line 0 where none is known."""

    file: str = ""
    line: int = 0


class Done(NamedTuple):
    """One thing that a script did."""

    what: str
    """``start`` a program, ``write``, ``open`` for writing, ``fail`` to open, ``remove``, ``make``, ``kill``,
    ``connect``, ``absent``: start a program that is not there."""
    place: Place
    argv: tuple[str, ...] = ()
    path: str = ""
    data: str = ""
    user: str = ""
    environment: tuple[str, ...] = ()
    background: bool = False
    by: str = ""
    """The program that did it; "" for the shell itself, and for what was given."""
    pid: int = 0
    shown: str = ""
    """The command that bash has shown last."""
    head: Place = Place()
    """Where the shell that did it began: where a function is called in the background, say."""
    foreign: str = ""
    """The given file of another language that did it, or is started."""


class Trace(NamedTuple):
    """All that one call did."""

    done: tuple[Done, ...]
    lines: frozenset[Place]
    """Each line that ran."""
    commands: tuple[tuple[Place, str], ...]
    """Each command as bash showed it, its variables filled in."""
    code: int | None
    """The exit code; None if it did not end by itself."""
    read: frozenset[str]
    """The files that were opened for reading, also those that are not there."""
    lacking: frozenset[str]
    """The files that could not be written or made."""
    failed: tuple[tuple[Place, int], ...] = ()
    """Where a script that another one called has ended, and with which code, if not with 0."""
