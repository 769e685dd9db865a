# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the simulated kernel makes of a write to a sysctl, or to an attribute that keeps its value."""

import errno
import os

from libhook.simulation import store
from libhook.simulation.answers import chosen, refuse

_VM = "/proc/sys/vm/"
_PAIRS = (("dirty_bytes", "dirty_ratio"), ("dirty_background_bytes", "dirty_background_ratio"),
          ("overcommit_kbytes", "overcommit_ratio"))  # fmt: skip
_OTHER = {_VM + one: _VM + two for pair in _PAIRS for one, two in (pair, pair[::-1])}
_LEAST = 8192
"""dirty_bytes_min in mm/page-writeback.c: two pages."""
_PORTS, _ALIAS = "/proc/sys/net/ipv4/ip_local_reserved_ports", "ifalias"

_PREFERENCE, _GOVERNOR = "energy_performance_preference", "scaling_governor"
_LIMITS = {"min_perf_pct": ("max_perf_pct", min), "max_perf_pct": ("min_perf_pct", max)}


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
    if path == _PORTS and "\0" in value:  # proc_get_long() knows no such end of a number
        raise refuse(errno.EINVAL, path)
    if path.endswith(f"/{_ALIAS}") and not text:  # dev_get_alias() is 0 without one, and so is what the file shows
        return ""
    if other := _OTHER.get(path):
        if path.endswith("_bytes") and not (text.isdecimal() and int(text) >= _LEAST):
            raise refuse(errno.EINVAL, path)
        if os.path.lexists(root + other) and store.read(root + path).strip() != text:
            store.replace(root, root + other, "0\n")
    _set_policy(root, path, text)
    text = _limited(root, path, text)
    if path.startswith("/proc/sys/") or path.endswith(f"/{_ALIAS}"):  # no choice, whatever brackets it has
        return f"{text}\n"
    return f"{chosen(root, path, text)}\n"


def _set_policy(root: str, path: str, text: str) -> None:
    """As amd_pstate_epp_update_limit() and store_energy_performance_preference(): the preference does not come back."""
    folder, _, name = path.rpartition("/")
    if name == _GOVERNOR and text == "performance" and os.path.lexists(f"{root}{folder}/{_PREFERENCE}"):
        store.replace(root, f"{root}{folder}/{_PREFERENCE}", "performance\n")
    if name == _PREFERENCE and text != "performance" and store.read(f"{root}{folder}/{_GOVERNOR}") == "performance\n":
        raise refuse(errno.EBUSY, path)


def _limited(root: str, path: str, text: str) -> str:
    """As store_min_perf_pct() and store_max_perf_pct() in drivers/cpufreq/intel_pstate.c: neither passes the other."""
    folder, _, name = path.rpartition("/")
    other, limit = _LIMITS.get(name, ("", max))
    there = other and os.path.lexists(f"{root}{folder}/{other}")
    return str(limit(int(text), int(store.read(f"{root}{folder}/{other}")))) if there else text
