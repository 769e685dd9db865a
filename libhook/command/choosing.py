# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which devices the words of ``libhook devices`` are about. Pure."""

import re
from collections.abc import Iterable, Iterator, Sequence

from libhook.command.groups import Block, Row, Verdict, line
from libhook.command.usage import meant
from libhook.errors import BadInput

_PLACE = re.compile(r"(?:([0-9a-f]{1,8}):)?([0-9a-f]{1,2}):([0-9a-f]{1,2})?(?:\.([0-7]))?", re.ASCII)
"""An address: also without its domain, its slot, its function, and zeros."""
_NODE = re.compile(r"pci_([0-9a-f]+)_([0-9a-f]+)_([0-9a-f]+)_([0-7])", re.ASCII)
"""An address as ``virsh nodedev-list`` has it."""
_DISKS = ("NVMe", "SATA", "SAS", "SCSI", "IDE", "RAID", "storage")
_MEANT = {"sound": ("audio",), "network": ("Ethernet", "network"), **dict.fromkeys(("disk", "ssd"), _DISKS)}
"""Words that people say for what libhook shows otherwise."""
_GPU = ("gpu", "graphics")
_SHORT = 2
"""A word of so few letters is a whole word of the line: as a part it is in too many."""
_WORDS = (
    "a word is an IOMMU group's number, an address (3:0.0), gpu, sound, network, disk, or a part of what is shown; "
    "libhook devices shows all"
)


def matching(found: Sequence[Block], words: Sequence[str]) -> list[Block]:
    """Return the groups with a device that all the words are about. BadInput if there is none."""
    chosen = list(dict.fromkeys(block for block, _ in _chosen(found, words)))
    if words and not chosen:
        known = sorted({token for _, row in _rows(found) for token in _tokens(row)} | {*_MEANT, *_GPU})
        strange = [word for word in words if not any(_chosen(found, [word]))]
        near = meant(strange[0].lower(), known).removeprefix(": ") if strange else ""
        raise BadInput(f"no device is {' '.join(words)}", f"{near} {_WORDS}".strip())
    return chosen


def verdicts(found: Sequence[Block], words: Sequence[str]) -> list[Verdict]:
    """Return the verdict on each of those devices. Devices that go together have one."""
    return list(dict.fromkeys(row.verdict or block.verdict for block, row in _chosen(found, words)))


def _rows(found: Iterable[Block]) -> Iterator[tuple[Block, Row]]:
    return ((block, row) for block in found for row in block.rows)


def _chosen(found: Sequence[Block], words: Sequence[str]) -> Iterator[tuple[Block, Row]]:
    numbers = {str(row.group) for _, row in _rows(found)}
    for block, row in _rows(found):
        if all(str(row.group) == word if word in numbers else _is_about(row, word.lower()) for word in words):
            yield block, row


def _is_about(row: Row, word: str) -> bool:
    word = f"{word}:" if word.isdecimal() and len(word) <= _SHORT else word
    if place := _PLACE.fullmatch(_NODE.sub(r"\1:\2:\3.\4", word)):
        theirs = _PLACE.fullmatch(row.address)
        pairs = zip(place.groups(), theirs.groups() if theirs else (), strict=True)
        return all(asked is None or int(asked, 16) == int(has, 16) for asked, has in pairs)
    if (row.is_gpu and word in _GPU) or row.kind in _MEANT.get(word, ()):
        return True
    return word in (_tokens(row) if len(word) <= _SHORT else _searched(row))


def _tokens(row: Row) -> list[str]:
    return re.split(r"[^0-9a-z_]+", _searched(row))


def _searched(row: Row) -> str:
    return f"{line(row)} {row.name.vendor} {row.name.model} IOMMU group".lower()
