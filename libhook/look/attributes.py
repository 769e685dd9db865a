# SPDX-License-Identifier: LGPL-2.1-or-later
"""Small files, links and folders, as in /sys and /proc. What is not there reads as nothing.

``but`` names the errors that mean "not there". By default all do, so use the default only where the difference does not
matter.
"""

from __future__ import annotations

import os

_MOST = 4096
"""An attribute holds a page at most (Documentation/filesystems/sysfs.rst)."""


def text(path: str) -> str:
    """An attribute's content without the line feed; "" when it cannot be read."""
    try:
        with open(path, "rb", buffering=0) as file:
            return os.fsdecode(file.read(_MOST) or b"").strip()
    except OSError:
        return ""


def whole(path: str) -> str:
    """A file's content of any length, without line feeds at its end; "" when it cannot be read."""
    try:
        with open(path, "rb") as file:
            return os.fsdecode(file.read()).rstrip("\n")
    except OSError:
        return ""


def entries(folder: str, but: type[OSError] = OSError) -> list[str]:
    """The names in a folder, sorted; none when it is not there."""
    try:
        return sorted(os.listdir(folder))
    except but:
        return []


def link(path: str, but: type[OSError] = OSError) -> str | None:
    """The last part of a link's target; None when there is no such link."""
    try:
        return os.path.basename(os.readlink(path))
    except but:
        return None
