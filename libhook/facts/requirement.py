# SPDX-License-Identifier: LGPL-2.1-or-later
"""What must be so before a guest starts: one entry of ``require`` in the settings. Pure."""

from __future__ import annotations

from libhook.errors import BadInput, named
from libhook.facts.command import A_COMMAND, A_NAME, A_TIME, SECONDS, Command, is_argv, is_line, is_name, is_time
from libhook.facts.unit import is_name as is_unit
from libhook.light import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

GIB = 1 << 30
_LONGEST = 4096
_MOST_GIB = 1 << 20


class Requirement(NamedTuple):
    """One of ``file``, ``unit``, ``process``, ``memory`` and ``command``, and what to say where it is not so."""

    name: str
    file: str = ""
    """A file or folder that must be there."""
    unit: str = ""
    """A systemd unit that must be active."""
    process: str = ""
    """A program of which a process must run, by its path."""
    memory: float = 0.0
    """GiB that must be free, as MemAvailable of /proc/meminfo counts."""
    command: tuple[str, ...] = ()
    """What must end with status 0: the program's path, and its arguments."""
    seconds: float = SECONDS
    """That the command may take."""
    absent: bool = False
    """The opposite: it must not be there, be active or run."""
    reason: str = ""
    """What the reader of the refusal should do."""

    @property
    def question(self) -> Command:
        """The command as ``run`` has them."""
        return Command(self.name, self.command, seconds=self.seconds, reason=self.reason)

    def complaint(self, found: int) -> str:
        """What is wrong, or "". ``found``: whether it is there, active or running; bytes of free memory."""
        if self.memory:
            free = found * 10 // GIB / 10  # rounded down, or it could be what is required
            is_enough = found >= self.memory * GIB
            return "" if is_enough else f"{free:g} GiB of memory are free, and {self.memory:g} must be"
        if bool(found) != self.absent:
            return ""
        what, verb = next((text, verb) for text, verb in (
            (self.file, "there"), (self.unit, "active"), (self.process, "running")
        ) if text)  # fmt: skip
        what = f"{'unit ' if self.unit else ''}{named(what)}"
        return f"{what} is {verb}" if found else f"{what} is not {verb}"


def parse(name: str, table: object) -> Requirement:
    """Read one entry. BadInput says what it should have been."""
    known = [field for field in Requirement._fields if field != "name"]
    if not isinstance(table, dict) or not table.keys() <= set(known):
        raise BadInput(f"with some of {', '.join(known)}")
    if len(table.keys() & _THINGS) != 1:
        raise BadInput(f"with one of {', '.join(known[:5])}")
    for field, is_right, wanted in CHECKS:
        if field in table and not is_right(table[field]):
            raise BadInput(f"with {wanted} in {field}")
    if table.get("absent") and not table.keys().isdisjoint(("memory", "command")):
        raise BadInput("without absent, where memory or a command is required")
    if "seconds" in table and "command" not in table:
        raise BadInput("without seconds, which only a command has")
    if "command" not in table:
        return Requirement(name, **table)
    if not is_name(name):
        raise BadInput(A_NAME)
    return Requirement(name, **{**table, "command": tuple(table["command"])})


def _is_path(value: object) -> bool:
    return isinstance(value, str) and value.startswith("/") and len(value) <= _LONGEST and "\0" not in value


def _is_memory(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value <= _MOST_GIB


_THINGS = {"file", "unit", "process", "memory", "command"}
CHECKS: tuple[tuple[str, Callable[[object], bool], str], ...] = (
    ("file", _is_path, "a whole path"),
    ("unit", lambda value: isinstance(value, str) and is_unit(value), "a unit's name"),
    ("process", _is_path, "a program's whole path"),
    ("memory", _is_memory, "a number of GiB"),
    ("command", is_argv, A_COMMAND),
    ("seconds", is_time, A_TIME),
    ("absent", lambda value: isinstance(value, bool), "true or false"),
    ("reason", is_line, "a line of text"),
)
"""What each field must be, in words."""
