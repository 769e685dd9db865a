# SPDX-License-Identifier: LGPL-2.1-or-later
"""One effect of a script on the host, as a type. Pure."""

import re
from typing import Literal, NamedTuple

from libhook.importing.done import Done, Place

_ADDRESS = re.compile(r"([0-9a-f]{4})[:_]([0-9a-f]{2})[:_]([01][0-9a-f])[._]([0-7])", re.I)


Kind = Literal["down", "up", "restart", "out", "in", "bind", "value", "governor", "trigger", "umount", "mount", "file",
               "written", "command", "awake", "sessions", "asks", "needless", "danger", "left", "wrong",
               "foreign"]  # fmt: skip
"""``down`` ``up`` are of a unit, ``out`` ``in`` of a module. ``left``: no setting says it. ``wrong``: it never was.
``foreign``: a given file of another language is started."""


class Effect(NamedTuple):
    """One effect."""

    kind: Kind
    target: str
    value: str
    done: Done
    operation: str
    varies: str = ""
    """Why it is no setting: its value comes from the host that it runs on."""
    at: int = 0
    """Its number in the guest's life."""
    adds: bool = False
    """It adds its value to what is there, and on the imagined host nothing was."""

    @property
    def place(self) -> Place:
        """Where it stands."""
        return self.done.place


def address(text: str) -> str:
    """The PCI address in a text, as /sys writes it; "" if there is none."""
    found = _ADDRESS.search(text)
    return f"{found[1]}:{found[2]}:{found[3]}.{found[4]}".lower() if found else ""
