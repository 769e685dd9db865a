# SPDX-License-Identifier: LGPL-2.1-or-later
"""The old hook scripts that a guest's settings name: what ``legacy`` may say, and which calls they get. Pure."""

from __future__ import annotations

from libhook.errors import BadInput
from libhook.facts.mountpoint import is_mount_point
from libhook.light import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

FILTERS = ("migrate", "restore")
"""The operations at which libvirt takes what a hook prints for the guest's XML."""
COUNTS = ("prepare", "start", *FILTERS)
"""The operations at which a script may refuse. A failure elsewhere would end a guest that runs, or is ignored."""
_SECONDS = 120.0
_LEAST_SECONDS, _MOST_SECONDS = 0.1, 600.0
_LONGEST = 4096
_EXAMPLE = "/etc/libvirt/old-hooks/qemu"


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
    """For the settings: what it should have been, or "" when it is a table."""
    return "" if isinstance(value, dict) else f'a table: path = "{_EXAMPLE}"'


def is_script(path: object) -> bool:
    """Whether this can be the path of a script or of a folder with some."""
    is_path = isinstance(path, str) and 1 < len(path) <= _LONGEST
    return is_path and str(path).isprintable() and is_mount_point(str(path))


def is_time(seconds: object) -> bool:
    """Whether a call may take so long."""
    is_number = isinstance(seconds, (int, float)) and not isinstance(seconds, bool)
    return is_number and _LEAST_SECONDS <= seconds <= _MOST_SECONDS  # type: ignore[operator]


CHECKS: tuple[tuple[str, Callable[[object], bool], str], ...] = (
    ("path", lambda value: value == "" or is_script(value), f'the whole path of a script or folder: "{_EXAMPLE}"'),
    ("seconds", is_time, f"{_LEAST_SECONDS:g} to {_MOST_SECONDS:.0f} seconds"),
    ("filter", lambda value: isinstance(value, bool), "true or false"),
)
"""What each key must be, in words."""


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
