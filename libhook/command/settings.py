# SPDX-License-Identifier: LGPL-2.1-or-later
"""``libhook config``: every setting with its origin, the merged settings of one guest, and all errors."""

from bisect import bisect_left
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import NamedTuple

from libhook.command import standing
from libhook.command.usage import meant
from libhook.errors import BadInput, unanswered
from libhook.errors import named as unpasted
from libhook.facts import keys, ownhandler, settings
from libhook.facts.config import HANDLERS, Config
from libhook.facts.domain import Domain
from libhook.facts.machine import Machine
from libhook.facts.merged import default, every, merge
from libhook.facts.problem import Problem, explained
from libhook.facts.settings import Device, Section, Settings
from libhook.facts.written import DOMAINS, named, written
from libhook.look import guests
from libhook.story import consult
from libhook.story.session import read_settings
from libhook.story.settings import devices_of, on_host
from libhook.xml import domxml

_WIDEST = 40
_LISTS = "virsh list --all lists the guests"
_COMPARED = 50_000
"""So many names of guests are compared with those of sections, to say what was probably meant. difflib is slow."""
_ALLOWS = "allows what libhook refuses by default"


class Known(NamedTuple):
    """The guests that libvirt's files name."""

    guests: tuple[Domain, ...]
    trouble: str = ""
    """Why these may not be all."""

    def find(self, wanted: str) -> Domain | None:
        """Return the guest of this UUID or name."""
        by_uuid = [guest for guest in self.guests if guest.uuid == wanted.lower()]
        return next(iter(by_uuid or [guest for guest in self.guests if guest.name == wanted]), None)


class Shown(NamedTuple):
    """What the command prints."""

    lines: list[str]
    data: dict[str, object]
    errors: list[str]


class Files(NamedTuple):
    """The files."""

    machine: Machine
    settings: Settings

    @classmethod
    def read(cls, machine: Machine) -> "Files":
        """Read the files. LibhookError if others may write to their folders."""
        return cls(machine, settings.read(read_settings(machine)))

    def devices(self, guest: Domain) -> list[Device]:
        """Return what the settings consider of the guest's devices, as the host has them now."""
        return devices_of(self.machine, self.settings, guest, lambda: None)

    def about(self, guest: Domain) -> list[Section]:
        """Return the sections about this guest, the most specific last."""
        return self.settings.about(guest.name, guest.uuid, self.devices(guest))


def known(machine: Machine) -> Known:
    """Read libvirt's files. A guest that runs has the devices that it has now."""
    found, trouble = dict[str, Domain](), ""
    try:
        for document in guests.documents(machine):
            try:
                guest = domxml.parse(document.xml)
                found[guest.uuid] = guest
            except BadInput as error:
                trouble = f"{unpasted(document.path)}: {error.message}"
    except OSError as error:
        trouble = unanswered(error).message
    return Known(tuple(found.values()), trouble)


def overview(machine: Machine) -> Shown:
    """Show all files: each setting, what consents to a risk, and sections that are about no guest."""
    files, those = Files.read(machine), known(machine)
    found = files.settings
    rows = every(found)
    lines = [f"{one.section.path}  {one.line}" for one in rows]
    setting, wrong = {one.section.path for one in rows}, {problem.path for problem in found.problems}
    silent = [source.path for source in found.sources if source.path not in setting]
    lines += [f"{path}  ({'see its errors' if path in wrong else 'sets nothing'})" for path in silent]
    if not found.sources:
        lines.append("there are no files, so every setting has its default")
    lines += [f"{_ALLOWS}: {one.line} ({one.section.path})" for one in rows if one.relaxes]
    unmatched = _unmatched(files, those)
    if those.trouble and unmatched:
        lines.append(f"which of the sections are about no guest is not known: {those.trouble}")
    else:
        lines += _about_nobody(unmatched, those)
    errors = explained(found.problems) + _handlers(files, found.sections)
    data: dict[str, object] = {
        "files": [source.path for source in found.sources],
        "settings": [
            {"key": one.name, "value": one.value, "file": one.section.path, "relaxes": one.relaxes} for one in rows
        ],
        "about_no_guest": None
        if those.trouble
        else [{"section": named(section.keys), "file": section.path} for section in unmatched],
        "errors": [error.to_json() for error in errors],
    }
    return Shown(lines, data, [error.text for error in errors])


def of_guest(machine: Machine, wanted: str) -> Shown:
    """Show the merged settings of one guest, with the origin of each value.

    BadInput where others are defined, but not this guest, and no section is for it.
    """
    files, those = Files.read(machine), known(machine)
    guest = those.find(wanted)
    is_uuid = settings.is_uuid(wanted.lower())
    unknown = Domain("", wanted.lower(), "", ()) if is_uuid else Domain(wanted, "", "", ())
    sections = files.about(guest or unknown)
    if not guest and those.guests and not those.trouble and not any(section.keys for section in sections):
        named_here = {section.keys[1] for section in files.settings.sections if section.keys[:1] == (DOMAINS,)}
        near = meant(wanted, sorted(named_here | {one.name for one in those.guests})).removeprefix(": ")
        raise BadInput(f"there is no guest {unpasted(wanted)}, and no section for it", f"{near} {_LISTS}".strip())
    rows = _values(sections)
    width = min(max(len(row.text) for row in rows), _WIDEST)
    errors = explained(problem for section in sections for problem in section.problems)
    errors += _handlers(files, sections)
    lines = _head(files, guest, wanted, those)
    lines += [f"{row.text:<{width}}  {row.origin}" for row in rows]
    lines += [f"{_ALLOWS}: {row.text} ({row.origin})" for row in rows if row.relaxes]
    if errors:
        lines.append("until the errors are corrected, it is given no host device")
    devices = [str(address) for address in guest.addresses] if guest else []
    data: dict[str, object] = {
        "guest": {
            "name": (guest or unknown).name,
            "uuid": (guest or unknown).uuid,
            "known": bool(guest),
            "pci": devices,
        },
        "settings": [
            {
                "key": row.key,
                "value": row.value,
                "file": row.path or None,
                "relaxes": row.relaxes,
            }
            for row in rows
        ],
        "errors": [error.to_json() for error in errors],
    }
    return Shown(lines, data, [error.text for error in errors])


class _Row(NamedTuple):
    """One value of a guest. ``path`` is "" for a default."""

    key: str
    value: object
    path: str = ""
    section: str = ""
    relaxes: bool = False

    @property
    def text(self) -> str:
        return f"{self.key} = {written(self.value)}"

    @property
    def origin(self) -> str:
        return f"{self.path}{self.section and f' [{self.section}]'}" if self.path else "default"


def _values(sections: list[Section]) -> list[_Row]:
    found, rows = merge(sections), list[_Row]()
    order = {key.replace(".", "_"): key for key in keys.known()}
    for key in [*(order[field] for field in Config._fields if field in order), *keys.OF_KINDS]:
        if key in found:
            for one in found[key].settings:
                rows.append(_Row(named(one.at), one.value, one.section.path, named(one.section.keys), one.relaxes))
        elif key not in keys.OF_KINDS:
            rows.append(_Row(key, default(key)))
    return rows


def _head(files: Files, guest: Domain | None, wanted: str, those: Known) -> list[str]:
    if guest is None:
        why = f" ({those.trouble})" if those.trouble else ""
        return [
            f"{unpasted(wanted)} is not defined here{why}, so its devices are not known: no section for a device counts"
        ]
    devices = [on_host(files.machine, address) for address in guest.addresses]
    rows = (("  pci", str(device.address), device.ids, device.class_name) for device in devices)
    return [f"{unpasted(guest.name)}  {guest.uuid}", *("  ".join(filter(None, row)) for row in rows)]


def _unmatched(files: Files, those: Known) -> list[Section]:
    """The sections that are about none of these guests. Not pair by pair: there may be thousands of both."""
    names, uuids = {guest.name for guest in those.guests}, {guest.uuid for guest in those.guests}
    devices = settings.names_of(one for guest in those.guests for one in files.devices(guest))
    known, in_order = {settings.DEVICE: devices, settings.NAME: names, settings.UUID: uuids}, sorted(names)
    return [one for one in files.settings.sections if one.keys and not _is_about(one, known, in_order)]


def _is_about(section: Section, known: Mapping[int, Container[str]], names: Sequence[str]) -> bool:
    """Whether the section is about a guest or device of these names. ``names`` has those of guests, sorted."""
    level, own = section.rank[0], section.keys[1]
    if level != settings.PATTERN:
        return (own if level == settings.NAME else own.lower()) in known[level]
    fixed = own[: min(at for at, character in enumerate(own) if character in settings.GLOB)]
    at = bisect_left(names, fixed)  # only guests whose name begins so are compared
    while at < len(names) and names[at].startswith(fixed):
        if settings.matches(section, names[at], ""):
            return True
        at += 1
    return False


def _about_nobody(nobodys: Sequence[Section], those: Known) -> Iterator[str]:
    names = [guest.name for guest in those.guests]
    explained = _COMPARED // max(len(names), 1)
    for number, section in enumerate(nobodys):
        near = list[str]()
        if section.keys[0] == DOMAINS and number < explained:
            near = get_close_matches(section.keys[1], names, 1)
        rather = f": it should probably be {named((DOMAINS, near[0]))}" if near else ""
        yield f"about no guest that is known here: {named(section.keys)} ({section.path}){rather}"


def _handlers(files: Files, sections: Iterable[Section]) -> list[Problem]:
    """Handlers by others that these sections want, and that cannot be asked, so that a start is refused."""
    wanted = [(section, *entry) for section in sections for entry in section.values.get(HANDLERS, {}).items()]
    found = list[Problem]()
    index = consult.read_index(files.machine) if wanted else {}
    for section, name, options in wanted:
        stands = standing.of(files.machine, name, index)
        if stands.what and options.get(ownhandler.ON_FAULT) != ownhandler.SKIP:
            what = f"the handler {name}: {stands.what}"
            found.append(Problem(section.path, (*section.keys, HANDLERS, name), what, stands.remedy))
    return found
