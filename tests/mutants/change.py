# SPDX-License-Identifier: LGPL-2.1-or-later
"""A small change to a file that some test should notice."""

from typing import NamedTuple

LAUNCHER = "hooks/qemu"


class Change(NamedTuple):
    """What stands between two places of a file is replaced."""

    what: str
    """In words."""
    start: int
    end: int
    text: bytes
    everywhere: bool = False
    """It is in no function: whoever runs any line of the file may notice it."""

    def apply(self, source: bytes) -> bytes:
        """The file with this change."""
        return source[: self.start] + self.text + source[self.end :]

    def lines(self, source: bytes) -> range:
        """The numbers of the lines that it changes."""
        return range(source.count(b"\n", 0, self.start) + 1, source.count(b"\n", 0, self.end) + 2)
