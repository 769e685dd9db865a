# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a file below /sys or /proc/sys had comes back exactly, or the start is refused before it is changed."""

from pathlib import Path

import pytest
from cases import DISK, NIC
from command import libhook
from scenario import Host, guest

from libhook.facts.knob import unfit
from libhook.simulation import faults
from libhook.simulation.hosts import workstation

ONE, OTHER = guest(NIC), guest(DISK, name="other")._replace(uuid="11111111-2222-3333-4444-555555555555")
PORTS = "/proc/sys/net/ipv4/ip_local_reserved_ports"
ALIAS = "/sys/devices/virtual/net/lo/ifalias"
FIRMWARE = "/sys/module/firmware_class/parameters/path"
BYTES, RATIO = "/proc/sys/vm/dirty_bytes", "/proc/sys/vm/dirty_ratio"
SWAPPINESS = "/proc/sys/vm/swappiness"
WAYS_OUT = "take it out of values in the settings; a command under run may set it, if it has an undo"


def _host(root: str, values: str, **files: str) -> Host:
    host = Host(root, workstation(), values)
    for path, text in files.items():
        _put(host, path, text)
    return host


def _put(host: Host, path: str, text: str) -> None:
    Path(f"{host.root}{path}").parent.mkdir(parents=True, exist_ok=True)
    Path(f"{host.root}{path}").write_text(text)


def _shows(host: Host, path: str) -> str:
    return Path(f"{host.root}{path}").read_text()


def _lives(host: Host, path: str, value: str) -> None:
    """A guest starts and has the value, ends and leaves what was there before; and starts again."""
    before = _shows(host, path)
    for _ in range(2):
        host.begin(ONE)
        assert _shows(host, path) == f"{value}\n"
        host.event(ONE, "release", "shutdown")
        assert (_shows(host, path), host.leftovers) == (before, [])


@pytest.mark.parametrize(("path", "before"), [(PORTS, "\n"), (ALIAS, ""), (FIRMWARE, "\n")])
def test_a_file_that_was_empty_is_empty_again(root: str, path: str, before: str) -> None:
    """By a line feed or a NUL: a write of no bytes reaches nobody."""
    _lives(_host(root, f'[values]\n"{path}" = "1000"\n', **{path: before}), path, "1000")


@pytest.mark.parametrize("path", [ALIAS, "/proc/sys/kernel/core_pattern"])
def test_brackets_in_a_text_are_no_choice(root: str, path: str) -> None:
    """Of ``always [madvise] never`` one word is written back, of an interface's alias all."""
    _lives(_host(root, f'[values]\n"{path}" = "1000"\n', **{path: "|/bin/uplink [eth0]\n"}), path, "1000")


@pytest.mark.parametrize("count", [1200, 32768])
def test_a_value_of_many_pages_comes_back_whole(root: str, count: int) -> None:
    """A list of 65,536 ports may be that long."""
    ports = ",".join(str(2 * number + 1) for number in range(count)) + "\n"
    _lives(_host(root, f'[values]\n"{PORTS}" = "1000"\n', **{PORTS: ports}), PORTS, "1000")


@pytest.mark.parametrize(
    ("path", "text", "why"),
    [
        (PORTS, "1," * 132_000 + "\n", "shows more text than libhook could give back"),
        (ALIAS, "x" * 4097 + "\n", "shows more text than libhook could give back"),
        (FIRMWARE, "\n\n", "does not show one line of text, so libhook could not give it back"),
        (ALIAS, "a\0b\n", "does not show one line of text, so libhook could not give it back"),
        (FIRMWARE, "(null)\n", "was never set, and no write brings that back"),
    ],
    ids=["sysctl", "attribute", "line feed", "NUL", "null"],
)
def test_what_cannot_be_read_or_written_whole_is_refused(root: str, path: str, text: str, why: str) -> None:
    """Nothing is changed, and nothing is left to undo."""
    host = _host(root, f'[values]\n"{path}" = "1000"\n', **{path: text})
    outcome = host.event(ONE, "prepare")
    assert (outcome.code, outcome.line, outcome.writes) == (1, f"{path} {why}: {WAYS_OUT}", ())
    host.event(ONE, "release", "failed")
    assert (_shows(host, path) == text, host.leftovers) == (True, [])


def test_what_a_file_does_not_take_back_is_refused_before_it_is_changed(root: str) -> None:
    """It is given what it has; only then it is changed."""
    host = _host(root, '[values]\n"vm.swappiness" = 10\n', **{SWAPPINESS: "60\n"})
    faults.inject(root, faults.Fault(f"set {SWAPPINESS} 60", error="EINVAL"))
    outcome = host.event(ONE, "prepare")
    why = "could not be given back: it does not take the value that it has now (Invalid argument)"
    assert (outcome.code, outcome.line) == (1, f"{SWAPPINESS} {why}: {WAYS_OUT}")
    assert outcome.writes == ((SWAPPINESS, "60"),)
    host.event(ONE, "release", "failed")
    assert (_shows(host, SWAPPINESS), host.leftovers) == ("60\n", [])


@pytest.mark.parametrize(
    ("error", "said"),
    [("EAGAIN", "raise libvirtd's limits"), ("ENOSPC", "make room there, then start the guest again")],
)
def test_what_could_not_be_tried_is_not_said_to_be_the_files_fault(root: str, error: str, said: str) -> None:
    """The host has no room for one more process or file. That passes, and the settings are right."""
    host = _host(root, '[values]\n"vm.swappiness" = 10\n', **{SWAPPINESS: "60\n"})
    faults.inject(root, faults.Fault(f"set {SWAPPINESS} 60", error=error))
    outcome = host.event(ONE, "prepare")
    assert (outcome.code, said in outcome.line, WAYS_OUT in outcome.line) == (1, True, False)
    faults.heal(root)
    host.event(ONE, "release", "failed")
    assert (_shows(host, SWAPPINESS), host.leftovers) == ("60\n", [])


@pytest.mark.parametrize(
    ("wanted", "in_force"),
    [((BYTES, "1048576"), "ratio"), ((RATIO, "30"), "ratio"), ((BYTES, "1048576"), "bytes"), ((RATIO, "30"), "bytes")],
)
def test_of_a_pair_comes_back_what_was_in_force(root: str, wanted: tuple[str, str], in_force: str) -> None:
    """The other one is 0 and does not take a 0."""
    files = {BYTES: "0\n", RATIO: "20\n"} if in_force == "ratio" else {BYTES: "8388608\n", RATIO: "0\n"}
    path, value = wanted
    host = _host(root, f'[values]\n"{path}" = {value}\n', **files)
    host.begin(ONE)
    assert {one: _shows(host, one) for one in files} == {BYTES: "0\n", RATIO: "0\n"} | {path: f"{value}\n"}
    host.event(ONE, "release", "shutdown")
    assert ({one: _shows(host, one) for one in files}, host.leftovers) == (files, [])


@pytest.mark.parametrize("first", [BYTES, RATIO])
def test_two_guests_cannot_have_one_of_a_pair_each(root: str, first: str) -> None:
    """It is one thing. The second starts once the first is gone."""
    second = RATIO if first == BYTES else BYTES
    values = {BYTES: "1048576", RATIO: "30"}
    config = (
        f'[domains.win11.values]\n"{first}" = {values[first]}\n[domains.other.values]\n"{second}" = {values[second]}\n'
    )
    host = _host(root, config, **{BYTES: "0\n", RATIO: "20\n"})
    host.begin(ONE)
    outcome = host.event(OTHER, "prepare")
    assert outcome.code == 1
    assert f"the guest win11 ({ONE.uuid}) sets {first}" in outcome.line
    host.event(OTHER, "release", "failed")
    host.event(ONE, "release", "shutdown")
    host.begin(OTHER)
    assert _shows(host, second) == f"{values[second]}\n"
    host.event(OTHER, "release", "shutdown")
    assert (_shows(host, BYTES), _shows(host, RATIO), host.leftovers) == ("0\n", "20\n", [])


def test_a_pair_that_is_changed_by_somebody_else_stays(root: str) -> None:
    """As any value."""
    host = _host(root, f'[values]\n"{BYTES}" = 1048576\n', **{BYTES: "0\n", RATIO: "20\n"})
    host.begin(ONE)
    _put(host, BYTES, "0\n")
    _put(host, RATIO, "40\n")
    ended = host.event(ONE, "release", "shutdown")
    assert any(f'{BYTES} was changed to "dirty_ratio=40" by somebody else' in str(entry) for entry in ended.log)
    assert (_shows(host, RATIO), host.leftovers) == ("40\n", [])


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("kernel.modules_disabled", "1", "it does not go back before the host is rebooted"),
        ("kernel.yama.ptrace_scope", "3", "with this value it does not go back before the host is rebooted"),
        ("kernel.yama.ptrace_scope", "03", "with this value it does not go back before the host is rebooted"),
        (
            "/sys/devices/system/cpu/smt/control",
            "off",
            "with this value processes and interrupts that are bound to the CPU would not come back to it",
        ),
        ("/sys/class/net/eth0/flags", "0x1002", "with this value the interface's IPv6 addresses would not come back"),
        (
            "/sys/class/vtconsole/vtcon1/bind",
            "0",
            "libhook unbinds the consoles itself for modules, and binds them again",
        ),
        ("/sys/class/net/eth0/mtu", "1279", "with this value the interface's IPv6 addresses would not come back"),
        ("/sys/class/net/eth0/mtu", "02000", "with this value the interface's IPv6 addresses would not come back"),
        (
            "/sys/devices/system/cpu/cpu3/online",
            "0",
            "with this value processes and interrupts that are bound to the CPU would not come back to it",
        ),
        (
            "/sys/devices/system/cpu/intel_pstate/status",
            "passive",
            "it changes other files, which would not come back: governors and limits of all CPUs",
        ),
        (
            "/sys/devices/system/cpu/cpufreq/boost",
            "0",
            "it changes other files, which would not come back; name boost of each policy",
        ),
        ("vm.drop_caches", "3", "a write to it does something, and keeps no value"),
        ("vm.hugetlb_optimize_vmemmap", "1", "some kernels find bad pages when they free the huge pages made with it"),
        (
            "net.ipv4.ip_forward",
            "1",
            "it changes other files, which would not come back; name forwarding of each interface",
        ),
        (
            "net.ipv4.tcp_congestion_control",
            "bbr",
            "it changes other files, which would not come back: tcp_allowed_congestion_control",
        ),
        (
            "kernel.shm_rmid_forced",
            "1",
            "with this value shared memory that no process is attached to would be destroyed",
        ),
        (
            "/sys/block/sda/queue/scheduler",
            "none",
            "it changes other files, which would not come back: nr_requests, wbt_lat_usec and the scheduler's own",
        ),
        (
            "/sys/bus/pci/devices/0000:01:00.0/link/l1_aspm",
            "0",
            "it changes other files, which would not come back: l1_1_aspm, l1_2_aspm, l1_1_pcipm and l1_2_pcipm",
        ),
        (
            "/sys/bus/pci/devices/0000:01:00.0/link/l1_2_aspm",
            "1",
            "with this value the link's l1_aspm would be set, too",
        ),
        (
            "/sys/bus/pci/devices/0000:01:00.0/resource1_resize",
            "14",
            "it shows which sizes there are, and not which one it has",
        ),
        ("/sys/kernel/mm/ksm/merge_across_nodes", "0", "it does not go back once pages are merged"),
        (
            "/sys/module/kvm/parameters/nx_huge_pages",
            "never",
            "with this value it does not go back before the host is rebooted",
        ),
        (
            "net.ipv4.tcp_fastopen_key",
            "1-2-3-4",
            "it shows zeros where no key is set, and no write takes a key away again",
        ),
        ("/sys/bus/pci/rescan", "1", "a write to it does something, and keeps no value"),
        ("/sys/bus/pci/drivers/nvme/unbind", "0000:01:00.0", "a write to it does something, and keeps no value"),
    ],
)
def test_what_is_no_value_or_never_goes_back_is_refused(root: str, name: str, value: str, why: str) -> None:
    """Before anything is done. The plan says it, and so does what reads the settings, with file, line and key."""
    host = _host(root, f'[values]\n"{name}" = "{value}"\n')
    outcome = host.event(ONE, "prepare")
    line = f'/etc/libhook/config.toml, line 2: values."{name}" is wrong: it must be left out, as {why}'
    assert (outcome.code, outcome.writes, outcome.line) == (1, (), line)
    assert libhook(host, "plan", "-", stdin=ONE.xml(1, False)).err == f"{line}\n"
    assert f"{line}\n" in libhook(host, "config").err
    assert line in libhook(host, "doctor").out


@pytest.mark.parametrize(
    "path",
    [
        *(f"/sys/class/net/bond0/bonding/{name}" for name in ("miimon", "arp_interval", "mode")),
        *(f"/sys/class/leds/power/{name}" for name in ("brightness", "trigger")),
        *(f"/sys/fs/cgroup/machine.slice/{name}" for name in ("cpu.idle", "cpu.weight.nice")),
        *(f"/sys/bus/pci/devices/{NIC}/link/{name}" for name in ("l0s_aspm", "clkpm")),
        *(f"/sys/bus/pci/devices/{NIC}/link/l1_{name}" for name in ("1_aspm", "1_pcipm", "2_pcipm")),
        "/sys/block/sda/sda1/trace/enable",
        *(f"/proc/sys/net/ipv6/conf/{name}/forwarding" for name in ("all", "eth0")),
        *(f"/proc/sys/net/ipv6/conf/{name}/addr_gen_mode" for name in ("all", "eth0")),
        "/sys/kernel/security/lockdown",
        "/sys/kernel/mm/ksm/max_page_sharing",
    ],
)
def test_what_sets_others_or_never_goes_back_is_unfit(path: str) -> None:
    """By its table."""
    assert unfit(path, "1")


@pytest.mark.parametrize("flags", ["4099", "0X1003", ""])
def test_flags_are_set_only_as_the_file_shows_them(flags: str) -> None:
    """Then the next read says whether the kernel took them."""
    assert unfit("/sys/class/net/eth0/flags", flags)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("/proc/sys/kernel/yama/ptrace_scope", "2"),
        ("/proc/sys/net/ipv4/conf/eth0/forwarding", "1"),
        ("/proc/sys/net/ipv6/conf/default/forwarding", "1"),
        ("/proc/sys/net/ipv6/conf/default/addr_gen_mode", "1"),
        ("/proc/sys/net/ipv6/conf/eth0/disable_ipv6", "0"),
        ("/proc/sys/net/core/reset", "1"),
        ("/proc/sys/net/ipv4/neigh/default/gc_thresh3", "8192"),
        ("/sys/class/misc/thing/bind", "0"),
        ("/sys/class/net/eth0/flags", "0x1103"),
        ("/sys/class/net/eth0/mtu", "1280"),
        ("/sys/devices/system/cpu/cpu3/online", "1"),
        ("/sys/devices/system/cpu/online", "0"),
        ("/sys/devices/system/cpu/cpufreq/policy0/boost", "0"),
        ("/proc/sys/kernel/shm_rmid_forced", "0"),
        ("/sys/devices/pci0000:00/0000:00:01.0/0000:01:00.0/link/l1_2_aspm", "0"),
        ("/sys/devices/pci0000:00/0000:00:01.0/0000:01:00.0/link/clkpm", "0"),
        ("/sys/devices/pci0000:00/0000:00:01.0/0000:01:00.0/link/l0s_aspm", "0"),
        ("/sys/module/kvm/parameters/nx_huge_pages", "off"),
        ("/sys/fs/cgroup/machine.slice/cpu.weight", "50"),
        (FIRMWARE, "/lib/x"),
        ("/sys/devices/system/cpu/smt/control", "on"),
    ],
)
def test_what_comes_back_is_set(path: str, value: str) -> None:
    """A name alone refuses nothing: there is a bind that is a value."""
    assert unfit(path, value) == ""
