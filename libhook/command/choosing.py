# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which devices the words of ``libhook devices`` are about. Pure."""

import re
from collections.abc import Iterable, Iterator, Sequence

from libhook.command.groups import Block, Row, Verdict, line
from libhook.command.usage import meant
from libhook.errors import BadInput, named

_PLACE = re.compile(r"(?:([0-9a-f]{1,8}):)?([0-9a-f]{1,2}):([0-9a-f]{1,2})?(?:\.([0-7]))?", re.ASCII)
"""An address: also without its domain, its slot, its function, and zeros."""
_NODE = re.compile(r"pci_([0-9a-f]+)_([0-9a-f]+)_([0-9a-f]+)_([0-7])", re.ASCII)
"""An address as ``virsh nodedev-list`` has it."""
_DISKS = ("NVMe", "SATA", "SAS", "SCSI", "IDE", "RAID", "storage")
_NETWORK = ("Ethernet", "network")
_MEANT = {
    "sound": ("audio",),
    "card": (*_NETWORK, "audio"),
    **dict.fromkeys(("network", "nic"), _NETWORK),
    **dict.fromkeys(("disk", "ssd"), _DISKS),
}
"""Words that people say for what libhook shows otherwise."""
_GPU = ("gpu", "graphics", "card")
_SHORT = 2
"""A word of so few letters is a whole word of the line: at the beginning of words it is too often."""
_NEAR = 0.75
"""How near a word is to another that it may have been meant for."""
_MOST = 8
"""So many groups are named."""
_LONGEST = 3
"""Digits of a group's number. A longer one is rather part of a name."""
_WORDS = (
    "a word is an IOMMU group's number, an address (3:0.0), gpu, sound, nic, disk, or the beginning of a word that is "
    "shown; libhook devices shows all"
)


def matching(found: Sequence[Block], words: Sequence[str]) -> list[Block]:
    """Return the groups with a device that all the words are about. BadInput if there is none."""
    chosen = list(dict.fromkeys(block for block, _ in _chosen(found, words)))
    if words and not chosen:
        strange = [word for word in words if not any(_chosen(found, [word]))]
        raise (
            _none_is(found, strange[0])
            if strange
            else BadInput(f"no single device fits all of: {', '.join(words)}", "give fewer words")
        )
    return chosen


def _none_is(found: Sequence[Block], word: str) -> BadInput:
    if word.isdecimal() and len(word) <= _LONGEST:
        groups = sorted({row.group for _, row in _rows(found) if row.group is not None})
        has = f"; there are {_some(groups)}" if groups else ""
        return BadInput(f"there is no IOMMU group {word}{has}", _WORDS)
    known = sorted({token for _, row in _rows(found) for token in _tokens(row)} | {*_MEANT, *_GPU})
    near = meant(word.lower(), [token for token in known if not token.isdecimal()], _NEAR).removeprefix(": ")
    return BadInput(f"no device is {named(word)}", f"{near} {_WORDS}".strip())


def one_group(found: Sequence[Block], words: Sequence[str]) -> tuple[Verdict, list[Row]]:
    """Return the verdict on the devices that all the words are about, and the rows of those that go together.

    Groups of which nothing can be passed do not count, where there are others. BadInput if several are left.
    """
    fit = {row.group: row.verdict or block.verdict for block, row in _chosen(found, words)}
    fit = {group: verdict for group, verdict in fit.items() if verdict.together} or fit
    groups = sorted(group for group in fit if group is not None)
    if len(groups) > 1:
        raise BadInput(f"{' '.join(words)} fits groups {_some(groups)}", "name one of them")
    (verdict, *_) = fit.values()
    together = set(map(str, verdict.together))
    return verdict, [row for _, row in _rows(found) if row.address in together]


def _some(groups: Sequence[int]) -> str:
    """These numbers as text, the first few where they are many."""
    more = len(groups) - _MOST
    *first, last = map(str, groups) if more <= 0 else (*map(str, groups[:_MOST]), f"{more} more")
    return f"{', '.join(first)} and {last}" if first else last


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
    tokens = _tokens(row)
    if len(word) <= _SHORT or word in tokens:
        return word in tokens
    return bool(re.search(rf"(?<![0-9a-z_]){re.escape(word)}", _searched(row)))


def _tokens(row: Row) -> list[str]:
    return re.split(r"[^0-9a-z_]+", _searched(row))


def _searched(row: Row) -> str:
    """What is shown of the device."""
    return f"{line(row)} IOMMU group".lower()
