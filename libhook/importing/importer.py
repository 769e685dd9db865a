# SPDX-License-Identifier: LGPL-2.1-or-later
"""From the scripts to the drop-in: plays the guests' lives, translates them, and puts the sections together."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from libhook import errors
from libhook.importing import (
    findings,
    foreign,
    life,
    meaning,
    names,
    partly,
    report,
    sandbox,
    strace,
    twins,
    unset,
    varying,
    written,
)
from libhook.importing.about import About
from libhook.importing.done import Place
from libhook.importing.draft import Draft, Fate
from libhook.importing.givingup import GivingUp
from libhook.importing.imagined import imagine
from libhook.importing.life import PROBE, Guest, Life
from libhook.importing.shown import as_shown
from libhook.importing.sources import OPERATIONS, Sources
from libhook.importing.translate import translate
from libhook.importing.written import Section

_MOST_GUESTS, _MOST_EFFECTS = 16, 3000
_OF_DISTRIBUTION = ("/usr/sbin/", "/usr/bin/", "/sbin/", "/bin/")
_WRITTEN = re.compile(r"(?<![\w.}/-])/(?:usr/)?s?bin/[\w.+-]+")


class Host(NamedTuple):
    """What import must know of the host that it runs on."""

    cpus: int
    program: Callable[[str], str]
    """The whole path of a program, as the hook would find it; "" if it is not here."""
    shows: Callable[[str], str]
    """What a file of the kernel's shows here; "" if it is not here."""
    until: float
    """When the import must have ended, by the monotonic clock."""
    users: Mapping[str, int] = {}
    """Its users, and their numbers."""
    unit: Callable[[str], bool] = lambda _name: True
    """Whether it has a unit of systemd's."""


class Imported(NamedTuple):
    """The drop-in, and the report."""

    text: str
    lines: list[str]
    data: dict[str, object]


def run(sources: Sources, given: Sequence[Guest], paths: list[str], host: Host) -> Imported:
    """Import these scripts for these guests, and for those that the scripts name."""
    cpus = host.cpus
    legacy, told = findings.of_sources(sources)
    found = [*sources.found, *told]
    shell = [file for file in sources.files if file.place and file.is_shell]
    probe = Life(Guest(PROBE), (), imagine((), (), cpus))
    if shell:
        probe = life.play(sources, probe.guest, cpus, host.until, users=host.users)
    known = {guest.name: guest for guest in given}
    wanted = [*known, *names.in_tree(sources), *names.named(probe, sources)]
    wanted = [name for name in dict.fromkeys(wanted) if name not in OPERATIONS]
    if len(wanted) > _MOST_GUESTS:
        found.append(
            f"the scripts name {len(wanted)} guests: only {_MOST_GUESTS} are imported; name others with --guest"
        )
        wanted = wanted[:_MOST_GUESTS]
    wanted += [] if wanted else names.in_tables(sources)
    lives = list[Life]()
    for at, name in enumerate(wanted):
        if sandbox.left(host.until) < 2 * life.SECONDS:
            found.append(
                f"import took too long: {_listed(wanted[at:])} is left out; import again with --guest for each"
            )
            break
        lives.append(life.play(sources, known.get(name, Guest(name)), cpus, host.until, users=host.users))
    for one in (probe, *lives):
        found += [text for text in findings.of_life(one, sources) if text not in found]
        if findings.reads_xml(one, sources) and not any(guest.document for guest in given):
            found.append(
                "the scripts read the guest's XML: give it with --guest FILE.xml, and what depends on it is seen"
            )
    giving_up = GivingUp(sources)
    general = _draft(probe, sources, host, giving_up, named=False)
    drafts = [(one, _draft(one, sources, host, giving_up, named=one.guest.name == one.guest.called)) for one in lives]
    sections = _general(general, found)
    named = {*known, *names.in_tree(sources)}
    by_hand = [one.guest.name for one in lives if one.guest.name not in named and names.is_by_hand(one)]
    if by_hand:
        found.append(f"{_listed(by_hand)}: the scripts do the same at every operation, as for a word that is used by"
                     " hand: if it is a guest, name it with --guest")  # fmt: skip
    drafts = [(one, draft) for one, draft in drafts if one.guest.name not in by_hand]
    apart = [one.guest.name for one, draft in drafts if not draft.fates]
    if sections and apart:
        found.append(f"the scripts leave out {_listed(apart)}, and what is here for all guests is for these, too:"
                     " write it into sections of the guests that are meant")  # fmt: skip
    for one, draft in drafts:
        own = written.without(draft, general)
        if not own.is_empty:
            sections.append(Section(("domains", one.guest.name), own))
    fates = list(dict.fromkeys(fate for draft in (general, *(draft for _, draft in drafts)) for fate in draft.fates))
    for draft in (general, *(draft for _, draft in drafts)):
        found += [text for text in draft.found if text not in found]
    if not sections and not legacy and any(foreign.WHY in fate.text for fate in fates):
        legacy, told = findings.legacy(sources)
        found += told
    found += findings.own_units(sections, sources, host.unit)
    ran, some, unseen = _ran(sources, [probe, *lives], fates, giving_up)
    fates += unset.fates(sources, ran)
    if sources.files and not fates and not wanted and not legacy:
        found.append(
            "the scripts do nothing for a guest that they do not know: name one with --guest NAME, or --guest FILE.xml"
        )
    found = list(dict.fromkeys(found))
    return Imported(written.text(sections, paths, legacy),
                    report.lines_of(sources, fates, ran, some, unseen, found),
                    report.data_of(sources, fates, ran, some, unseen, found))  # fmt: skip


def _ran(
    sources: Sources, lives: Sequence[Life], fates: Sequence[Fate], giving_up: GivingUp
) -> tuple[frozenset[Place], report.Partly, report.Partly]:
    """The lines that ran, those that ran only in part, and those of which nothing is told.

    That a start is given up is told where its reason is.
    """
    same = twins.firsts(sources)
    ran = frozenset(twins.first(place, same) for one in lives for place in one.lines)
    commands = ((twins.first(place, same), text) for one in lives for place, text in one.commands)
    settled = frozenset(twins.first(refusal.place, same) for one in lives for refusal in one.refusals)
    told = settled | {twins.first(fate.place, same) for fate in fates}
    names = giving_up.functions | {file.place.rpartition("/")[2] for file in sources.files}
    some = [
        (file, number, text)
        for file, number, text in partly.lines(sources, ran, commands)
        if not (giving_up.is_end(text) and Place(file.place, number) in told)
    ]
    in_part = {Place(file.place, number) for file, number, _ in some}
    unseen = list(partly.unseen(sources, ran, told | in_part, names))
    return ran | giving_up.ends(told, settled), some, unseen


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


def _draft(one: Life, sources: Sources, host: Host, giving_up: GivingUp, *, named: bool) -> Draft:
    again = one.scratch
    texts = "\n".join(file.scanned for file in sources.files)
    places = {strace.in_path(file.place): file.place for file in sources.files if file.place}
    own, scripted = {*places.values()}, frozenset(_WRITTEN.findall(texts))
    addresses = frozenset(str(address) for address in one.guest.devices) if one.guest.document else None

    def line(place: Place) -> str:
        file = sources.at(place.file)
        return file.lines[place.line - 1] if file and 0 < place.line <= len(file.lines) else ""

    def where(place: Place) -> str:
        file = sources.at(place.file)
        return f"{file.shown if file else errors.named(place.file)}:{place.line}"

    effects = [found for outcome, trace in one.steps for found in
               varying.told(meaning.of(trace.done, outcome.call.operation, again), one.varying, line)]  # fmt: skip
    effects = list(foreign.told(effects, line))
    starts = [step for step in one.steps if step[0].call.operation in ("prepare", "start")]
    last = {found.commands[-1][0] for _, found in starts if found.commands}  # a script ends as its last command does
    blind = not one.guest.document and findings.reads_xml(one, sources)
    about = About(
        guest=one.guest.called, named=named, cpus=max(host.cpus, one.host.cpus), desktop=one.host.desktop, texts=texts,
        xml=addresses, line=line, strict=lambda place: giving_up.is_strict(place) or place in last,
        program=lambda name: _program(name, places, scripted, host),
        here=lambda path: path in own or bool(host.program(path)), where=where, blind=blind,
        invented=one.host.invented, is_broken_off=any(not outcome.ended or found.code for outcome, found in starts),
        shown=lambda path, value: as_shown(path, value, host.shows, max(host.cpus, one.host.cpus)),
    )  # fmt: skip
    draft = translate(effects[:_MOST_EFFECTS], about)
    if len(effects) > _MOST_EFFECTS:
        whom = _listed([one.guest.name])
        draft.find(f"the scripts do more than {_MOST_EFFECTS} things for {whom}: the rest is left out")
    _require(one, draft, about)
    return draft


def _listed(guests: Iterable[str]) -> str:
    return ", ".join(map(errors.named, guests))


def _program(name: str, places: Mapping[str, str], scripted: frozenset[str], host: Host) -> str:
    """A program's whole path: as a script wrote it, else where this host has it, else only its name."""
    if own := places.get(strace.in_path(name)):
        return own
    if name in scripted or (name.startswith("/") and not name.startswith(_OF_DISTRIBUTION)):
        return name
    bare = name.rpartition("/")[2]
    return host.program(bare) or bare


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
