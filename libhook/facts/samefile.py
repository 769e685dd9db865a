# SPDX-License-Identifier: LGPL-2.1-or-later
"""Files for which the kernel has another name, beside the links in /sys. Pure.

Each pair is one variable in the kernel's source, and always has one value. tests/lab has them change together.
"""

from __future__ import annotations

from libhook.facts.knob import PAIRS, ipv6_mtu, is_mtu, limit, maximum
from libhook.light import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

_PARAMETERS = {
    "kernel": ("kernel", "panic panic_print panic_on_warn"),
    "lockd": ("fs/nfs", "nlm_grace_period nlm_timeout nlm_tcpport nlm_udpport"),
    "sunrpc": (
        "sunrpc",
        "min_resvport max_resvport tcp_slot_table_entries tcp_max_slot_table_entries udp_slot_table_entries",
    ),
}
"""The parameters of a module that are sysctls of the same name, and the folder of these."""
_SAME = {
    "/proc/sys/net/nf_conntrack_max": "/proc/sys/net/netfilter/nf_conntrack_max",
    "/proc/sys/user/max_fanotify_groups": "/proc/sys/fs/fanotify/max_user_groups",
    "/proc/sys/user/max_fanotify_marks": "/proc/sys/fs/fanotify/max_user_marks",
    "/proc/sys/user/max_inotify_instances": "/proc/sys/fs/inotify/max_user_instances",
    "/proc/sys/user/max_inotify_watches": "/proc/sys/fs/inotify/max_user_watches",
    "/proc/sys/vm/nr_hugepages_mempolicy": "/proc/sys/vm/nr_hugepages",
    "/sys/module/ipmi_poweroff/parameters/poweroff_powercycle": "/proc/sys/dev/ipmi/poweroff_powercycle",
    "/sys/module/nf_conntrack/parameters/hashsize": "/proc/sys/net/netfilter/nf_conntrack_buckets",
    "/sys/module/nfs/parameters/callback_tcpport": "/proc/sys/fs/nfs/nfs_callback_tcpport",
    "/sys/module/nfs/parameters/nfs_mountpoint_expiry_timeout": "/proc/sys/fs/nfs/nfs_mountpoint_timeout",
    "/sys/module/scsi_mod/parameters/scsi_logging_level": "/proc/sys/dev/scsi/logging_level",
    **{
        f"/sys/module/{module}/parameters/{name}": f"/proc/sys/{folder}/{name}"
        for module, (folder, names) in _PARAMETERS.items()
        for name in names.split()
    },
}
_OTHERWISE = {
    "/sys/module/lockd/parameters/nsm_use_hostnames": "/proc/sys/fs/nfs/nsm_use_hostnames",
    "/sys/module/nfs/parameters/nfs_idmap_cache_timeout": "/proc/sys/fs/nfs/idmap_cache_timeout",
}
"""One variable, which the two show otherwise: ``Y`` for 1, jiffies for seconds."""
_PSTATE = "/sys/devices/system/cpu/intel_pstate"
_MIN_FREE = "/proc/sys/vm/min_free_kbytes"
_ALSO = {f"{_PSTATE}/no_turbo": f"{_PSTATE}/min_perf_pct"}
"""A write to the first may set the second, too: store_no_turbo() in drivers/cpufreq/intel_pstate.c lowers the limit."""
_PAGES, _NODE = "/sys/kernel/mm/hugepages", "/sys/devices/system/node"
_THP = "/sys/kernel/mm/transparent_hugepage/"
_ASPM = "/sys/module/pcie_aspm/parameters/policy"
_TRACING = "/sys/kernel/debug/tracing/"


class File(NamedTuple):
    """What a path leads to."""

    name: str
    """The one path by which libhook knows it; "" where it leads out of /sys and /proc/sys."""
    whole: str = ""
    """The file whose value holds this one, by its name: as a part of a sum, as the one in force of a pair, or in other
    words. Also one that sets this one with its own value, or is set so by this one; and its maximum or other limit."""
    below: str = ""
    """Of an interface's mtu that of the interface that it is on, as a VLAN is: which limits it, and may lower it."""
    masters: tuple[str, ...] = ()
    """Of an interface's mtu those of the bridge or bond that it is part of, from the nearest up."""

    @property
    def others(self) -> tuple[str, ...]:
        """The names of all these."""
        return tuple(name for name in (self.whole, self.below, *self.masters) if name)


def overlapping(files: Mapping[str, File]) -> dict[str, tuple[str, ...]]:
    """For each of these paths: those to another file, where who sets one of the two may set the other."""
    named, parts = dict[str, list[str]](), dict[str, list[str]]()
    for path, file in files.items():
        named.setdefault(file.name, []).append(path)
        for other in file.others:
            parts.setdefault(other, []).append(path)
    return {
        path: (*(one for other in file.others for one in named.get(other, ())), *parts.get(file.name, ()))
        for path, file in files.items()
    }


def file_at(path: str, size: str) -> File:
    """The file at a path whose folders are no links. ``size`` is that of a huge page by default: ``2048kB``."""
    path = path.replace(_TRACING, "/sys/kernel/tracing/", 1) if path.startswith(_TRACING) else path
    path = _SAME.get(path, path)
    folder, _, last = path.rpartition("/")
    match folder.split("/hugepages-"):
        case [above, of] if above == _PAGES:
            return File(_pages(of, last, size))
        case [above, of] if above.startswith(f"{_NODE}/") and last == "nr_hugepages":
            return File(path, _pages(of, last, size))
    if folder.endswith("/link") and path.startswith("/sys/devices/pci"):
        return File(path, _ASPM)  # pcie_aspm_set_policy() sets every link, within what each link's files allow
    if path.startswith(_THP) and last in ("enabled", "shmem_enabled"):
        return File(path, _MIN_FREE)  # start_stop_khugepaged() calls set_recommended_min_free_kbytes()
    if is_mtu(path):
        return File(path, ipv6_mtu(path))  # addrconf_notify() in net/ipv6/addrconf.c sets it, too
    return File(path, PAIRS.get(path) or _OTHERWISE.get(path) or _ALSO.get(path) or limit(path) or maximum(path))


def _pages(of: str, last: str, size: str) -> str:
    """The number of all huge pages of a size. The sysctls count those of the default size (hugetlb_sysctl_handler)."""
    last = last.removesuffix("_mempolicy")
    is_sysctl = of == size and last in ("nr_hugepages", "nr_overcommit_hugepages")
    return f"/proc/sys/vm/{last}" if is_sysctl else f"{_PAGES}/hugepages-{of}/{last}"
