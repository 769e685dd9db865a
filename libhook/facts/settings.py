# SPDX-License-Identifier: LGPL-2.1-or-later
"""Reads the files of the settings into sections, and says which sections are about a guest.

    config.toml, config.d/*.toml -> Source -> Section, with its errors -> those that match a guest -> merged.py

A file or section that is wrong does not stop the others from being read. So all errors are known at once, and only the
guests that a wrong section matches are refused.
"""

from __future__ import annotations

from libhook.facts import keys
from libhook.facts.address import PciAddress
from libhook.facts.config import TAKE_ALONG, Source
from libhook.facts.host import NO_CLASS
from libhook.facts.problem import Problem
from libhook.facts.written import DEVICES, DOMAINS, named
from libhook.light import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
    from typing import Any

CLASSES = ("display", "network", "nvme", "usb", "audio")
_OF_CLASS = {0x0108: "nvme", 0x0C03: "usb", 0x0401: "audio", 0x0403: "audio"}
_OF_BASE = {0x02: "network", 0x03: "display"}
TOP, DEVICE, PATTERN, NAME, UUID = range(5)
"""The levels, the most specific last."""
_CLASS, _IDS, _ADDRESS = range(3)
"""The ways to name a device, the most specific last."""
GLOB = "*?["
_STARS = 2  # the most in a pattern: dash and mksh take a time for it that grows with a power of the name's length
_OF_SHELLS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-*")
"""What means the same in a pattern of a shell's and of Python's."""
_HEX = frozenset("0123456789abcdef")
_TOML = 'correct it; text stands in quotes, as in driver = "vfio-pci": https://toml.io'
_TO_WHOM = {TOP: "all guests", DEVICE: "whichever guest has a device", PATTERN: "a pattern"}
_ONE = "name one guest in [domains], by its exact name or UUID"
_REMEDIES = {TOP: _ONE, DEVICE: _ONE, PATTERN: "name one guest, by its exact name or UUID"}


class Section(NamedTuple):
    """One section of one file: its keys that are right, and its errors."""

    path: str
    """The file."""
    keys: tuple[str, ...]
    """() for the top level, ``("domains", "win11")``, ``("devices", "display")``."""
    rank: tuple[int, int]
    """Of two sections that say something about one key, the one with the higher rank wins; then the later one."""
    values: Mapping[str, Any]
    """By key: ``audit.required``."""
    problems: tuple[Problem, ...] = ()

    @property
    def asks(self) -> bool:
        """Whether it asks for an action of a kind, rightly or not."""
        return not keys.OF_KINDS.keys().isdisjoint(self.has)

    @property
    def has(self) -> set[str]:
        """The keys in it, right or wrong."""
        wrong = {problem.keys[len(self.keys)] for problem in self.problems if len(problem.keys) > len(self.keys)}
        return wrong.union(self.values)

    @property
    def guest(self) -> str:
        """Whom a section that is not about a device is about: a name, a pattern, or a UUID as libvirt writes it."""
        if not self.keys:
            return "*"
        return self.keys[1].lower() if self.rank[0] == UUID else self.keys[1]

    def is_for(self, names: Container[str]) -> bool:
        """Whether it is a section for devices, and one with these names is meant (names_of)."""
        return self.rank[0] == DEVICE and self.keys[1].lower() in names

    def may_set(self, key: str) -> bool:
        """Whether the section may set what must name guests. The top level is about each guest, and mostly may."""
        return self.rank[0] not in _TO_WHOM or (self.rank[0] == TOP and not keys.is_for_one_guest(key))


class Device(NamedTuple):
    """What the settings consider of a PCI device of the guest."""

    address: PciAddress
    ids: str = ""
    pci_class: int = NO_CLASS

    @property
    def is_complete(self) -> bool:
        """Whether all is known of it."""
        return bool(self.ids) and self.pci_class != NO_CLASS

    @property
    def class_name(self) -> str:
        """One of CLASSES, or "" for any other device."""
        return _OF_CLASS.get(self.pci_class) or _OF_BASE.get(self.pci_class >> 8, "")


class Settings(NamedTuple):
    """All files."""

    sources: tuple[Source, ...]
    sections: tuple[Section, ...]
    """In the order of the files, and within a file in that of the document."""

    @property
    def problems(self) -> list[Problem]:
        """All errors of all files."""
        return [problem for section in self.sections for problem in section.problems]

    @property
    def name_devices(self) -> bool:
        """Whether a section is about a device, so that the guest's devices matter."""
        return any(section.rank[0] == DEVICE for section in self.sections)

    @property
    def describe_devices(self) -> bool:
        """Whether a section is about what a device is, not just about its address."""
        return any(section.rank in ((DEVICE, _CLASS), (DEVICE, _IDS)) for section in self.sections)

    @property
    def served(self) -> tuple[str, ...]:
        """Whom the settings ask actions for, even without host devices: names, UUIDs, and patterns for a shell.

        What a shell might read otherwise than Python does, or slowly, stands here as ``*``. A slash before it says that
        they ask something at each operation. Who takes devices along is here once more, after a ``+`` and as it is:
        that is a name or a UUID, and no pattern.
        """
        asking = [one for one in self.sections if one.rank[0] != DEVICE and one.asks]
        names = {"/" * (not keys.TOLD.isdisjoint(one.has)) + _of_shells(one.guest) for one in asking}
        taking = {one.guest for one in self.sections if one.values.get(TAKE_ALONG)}
        return tuple(sorted(names | {f"+{name}" for name in taking if name and "\n" not in name}))

    def about(self, name: str, uuid: str, devices: Iterable[Device] = ()) -> list[Section]:
        """The sections about the guest with this name, UUID and devices, the most specific last."""
        names = names_of(devices)
        found = (one for one in self.sections if one.is_for(names) or matches(one, name, uuid))
        return sorted(found, key=lambda section: section.rank)  # of equal ones the later stays the later


def names_of(devices: Iterable[Device]) -> set[str]:
    """What a section for one of these devices may be called."""
    return {text for one in devices for text in (str(one.address), one.ids, one.class_name)}


def _of_shells(name: str) -> str:
    return name if name and set(name) <= _OF_SHELLS and name.count("*") <= _STARS else "*"


def matches(section: Section, name: str, uuid: str) -> bool:
    """Whether a section that is not for devices is about the guest with this name and UUID."""
    level = section.rank[0]
    if level in (TOP, DEVICE):
        return level == TOP
    own = section.keys[1]
    if level == UUID:
        return own.lower() == uuid
    if level == NAME:
        return own == name
    from fnmatch import fnmatchcase  # it imports re, and few hosts have patterns

    return fnmatchcase(name, own)


def read(sources: Sequence[Source]) -> Settings:
    """Read all files. What is wrong in them is in ``problems``."""
    return Settings(tuple(sources), tuple(section for source in sources for section in _sections(source)))


def _sections(source: Source) -> Iterator[Section]:
    path, document = source.path, _document(source)
    if isinstance(document, Problem):
        yield Section(path, (), (TOP, 0), {}, (document,))
        return
    own, stray = [], []
    for kind in (DEVICES, DOMAINS):
        tables = document.pop(kind, {})
        if not isinstance(tables, dict):
            remedy = f'write [{kind}."{"display" if kind == DEVICES else "NAME"}"]'
            stray.append(Problem(path, (kind,), f"{kind} must be sections", remedy))
            continue
        for name, table in tables.items():
            rank = _rank(kind, name)
            if rank is None:
                stray.append(_no_device(path, name))
            elif isinstance(table, dict):
                section = section_of(path, (kind, name), rank, table)
                own.append(section._replace(problems=(*_stars(path, name, rank), *section.problems)))
            else:
                where = named((kind, name))
                problem = Problem(path, (kind, name), f"{where} must be a section", f"write [{where}]")
                own.append(Section(path, (kind, name), rank, {}, (problem,)))
    top = section_of(path, (), (TOP, 0), document)
    yield top._replace(problems=(*top.problems, *stray))
    yield from own


def _document(source: Source) -> dict[str, Any] | Problem:
    import tomllib  # takes 12 ms, and most hosts have no settings

    if source.trouble:
        return Problem(source.path, (), source.trouble.message, source.trouble.hint)
    try:
        source.text.encode()
        return tomllib.loads(source.text)
    except (ValueError, RecursionError) as error:  # also a number or a nesting that Python rejects
        why = "its bytes are no UTF-8" if isinstance(error, UnicodeError) else str(error)
        return Problem(source.path, (), f"this is not TOML: {why}", _TOML)


def _rank(kind: str, name: str) -> tuple[int, int] | None:
    """The rank of ``[kind."name"]``; None where the name can be no device's."""
    if (lower := name.lower()) in CLASSES and kind == DEVICES:
        return DEVICE, _CLASS
    if kind == DEVICES:
        if [len(part) for part in lower.split(":")] == [4, 4] and set(lower) <= _HEX | {":"}:
            return DEVICE, _IDS
        return (DEVICE, _ADDRESS) if keys.is_address(lower) else None
    if is_uuid(lower):  # even where a guest has this text as its name
        return UUID, 0
    return (PATTERN, len(name)) if any(character in name for character in GLOB) else (NAME, 0)


def _stars(path: str, name: str, rank: tuple[int, int]) -> Iterator[Problem]:
    if rank[0] == PATTERN and name.count("*") > _STARS:
        remedy = f"write a section for each guest, or patterns with {_STARS} stars at most"
        yield Problem(path, (DOMAINS, name), f"{named((DOMAINS, name))} has more than {_STARS} stars", remedy)


def is_device(name: str) -> bool:
    """Whether this can name a device: by its address, vendor and product, or class."""
    return _rank(DEVICES, name) is not None


def is_uuid(text: str) -> bool:
    """Whether the text has the form of libvirt's UUIDs: 8-4-4-4-12 lower-case hexadecimal digits."""
    return [len(part) for part in text.split("-")] == [8, 4, 4, 4, 12] and set(text) <= _HEX | {"-"}


def _no_device(path: str, name: str) -> Problem:
    """The error for a name that can be no device's. It may mean any, so no guest with host devices is served."""
    full = f"0000:{name.lower()}"  # lspci leaves the domain out
    near = (full,) if keys.is_address(full) else CLASSES
    what = f"{named((DEVICES, name))} is no device"
    remedy = f"give an address (0000:01:00.0), vendor and product (10de:2684), or a class: {', '.join(CLASSES)}"
    return Problem(path, (DEVICES, name), what, remedy, near, full if keys.is_address(full) else name)


def section_of(path: str, where: tuple[str, ...], rank: tuple[int, int], table: Mapping[str, Any]) -> Section:
    """Check a section."""
    section = Section(path, where, rank, {})
    values, problems = {}, list[Problem]()
    for at, value in _flat(table):
        key = ".".join(at)
        if complaint := _complaint(section, at, value):
            problems.append(complaint)
        elif wrong_entries := list(keys.wrong_entries(key, value)):
            problems += [_wrong(section, (*at, *one.at), one) for one in wrong_entries]
        else:
            values[key] = float(value) if key in keys.SECONDS else value
    return section._replace(values=values, problems=tuple(problems))


def _flat(table: Mapping[str, Any]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Each key with its value: ``("audit", "required")`` for what is in the table ``audit``."""
    for key, value in table.items():
        if key in keys.GROUPS and isinstance(value, dict):
            yield from (((key, inner), of_inner) for inner, of_inner in value.items())
        else:
            yield (key,), value


def _complaint(section: Section, at: tuple[str, ...], value: object) -> Problem | None:
    """What is wrong with this key and value, or None."""
    key, where = ".".join(at), (*section.keys, *at)
    shown = named(where)
    if at[0] in keys.GROUPS and len(at) == 1:
        return Problem(section.path, where, f"{shown} is {keys.shown(value)}", f"it must be a section: [{shown}]")
    if key not in keys.known() or "." in at[-1]:
        return _unknown(section, at, value)
    if wanted := keys.expectation(key, value):
        shape = "a table" if isinstance(value, dict) else "a list" if isinstance(value, list) else "another"
        what = f"{shown} is {keys.shown(value)}"
        if wanted.startswith(shape):
            items = value if isinstance(value, list) else ()
            one = next((item for item in items if keys.expectation(key, [item])), None)
            what = f"{shown} has a wrong entry" + (f": {keys.shown(one)}" if one is not None else "")
        return Problem(section.path, where, what, f"it must be {wanted}")
    is_out_of_place = section.rank[0] == DEVICE and key in keys.TOLD
    if is_out_of_place or (keys.must_name(key, value) and not section.may_set(key)):
        what = f"{shown} may not be set for {_TO_WHOM[section.rank[0]]}"
        by_name = "name guests in [domains], by a name, a pattern or a UUID"
        remedy = by_name if is_out_of_place else _REMEDIES[section.rank[0]]
        return Problem(section.path, where, what, remedy)
    return None


def _wrong(section: Section, at: tuple[str, ...], one: keys.Wrong) -> Problem:
    where = (*section.keys, *at)
    if not one.wanted:
        remedy = f"the known keys are {', '.join(one.near)}"
        return Problem(section.path, where, f"unknown key {named(where)}", remedy, one.near, at[-1])
    return Problem(section.path, where, f"{named(where)} is wrong", f"it must be {one.wanted}")


def _unknown(section: Section, at: tuple[str, ...], value: object) -> Problem:
    known, where = keys.known(), (*section.keys, *at)
    near = (*known, *keys.GROUPS, *((DEVICES, DOMAINS) if not section.keys else ()))
    remedy = f"the known keys are {', '.join(known)}"
    if at[-1] in keys.FORMER:
        remedy, near = keys.FORMER[at[-1]], ()
    elif isinstance(value, dict) and not section.keys and len(at) == 1:
        remedy = f"for a guest of this name write [{named((DOMAINS, *at))}]"
        if _rank(DEVICES, at[0]):
            remedy, near = f"write [{named((DEVICES, *at))}]", ()
    return Problem(section.path, where, f"unknown key {named(where)}", remedy, near, ".".join(at))
