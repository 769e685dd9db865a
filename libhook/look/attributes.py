# SPDX-License-Identifier: LGPL-2.1-or-later
"""Small files, links and folders, as /sys and /proc are made of. What is not there reads as nothing.

``but`` are the errors that mean so: by default all, so use it where nothing follows from not knowing.
"""

from __future__ import annotations

import os

_MOST = 4096
"""An attribute is a page at most (Documentation/filesystems/sysfs.rst)."""


def text(path: str) -> str:
    """What an attribute says, without the line feed; "" where it says nothing."""
    try:
        with open(path, "rb", buffering=0) as file:
            return os.fsdecode(file.read(_MOST) or b"").strip()
    except OSError:
        return ""


def whole(path: str) -> str:
    """What a file of any length says, without the last line feed; "" where it cannot be read."""
    try:
        with open(path, "rb") as file:
            return os.fsdecode(file.read()).rstrip("\n")
    except OSError:
        return ""


def entries(folder: str, but: type[OSError] = OSError) -> list[str]:
    """The names in a folder, sorted."""
    try:
        return sorted(os.listdir(folder))
    except but:
        return []


def link(path: str, but: type[OSError] = OSError) -> str | None:
    """The last part of a link's target; None where there is no such link."""
    try:
        return os.path.basename(os.readlink(path))
    except but:
        return None
