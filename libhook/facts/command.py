# SPDX-License-Identifier: LGPL-2.1-or-later
"""Commands of the administrator's own that a guest's settings name: what such an entry may say. Pure."""

from __future__ import annotations

from libhook.errors import BadInput, TooNew
from libhook.light import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

AT = ("prepare", "start", "started")
"""The operations at which a command may be run. Its undo is run at ``release``."""
SECONDS = 30.0
_LEAST_SECONDS, _MOST_SECONDS = 0.1, 600.0
_MOST_ARGUMENTS, _LONGEST = 256, 4096
_LONGEST_NAME = 40
_OF_NAMES = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")

A_NAME = f"named with at most {_LONGEST_NAME} letters, digits, _ and -"


class Command(NamedTuple):
    """One entry of ``run``."""

    name: str
    command: tuple[str, ...] = ()
    """The program's absolute path, and its arguments. () for an entry that has only an undo."""
    undo: tuple[str, ...] = ()
    """What is run at the guest's end. It must be right even if the command has run half, or not at all."""
    at: str = "prepare"
    user: str = ""
    """Who runs both; "" for root."""
    seconds: float = SECONDS
    """That each of the two may take."""
    background: bool = False
    """The command runs as long as the guest lives."""
    on_failure: str = "refuse"
    """``refuse`` the start, or ``log`` it. A guest that runs is never refused anything: ``started`` only logs."""
    reason: str = ""
    """What the reader of a refusal should do. "" for a look at what the command has said."""
    reconnect: bool = False
    """It is undone and run again once a new libvirtd has found the guest."""
    after: str = ""
    """``units``: it is run once those of the settings are as wanted. Else before any of them is down."""

    @property
    def is_waited_for(self) -> bool:
        """Whether libhook waits for the command's end. Not once the guest runs: its ``release`` may come meanwhile."""
        return self.at != "started" and not self.background

    @property
    def programs(self) -> tuple[str, ...]:
        """What it executes."""
        return tuple(argv[0] for argv in (self.command, self.undo) if argv)

    def to_json(self) -> dict[str, Any]:
        """What is kept of it for the undo: all but what has its default, which an earlier version knows, too."""
        fields = ((name, list(value) if isinstance(value, tuple) else value) for name, value in self._asdict().items())
        default = Command("")._asdict()
        return {name: value for name, value in fields if name == "name" or value not in (default[name], [])}


def is_name(name: str) -> bool:
    """Whether an entry may have this name. It becomes part of a unit's name."""
    return 0 < len(name) <= _LONGEST_NAME and set(name) <= _OF_NAMES


def parse(name: str, table: object) -> Command:
    """Read one entry. BadInput says what it should have been."""
    if not is_name(name):
        raise BadInput(A_NAME)
    known = [field for field in Command._fields if field != "name"]
    if not isinstance(table, dict) or not table.keys() <= set(known):
        raise BadInput(f"with some of {', '.join(known)}")
    for field, is_right, wanted in CHECKS:
        if field in table and not is_right(table[field]):
            raise BadInput(f"with {wanted} in {field}")
    fields: dict[str, Any] = {
        field: tuple(value) if isinstance(value, list) else value for field, value in table.items()
    }
    found = Command(name, **fields)
    if not (found.command or found.undo):
        raise BadInput('with a command or an undo: command = ["/usr/bin/true"]')
    if found.background and not found.command:
        raise BadInput("with a command, if background is true")
    if found.reconnect and (found.background or not found.command):
        raise BadInput("without reconnect = true, which needs a command that is not in the background")
    if found.after and found.at != "prepare":
        raise BadInput(f"without after at {found.at}: the units are as wanted by then")
    if found.at == "started" and table.get("on_failure") == "refuse":
        raise BadInput(f'without on_failure = "refuse" at {found.at}: a guest that runs is refused nothing')
    return found._replace(seconds=float(found.seconds))


def is_line(value: object) -> bool:
    """Whether this is a line of text that says something."""
    return isinstance(value, str) and 0 < len(value) <= _LONGEST and "\n" not in value


def is_argv(value: object) -> bool:
    """Whether this is a command line: the program's whole path, and its arguments."""
    if not (isinstance(value, list) and 0 < len(value) <= _MOST_ARGUMENTS and all(map(_is_argument, value))):
        return False
    return str(value[0]).startswith("/") and "$" not in value[0]  # PID 1 puts variables into a service's arguments


def _is_argument(value: object) -> bool:
    return isinstance(value, str) and len(value) <= _LONGEST and "\0" not in value


def _is_user(value: object) -> bool:
    return isinstance(value, str) and set(value) <= _OF_NAMES | {"."} and value[:1].isalpha() and value != "root"


def is_time(value: object) -> bool:
    """Whether this is the time that a command may have."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and _LEAST_SECONDS <= value <= _MOST_SECONDS


A_COMMAND = 'a list of texts, the first a program\'s whole path without $ (["/usr/bin/logger", "hello"])'
A_TIME = f"{_LEAST_SECONDS:g} to {_MOST_SECONDS:.0f} seconds"
CHECKS: tuple[tuple[str, Callable[[object], bool], str], ...] = (
    ("command", is_argv, A_COMMAND),
    ("undo", is_argv, A_COMMAND),
    ("at", lambda value: value in AT, " or ".join(f'"{one}"' for one in AT)),
    ("user", _is_user, "the name of a user other than root"),
    ("seconds", is_time, A_TIME),
    ("background", lambda value: isinstance(value, bool), "true or false"),
    ("on_failure", lambda value: value in ("refuse", "log"), '"refuse" or "log"'),
    ("reason", is_line, "a line of text"),
    ("after", lambda value: value == "units", '"units"'),
    ("reconnect", lambda value: isinstance(value, bool), "true or false"),
)
"""What each field must be, in words."""


def from_journal(value: Mapping[str, Any]) -> Command:
    """Read what ``to_json`` wrote. BadInput where it is not that. TooNew for a field of a later version."""
    if unknown := value.keys() - {"kind", *Command._fields}:
        raise TooNew(f"with a command that has {', '.join(sorted(unknown))}, which this version does not know")
    table = {key: inner for key, inner in value.items() if key not in ("kind", "name") and inner not in ([], "")}
    if table.get("at") == "started":
        table.pop("on_failure", None)
    return parse(str(value.get("name", "")), table)


def unit(uuid: str, name: str, *, undo: bool = False) -> str:
    """The transient unit that runs it. Whoever comes after a crash finds it by this name."""
    return f"libhook-{'undo' if undo else 'run'}-{uuid}-{name}.service"
