# SPDX-License-Identifier: LGPL-2.1-or-later
"""A device's name, and lines of text with names in them. Pure."""

import re
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

_ADDRESS = re.compile(r"(?<![0-9a-fA-F:./])[0-9a-f]{4,8}:[0-9a-f]{2}:[01][0-9a-f]\.[0-7](?![0-9a-zA-Z/])")
_BRACKET = re.compile(r"\[([^][]+)\]\s*$")
_LEGAL_FORM = re.compile(
    r"[,\s]+(?:Corp(?:oration)?|Inc(?:orporated)?|Co|Company|Ltd|Limited|LLC|GmbH|AG|S\.?A|B\.?V|Technolog(?:y|ies)|"
    r"Semiconductors?|Electronics|International)\b\.?,?\s*$",
    re.I,
)


class Name(NamedTuple):
    """What the databases call a device."""

    ids: str
    """Vendor and product: ``1002:747e``; "" where nobody can say."""
    vendor: str = ""
    """As the database has it: ``Advanced Micro Devices, Inc. [AMD/ATI]``; "" where it does not know the vendor."""
    model: str = ""
    """``Navi 32 [Radeon RX 7700 XT / 7800 XT]``; "" where the database does not know the model."""

    @property
    def short(self) -> str:
        """Vendor and model as people say them: ``AMD Radeon RX 7700 XT / 7800 XT``; "" where neither is known.

        In pci.ids a vendor's usual name, and the name that a card is sold by, stand in brackets at the end.
        """
        model = found[1] if (found := _BRACKET.search(self.model)) else self.model
        vendor = found[1].split("/")[0] if (found := _BRACKET.search(self.vendor)) else _without_legal_form(self.vendor)
        return model if model.startswith(f"{vendor} ") else f"{vendor} {model}".strip()

    @property
    def text(self) -> str:
        """The short name, and the ids: ``AMD Radeon RX 7700 XT / 7800 XT [1002:747e]``."""
        return " ".join(part for part in (self.short, f"[{self.ids}]" if self.ids else "") if part)


UNKNOWN = Name("")
TO_PASTE = " run: "
"""What stands before a command in a refusal."""


def _without_legal_form(vendor: str) -> str:
    while found := _LEGAL_FORM.search(vendor):
        vendor = vendor[: found.start()]
    return vendor


def addresses(text: str) -> list[str]:
    """The PCI addresses in a text, each once, in their order. Those within a path do not count."""
    return list(dict.fromkeys(_ADDRESS.findall(text)))


def named(lines: Iterable[str], name_of: Callable[[str], Name]) -> Iterator[str]:
    """Put a device's name in parentheses behind its address where it is first mentioned.

    An indented line is a detail, and stays as it is. So does a command that is to be pasted.
    """
    known: set[str] = set()

    def with_name(found: re.Match[str]) -> str:
        address = found[0]
        if address in known:
            return address
        known.add(address)
        text = name_of(address).text
        return f"{address} ({text})" if text else address

    for line in lines:
        text, run, command = line.partition(TO_PASTE)
        yield line if line.startswith(" ") else f"{_ADDRESS.sub(with_name, text)}{run}{command}"
