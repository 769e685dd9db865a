# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a write to a file below /sys or /proc/sys does, beside that the file keeps the value. Pure.

tests/lab sets each sysctl of a real kernel, and fails where one changes another that is not known here.
"""

from __future__ import annotations

from libhook.light import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_VM = "/proc/sys/vm"
PAIRS = {
    f"{_VM}/dirty_bytes": f"{_VM}/dirty_ratio",
    f"{_VM}/dirty_background_bytes": f"{_VM}/dirty_background_ratio",
    f"{_VM}/overcommit_kbytes": f"{_VM}/overcommit_ratio",
}
"""One of the two is in force. A write to it makes the other 0 (dirty_bytes_handler(), overcommit_kbytes_handler())."""
_OTHER = PAIRS | {second: first for first, second in PAIRS.items()}

_ONE_WAY = "it does not go back before the host is rebooted"
_MANY = "it changes other files, which would not come back"
_ACTS = "a write to it does something, and keeps no value"
_INEXACT = "what it was before does not come back exactly"
_CPU = "processes and interrupts that are bound to the CPU would not come back to it"
_NO_ADDRESSES = "the interface's IPv6 addresses would not come back"
_ORPHANS = "shared memory that no process is attached to would be destroyed"
_L1 = "the link's l1_aspm would be set, too"
_ALLOWED_ANEW = "the link would be allowed what its driver has ruled out, and no file shows that"
_MERGED = "it does not go back once pages are merged"
_MTU = "net/*/mtu"
_IPV6_MIN_MTU = 1280
_KERNEL, _IPV4, _IPV6 = "/proc/sys/kernel", "/proc/sys/net/ipv4", "/proc/sys/net/ipv6"
_REASONS = {
    # the sysctls' tables in kernel/sysctl.c; kexec_limit_handler(), proc_cap_handler(), proc_taint(), nf_hooks_lwtunnel
    f"{_KERNEL}/modules_disabled": _ONE_WAY,
    f"{_KERNEL}/kexec_load_disabled": _ONE_WAY,
    f"{_KERNEL}/kexec_load_limit_panic": _ONE_WAY,
    f"{_KERNEL}/kexec_load_limit_reboot": _ONE_WAY,
    f"{_KERNEL}/usermodehelper/*": _ONE_WAY,
    f"{_KERNEL}/tainted": _ONE_WAY,
    "/proc/sys/net/netfilter/nf_hooks_lwtunnel": _ONE_WAY,
    # inet_forward_change(), devinet_copy_dflt_conf(), neigh_copy_dflt_parms(); net/ipv6/addrconf.c
    f"{_IPV4}/ip_forward": f"{_MANY}; name forwarding of each interface",
    f"{_IPV4}/conf/all/forwarding": f"{_MANY}; name that of each interface",
    f"{_IPV4}/conf/default/*": f"{_MANY}; name that of each interface",
    f"{_IPV4}/neigh/default/*": f"{_MANY}; name that of each interface",
    f"{_IPV6}/neigh/default/*": f"{_MANY}; name that of each interface",
    # addrconf_fixup_forwarding() drops the routes of all interfaces, also with a 1 that was there before;
    # addrconf_sysctl_addr_gen_mode(); what new interfaces begin with does neither
    f"{_IPV6}/conf/default/forwarding": "",
    f"{_IPV6}/conf/default/addr_gen_mode": "",
    f"{_IPV6}/conf/*/forwarding": "IPv6 routes that routers have announced would not come back",
    f"{_IPV6}/conf/*/addr_gen_mode": "the interface would keep one more IPv6 address",
    f"{_IPV6}/conf/all/force_forwarding": f"{_MANY}; name that of each interface",
    f"{_IPV6}/conf/all/disable_ipv6": f"{_MANY}; name that of each interface",
    f"{_IPV6}/conf/all/ignore_routes_with_linkdown": f"{_MANY}; name that of each interface",
    f"{_IPV6}/conf/*/stable_secret": _MANY,
    # proc_watchdog(): a read of it, while the only watchdog is off, keeps both from coming back
    f"{_KERNEL}/watchdog": f"{_MANY}; name kernel.nmi_watchdog",
    f"{_KERNEL}/soft_watchdog": _MANY,
    # tcp_set_default_congestion_control() loads its module, and sets TCP_CONG_NON_RESTRICTED for good
    f"{_IPV4}/tcp_congestion_control": f"{_MANY}: tcp_allowed_congestion_control",
    # The same in other units: neigh_proc_base_reachable_time(), proc_unres_qlen(), ipv6_route_table_template
    f"{_IPV4}/neigh/*/base_reachable_time": f"{_INEXACT}; name base_reachable_time_ms",
    f"{_IPV6}/neigh/*/base_reachable_time": f"{_INEXACT}; name base_reachable_time_ms",
    f"{_IPV4}/neigh/*/retrans_time": f"{_INEXACT}; name retrans_time_ms",
    f"{_IPV6}/neigh/*/retrans_time": f"{_INEXACT}; name retrans_time_ms",
    f"{_IPV4}/neigh/*/unres_qlen": f"{_INEXACT}; name unres_qlen_bytes",
    f"{_IPV6}/neigh/*/unres_qlen": f"{_INEXACT}; name unres_qlen_bytes",
    f"{_IPV4}/route/gc_min_interval": f"{_INEXACT}; name gc_min_interval_ms",
    f"{_IPV6}/route/gc_min_interval": f"{_INEXACT}; name gc_min_interval_ms",
    "/proc/sys/net/mptcp/pm_type": f"{_INEXACT}; name net.mptcp.path_manager",
    # proc_tcp_fastopen_key() in net/ipv4/sysctl_net_ipv4.c: a write of these zeros makes them the key
    f"{_IPV4}/tcp_fastopen_key": "it shows zeros where no key is set, and no write takes a key away again",
    # Documentation/admin-guide/sysctl
    f"{_VM}/drop_caches": _ACTS,
    f"{_VM}/compact_memory": _ACTS,
    f"{_VM}/stat_refresh": _ACTS,
    # update_and_free_pages_bulk(): "BUG: Bad page state" on 6.12.118, seen by tests/lab/guest/test_sysctls.py
    f"{_VM}/hugetlb_optimize_vmemmap": "some kernels find bad pages when they free the huge pages made with it",
    f"{_IPV4}/route/flush": _ACTS,
    f"{_IPV6}/route/flush": _ACTS,
    f"{_KERNEL}/ns_last_pid": "each new process changes it",
    # kernel/module/signing.c (bool_enable_only), crash_shrink_memory()
    "/sys/module/module/parameters/sig_enforce": _ONE_WAY,
    "/sys/kernel/kexec_crash_size": _ONE_WAY,
    "/sys/kernel/security/lockdown": _ONE_WAY,  # lock_kernel_down()
    # merge_across_nodes_store(), max_page_sharing_store(): EBUSY as soon as ksmd has merged pages
    "/sys/kernel/mm/ksm/merge_across_nodes": _MERGED,
    "/sys/kernel/mm/ksm/max_page_sharing": _MERGED,
    # blk_mq_init_sched() begins with new tunables and another nr_requests, and bfq turns wbt_lat_usec off
    "queue/scheduler": f"{_MANY}: nr_requests, wbt_lat_usec and the scheduler's own",
    # blk_trace_setup_queue(), blk_trace_remove_queue()
    "trace/enable": f"{_MANY}: act_mask, pid, start_lba and end_lba",
    # aspm_attr_store_common(): without L1 there are no substates, and they do not come back with it
    "link/l1_aspm": f"{_MANY}: l1_1_aspm, l1_2_aspm, l1_1_pcipm and l1_2_pcipm",
    # resource_resize_show() and _store() in drivers/pci/pci-sysfs.c
    **{f"resource{number}_resize": "it shows which sizes there are, and not which one it has" for number in range(6)},
    # bond_option_miimon_set(), bond_option_arp_interval_set(), bond_option_mode_set()
    "bonding/miimon": f"{_MANY}: arp_interval and arp_validate",
    "bonding/arp_interval": f"{_MANY}: miimon",
    "bonding/mode": f"{_MANY}: miimon and arp_interval",
    # brightness_store() in drivers/leds/led-class.c takes the trigger away with a 0, and a new trigger sets brightness
    "leds/*/brightness": f"{_MANY}: trigger",
    "leds/*/trigger": f"{_MANY}: brightness and the trigger's own",
    # sched_group_set_idle(), cpu_weight_nice_write_s64() in kernel/sched
    "cpu.idle": f"{_MANY}: cpu.weight",
    "cpu.weight.nice": f"{_INEXACT}; name cpu.weight",
    # drivers/cpufreq: intel_pstate_update_status(), amd_pstate_update_status() make all policies anew;
    # kernel/cpu.c: target_store()
    "/sys/devices/system/cpu/intel_pstate/status": f"{_MANY}: governors and limits of all CPUs",
    "/sys/devices/system/cpu/amd_pstate/status": f"{_MANY}: governors and limits of all CPUs",
    "/sys/devices/system/cpu/*/hotplug/target": _CPU,
    # cpufreq_boost_trigger_state() sets it of all policies, also of one that has another
    "/sys/devices/system/cpu/cpufreq/boost": f"{_MANY}; name boost of each policy",
    # Documentation/ABI. Without a slash in front it is such a file anywhere in /sys.
    "/sys/power/state": _ACTS,
    "/sys/power/disk": _ACTS,
    "/sys/power/resume": _ACTS,
    "/sys/power/autosleep": _ACTS,
    "/sys/power/wake_lock": _ACTS,
    "/sys/power/wake_unlock": _ACTS,
    "drivers/*/bind": _ACTS,
    "drivers/*/unbind": _ACTS,
    "slots/*/power": _ACTS,
    "md/array_state": _ACTS,
    "md/sync_action": _ACTS,
    "bonding_masters": _ACTS,
    "bonding/slaves": _ACTS,
    # do_bind_con_driver() is also what kinds/module/consoles.py asks for
    "vtconsole/*/bind": "libhook unbinds the consoles itself for modules, and binds them again",
    "sriov_numvfs": "the VFs are made anew with each write",
    "driver_override": "libhook writes it itself where a guest has the device",
    **dict.fromkeys(
        (
            *("uevent", "remove", "rescan", "scan", "reset", "delete", "new_id", "remove_id", "drivers_probe", "rom"),
            *("new_device", "delete_device", "export", "unexport", "create", "unload", "flush", "compact", "reload"),
            *("cgroup.procs", "cgroup.threads", "cgroup.kill", "cgroup.type", "cgroup.subtree_control"),
        ),
        _ACTS,
    ),
}
"""Why a file is not set for a guest, by its path, where ``*`` is one part of it. The first one counts, also ""."""


def _holds_ipv6(mtu: str) -> bool:
    """Whether this is IPV6_MIN_MTU or more, as the file shows it. The kernel also takes 02000, which is 1024."""
    return mtu.isdecimal() and mtu[0] != "0" and int(mtu) >= _IPV6_MIN_MTU


def _is_up(flags: str) -> bool:
    """Whether these have IFF_UP, as the file shows them: ``0x1003``."""
    return flags.startswith("0x") and flags[-1] in "13579bdf"


_ALLOWED: dict[str, tuple[Callable[[str], bool], str]] = {
    f"{_KERNEL}/yama/ptrace_scope": ({"0", "1", "2"}.__contains__, _ONE_WAY),  # yama_dointvec_minmax()
    f"{_KERNEL}/unprivileged_bpf_disabled": ({"0", "2"}.__contains__, _ONE_WAY),  # bpf_unpriv_handler()
    f"{_KERNEL}/shm_rmid_forced": ({"0"}.__contains__, _ORPHANS),  # shm_destroy_orphaned()
    # set_nx_huge_pages() in arch/x86/kvm/mmu/mmu.c
    "/sys/module/kvm/parameters/nx_huge_pages": (lambda value: value != "never", _ONE_WAY),
    # aspm_attr_store_common(): each of these states brings L1 along
    **dict.fromkeys(
        ("link/l1_1_aspm", "link/l1_2_aspm", "link/l1_1_pcipm", "link/l1_2_pcipm"), ({"0"}.__contains__, _L1)
    ),
    # These show 0 where the link may not have the state, and where the policy asks for none; 1 takes only the first
    # away (aspm_disable and clkpm_disable, which pci_disable_link_state() sets, too)
    **dict.fromkeys(("link/l0s_aspm", "link/clkpm"), ({"0"}.__contains__, _ALLOWED_ANEW)),
    # select_fallback_rq() and irq_migrate_all_off_this_cpu() move what was bound to it, and nothing moves that back;
    # __store_smt_control() takes CPUs away as well, and with forceoff for ever
    "/sys/devices/system/cpu/smt/control": ({"on"}.__contains__, _CPU),
    "/sys/devices/system/cpu/*/online": ({"1"}.__contains__, _CPU),
    # addrconf_notify() calls addrconf_ifdown() for both
    f"{_IPV6}/conf/*/disable_ipv6": ({"0"}.__contains__, _NO_ADDRESSES),
    _MTU: (_holds_ipv6, _NO_ADDRESSES),
    "net/*/flags": (_is_up, _NO_ADDRESSES),  # dev_change_flags() takes it down
}
"""Files that only some values may be given, and why."""


_BOUNDS = {"min": "max", "low": "high", "down": "up"}
"""What the name of a minimum has, and that of its maximum: ipfrag_low_thresh, down_threshold of cpufreq."""
_UPPER = frozenset(_BOUNDS.values())
_LIMITS = {
    "ip_unprivileged_port_start": "ip_local_port_range",  # ipv4_local_port_range(), ipv4_privileged_ports()
    "sched_rt_runtime_us": "sched_rt_period_us",  # sched_rt_global_validate()
    "perf_event_max_sample_rate": "perf_cpu_time_max_percent",  # perf_event_max_sample_rate_handler()
    "pf_retrans": "ps_retrans",  # sctp_net_table
}
_OF_ALL = ("gc_interval", "gc_thresh1", "gc_thresh2", "gc_thresh3")
"""Of a neighbour table only ``default`` has these, and they set nothing else."""


def unfit(path: str, value: str) -> str:
    """Why no guest may give the file this value, or ""."""
    parts = path.split("/")
    for pattern, why in _REASONS.items():
        if _is_like(parts, pattern) and parts[-1] not in _OF_ALL:
            return why
    for pattern, (allowed, why) in _ALLOWED.items():
        if _is_like(parts, pattern) and not allowed(value):
            return f"with this value {why}"
    return ""


def _is_like(parts: list[str], pattern: str) -> bool:
    wanted = pattern.split("/")
    if wanted[0]:
        if parts[1] != "sys" or len(parts) < len(wanted):
            return False
        parts = parts[-len(wanted) :]
    return len(parts) == len(wanted) and all(part in ("*", own) for part, own in zip(wanted, parts, strict=True))


def rank(path: str, value: str) -> int:
    """When a guest's value is set: those of the lowest rank first. They go back the other way round.

    With the governor performance a CPU's preference takes nothing else, and shows that. Some drivers leave it at that
    (intel_pstate_set_energy_pref_index(), intel_pstate_hwp_set(), amd_pstate_epp_update_limit() in drivers/cpufreq).

    A minimum that is above the maximum becomes that, or is not taken, and the other way round (store_min_perf_pct(),
    cpufreq_verify_within_limits(), gt_min_freq_mhz_store(), sysctl_sched_uclamp_handler(); ip4_frags_ns_ctl_table). A
    minimum that the maximum of before allows is in nobody's way, if it comes first and leaves last.
    """
    last = path.rpartition("/")[2]
    if last == "energy_performance_preference" or not _UPPER.isdisjoint(last.split("_")):
        return 1
    return 2 if path.endswith("/scaling_governor") and value == "performance" else 0


def maximum(path: str) -> str:
    """The file of the maximum that goes with the minimum that this file is by its name, or ""."""
    folder, slash, last = path.rpartition("/")
    upper = "_".join(_BOUNDS.get(part, part) for part in last.split("_"))
    return f"{folder}{slash}{upper}" if upper != last else ""


def limit(path: str) -> str:
    """The file beside this one whose value decides what this one takes, or the other way round; or "".

    In which order the kernel takes two new values depends on these.
    """
    folder, slash, last = path.rpartition("/")
    return f"{folder}{slash}{_LIMITS[last]}" if last in _LIMITS else ""


def counterpart(path: str) -> str:
    """The other file of a pair of which one is in force, or ""."""
    return _OTHER.get(path, "")


def is_text(path: str) -> bool:
    """Whether brackets in it are somebody's own. Elsewhere they show which of several words was chosen."""
    return path.startswith("/proc/sys/") or path.endswith("/ifalias")


def is_mtu(path: str) -> bool:
    """Whether it is an interface's."""
    return _is_like(path.split("/"), _MTU)


def ipv6_mtu(path: str) -> str:
    """The file of the MTU that IPv6 has for the interface with this ``mtu``."""
    return f"{_IPV6}/conf/{path.split('/')[-2]}/mtu"


def clearing(path: str) -> str:
    """What to write so that the file is empty. A write of no bytes reaches no handler.

    A sysctl ends at a line feed (_proc_do_string(), proc_do_large_bitmap()), and an attribute takes it off. A module's
    parameter keeps it (param_set_copystring()), but code that takes it as a C string ends it at the NUL.
    """
    return "\0" if path.startswith("/sys/module/") else "\n"
