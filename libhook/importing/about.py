# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the translation must know besides the effects, as a type. Pure."""

import re
from collections.abc import Callable
from typing import NamedTuple

from libhook.importing.done import Place


class About(NamedTuple):
    """All of it."""

    guest: str
    """The name that the scripts ran with."""
    named: bool
    """Whether the settings are for this guest alone."""
    cpus: int
    desktop: str
    """The display manager of the imagined host."""
    texts: str
    """All scripts."""
    xml: frozenset[str] | None
    """The PCI addresses of the guest's document; None if there is none."""
    line: Callable[[Place], str]
    """The text of a line."""
    strict: Callable[[Place], bool]
    """Whether a failure in this line ends the script."""
    program: Callable[[str], str]
    """A program's whole path."""
    here: Callable[[str], bool]
    """Whether a program is on this host, or came with the scripts."""
    where: Callable[[Place], str]
    """A line's file and number, for the reader."""
    shown: Callable[[str, str], str]
    """How a file would show a value."""
    invented: str
    """The PCI address of a card that only the imagined host has; "" if there is none."""

    def is_invented(self, text: str) -> bool:
        """Whether it names that card. A script has found it out, and finds another one on a host."""
        return bool(self.invented) and (self.invented in text or re.sub(r"[:.]", "_", self.invented) in text)

    is_broken_off: bool
    """Whether a start of the guest did not go through here, so that not all that it does was seen."""
    blind: bool
    """Whether the scripts wanted to read the guest's document, and there was none."""
