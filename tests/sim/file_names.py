# SPDX-License-Identifier: LGPL-2.1-or-later
"""Files of /sys and /proc/sys that have two names, on a simulated host, and guests whose settings name them."""

from pathlib import Path

from cases import DISK, NIC
from scenario import Host, guest

from libhook.facts.shared import file_name
from libhook.facts.value import path_of
from libhook.kinds.naming import thing
from libhook.look import samefile
from libhook.simulation.hosts import workstation

WIN11, OTHER = guest(NIC), guest(DISK, name="other")._replace(uuid="11111111-2222-3333-4444-555555555555")
BR0, CLASS = "/sys/devices/virtual/net/br0", "/sys/class/net/br0"
CPUFREQ = "/sys/devices/system/cpu/cpufreq/policy0"
DISKS = "/sys/devices/pci0000:00/0000:00:1f.2/block/sdz"
PAGES, NODE = (
    "/sys/kernel/mm/hugepages/hugepages-{}kB/{}",
    "/sys/devices/system/node/node{}/hugepages/hugepages-{}kB/{}",
)
LINKS = {
    CLASS: "../../devices/virtual/net/br0",
    "/sys/devices/system/cpu/cpu0/cpufreq": "../cpufreq/policy0",
    "/sys/devices/system/cpu/cpu1/cpufreq": "../cpufreq/policy0",
    "/sys/block/sdz": f"../{DISKS.removeprefix('/sys/')}",
    f"{DISKS}/bdi": "../../../../virtual/bdi/8:0",
    "/sys/class/bdi": "../devices/virtual/bdi",
    "/sys/bus/cpu/devices/cpu1": "../../../devices/system/cpu/cpu1",
}
GOVERNOR = "/sys/devices/system/cpu/cpu{}/cpufreq/scaling_governor"
LONG = "/".join(["queues"] * 30)
"""With it a claim's file is named by a hash."""
PAIRS = [
    (f"{CLASS}/mtu", f"{BR0}/mtu"),
    (GOVERNOR.format(0), GOVERNOR.format(1)),
    (GOVERNOR.format(1), f"{CPUFREQ}/scaling_governor"),
    ("vm.nr_hugepages", PAGES.format(2048, "nr_hugepages")),
    ("vm.nr_hugepages_mempolicy", PAGES.format(2048, "nr_hugepages_mempolicy")),
    ("vm.nr_overcommit_hugepages", PAGES.format(2048, "nr_overcommit_hugepages")),
    (PAGES.format(1048576, "nr_hugepages"), PAGES.format(1048576, "nr_hugepages_mempolicy")),
    ("/sys/module/nfs/parameters/callback_tcpport", "fs.nfs.nfs_callback_tcpport"),
    ("/sys/module/ipmi_poweroff/parameters/poweroff_powercycle", "dev.ipmi.poweroff_powercycle"),
    ("/sys/block/sdz/queue/read_ahead_kb", "/sys/class/bdi/8:0/read_ahead_kb"),
    ("/sys/kernel/debug/tracing/tracing_on", "/sys/kernel/tracing/tracing_on"),
    (f"{CLASS}/{LONG}/mtu", f"{BR0}/{LONG}/mtu"),
]
"""Two names of one file each."""


def host_with(root: str, config: str, *files: str, value: str = "1500") -> Host:
    """One that has these files, by the names that the kernel has them by; and the folders' other names."""
    host = Host(root, workstation(), config)
    Path(f"{root}/proc/meminfo").write_text("MemTotal:       16384 kB\nHugepagesize:       2048 kB\n")
    for link, target in LINKS.items():
        (path := Path(f"{root}{link}")).parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(target)
    for file in files:
        (whole := Path(f"{root}{main_name(host, file)}")).parent.mkdir(parents=True, exist_ok=True)
        whole.write_text(f"{value}\n")
    return host


def main_name(host: Host, path: str) -> str:
    """The name by which the simulated kernel has the file. A real one answers by both."""
    return samefile._file(host.machine, path, samefile.page_size(host.machine)).name


def both(first: str, second: str, *values: str) -> str:
    """The settings of two guests, each with one of the names."""
    one, other = values or ("9000", "9000")
    return f'[domains.win11.values]\n"{first}" = "{one}"\n[domains.other.values]\n"{second}" = "{other}"\n'


def written(host: Host, name: str) -> str:
    """What the file is."""
    return host.read(main_name(host, path_of(name)))


def as_before(host: Host, path: str, old: str) -> None:
    """The entry of WIN11 and its claim, as a version wrote them that followed no links, nor knew `pending`."""
    entry = Path(host.machine.state, "domains", f"{WIN11.uuid}.json")
    entry.write_text(entry.read_text().replace(path, old).replace(', "pending": ""', ""))
    new, before = (Path(host.state.shared_path(file_name(thing(one)))) for one in (path, old))
    new.write_text(new.read_text().replace(thing(path), thing(old)))
    new.rename(before)
