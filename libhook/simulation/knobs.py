# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the simulated kernel makes of a write to a sysctl, or to an attribute that keeps its value."""

from libhook.simulation import store
from libhook.simulation.answers import chosen


def write(root: str, path: str, value: str) -> None:
    """Do one write(2). One of no bytes reaches no handler, and changes nothing (ksys_write() and vfs_write())."""
    if value:
        store.replace(root, root + path, _shown(root, path, value))


def _shown(root: str, path: str, value: str) -> str:
    """Return what the file shows afterwards. A text ends at a NUL, and but for a module's parameter at a line feed."""
    text = value.split("\0")[0]
    if path.startswith("/sys/module/"):
        return f"{text}\n"
    text = text.split("\n")[0]
    if path.endswith("/ifalias") and not text:  # dev_get_alias() is 0 without one, and so is what the file shows
        return ""
    if path.startswith("/proc/sys/") or path.endswith("/ifalias"):  # no choice, whatever brackets it has
        return f"{text}\n"
    return f"{chosen(root, path, text)}\n"
