# SPDX-License-Identifier: LGPL-2.1-or-later
"""An error in the settings, as data."""

from __future__ import annotations

from libhook.light import NamedTuple


class Problem(NamedTuple):
    """One error. facts/complaints.py says it to a person, with its line and the likely spelling."""

    file: int
    keys: tuple[str, ...]
    """Where it is in the document; () for the whole file."""
    what: str
    remedy: str
    near: tuple[str, ...] = ()
    """What may have been meant: the likely one of these stands in place of ``remedy``."""
    typed: str = ""
    """What was written, to compare with ``near``."""
    line: int = 0
    """The line, where it is not that of ``keys``."""
