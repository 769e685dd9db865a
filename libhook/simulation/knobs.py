# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the simulated kernel makes of a write to a sysctl, or to an attribute that keeps its value."""

import errno
import os

from libhook.facts.knob import ipv6_mtu, is_mtu
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
_AT_MOST = {"ipfrag_low_thresh": "ipfrag_high_thresh", "ip_unprivileged_port_start": "ip_local_port_range",
            "sched_rt_runtime_us": "sched_rt_period_us", "pf_retrans": "ps_retrans",
            "down_threshold": "up_threshold"}  # fmt: skip
_AT_LEAST = {most: least for least, most in _AT_MOST.items()}
_RATE, _PERCENT = "perf_event_max_sample_rate", "perf_cpu_time_max_percent"


_BY_HAND = "/simulation/mtu-{}"
"""Of a bridge: somebody has set its mtu (BROPT_MTU_SET_BY_USER in net/bridge)."""


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
    _expect_allowed(root, path, text)
    text = _limited(root, path, text)
    if is_mtu(path):
        folder = os.path.realpath(os.path.dirname(f"{root}{path}"))
        if os.path.isdir(f"{folder}/brif"):
            store.replace(root, f"{root}{_BY_HAND.format(os.path.basename(folder))}", "")
        _set_mtu(root, folder, int(text))
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


def _expect_allowed(root: str, path: str, text: str) -> None:
    """Of two files the first number of one is at most that of the other, as for ip4_frags_ns_ctl_table,
    ipv4_local_port_range(), sched_rt_global_validate(), sctp_net_table and the conservative governor."""
    folder, _, name = path.rpartition("/")
    for table, sign in ((_AT_MOST, 1), (_AT_LEAST, -1)):
        other = f"{root}{folder}/{table.get(name, 'none')}"
        if os.path.lexists(other) and sign * int(text.split()[0]) > sign * int(store.read(other).split()[0]):
            raise refuse(errno.EINVAL, path)
    beside = f"{root}{folder}/{_PERCENT}"  # perf_event_max_sample_rate_handler()
    if name == _RATE and os.path.lexists(beside) and store.read(beside).strip() in ("0", "100"):
        raise refuse(errno.EINVAL, path)


def _limited(root: str, path: str, text: str) -> str:
    """As store_min_perf_pct() and store_max_perf_pct() in drivers/cpufreq/intel_pstate.c: neither passes the other."""
    folder, _, name = path.rpartition("/")
    other, limit = _LIMITS.get(name, ("", max))
    there = other and os.path.lexists(f"{root}{folder}/{other}")
    return str(limit(int(text), int(store.read(f"{root}{folder}/{other}")))) if there else text


def _set_mtu(root: str, folder: str, mtu: int) -> None:
    """As dev_set_mtu_ext() in net/core/dev.c, and who hears of a new MTU."""
    if _mtu(folder) == mtu:
        return
    below = next((one for one in _linked(folder, "lower_") if _master(one) != folder), "")
    if below and mtu > _mtu(below):  # vlan_dev_change_mtu(), macvlan_change_mtu()
        raise refuse(errno.ERANGE, folder)
    store.replace(root, f"{folder}/mtu", f"{mtu}\n")
    ipv6, master = f"{root}{ipv6_mtu(f'{folder}/mtu')}", _master(folder)
    if os.path.lexists(ipv6):  # addrconf_notify() in net/ipv6/addrconf.c
        store.replace(root, ipv6, f"{mtu}\n")
    members = [one for one in _linked(folder, "lower_") if _master(one) == folder]
    lowered = [one for one in _linked(folder, "upper_") if one != master and _mtu(one) > mtu]
    is_bridge = os.path.isdir(f"{folder}/brif")
    for one in lowered if is_bridge else [*members, *lowered]:  # bond_change_mtu(), vlan_device_event()
        _set_mtu(root, one, mtu)
    if os.path.isdir(f"{master}/brif") and not os.path.lexists(root + _BY_HAND.format(os.path.basename(master))):
        ports = [one for one in _linked(master, "lower_") if _master(one) == master]
        _set_mtu(root, master, min(map(_mtu, ports)))  # br_mtu_auto_adjust()


def _mtu(folder: str) -> int:
    return int(store.read(f"{folder}/mtu"))


def _master(folder: str) -> str:
    return os.path.realpath(f"{folder}/master") if os.path.lexists(f"{folder}/master") else ""


def _linked(folder: str, kind: str) -> list[str]:
    return [os.path.realpath(f"{folder}/{name}") for name in sorted(os.listdir(folder)) if name.startswith(kind)]
