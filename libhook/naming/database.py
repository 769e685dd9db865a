# SPDX-License-Identifier: LGPL-2.1-or-later
"""hwdata's lists of vendors and products, pci.ids and usb.ids.

A vendor's line begins with its id, two blanks and its name. Its products' lines follow, with a tab before them. Those
with two tabs are subsystems, or interfaces.
"""

import re
from typing import Literal

from libhook.naming.name import Name

Bus = Literal["pci", "usb"]
_FOLDERS = ("/usr/share/hwdata", "/usr/share/misc", "/usr/share")
"""Where distributions have them: hwdata's own folder, that of pciutils on Debian, and on Arch in former days."""
_IDS = re.compile(r"([0-9a-f]{4}):([0-9a-f]{4})", re.ASCII)
_MOST = 32 << 20
"""Bytes that are read of a list. pci.ids has 1.6 MB in 2026."""


class Database:
    """The lists of one host. Each is read when it is first asked, and once."""

    def __init__(self, root: str) -> None:
        """``root`` is "" or the folder of a simulated host."""
        self._root = root
        self._texts: dict[Bus, str] = {}

    def name(self, bus: Bus, ids: str) -> Name:
        """What the list says of ``1002:747e``. Without a list, or where it lacks them, only the ids are in the name."""
        found = _IDS.fullmatch(ids)
        if not found:
            return Name("")
        text = self._text(bus)
        vendor = _line(text, f"\n{found[1]}  ", 0, len(text))
        if vendor is None:
            return Name(ids)
        start, name = vendor
        product = _line(text, f"\n\t{found[2]}  ", start, _end_of_vendor(text, start))
        return Name(ids, name, product[1] if product else "")

    def _text(self, bus: Bus) -> str:
        if bus not in self._texts:
            self._texts[bus] = ""
            for folder in _FOLDERS:
                try:
                    with open(f"{self._root}{folder}/{bus}.ids", "rb") as file:
                        self._texts[bus] = "\n" + file.read(_MOST).decode("utf-8", "replace")
                    break
                except OSError:
                    continue
        return self._texts[bus]


def _line(text: str, head: str, start: int, end: int) -> tuple[int, str] | None:
    """The rest of the first line that begins so, and where that line ends."""
    at = text.find(head, start, end)
    if at < 0:
        return None
    stop = text.find("\n", at + 1)
    stop = len(text) if stop < 0 else stop
    return stop, text[at + len(head) : stop].strip()


def _end_of_vendor(text: str, start: int) -> int:
    """Where the next line begins that is neither a product nor a comment."""
    found = _NEXT.search(text, start)
    return found.start() if found else len(text)


_NEXT = re.compile(r"\n[^\t#\n]")
