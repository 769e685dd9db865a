# SPDX-License-Identifier: LGPL-2.1-or-later
"""Comparisons with a variable that no script sets: they hide all that depends on them. Pure."""

import re
from collections.abc import Iterator

from libhook.importing.done import Place
from libhook.importing.draft import Fate
from libhook.importing.sources import Sources

_VARIABLE = r"""["']?\$\{?(\w+)\}?["']?"""
_COMPARED = re.compile(rf"\[\[?\s+(?:!\s+)?{_VARIABLE}\s*(?:==?|!=|=~)|\bcase\s+{_VARIABLE}\s+in\b")
_SETS = r"(?<![\w$]){0}(?:\[[^\]\n]*\])?\+?=|\b(?:{1})\b[^\n;|&]*\b{0}\b"
_SETTERS = r"for|read|local|declare|typeset|export|readonly|getopts|mapfile|readarray|select|printf\s+-v"
_ELSEWHERE = re.compile(r"(?:^|[;&|{]|\bthen|\bdo)[ \t]*(?:\.|source)[ \t]+(\S+)|\beval\b", re.M)
_OF_BASH = re.compile(
    r"[0-9_]\w*|BASH\w*|E?UID|HOST\w*|MACHTYPE|OSTYPE|HOME|PATH|(?:OLD)?PWD|RANDOM|SECONDS|USER|LOGNAME|SHELL|SHLVL"
    r"|LANG|LC_\w+|TERM|IFS|PPID|REPLY|OPT\w+|FUNCNAME|LINENO|DISPLAY|TMPDIR|GROUPS|SUDO_\w+|XDG_\w+|WAYLAND_\w+"
    r"|DBUS_\w+|PIPESTATUS|INVOCATION_ID|EPOCH\w+"
)
_MOST = 64


def fates(sources: Sources, ran: frozenset[Place]) -> Iterator[Fate]:
    """The lines that compare such a variable. Nothing is known where a script reads another file that was not given."""
    files = [file for file in sources.files if file.place and file.is_shell]
    texts = "\n".join(file.scanned for file in files)
    given = {file.place for file in files}
    if any(found[1] not in given for found in _ELSEWHERE.finditer(texts)):
        return
    known = dict[str, bool]()
    for file in files:
        for number, line in enumerate(file.lines, 1):
            found = _COMPARED.search(line) if Place(file.place, number) in ran else None
            name = (found[1] or found[2]) if found else ""
            if not name or _OF_BASH.fullmatch(name) or (name not in known and len(known) >= _MOST):
                continue
            if name not in known:
                known[name] = bool(re.search(_SETS.format(name, _SETTERS), texts))
            if not known[name]:
                yield Fate(Place(file.place, number), "wrong", f"${name} is set nowhere: it is empty here")
