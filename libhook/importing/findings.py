# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the reader should know besides what became of each line. Pure."""

import posixpath
import re
from collections.abc import Callable, Iterable, Sequence

from libhook.errors import named
from libhook.importing import filling, names
from libhook.importing.done import Place
from libhook.importing.draft import UNDO
from libhook.importing.life import PROBE, Life
from libhook.importing.sources import HOOKS, OPERATIONS, TREE, File, Sources
from libhook.importing.written import Section

_STDIN = re.compile(r"xmllint|xmlstarlet|/dev/stdin|/proc/self/fd/0|^cat -$|\$\(cat\b")
_WHOLE = re.compile(r"(?:\$\(|`)\s*cat\s*[|)`]")
_OLD = "/etc/libvirt/old-hooks"


def of_sources(sources: Sources) -> tuple[str, list[str]]:
    """The script that goes on as it is, "" for none; and what the files themselves tell."""
    found = list[str]()
    shell = [file for file in sources.files if file.place and file.is_shell]
    for file in sources.files:
        if file.place.startswith(HOOKS) and not file.is_shell and file.interpreter not in ("", "\0"):
            what = "keep it as a whole, with legacy" if _is_foreign(file) else "what it does is in no setting"
            found.append(f"{file.shown} is no script of bash or sh ({named(file.interpreter)}): {what}")
        elif file.place.startswith(HOOKS) and file.interpreter == "\0":
            found.append(f"{file.shown} is a program, and no script: keep it as a whole, with legacy")
    legacy = next((f"{_OLD}/{_base(file)}" for file in sources.files if _is_foreign(file)), "")
    if legacy:
        found.append(_moved(legacy))
    found += [f"{file.shown} has no interpreter in its first line: libvirt cannot run it" for file in sources.files
              if (file.place == f"{HOOKS}/qemu" and not file.interpreter) or _is_beside(file)]  # fmt: skip
    found += _unused_folders(sources)
    texts = "\n".join(file.scanned for file in shell)
    lacking = [name for name in filling.not_here() if re.search(rf"(?<![\w./-]){name}(?![\w-])", texts)]
    if lacking:
        found.append(
            f"{', '.join(lacking)}: not installed here, so the scripts read nothing with it: install it, and try again"
        )
    return legacy, found


def legacy(sources: Sources) -> tuple[str, list[str]]:
    """libvirt's hook itself as what goes on, where it only starts programs in another language."""
    if not sources.at(f"{HOOKS}/qemu"):
        return "", []
    return f"{_OLD}/qemu", [f"{_moved(f'{_OLD}/qemu')}; move there, too, what it starts"]


def _moved(place: str) -> str:
    return f"legacy names {named(place)}: move the script there, and see docs/old-scripts.md"


def _is_beside(file: File) -> bool:
    """Whether it lies among libvirt's own hooks, may be executed, and says not by what."""
    return file.place.rpartition("/")[0] == TREE and file.executable and not file.interpreter


def _base(file: File) -> str:
    return file.place.rpartition("/")[2]


def _is_foreign(file: File) -> bool:
    """Whether libvirt itself runs it, and bash cannot."""
    folder = file.place.rpartition("/")[0]
    return not file.is_shell and not file.off and (folder == TREE or (folder == HOOKS and _base(file) == "qemu"))


def own_units(sections: Sequence[Section], sources: Sources, here: Callable[[str], bool]) -> list[str]:
    """The units that a drop-in names, and that came with the scripts: what they do was not looked at. And those that
    this host has not.
    """
    files = {_base(file): file for file in sources.files if file.place.startswith("/etc/systemd/system/")}
    units = sorted(
        {unit for section in sections for unit in section.draft.units if "{" not in unit and "/" not in unit}
    )
    own = {unit: file for unit in units if (file := files.get(_template(unit)))}
    found = [
        f"{named(unit)} is a unit of yours: leave {file.shown} where systemd finds it" for unit, file in own.items()
    ]
    lacking = [unit for unit in units if unit not in own and not here(_template(unit))]
    if lacking:
        what = "it" if len(lacking) == 1 else "them"
        found.append(f"{', '.join(map(named, lacking))}: not on this host, so libhook would refuse the start: take"
                     f" {what} out of units, or import where the guests run")  # fmt: skip
    return found


def _template(unit: str) -> str:
    """The name of the file that a unit has."""
    return f"{unit.partition('@')[0]}@.{unit.rpartition('.')[2]}" if "@" in unit else unit


def _unused_folders(sources: Sources) -> list[str]:
    """Folders of a tree that are called as no operation is."""
    found = set[str]()
    for file in sources.files:
        parts = file.place.removeprefix(HOOKS).strip("/").split("/")
        if parts[:1] == ["qemu.d"] and len(parts) > 3 and parts[2] not in OPERATIONS and "." not in parts[2]:
            guest = parts[1]
            if guest in names.in_tree(sources):
                found.add(f"{file.shown} never runs: no operation is called {named(parts[2])}")
    return sorted(found)


def reads_xml(one: Life, sources: Sources) -> bool:
    """Whether the scripts look for the guest's document, in libvirt's folder or on stdin."""
    if any(path.startswith("/etc/libvirt/qemu/") for _, trace in one.steps for path in trace.read):
        return True
    return any(_STDIN.search(text) or (text == "cat" and _WHOLE.search(_line(sources, place)))
               for place, text in one.commands)  # fmt: skip


def _line(sources: Sources, place: Place) -> str:
    file = sources.at(place.file)
    return file.lines[place.line - 1] if file and 0 < place.line <= len(file.lines) else ""


_MEANS = {
    ("prepare", "start"): "if it does on your host, it refuses the start: say with `require` what must be so",
    ("started", "reconnect"): "on a host, that kills the guest",
    ("migrate", "restore"): "that refuses it, and only legacy can",
    ("stopped", "release"): "what comes after never ran, and what it gives back is not known",
}
"""What an exit code says at these operations. At the guest's end libvirt looks at none: there bash must complain."""
_COMPLAINT = re.compile(
    r"(?:line [0-9]+|\d): .*(?:unbound variable|syntax error|can only be used in a function|bad subst)"
)
_SET_E = re.compile(r"^\s*set\s+-\w*e|^\s*set\s+-o\s+errexit|^#!.*\s-\w*e", re.M)


def _where(sources: Sources, place: Place) -> str:
    file = sources.at(place.file)
    return f"{file.shown if file else named(place.file)}:{place.line}"


def _breaks_off(output: str, last: Iterable[Place], sources: Sources) -> bool:
    """Whether bash itself has ended a script here."""
    files = [file for place in last if (file := sources.at(place.file))]
    return bool(_COMPLAINT.search(output)) or any(_SET_E.search(file.scanned) for file in files)


def of_life(one: Life, sources: Sources) -> list[str]:
    """What the runs themselves tell."""
    found = list[str]()
    for place, word in names.unknown_operations(one, sources):
        found.append(f"{_where(sources, place)}: no operation is called {named(word)}")
    whom = "a guest that they do not name" if one.guest.name == PROBE else named(one.guest.name)
    ends = dict[tuple[Place, Place, int, tuple[str, str]], list[str]]()
    for outcome, trace in one.steps:
        operation, last = outcome.call.operation, trace.commands[-1][0] if trace.commands else Place()
        if not outcome.ended:
            found.append(f"{_where(sources, last)}: at {operation} of {whom} it did not end within the deadline; what"
                         " came after is not known")  # fmt: skip
        elif trace.code and (alike := [some for some in _MEANS if operation in some]):
            before = next((place for place, _ in reversed(trace.failed) if place.file != last.file), Place())
            if operation in UNDO and not _breaks_off(outcome.output, (last, before), sources):
                continue
            ends.setdefault((last, before, trace.code, alike[0]), []).append(operation)
        for place, code in trace.failed if not trace.code and operation in ("prepare", "start") else ():
            found.append(f"{_where(sources, place)}: at {operation} of {whom} this script ended with {code} here, and"
                         " the hook with 0: if it does on your host, the start goes on")  # fmt: skip
    for (last, before, code, means), operations in ends.items():
        where = f"{_where(sources, last)} (after {_where(sources, before)})" if before.line else _where(sources, last)
        found.append(f"{where}: at {' and '.join(dict.fromkeys(operations))} of {whom} it ended with {code} here:"
                     f" {_MEANS[means]}")  # fmt: skip
    for path in sorted(
        {posixpath.normpath(path) for _, trace in one.steps for path in trace.read if path.startswith(HOOKS)}
    ):
        if (
            not any(f"{file.place}/".startswith(f"{path}/") for file in sources.files)
            and "." in path.rpartition("/")[2]
        ):
            found.append(f"{named(path)} is read by the scripts, and was not given")
    return found
