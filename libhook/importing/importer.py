# SPDX-License-Identifier: LGPL-2.1-or-later
"""From the scripts to the drop-in: plays the guests' lives, translates them, and puts the sections together."""

import posixpath
import re
from collections.abc import Sequence
from typing import NamedTuple

from libhook.importing import filling, life, meaning, names, report, written
from libhook.importing.draft import Draft
from libhook.importing.imagined import imagine
from libhook.importing.life import PROBE, Guest, Life
from libhook.importing.sources import HOOKS, OPERATIONS, TREE, File, Sources
from libhook.importing.trace import Place
from libhook.importing.translate import About, translate
from libhook.importing.written import Section

_MOST_GUESTS = 16
_ADMIN_WORDS = (
    "iptables ip6tables ebtables nft modprobe rmmod sysctl zpool zfs brctl drbdadm tc bridge rtcwake swapoff"
    " swapon mdevctl setpci cpufreq-set ethtool iw ipset wg fstrim blockdev hdparm nvme mkswap"
)
_ADMIN = frozenset(_ADMIN_WORDS.split())
_STRICT = re.compile(r"\|\|\s*\{?\s*(?:exit|die|error|fail|err|abort|return)\w*|^\s*if\s+!")
_STDIN = re.compile(r"xmllint|xmlstarlet|/dev/stdin|/proc/self/fd/0|^cat -$|\$\(cat\b")
_SET_E = re.compile(r"^\s*set\s+-\w*e|^\s*set\s+-o\s+errexit|^#!.*\s-\w*e", re.M)


_OLD = "/etc/libvirt/old-hooks"


class Imported(NamedTuple):
    """The drop-in, and the report."""

    text: str
    lines: list[str]
    data: dict[str, object]


def run(sources: Sources, given: Sequence[Guest], paths: list[str], cpus: int) -> Imported:
    """Import these scripts for these guests, and for those that the scripts name."""
    found = list(sources.found)
    shell = [file for file in sources.files if file.place and file.is_shell]
    for file in sources.files:
        if file.place.startswith(HOOKS) and not file.is_shell and file.interpreter not in ("", "\0"):
            found.append(f"{file.origin} is no shell script ({file.interpreter}): keep it as a whole, with legacy")
        elif file.place.startswith(HOOKS) and file.interpreter == "\0":
            found.append(f"{file.origin} is a program, and no script: keep it as a whole, with legacy")
    legacy = next((f"{_OLD}/{_base(file)}" for file in sources.files if _is_foreign(file)), "")
    if legacy:
        found.append(f"legacy names {legacy}: move the script there, and see docs/old-scripts.md")
    found += [f"{file.origin} has no interpreter in its first line: libvirt cannot run it" for file in sources.files
              if (file.place == f"{HOOKS}/qemu" and not file.interpreter) or _is_beside(file)]  # fmt: skip
    found += _unused_folders(sources)
    texts = "\n".join(file.scanned for file in shell)
    lacking = [name for name in filling.not_here() if re.search(rf"(?<![\w./-]){name}(?![\w-])", texts)]
    if lacking:
        found.append(
            f"{', '.join(lacking)}: not installed here, so the scripts read nothing with it: install it, and try again"
        )
    probe = life.play(sources, Guest(PROBE), cpus) if shell else Life(Guest(PROBE), (), imagine((), (), cpus))
    known = {guest.name: guest for guest in given}
    wanted = [*known, *names.in_tree(sources), *names.named(probe, sources)]
    wanted = [name for name in dict.fromkeys(wanted) if name not in OPERATIONS]
    if len(wanted) > _MOST_GUESTS:
        found.append(
            f"the scripts name {len(wanted)} guests: only {_MOST_GUESTS} are imported; name others with --guest"
        )
        wanted = wanted[:_MOST_GUESTS]
    wanted += [] if wanted else names.in_tables(sources)
    lives = [life.play(sources, known.get(name, Guest(name)), cpus) for name in wanted]
    for one in (probe, *lives):
        found += [text for text in _of_life(one, sources) if text not in found]
        if _reads_xml(one) and not any(guest.document for guest in given):
            found.append(
                "the scripts read the guest's XML: give it with --guest FILE.xml, and what depends on it is seen"
            )
    general = _draft(probe, sources, cpus, named=False)
    drafts = [(one, _draft(one, sources, cpus, named=one.guest.name == one.guest.called)) for one in lives]
    sections = _general(general, found)
    for one, draft in drafts:
        own = written.without(draft, general)
        if not own.is_empty:
            sections.append(Section(("domains", one.guest.name), own))
    fates = list(dict.fromkeys(fate for draft in (general, *(draft for _, draft in drafts)) for fate in draft.fates))
    for draft in (general, *(draft for _, draft in drafts)):
        found += [text for text in draft.found if text not in found]
    found += _own_units(sections, sources)
    if not sections and not wanted and not legacy:
        found.append(
            "the scripts do nothing for a guest that they do not know: name one with --guest NAME, or --guest FILE.xml"
        )
    found = list(dict.fromkeys(found))
    ran = frozenset[Place]().union(*(one.lines for one in (probe, *lives)))
    return Imported(written.text(sections, paths, legacy), report.lines_of(sources, fates, ran, found),
                    report.data_of(sources, fates, ran, found))  # fmt: skip


def _is_beside(file: File) -> bool:
    """Whether it lies among libvirt's own hooks, may be executed, and says not by what."""
    return file.place.rpartition("/")[0] == TREE and file.executable and not file.interpreter


def _base(file: File) -> str:
    return file.place.rpartition("/")[2]


def _is_foreign(file: File) -> bool:
    """Whether libvirt itself runs it, and bash cannot."""
    folder = file.place.rpartition("/")[0]
    return not file.is_shell and (folder == TREE or (folder == HOOKS and _base(file) == "qemu"))


def _own_units(sections: Sequence[Section], sources: Sources) -> list[str]:
    """The units that a drop-in names, and that came with the scripts: what they do was not looked at."""
    files = {_base(file): file for file in sources.files if file.place.startswith("/etc/systemd/system/")}
    units = sorted({unit for section in sections for unit in section.draft.units})
    own = ((unit, files.get(_template(unit))) for unit in units)
    return [f"{unit} is a unit of yours: leave {file.origin} where systemd finds it" for unit, file in own if file]


def _template(unit: str) -> str:
    """The name of the file that a unit has."""
    return f"{unit.partition('@')[0]}@.{unit.rpartition('.')[2]}" if "@" in unit else unit


def _general(draft: Draft, found: list[str]) -> list[Section]:
    """What is done for every guest: what a graphics card needs only for guests that have one."""
    if draft.is_empty:
        return []
    cards = [name for name in draft.modules if name == "device:display"]
    desktop = {unit: state for unit, state in draft.units.items() if cards or draft.bound}
    others = {unit: state for unit, state in draft.units.items() if unit not in desktop}
    rest = draft._replace(modules=[name for name in draft.modules if name not in cards], along=[], units=others)
    sections = [] if rest.is_empty else [Section((), rest)]
    if cards or desktop:
        card = Draft.empty()._replace(modules=cards, units=desktop)
        sections.append(Section(("devices", "display"), card))
        found.append("the scripts ask for no guest's name: what they did with the card they did for every guest. Now"
                     " it is only for guests that have a graphics card")  # fmt: skip
    return sections


def _draft(one: Life, sources: Sources, cpus: int, *, named: bool) -> Draft:
    effects = [found for outcome, trace in one.steps
               for found in meaning.of(trace.done, outcome.call.operation)]  # fmt: skip
    texts = "\n".join(file.scanned for file in sources.files)
    strict_files = {file.place for file in sources.files if _SET_E.search(file.scanned)}
    addresses = frozenset(str(address) for address in one.guest.devices) if one.guest.document else None

    def line(place: Place) -> str:
        file = sources.at(place.file)
        return file.lines[place.line - 1] if file and 0 < place.line <= len(file.lines) else ""

    def strict(place: Place) -> bool:
        return place.file in strict_files or bool(_STRICT.search(line(place)))

    def where(place: Place) -> str:
        file = sources.at(place.file)
        return f"{file.origin if file else place.file}:{place.line}"

    blind = not one.guest.document and _reads_xml(one)
    about = About(one.guest.called, named, max(cpus, one.host.cpus), one.host.desktop, texts, addresses, line, strict,
                  lambda name: program(name, sources), where, blind)  # fmt: skip
    draft = translate(effects, about)
    _require(one, draft, about)
    return draft


def _require(one: Life, draft: Draft, about: About) -> None:
    """What the scripts refuse the start for."""
    for number, refusal in enumerate(one.refusals):
        target = refusal.target if about.named else refusal.target.replace(about.guest, "{name}")
        bare = re.sub(r"[^A-Za-z0-9_]+", "-", refusal.target.rpartition("/")[2].replace(about.guest, "")).strip("-")[
            :30
        ]
        whole = target if refusal.kind == "file" or "." in target else f"{target}.service"
        entry: dict[str, object] = {refusal.kind: whole}
        if refusal.absent:
            entry["absent"] = True
        if refusal.reason.strip():
            entry["reason"] = "".join(letter for letter in refusal.reason if letter.isprintable()).replace(
                about.guest, "the guest"
            )
        name = bare or f"{refusal.kind}-{number}"
        draft.require[name] = entry
        draft.note(refusal.place, "kept", f"require.{name}")


def program(name: str, sources: Sources) -> str:
    """A program's whole path: as a script wrote it, else where Debian has it."""
    if name.startswith("/") and not name.startswith(("/usr/sbin/", "/usr/bin/", "/sbin/", "/bin/")):
        return name
    bare = name.rpartition("/")[2]
    own = next((file.place for file in sources.files if file.place.rpartition("/")[2] == bare and bare), "")
    return own or f"/usr/{'sbin' if bare in _ADMIN else 'bin'}/{bare}"


def _unused_folders(sources: Sources) -> list[str]:
    """Folders of a tree that are called as no operation is."""
    found = set[str]()
    for file in sources.files:
        parts = file.place.removeprefix(HOOKS).strip("/").split("/")
        if parts[:1] == ["qemu.d"] and len(parts) > 3 and parts[2] not in OPERATIONS and "." not in parts[2]:
            guest = parts[1]
            if guest in names.in_tree(sources):
                found.add(f"{file.origin} never runs: no operation is called {parts[2]}")
    return sorted(found)


def _reads_xml(one: Life) -> bool:
    """Whether the scripts look for the guest's document, in libvirt's folder or on stdin."""
    read = {path for _, trace in one.steps for path in trace.read if path.startswith("/etc/libvirt/qemu/")}
    return bool(read) or any(_STDIN.search(text) for _, text in one.commands)


def _of_life(one: Life, sources: Sources) -> list[str]:
    """What the runs themselves tell."""
    found = list[str]()
    for place, word in names.unknown_operations(one, sources):
        file = sources.at(place.file)
        found.append(f"{file.origin if file else place.file}:{place.line}: no operation is called {word}")
    for outcome, trace in one.steps:
        call, last = outcome.call, trace.commands[-1][0] if trace.commands else Place()
        file = sources.at(last.file)
        where = f"{file.origin if file else last.file}:{last.line}"
        if not outcome.ended:
            found.append(
                f"{where}: at {call.operation} it did not end within the deadline; what came after is not known"
            )
        elif trace.code and call.operation in ("prepare", "start"):
            found.append(f"{where}: at {call.operation} it ended with {trace.code} here: if it does on your host, it"
                         " refuses the start: say with `require` what must be so")  # fmt: skip
        elif trace.code and call.operation in ("started", "reconnect"):
            found.append(
                f"{where}: at {call.operation} it ended with {trace.code} here: on a host, that kills the guest"
            )
        elif trace.code and call.operation in ("migrate", "restore"):
            found.append(f"{where}: at {call.operation} it ended with {trace.code}, which refuses it: only legacy can")
    for path in sorted(
        {posixpath.normpath(path) for _, trace in one.steps for path in trace.read if path.startswith(HOOKS)}
    ):
        if (
            not any(f"{file.place}/".startswith(f"{path}/") for file in sources.files)
            and "." in path.rpartition("/")[2]
        ):
            found.append(f"{path} is read by the scripts, and was not given")
    return found
