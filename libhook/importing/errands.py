# SPDX-License-Identifier: LGPL-2.1-or-later
"""Commands of the script's own: each becomes an entry of ``run``, with its undo from the script's end. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from libhook.importing import pairing
from libhook.importing.commandline import argv_of, is_background, lacking, why_not, writing
from libhook.importing.draft import DO, UNDO, Draft

if TYPE_CHECKING:
    from collections.abc import Sequence

    from libhook.importing.about import About
    from libhook.importing.effect import Effect

_INDEPENDENT_WORDS = (
    "sysctl powerprofilesctl cpupower tuned-adm notify-send logger iptables ip6tables nft ip firewall-cmd"
    " bridge chrt renice taskset zramctl"
)
_INDEPENDENT = frozenset(_INDEPENDENT_WORDS.split())
"""Programs that need no unit to be down."""
_UNSEEN = "the start did not go through here, and what this undoes was not seen"
_HARMLESS = frozenset(["notify-send", "chmod", "chown", "chgrp", "mkdir"])
"""Programs of which nobody misses an undo."""
_MOST = 300
_KINDS = ("command", "trigger", "written", "file", "mount")
_LONGEST = 40
SYSTEMCTL = "/usr/bin/systemctl"


def translate(effects: Sequence[Effect], about: About, draft: Draft) -> None:
    """Add an entry for each command, value and file that no other setting says."""
    dos = _twins([one for one in effects if one.operation in DO and one.kind in _KINDS], about, draft)
    undos = _twins([one for one in effects if one.operation in UNDO and one.kind in (*_KINDS, "umount")
                    and not _is_told(one, draft)], about, draft)  # fmt: skip
    again = [argv_of(one, about) for one in effects if one.operation == "reconnect" and one.kind in _KINDS][:_MOST]
    able = [one for one in dos if _is_able(one, dos, about, draft)]
    pairs = _pairs(able, undos, about)
    late, lone, fixed = _after_units(effects), list[str](), list[str]()
    for at, do in enumerate(able):
        entry = _entry(do.first, do.argv, about, late=id(do.first) in late)
        name = _add(draft, do.argv, entry, do.first)
        do.tell(draft, "kept", f"run.{name}")
        if program := lacking(do.argv, about):
            draft.find(f"{about.where(do.first.place)}: {program} is not on this host, and was not given")
        if at in pairs:
            undo = undos[pairs[at]]
            entry["undo"], draft.places[name]["undo"] = undo.argv, undo.first.at
            undo.tell(draft, "kept", f"run.{name}: its undo")
            if pairing.sets(do.argv, undo.argv) and not pairing.is_same(do.argv, undo.argv):
                fixed.append(f"run.{name}")
            if any(pairing.is_same(do.argv, other) for other in again) and not entry.get("background"):
                entry["reconnect"] = True
        elif (
            do.first.kind != "trigger"
            and not entry.get("background")
            and do.argv[0].rpartition("/")[2] not in _HARMLESS
        ):
            lone.append(f"run.{name}")
    if lone:
        draft.find(f"nothing of the scripts undoes {', '.join(lone)}: write an undo where it must be undone")
    if fixed:
        draft.find(f"the undo of {', '.join(fixed)} is the script's, and always the same, whatever was there before")
    used = {*pairs.values()}
    _rest([one for at, one in enumerate(undos) if at not in used], _before_units(effects, draft), about, draft)
    for one in effects:
        if one.operation not in (*DO, *UNDO) and one.kind in _KINDS:
            _elsewhere(one, argv_of(one, about), draft)


def _is_able(do: _Twins, dos: Sequence[_Twins], about: About, draft: Draft) -> bool:
    """Whether it becomes an entry. If not, its lines are told why."""
    if why := why_not(do.first, do.argv, about):
        do.tell(draft, "left", why)
        return False
    if pairing.is_removal(do.argv) and any(
        other.argv != do.argv and pairing.is_same(other.argv, do.argv) for other in dos
    ):
        do.tell(draft, "needless", "what it takes away first, libhook's undo has taken away before")
        return False
    return True


def _pairs(dos: Sequence[_Twins], undos: Sequence[_Twins], about: About) -> dict[int, int]:
    """Which undo belongs to which command. An entry runs both as the same user."""
    found = dict[int, int]()
    for user in dict.fromkeys(one.first.done.user for one in dos):
        mine = [at for at, one in enumerate(dos) if one.first.done.user == user]
        theirs = [at for at, one in enumerate(undos)
                  if one.first.done.user == user and not why_not(one.first, one.argv, about)]  # fmt: skip
        pairs = pairing.undos([dos[at].argv for at in mine], [undos[at].argv for at in theirs])
        found.update({mine[at]: theirs[other] for at, other in pairs.items()})
    return found


class _Twins(NamedTuple):
    """One command line, and each time that it was run at one operation, as one user."""

    argv: list[str]
    each: list[Effect]

    @property
    def first(self) -> Effect:
        """The first time."""
        return self.each[0]

    def tell(self, draft: Draft, how: str, text: str) -> None:
        """Note what became of the lines."""
        for one in self.each:
            draft.tell(one, how, text)


def _twins(effects: list[Effect], about: About, draft: Draft) -> list[_Twins]:
    """Put the same ones together. Keep no more than a person reads: the scripts may have made any number."""
    found = dict[object, _Twins]()
    for one in effects:
        argv = argv_of(one, about)
        key = (*argv, one.operation, one.done.user)
        if key in found or len(found) < _MOST:
            found.setdefault(key, _Twins(argv, [])).each.append(one)
        else:
            draft.tell(one, "left", f"more than {_MOST} commands: the rest is yours to write")
    return list(found.values())


def _after_units(effects: Sequence[Effect]) -> set[int]:
    """What comes after a unit or a mount point that was changed."""
    late, found = False, set[int]()
    for one in effects:
        late = late or (one.kind in ("down", "up", "restart", "umount") and one.operation == "prepare")
        if late:
            found.add(id(one))
    return found


def _before_units(effects: Sequence[Effect], draft: Draft) -> set[int]:
    """What the script's end does before the first unit or mount point comes back."""
    if not (draft.units or draft.mounts):
        return set()
    found, back = set[int](), ("up", "restart") if "down" in draft.units.values() else ("down",)
    for one in effects:
        if one.operation in UNDO and one.kind in (*back, "mount"):
            break
        found.add(id(one))
    return found


def _rest(undos: Sequence[_Twins], early: set[int], about: About, draft: Draft) -> None:
    """What the script's end does besides. ``early`` is before the units."""
    for one in undos:
        if why := why_not(one.first, one.argv, about):
            one.tell(draft, "left", why)
            continue
        if about.is_broken_off:
            one.tell(draft, "left", _UNSEEN)
            continue
        entry: dict[str, object] = {"undo": one.argv}
        if id(one.first) in early:
            entry["after"] = "units"
        if one.first.done.user:
            entry["user"] = one.first.done.user
        name = _add(draft, one.argv, entry, one.first)
        one.tell(draft, "kept", f"run.{name}: at the guest's end")


def _is_told(one: Effect, draft: Draft) -> bool:
    return one.kind == "mount" and one.target in draft.mounts


def _elsewhere(one: Effect, argv: list[str], draft: Draft) -> None:
    known = [
        line
        for entry in draft.run.values()
        if entry.get("reconnect")
        for key in ("command", "undo")
        if isinstance(line := entry.get(key), list)
    ]
    if one.operation == "reconnect" and any(pairing.is_same(argv, line) for line in known):
        draft.tell(one, "kept", "reconnect = true")
    else:
        draft.tell(one, "left", f"{' '.join(argv)}: no setting runs anything of its own at {one.operation}")


def unit(one: Effect, name: str, about: About, draft: Draft) -> None:
    """A unit that is started or stopped where no ``units`` can say it: after those that ``units`` says."""
    verb = {"down": "stop", "up": "start"}.get(one.kind, one.kind)
    owner, slash, unit_ = name.rpartition("/")
    argv = [SYSTEMCTL, *(("--user", f"--machine={owner}@.host") if slash else ()), verb, unit_]
    if slash and owner.startswith("@"):
        draft.tell(one, "left", f"{verb} {name}: which user's it is, is known only then")
        return
    if slash:  # root may ask the user's manager; the user would need the environment of a session for that
        one = one._replace(done=one.done._replace(user=""))
    _single(
        one, [*argv[:-2], "--no-block", *argv[-2:]] if verb != "stop" else argv, about, draft, late=bool(draft.units)
    )


def module(one: Effect, effects: Sequence[Effect], about: About, draft: Draft) -> None:
    """A module that is loaded."""
    argv = [about.program("modprobe"), one.target, *(word for word in one.done.argv[1:] if "=" in word)]
    if why := why_not(one, argv, about):
        draft.tell(one, "left", why)
    elif one.operation in DO:
        off = [
            other for other in effects if other.kind == "out" and other.operation in UNDO and other.target == one.target
        ]
        entry = _entry(one, argv, about, late=False)
        if off:
            entry["undo"] = [about.program("modprobe"), "-r", one.target]
            draft.tell(off[0], "kept", "the undo of loading it")
        if not any(known.get("command") == argv for known in draft.run.values()):
            draft.tell(one, "kept", f"run.{_add(draft, argv, entry, one)}")
        else:
            draft.tell(one, "kept", "run with the line's other modules")
    else:
        _single(one, argv, about, draft)


def value(one: Effect, name: str, value: str, about: About, draft: Draft) -> None:
    """A value that is written at the end only, or where no ``values`` can say it."""
    path = name if name.startswith("/") else f"/proc/sys/{name.replace('.', '/')}"
    _single(one, writing(path, value), about, draft)


def _single(one: Effect, argv: list[str], about: About, draft: Draft, *, late: bool = False) -> None:
    if why := why_not(one, argv, about):
        draft.tell(one, "left", why)
        return
    if one.operation in UNDO and about.is_broken_off:
        draft.tell(one, "left", _UNSEEN)
        return
    entry: dict[str, object] = {"undo": argv} if one.operation in UNDO else _entry(one, argv, about, late=late)
    if one.operation not in (*DO, *UNDO):
        draft.tell(one, "left", f"{' '.join(argv)}: no setting runs anything of its own at {one.operation}")
        return
    if entry not in draft.run.values():
        if len(draft.run) >= _MOST:
            draft.tell(one, "left", f"more than {_MOST} commands: the rest is yours to write")
            return
        _add(draft, argv, entry, one)
    when = "at the guest's end" if one.operation in UNDO else f"at {entry.get('at', 'prepare')}"
    draft.tell(one, "kept", f"run by libhook: {' '.join(argv)}, {when}")


def _entry(one: Effect, argv: list[str], about: About, *, late: bool) -> dict[str, object]:
    entry: dict[str, object] = {"command": argv}
    if one.operation in ("start", "started"):
        entry["at"] = one.operation
    if one.done.user:
        entry["user"] = one.done.user
    if is_background(one, about):
        entry["background"] = True
    if one.operation == "prepare":
        program = argv[0].rpartition("/")[2]
        if late and program not in _INDEPENDENT and "set-property" not in argv and one.kind != "trigger":
            entry["after"] = "units"
        if not about.strict(one.place):
            entry["on_failure"] = "log"
    elif one.operation == "start" and not about.strict(one.place):
        entry["on_failure"] = "log"
    return entry


def _add(draft: Draft, argv: list[str], entry: dict[str, object], one: Effect) -> str:
    for name, known in draft.run.items():
        if known == entry:
            return name
    name = _free(draft, argv)
    draft.run[name] = entry
    draft.places[name] = {"command" if "command" in entry else "undo": one.at}
    return name


def _free(draft: Draft, argv: list[str]) -> str:
    words = [
        word.rpartition("/")[2] for word in argv if not word.startswith("-") and word not in ("/usr/bin/env", "/bin/sh")
    ]
    words = [word.partition("=")[0].rpartition(".")[2] if argv[0].endswith("sysctl") else word for word in words]
    words = [word for word in words if "=" not in word and "%" not in word and word != "sh" and not word.isdigit()] or [
        "command"
    ]
    telling = words[:1] + [word for word in words[1:] if any(letter.isalpha() for letter in word)][:2]
    name = re.sub(r"[^A-Za-z0-9_]+", "-", "-".join(telling)).strip("-")[: _LONGEST - 4].strip("-") or "command"
    number, found = 2, name
    while found in draft.run:
        found, number = f"{name}-{number}", number + 1
    return found


def numbers(text: str) -> list[int]:
    """The numbers of a list such as 0-3,8. At most 1,024."""
    found = list[int]()
    for part in text.split(","):
        first, dash, last = part.partition("-")
        if first.isdigit() and (not dash or last.isdigit()):
            found += range(int(first), min(int(last or first), 1023) + 1)
    return found[:1024]
