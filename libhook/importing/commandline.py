# SPDX-License-Identifier: LGPL-2.1-or-later
"""The command line that does the same as an effect, or why none can. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from libhook.errors import BadInput
from libhook.facts import command
from libhook.importing.asking import is_read
from libhook.importing.sources import HOOKS

if TYPE_CHECKING:
    from libhook.importing.about import About
    from libhook.importing.effect import Effect

_BACKGROUND = re.compile(r"(?<![&>|])&\s*(?:disown\b.*)?(?:#.*)?$")
_FED = re.compile(r"\|\s*(?!\|)(?:sudo\s+)?(?:-\w+\s+)*([\w./-]+)|<<")
_FROM_FILE = re.compile(r"(?<![<(\d&])<(?![<(&])(?!\s*/dev/null)(?!.*\bdone\b)(?!.*\]\])")
_UNKNOWN = "?"


def is_background(one: Effect, about: About) -> bool:
    """Whether the script leaves it running."""
    places = {one.place, one.done.head} if one.done.head.file == one.place.file else {one.place}
    return one.done.background or any(_BACKGROUND.search(about.line(place)) for place in places)


def argv_of(one: Effect, about: About) -> list[str]:
    """The command line that does the same as this effect."""
    if one.kind == "trigger":
        return [about.program("sysctl"), "-w", f"{one.target}={one.value}"]
    if one.kind == "written":
        return writing(one.target, one.value, ">>" if one.done.data == "append" else ">")
    words = list(one.done.argv)
    if one.kind == "file" and one.done.what != "start":
        words = _making(one)
    known = [word for word in one.done.environment if not word.startswith(("HOME=", "USER=", "XDG_SESSION_TYPE="))]
    words = [
        about.program(words[0]),
        *(word if about.named else word.replace(about.guest, "{name}") for word in words[1:]),
    ]
    return [about.program("env"), *known, *words] if known and one.kind == "command" else words


def writing(path: str, value: str, sign: str = ">") -> list[str]:
    """The command line that writes a value."""
    return ["/bin/sh", "-c", f'printf "%s\\n" "$1" {sign}"$2"', "sh", value, path]


def _making(one: Effect) -> list[str]:
    """What does the same to a file, or names it where nothing is known to."""
    if one.done.what == "remove":
        return [
            "rmdir" if one.done.data == "rmdir" else "rm",
            *([] if one.done.data == "rmdir" else ["-f"]),
            one.target,
        ]
    return ["mkdir", "-p", one.target] if one.done.data.startswith("mkdir") else [_UNKNOWN, one.target]


def why_not(one: Effect, argv: list[str], about: About) -> str:
    """Why this cannot be an entry; "" if it can."""
    line = about.line(one.place)
    fed = _FED.search(line)
    if one.kind == "command" and _FROM_FILE.search(line):
        return f"{argv[0].rpartition('/')[2]} reads a file that the script gives it: no setting says that"
    name = argv[0].rpartition("/")[2]
    if one.kind == "written" and not one.value:
        return f"{one.target}: what was written could not be seen"
    if one.kind == "command" and fed and (fed[1] is None or fed[1].rpartition("/")[2] in (name, "sudo")):
        return f"{name} reads what the script writes to it: no setting says that"
    if one.kind == "file" and (one.done.what in ("open", "fail") or argv[0] == _UNKNOWN):
        return f"{one.target} is written: what with, no setting says"
    if one.kind == "command" and is_read(name, list(one.done.argv[1:]), line):
        return f"{name}: the script reads what it says, so it seems only to ask: if it does more, write an entry"
    if one.done.user and one.done.user not in about.texts:  # as USER is not
        return f"{' '.join(argv)}: it runs as a user that the script finds out, and `user` wants a name"
    if argv[0].startswith(HOOKS) and not about.here(argv[0]):
        return f"{argv[0]} was not given, so nobody knows what it does"
    if one.kind in ("written", "file") and "*" in one.target:
        return f"{one.target} finds nothing here: which files it means, only a host knows"
    if any(map(about.is_invented, argv)):
        return f"{argv[0].rpartition('/')[2]}: which device it is, the script finds out"
    if one.kind == "command" and name_of(_program(argv)) not in about.texts:
        return f"{' '.join(argv)}: which program it is, the script finds out"
    if not (program := _program(argv)).startswith("/"):
        return f"{program} is not on this host: install it, and import again"
    if one.done.user and not parses({"command": argv, "user": one.done.user}):
        return f"{' '.join(argv)}: it runs as {one.done.user}, and `user` wants a name"
    return "" if parses({"command": argv}) else f"{name}: it has more words, or longer ones, than an entry may have"


def lacking(argv: list[str], about: About) -> str:
    """The program of this command line, if it is not on this host; else ""."""
    return "" if about.here(_program(argv)) else _program(argv)


def name_of(program: str) -> str:
    """A program's name, without its folder."""
    return program.rpartition("/")[2]


def _program(argv: list[str]) -> str:
    """What is run: also by env, with the variables that it sets."""
    at = next((at for at, word in enumerate(argv) if at and "=" not in word), 0) if argv[0].endswith("/env") else 0
    return argv[at]


def parses(entry: dict[str, object]) -> bool:
    """Whether libhook's settings take this for an entry of ``run``."""
    try:
        command.parse("x", entry)
    except BadInput:
        return False
    return True
