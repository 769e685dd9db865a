# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which vfio driver the kernel's aliases name for a device. Imported where a device is about to be handed over."""

from __future__ import annotations

from libhook.facts.host import VFIO_PCI


def best(aliases: tuple[tuple[str, str], ...], modalias: str) -> str:
    """The module whose pattern matches best. libvirt chooses the same way (virpci.c: fewest wildcards)."""
    own = modalias.removeprefix("pci:")
    matching = [(pattern.count("*"), module) for pattern, module in aliases if matches(own, pattern)]
    found = min(matching, default=(0, VFIO_PCI))[1]
    return VFIO_PCI if found == "vfio_pci" else found


def matches(text: str, pattern: str) -> bool:
    """As fnmatchcase, which imports re. file2alias writes stars, and no other character that is special there."""
    if any(character in pattern for character in "?["):
        from fnmatch import fnmatchcase

        return fnmatchcase(text, pattern)
    first, *rest = pattern.split("*")
    if not rest:
        return text == pattern
    *middle, last = rest
    at = len(first)
    for part in middle:
        if (found := text.find(part, at)) < 0:
            return False
        at = found + len(part)
    return text.startswith(first) and text.endswith(last) and at + len(last) <= len(text)
