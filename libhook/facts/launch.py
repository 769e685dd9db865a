# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is started of a command of the administrator's own. Pure."""

from __future__ import annotations

from libhook.light import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping


MOST_OUTPUT = 16 << 20
"""Bytes in ``output``. It is also the most that a script may then write into one file of its own (RLIMIT_FSIZE)."""


class Launch(NamedTuple):
    """A command, and what it is given."""

    argv: tuple[str, ...]
    environment: Mapping[str, str]
    """All of its environment but for PATH, and what every unit with a user is told of that user."""
    document: bytes
    """Its stdin."""
    user: str = ""
    """Who runs it; "" for root."""
    output: int = -1
    """A file for what it prints; what it says on stderr goes to the log all the same. -1: that does, too."""
    tag: str = "libhook"
    """The name that the log gives to what it prints, where systemd does not run."""
