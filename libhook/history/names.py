# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a device was called: from the ids that its records carry, never from what is at its address today.

This is the only place in history that knows names. What a record does not say, remembered.py adds.
"""

from collections.abc import Callable

from libhook.naming.database import Bus, Database
from libhook.naming.name import UNKNOWN, Name

NameOf = Callable[[str, str], Name]
"""Takes a bus and ids, as ``pci`` and ``8086:10d3``. Without ids the name is unknown."""
_BUSES: dict[str, Bus] = {"pci": "pci", "usb": "usb"}
_MOST = 8192


def lookup(root: str) -> NameOf:
    """Return a function that looks names up in hwdata's lists of a host. It reads them once it is asked for one.

    ``root`` is "" or the folder of a simulated host.
    """
    database, known = Database(root), dict[tuple[str, str], Name]()

    def name_of(bus: str, ids: str) -> Name:
        if not ids:
            return UNKNOWN
        if (name := known.get((bus, ids))) is None:
            if len(known) >= _MOST:  # a log may name any
                known.clear()
            name = known[bus, ids] = database.name(_BUSES[bus], ids) if bus in _BUSES else Name(ids)
        return name

    return name_of
