# SPDX-License-Identifier: LGPL-2.1-or-later
"""Commands of the script's own: each becomes an entry of ``run``, with its undo from the script's end. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from libhook.errors import BadInput
from libhook.facts import command
from libhook.importing import pairing
from libhook.importing.draft import DO, UNDO, Draft
from libhook.importing.inside.answers import USER

if TYPE_CHECKING:
    from collections.abc import Sequence

    from libhook.importing.effect import Effect
    from libhook.importing.translate import About

_INDEPENDENT_WORDS = (
    "sysctl powerprofilesctl cpupower tuned-adm notify-send logger iptables ip6tables nft ip firewall-cmd"
    " bridge chrt renice taskset zramctl"
)
_INDEPENDENT = frozenset(_INDEPENDENT_WORDS.split())
"""Programs that need no unit to be down."""
_BACKGROUND = re.compile(r"(?<![&>|])&\s*(?:disown\b.*)?(?:#.*)?$")
_FED = re.compile(r"\|\s*(?!\|)(?:sudo\s+)?(?:-\w+\s+)*([\w./-]+)|<<")
_HARMLESS = frozenset(["notify-send", "chmod", "chown", "chgrp", "mkdir"])
"""Programs of which nobody misses an undo."""
_KINDS = ("command", "trigger", "written", "file", "mount")
_LONGEST = 40
SYSTEMCTL = "/usr/bin/systemctl"


def translate(effects: Sequence[Effect], about: About, draft: Draft) -> None:
    """Add an entry for each command, value and file that no other setting says."""
    undos = [one for one in effects
             if one.operation in UNDO and one.kind in (*_KINDS, "umount") and not _is_told(one, draft)]  # fmt: skip
    lines = [_argv(one, about) for one in undos]
    again = [_argv(one, about) for one in effects if one.operation == "reconnect"]
    lone, fixed = list[str](), list[str]()
    free, units_down = list(range(len(undos))), set[str]()
    dos = [one for one in effects if one.operation in DO and one.kind in _KINDS]
    own = [_argv(one, about) for one in dos]
    for one in effects:
        if one.kind in ("down", "umount") and one.operation == "prepare":
            units_down.add(one.target)
        if one not in dos:
            continue
        argv = _argv(one, about)
        if why := _cannot(one, argv, about):
            draft.tell(one, "left", why)
            continue
        if pairing.is_removal(argv) and any(pairing.likeness(other, argv) == 1 and other != argv for other in own):
            draft.tell(one, "needless", "what it takes away first, libhook's undo has taken away before")
            continue
        found = pairing.undo_of(argv, [lines[at] for at in free], own)
        entry = _entry(one, argv, about, late=bool(units_down))
        name = _add(draft, argv, entry)
        draft.tell(one, "kept", f"run.{name}")
        if found is not None:
            at = free.pop(found)
            if why := _cannot(undos[at], lines[at], about):
                draft.tell(undos[at], "left", why)
            else:
                entry["undo"] = lines[at]
                if len(argv) == len(lines[at]) and pairing.likeness(argv, lines[at]) < 1:
                    fixed.append(f"run.{name}")
                draft.tell(undos[at], "kept", f"run.{name}: its undo")
        if (
            "undo" in entry
            and any(pairing.likeness(argv, other) == 1 for other in again)
            and not entry.get("background")
        ):
            entry["reconnect"] = True
        if "undo" not in entry and one.kind not in ("trigger",) and argv[0].rpartition("/")[2] not in _HARMLESS:
            lone.append(f"run.{name}")
    if lone:
        draft.find(f"nothing of the scripts undoes {', '.join(lone)}: write an undo where it must be undone")
    if fixed:
        draft.find(f"the undo of {', '.join(fixed)} is the script's, and always the same, whatever was there before")
    _rest([(undos[at], lines[at]) for at in free], about, draft)
    for one in effects:
        if one.operation not in (*DO, *UNDO) and one.kind in _KINDS:
            _elsewhere(one, _argv(one, about), draft)


def _rest(undos: Sequence[tuple[Effect, list[str]]], about: About, draft: Draft) -> None:
    """What the script's end does besides: the last first, as undos run in reverse."""
    before = dict(draft.run)
    draft.run.clear()
    for one, argv in reversed(undos):
        if why := _cannot(one, argv, about):
            draft.tell(one, "left", why)
            continue
        entry: dict[str, object] = {"undo": argv}
        if one.done.user:
            entry["user"] = one.done.user
        name = _free(draft, argv, before)
        draft.run[name] = entry
        draft.tell(one, "kept", f"run.{name}: at the guest's end")
    draft.run.update(before)


def _is_told(one: Effect, draft: Draft) -> bool:
    return one.kind == "mount" and one.target in draft.mounts


def _elsewhere(one: Effect, argv: list[str], draft: Draft) -> None:
    known = [
        line for entry in draft.run.values() for key in ("command", "undo") if isinstance(line := entry.get(key), list)
    ]
    if one.operation == "reconnect" and any(pairing.likeness(argv, line) == 1 for line in known):
        draft.tell(one, "kept", "reconnect = true")
    else:
        draft.tell(one, "left", f"{' '.join(argv)}: no setting runs anything of its own at {one.operation}")


def unit(one: Effect, name: str, about: About, draft: Draft) -> None:
    """A unit that is started or stopped where no ``units`` can say it."""
    verb = {"down": "stop", "up": "start"}.get(one.kind, one.kind)
    owner, slash, unit_ = name.rpartition("/")
    argv = [SYSTEMCTL, *(("--user", f"--machine={owner}@.host") if slash else ()), verb, unit_]
    if slash and owner.startswith("@"):
        draft.tell(one, "left", f"{verb} {name}: which user's it is, is known only then")
        return
    _single(one, [*argv[:-2], "--no-block", *argv[-2:]] if verb != "stop" else argv, about, draft)


def module(one: Effect, effects: Sequence[Effect], about: About, draft: Draft) -> None:
    """A module that is loaded."""
    argv = [about.program("modprobe"), one.target, *(word for word in one.done.argv[1:] if "=" in word)]
    if one.operation in DO:
        off = [
            other for other in effects if other.kind == "out" and other.operation in UNDO and other.target == one.target
        ]
        entry = _entry(one, argv, about, late=False)
        if off:
            entry["undo"] = [about.program("modprobe"), "-r", one.target]
            draft.tell(off[0], "kept", "the undo of loading it")
        if not any(known.get("command") == argv for known in draft.run.values()):
            draft.tell(one, "kept", f"run.{_add(draft, argv, entry)}")
        else:
            draft.tell(one, "kept", "run: with the line's other modules")
    else:
        _single(one, argv, about, draft)


def value(one: Effect, name: str, value: str, about: About, draft: Draft) -> None:
    """A value that is written at the end only, or where no ``values`` can say it."""
    path = name if name.startswith("/") else f"/proc/sys/{name.replace('.', '/')}"
    _single(one, _writing(path, value), about, draft)


def _single(one: Effect, argv: list[str], about: About, draft: Draft) -> None:
    if why := _cannot(one, argv, about):
        draft.tell(one, "left", why)
        return
    entry: dict[str, object] = {"undo": argv} if one.operation in UNDO else _entry(one, argv, about, late=False)
    if one.operation not in (*DO, *UNDO):
        draft.tell(one, "left", f"{' '.join(argv)}: no setting runs anything of its own at {one.operation}")
        return
    if entry not in draft.run.values():
        _add(draft, argv, entry)
    when = "at the guest's end" if one.operation in UNDO else f"at {entry.get('at', 'prepare')}"
    draft.tell(one, "kept", f"run: {' '.join(argv)}, {when}")


def _entry(one: Effect, argv: list[str], about: About, *, late: bool) -> dict[str, object]:
    entry: dict[str, object] = {"command": argv}
    again = one.kind == "up"  # what goes down and comes back in one script: once the guest has its card
    if one.operation in ("start", "started") or again:
        entry["at"] = "started" if again else one.operation
    if one.done.user:
        entry["user"] = one.done.user
    if is_background(one, about):
        entry["background"] = True
    if one.operation == "prepare" and not again:
        program = argv[0].rpartition("/")[2]
        if late and program not in _INDEPENDENT and "set-property" not in argv and one.kind == "command":
            entry["after"] = "units"
        if not about.strict(one.place):
            entry["on_failure"] = "log"
    elif one.operation == "start" and not about.strict(one.place):
        entry["on_failure"] = "log"
    return entry


def is_background(one: Effect, about: About) -> bool:
    """Whether the script leaves it running."""
    return one.done.background or bool(_BACKGROUND.search(about.line(one.place)))


def _argv(one: Effect, about: About) -> list[str]:
    if one.kind == "trigger":
        return [about.program("sysctl"), "-w", f"{one.target}={one.value}"]
    if one.kind == "written":
        return _writing(one.target, one.value)
    words = list(one.done.argv) or ["?"]
    if one.kind == "file" and one.done.what != "start":
        words = _making(one)
    known = [word for word in one.done.environment if not word.startswith(("HOME=", "USER=", "XDG_SESSION_TYPE="))]
    words = [
        about.program(words[0]),
        *(word if about.named else word.replace(about.guest, "{name}") for word in words[1:]),
    ]
    return [about.program("env"), *known, *words] if known and one.kind == "command" else words


def _writing(path: str, value: str) -> list[str]:
    return ["/bin/sh", "-c", 'printf "%s\\n" "$1" >"$2"', "sh", value, path]


def _making(one: Effect) -> list[str]:
    if one.done.what == "remove":
        return ["rm", "-f", one.target]
    return ["touch", one.target]


def _cannot(one: Effect, argv: list[str], about: About) -> str:
    """Why this cannot be an entry; "" if it can."""
    line = about.line(one.place)
    fed = _FED.search(line)
    name = argv[0].rpartition("/")[2]
    if one.kind == "written" and not one.value:
        return f"{one.target}: what was written could not be seen"
    if one.kind == "command" and fed and (fed[1] is None or fed[1].rpartition("/")[2] in (name, "sudo")):
        return f"{name} reads what the script writes to it: no setting says that"
    if one.kind == "file" and one.done.what == "open":
        return f"{one.target} is written: what with, no setting says"
    if one.done.user == USER:
        return f"{' '.join(argv)}: it runs as a user that the script finds out, and `user` wants a name"
    if one.done.user and not parses({"command": argv, "user": one.done.user}):
        return f"{' '.join(argv)}: it runs as {one.done.user}, and `user` wants a name"
    return "" if parses({"command": argv}) else f"{name}: not a program with a whole path"


def _add(draft: Draft, argv: list[str], entry: dict[str, object]) -> str:
    for name, known in draft.run.items():
        if known == entry:
            return name
    name = _free(draft, argv, {})
    draft.run[name] = entry
    return name


def _free(draft: Draft, argv: list[str], more: dict[str, dict[str, object]]) -> str:
    words = [
        word.rpartition("/")[2] for word in argv if not word.startswith("-") and word not in ("/usr/bin/env", "/bin/sh")
    ]
    words = [word.partition("=")[0].rpartition(".")[2] if argv[0].endswith("sysctl") else word for word in words]
    words = [word for word in words if "=" not in word and "%" not in word and word != "sh" and not word.isdigit()] or [
        "command"
    ]
    telling = words[:1] + [word for word in words[1:] if any(letter.isalpha() for letter in word)][:2]
    name = re.sub(r"[^A-Za-z0-9_]+", "-", "-".join(telling)).strip("-")[: _LONGEST - 4].strip("-") or "command"
    taken, number, found = draft.run.keys() | more.keys(), 2, name
    while found in taken:
        found, number = f"{name}-{number}", number + 1
    return found


def parses(entry: dict[str, object]) -> bool:
    """Whether libhook's settings take this for an entry of ``run``."""
    try:
        command.parse("x", entry)
    except BadInput:
        return False
    return True


def numbers(text: str) -> list[int]:
    """The numbers of a list such as 0-3,8. At most 1,024."""
    found = list[int]()
    for part in text.split(","):
        first, dash, last = part.partition("-")
        if first.isdigit() and (not dash or last.isdigit()):
            found += range(int(first), min(int(last or first), 1023) + 1)
    return found[:1024]
