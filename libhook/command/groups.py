# SPDX-License-Identifier: LGPL-2.1-or-later
"""The host's IOMMU groups as ``libhook devices`` shows them: as text, as XML, and what to do next. Pure.

devices.py makes them, terminal.py makes the text printable.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple

from libhook.errors import named
from libhook.facts.address import PciAddress
from libhook.facts.remedy import is_plain
from libhook.naming.name import Name

_SAYS = "what its start would do, or why not"
Level = Literal["", "busy", "note", "free"]


class Remark(NamedTuple):
    """What a reader must know of a device. ``busy``: somebody uses it, or it hangs. ``note``: think of it."""

    text: str
    level: Level = ""


class Verdict(NamedTuple):
    """Which devices go together, and what stands in the way of that."""

    together: tuple[PciAddress, ...] = ()
    in_the_way: tuple[str, ...] = ()

    @property
    def level(self) -> Level:
        """``free``: it can be passed. "": there is nothing to pass."""
        return "busy" if self.in_the_way else "free" if self.together else ""

    @property
    def text(self) -> str:
        """The verdict in words."""
        if not self.together:
            return f"nothing can be passed: {'; '.join(self.in_the_way)}" if self.in_the_way else "nothing to pass"
        number = len(self.together)
        all_ = "" if number == 1 else f"{'both' if number == 2 else f'all {number}'} together"
        if self.in_the_way:
            return f"{all_ and f'pass {all_}; '}in the way: {'; '.join(self.in_the_way)}"
        return f"can be passed{all_ and f', {all_}'}"


class Row(NamedTuple):
    """One device."""

    address: str
    kind: str
    """Its class in a word: ``VGA``."""
    may_go: bool
    """A guest could have a use for it."""
    is_gpu: bool
    driver: str
    name: Name
    remarks: tuple[Remark, ...]
    is_vf: bool = False
    """It stands below its PF."""
    verdict: Verdict | None = None
    """Of a VF that is alone in its group: that of the group, which has no line of its own."""
    group: int | None = None
    held_by: str = ""
    """The guest that has it now."""
    wanted_by: tuple[str, ...] = ()
    """The guests whose configuration names it."""


class Block(NamedTuple):
    """One IOMMU group."""

    group: int | None
    rows: tuple[Row, ...]
    verdict: Verdict

    @property
    def title(self) -> str:
        """Its heading."""
        return "no IOMMU group" if self.group is None else f"IOMMU group {self.group}"


def as_text(found: Iterable[Block]) -> list[str]:
    """Return the groups as lines: each with its devices, and the verdict."""
    lines, found = [], tuple(found)
    width = max((len(row.driver) for block in found for row in block.rows), default=0)
    for block in found:
        lines.append(block.title)
        lines += [line(row, width) for row in block.rows]
        lines.append(f"  {block.verdict.text}")
    return lines


def line(row: Row, width: int = 0) -> str:
    """Return a device's line. The drivers of all lines have this width."""
    remarks = ", ".join(remark.text for remark in row.remarks)
    first = f"{'  VF ' if row.is_vf else ''}{row.address}  {row.kind:<9} {row.driver:<{width}}"
    return f"  {'  '.join(filter(None, (first, row.name.text, f'[{remarks}]' if remarks else '')))}".rstrip()


def hostdevs(addresses: Iterable[PciAddress]) -> list[str]:
    """Return the elements that give a guest these devices, for ``virsh edit``."""
    lines = []
    for address in addresses:
        domain, bus, rest = str(address).split(":")
        slot, function = rest.split(".")
        where = f"domain='0x{domain}' bus='0x{bus}' slot='0x{slot}' function='0x{function}'"
        lines += [
            "<hostdev mode='subsystem' type='pci' managed='no'>",
            "  <source>",
            f"    <address {where}/>",
            "  </source>",
            "</hostdev>",
        ]
    return lines


def warnings(verdict: Verdict, rows: Iterable[Row]) -> list[str]:
    """What to know of the devices of these rows before a guest is given them."""
    guests = sorted({name for row in rows for name in row.wanted_by})
    configured = f"in the configuration of {' and '.join(map(named, guests))} already"
    return [*([verdict.text] if verdict.level != "free" else []), *([f"mind: {configured}"] if guests else [])]


def after_xml(verdict: Verdict, rows: Iterable[Row], words: Iterable[str]) -> list[str]:
    """What to do with the elements of these rows."""
    those = [row for row in rows if row.held_by or row.wanted_by]
    if those:
        return [_of_guest(min(those, key=lambda row: not _is_named(row, words)), words, _says(verdict))]
    return ["next: paste this among <devices> of the guest: virsh edit GUEST", f"then: libhook plan GUEST says {_SAYS}"]


def next_steps(found: Iterable[Block], words: Iterable[str] = ()) -> list[str]:
    """What to do with the answer: to a guest that the words name, or with a GPU as the example where there is one."""
    rows = [(row, row.verdict or block.verdict) for block in found for row in block.rows if row.may_go]
    those = [
        (not _is_named(row, words), not row.is_gpu, verdict.level != "free", row.address, row, verdict)
        for row, verdict in rows
        if verdict.together
    ]
    if not those:
        return []
    *_, row, verdict = min(those)
    if row.held_by or row.wanted_by:
        return [_of_guest(row, words, _says(verdict))]
    example = row.address.removeprefix("0000:")
    return [
        f"next: libhook devices {example} --xml prints what gives a guest that group; add it by virsh edit GUEST",
        f"then: libhook plan GUEST says {_says(verdict)}",
    ]


def _says(verdict: Verdict) -> str:
    return "what to do about what is in the way" if verdict.level != "free" else _SAYS


def _is_named(row: Row, words: Iterable[str]) -> bool:
    return bool(_named((row.held_by, *row.wanted_by), words))


def _named(guests: Iterable[str], words: Iterable[str]) -> list[str]:
    """Those of the guests that the words name."""
    asked = {word.lower() for word in words}
    return [name for name in guests if name.lower() in asked]


def _of_guest(row: Row, words: Iterable[str], says: str) -> str:
    """What to do with a device that a guest has, or whose configuration has it."""
    guests = [name for name in (row.held_by, *row.wanted_by) if name]
    name = (_named(guests, words) or guests)[0]
    if name == row.held_by:
        return f"next: libhook status shows what the guest {named(name)} has"
    return f"next: libhook plan {name if is_plain(name) else 'GUEST'} says {says}"
