# SPDX-License-Identifier: LGPL-2.1-or-later
"""The old hook scripts that a guest's settings name: what ``legacy`` may say, and which calls they get. Pure."""

from __future__ import annotations

from libhook.errors import BadInput
from libhook.facts.program import is_path
from libhook.light import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

FILTERS = ("migrate", "restore")
"""The operations at which libvirt takes what a hook prints for the guest's XML."""
COUNTS = ("prepare", "start", *FILTERS)
"""The operations at which a script may refuse. A failure elsewhere would end a guest that runs, or is ignored."""
_SECONDS = 120.0
_LEAST_SECONDS, _MOST_SECONDS = 0.1, 600.0
_LONGEST = 4096
_KEYS = ("path", "seconds", "filter")


class Legacy(NamedTuple):
    """The table ``legacy``."""

    path: str = ""
    """A hook script, or a folder of them. "" for none."""
    seconds: float = _SECONDS
    """That all scripts of one call may take together."""
    filter: bool = False
    """What they print at ``migrate`` and ``restore`` becomes the guest's XML."""


class Call(NamedTuple):
    """What libvirt calls a hook with, but for the guest's name."""

    operation: str
    suboperation: str
    extra: str = "-"

    def __str__(self) -> str:
        """As libvirt's documents have it, without an EXTRA that says nothing."""
        return " ".join(self if self.extra != "-" else self[:2])


PREPARE = Call("prepare", "begin")
FAILED = (Call("stopped", "end"), Call("release", "end", "failed"))
"""What libvirt calls after a start that failed (qemuProcessStop)."""


def call(operation: str, extra: str) -> Call:
    """The call at this operation. libvirt's sub-operation follows from it (virhook.c)."""
    return Call(operation, "end" if operation in ("stopped", "release") else "begin", extra)


def complaint(value: object) -> str:
    """For the settings: what the table should have been, or "" when it is right."""
    if not isinstance(value, dict) or not value.keys() <= set(_KEYS):
        return f'a table with some of {", ".join(_KEYS)}: path = "/etc/libvirt/old-hooks/qemu"'
    path, seconds = value.get("path", ""), value.get("seconds", _SECONDS)
    if not isinstance(path, str) or (path and not is_script(path)):
        return 'a table with the whole path of a script or folder in path: "/etc/libvirt/old-hooks/qemu"'
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not is_time(seconds):
        return f"a table with {_LEAST_SECONDS:g} to {_MOST_SECONDS:.0f} seconds in seconds"
    if not isinstance(value.get("filter", False), bool):
        return "a table with true or false in filter"
    return ""


def is_script(path: str) -> bool:
    """Whether this can be the path of a script or of a folder with some."""
    return len(path) <= _LONGEST and path.isprintable() and is_path(path)


def is_time(seconds: float) -> bool:
    """Whether a call may take so long."""
    return _LEAST_SECONDS <= seconds <= _MOST_SECONDS


def parse(table: Mapping[str, Any]) -> Legacy:
    """Read a table that is right."""
    return Legacy(table.get("path", ""), float(table.get("seconds", _SECONDS)), table.get("filter", False))


def from_journal(value: Mapping[str, Any]) -> Legacy:
    """Read what was journalled. BadInput where it is not that."""
    match value:
        case {"path": str(path), "seconds": float(seconds)} if is_script(path) and is_time(seconds):
            return Legacy(path, seconds)
    raise BadInput("not an old script")


def is_part_of_path(guest: str) -> bool:
    """Whether a folder may have the guest's name. Nothing else may: a name must not lead out of the tree."""
    return guest not in ("", ".", "..") and not set(guest) & {"/", "\0"}


def unit(uuid: str, operation: str, number: str) -> str:
    """The transient unit that runs a script. The number makes it another each time: children may outlive a script."""
    return f"{units(uuid)[:-1]}{operation}-{number}.service"


def units(uuid: str) -> str:
    """A pattern of all units of a guest's scripts."""
    return f"libhook-legacy-{uuid}-*"
