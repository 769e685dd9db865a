# SPDX-License-Identifier: LGPL-2.1-or-later
"""Files that have a value, and how the settings name them. Pure."""

from __future__ import annotations

from libhook.errors import BadInput
from libhook.light import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-:@+")


def path_of(name: str, fill: Callable[[str], str] = str) -> str:
    """The file of a sysctl, or the path itself. BadInput where the name is neither.

    As in sysctl(8), ``/`` and ``.`` change places in a name whose first separator is a dot. After that, ``fill`` may
    change each part of the path. So what it puts in stays in that part.
    """
    path = name
    if not name.startswith("/"):
        dots, slashes = name.find("."), name.find("/")
        swapped = dots >= 0 and (slashes < 0 or dots < slashes)
        path = f"/proc/sys/{name.translate(str.maketrans('./', '/.')) if swapped else name}"
    parts = [fill(part) for part in path.split("/")[1:]]
    whole = path.startswith(("/sys/", "/proc/sys/")) and len(parts) > 2 + (parts[0] == "proc") and "" not in parts
    if not whole or any(set(part) <= {"."} or not set(part) <= _PLAIN for part in parts):
        what = name if fill is str else "/" + "/".join(parts)
        raise BadInput(f'"{what}" is neither a sysctl nor a file below /sys or /proc/sys')
    return "/" + "/".join(parts)


def file_below(path: str) -> str:
    """The path of a file below /sys or /proc/sys, once its folders are no links. BadInput for any other text.

    The kernel's own names may have more characters than those of the settings: ``Fixed MDIO bus.0``.
    """
    parts = path.split("/")[1:]
    whole = path.startswith(("/sys/", "/proc/sys/")) and len(parts) > 2 + (parts[0] == "proc")
    if not whole or not (path.isascii() and path.isprintable()) or not {"", ".", ".."}.isdisjoint(parts):
        raise BadInput(f'"{path}" is no file below /sys or /proc/sys')
    return path
