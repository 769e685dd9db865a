# SPDX-License-Identifier: LGPL-2.1-or-later
"""Puts the names of devices into a command's output. Pure."""

from collections.abc import Callable, Iterable, Iterator

from libhook.naming.name import UNKNOWN, Name, addresses, named

NameOf = Callable[[str], Name]
"""Tells the name of what is at a PCI address."""
_RECORD = "record "
"""Such a line is an audit record's text, word for word."""


def with_names(lines: Iterable[str], name_of: NameOf) -> Iterator[str]:
    """Put a device's name behind its address where that is first mentioned, also in indented lines."""
    seen = set[str]()

    def once(address: str) -> Name:
        if address in seen:
            return UNKNOWN
        seen.add(address)
        return name_of(address)

    for line in lines:
        text = line.lstrip(" ")
        indent = line[: len(line) - len(text)]
        yield line if text.startswith(_RECORD) else indent + "".join(named((text,), once))


def fields(name: Name) -> dict[str, object]:
    """Return the name as JSON has it: ``ids``, ``vendor`` and ``model``, null where unknown."""
    return {"ids": name.ids or None, "vendor": name.vendor or None, "model": name.model or None}


def of_all(texts: Iterable[str], name_of: NameOf) -> dict[str, object]:
    """Return the names of all addresses in these texts, by address."""
    found = dict.fromkeys(address for text in texts for address in addresses(text))
    return {address: fields(name_of(address)) for address in found}
