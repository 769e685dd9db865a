# SPDX-License-Identifier: LGPL-2.1-or-later
"""The host that tests import on: it has four CPUs, and each program is where Debian has it."""

import os
import time

from libhook.importing.importer import Host

_ADMIN_WORDS = (
    "iptables ip6tables ebtables nft modprobe rmmod sysctl zpool zfs brctl drbdadm tc bridge rtcwake swapoff"
    " swapon mdevctl setpci cpufreq-set ethtool iw ipset wg fstrim blockdev hdparm nvme mkswap"
)
_ADMIN = frozenset(_ADMIN_WORDS.split())


def program(name: str) -> str:
    """Where Debian has it. Whole paths are there, too, but for those below libvirt's hooks."""
    if name.startswith("/"):
        return "" if name.startswith("/etc/libvirt/") else name
    return f"/usr/{'sbin' if os.path.basename(name) in _ADMIN else 'bin'}/{name}"


def plain() -> Host:
    """One with time enough. It shows nothing of its kernel."""
    return Host(4, program, lambda _path: "", time.monotonic() + 600)
