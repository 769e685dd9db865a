# SPDX-License-Identifier: LGPL-2.1-or-later
"""One file of /sys or /proc/sys under two names: guests that set it meet, however their settings name it."""

from pathlib import Path

import hanging
import overdue
import pytest
from command import libhook
from file_names import (
    BR0,
    CLASS,
    CPUFREQ,
    GOVERNOR,
    NODE,
    OTHER,
    PAGES,
    PAIRS,
    WIN11,
    as_before,
    both,
    host_with,
    written,
)
from scenario import journal_text, reap

from libhook.children.child import Deadline
from libhook.facts.config import Config
from libhook.facts.shared import file_name
from libhook.facts.value import path_of
from libhook.kinds.kind import Work
from libhook.kinds.naming import thing
from libhook.kinds.value import Value, carry_out
from libhook.look import samefile
from libhook.story.session import make_state


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_two_names_of_one_file_meet(root: str, first: str, second: str) -> None:
    """Whoever ends first leaves the other its value; with the last comes back what was there before."""
    ends = [WIN11, OTHER][:: 1 if PAIRS.index((first, second)) % 2 else -1]
    host = host_with(root, both(first, second), path_of(first), path_of(second))
    for one in (WIN11, OTHER):
        host.begin(one)
    assert written(host, first) == written(host, second) == "9000"
    assert len(host.state.names("shared")) == 1
    host.event(ends[0], "release", "shutdown")
    assert written(host, first) == "9000"
    host.event(ends[1], "release", "shutdown")
    assert (written(host, first), host.leftovers) == ("1500", [])
    assert [entry for entry in host._lines("libhook") if entry["level"] == "error"] == []


@pytest.mark.parametrize(("first", "second"), PAIRS[:5])
def test_two_values_under_two_names_are_refused(root: str, first: str, second: str) -> None:
    """The second guest is told of the first, and the host keeps the first one's value."""
    host = host_with(root, both(first, second, "9000", "1400"), path_of(first))
    host.begin(WIN11)
    line = host.event(OTHER, "prepare").line
    assert line.startswith(f"the guest win11 ({WIN11.uuid}) wants ")
    assert " to be 9000, and this one 1400: stop that guest first" in line
    assert written(host, first) == "9000"
    host.event(OTHER, "release", "failed")
    host.event(WIN11, "release", "shutdown")
    assert (written(host, first), host.leftovers) == ("1500", [])


def test_the_plan_names_the_file_and_what_the_settings_say(root: str) -> None:
    """And so does the journal entry: with the file's own name alone."""
    host = host_with(root, f'[values]\n"{CLASS}/mtu" = 9000\n', f"{BR0}/mtu")
    assert f'set {BR0}/mtu ({CLASS}/mtu) to "9000"' in libhook(host, "plan", "-", stdin=WIN11.xml()).out
    host.begin(WIN11)
    (action,) = (one for one in journal_text(host, WIN11.uuid)["actions"] if one["kind"] == "value")
    assert action == {"kind": "value", "path": f"{BR0}/mtu", "value": "9000"}


def test_what_is_not_set_for_a_guest_is_not_set_by_another_name(root: str) -> None:
    """Which name is whose is known at the start."""
    host = host_with(root, '[values]\n"/sys/bus/cpu/devices/cpu1/online" = 0\n', "/sys/devices/system/cpu/cpu1/online")
    refused = "/sys/bus/cpu/devices/cpu1/online is not set for a guest: with this value processes and interrupts "
    assert host.event(WIN11, "prepare").line.startswith(refused)
    assert host.read("/sys/devices/system/cpu/cpu1/online") == "1500"


def test_one_guest_may_name_a_file_twice(root: str) -> None:
    """As CPUs do that share a policy. With two values it is an error of the settings."""
    config = f'[values]\n"{GOVERNOR.format(0)}" = "performance"\n"{GOVERNOR.format(1)}" = "performance"\n'
    host = host_with(root, config, f"{CPUFREQ}/scaling_governor", value="powersave")
    host.begin(WIN11)
    assert host.read(f"{CPUFREQ}/scaling_governor") == "performance"
    host.event(WIN11, "release", "shutdown")
    assert (host.read(f"{CPUFREQ}/scaling_governor"), host.leftovers) == ("powersave", [])
    host.configure(config.replace("performance", "schedutil", 1))
    refused = host.event(WIN11, "prepare").line
    assert refused.startswith(f'"{GOVERNOR.format(1)}" and "{GOVERNOR.format(0)}" are the same file: correct values')
    assert host.read(f"{CPUFREQ}/scaling_governor") == "powersave"


OVERLAPS = [
    (NODE.format(0, 2048, "nr_hugepages"), "vm.nr_hugepages"),
    (NODE.format(1, 1048576, "nr_hugepages"), PAGES.format(1048576, "nr_hugepages")),
    ("/sys/module/lockd/parameters/nsm_use_hostnames", "fs.nfs.nsm_use_hostnames"),
    ("/sys/module/nfs/parameters/nfs_idmap_cache_timeout", "fs.nfs.idmap_cache_timeout"),
    ("/sys/devices/pci0000:00/0000:00:1c.7/0000:77:00.0/link/clkpm", "/sys/module/pcie_aspm/parameters/policy"),
    ("/sys/kernel/mm/transparent_hugepage/enabled", "vm.min_free_kbytes"),
    ("/sys/kernel/mm/transparent_hugepage/hugepages-2048kB/enabled", "vm.min_free_kbytes"),
    ("/sys/devices/system/cpu/intel_pstate/no_turbo", "/sys/devices/system/cpu/intel_pstate/min_perf_pct"),
]


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("names", OVERLAPS)
def test_a_part_and_the_whole_do_not_go_together(root: str, names: tuple[str, str], turned: bool) -> None:
    """Each would set the other's. In one guest's settings it is refused before anything is done."""
    first, second = names[::-1] if turned else names
    paths = [path_of(name) for name in (first, second)]
    host = host_with(root, both(first, second, "0", "0"), *paths)
    host.begin(WIN11)
    line = host.event(OTHER, "prepare").line
    said = f"the guest win11 ({WIN11.uuid}) sets {paths[0]}, and one of it and {paths[1]} sets or limits the other: "
    assert line.startswith(said)
    host.event(OTHER, "release", "failed")
    host.event(WIN11, "release", "shutdown")
    assert [written(host, first), written(host, second), *host.leftovers] == ["1500", "1500"]
    host.configure(f'[values]\n"{first}" = 0\n"{second}" = 0\n')
    outcome = host.event(WIN11, "prepare")
    said = f'"{second}" and "{first}" do not go together, as one sets or limits the other: '
    assert (outcome.line.startswith(said), outcome.writes) == (True, ())


def test_the_functions_of_a_slot_have_one_link(root: str) -> None:
    """The last of two guests gives it back, whichever function each names."""
    slot = "/sys/devices/pci0000:00/0000:00:1c.7"
    first, second = (f"{slot}/0000:77:00.{function}/link/l1_2_aspm" for function in (0, 1))
    host = host_with(root, both(first, second, "0", "0"), value="1")
    for name in (first, second):
        Path(f"{root}{name}").parent.mkdir(parents=True)
        Path(f"{root}{name}").write_text("1\n")
    for one in (WIN11, OTHER):
        host.begin(one)
    assert len(host.state.names("shared")) == 1
    host.event(WIN11, "release", "shutdown")
    assert host.read(first) == "0"
    host.event(OTHER, "release", "shutdown")
    assert (host.read(first), host.leftovers) == ("1", [])


def test_two_parts_go_together(root: str) -> None:
    """The pages of two nodes."""
    names = [NODE.format(node, 2048, "nr_hugepages") for node in (0, 1)]
    host = host_with(root, both(*names), *names)
    for one in (WIN11, OTHER):
        host.begin(one)
    assert [host.read(name) for name in names] == ["9000", "9000"]


@pytest.mark.parametrize(
    "target", ["../../../etc", "/etc", "../../devices/virtual/net/a\nb", "../../devices/virtual/ä"]
)
def test_a_folder_that_leads_elsewhere_is_refused(root: str, target: str) -> None:
    """Only below /sys and /proc/sys is anything written; nor would the journal's reader take such a name."""
    host = host_with(root, '[values]\n"/sys/class/net/evil/mtu" = 9000\n')
    Path(f"{root}/sys/class/net/evil").symlink_to(target)
    for folder in ("a\nb", "../é"):
        Path(f"{root}/sys/devices/virtual/net/{folder}").mkdir(parents=True)
        Path(f"{root}/sys/devices/virtual/net/{folder}/mtu").write_text("1500\n")
    Path(f"{root}/etc/mtu").write_text("1500\n")
    outcome = host.event(WIN11, "prepare")
    assert outcome.line.startswith('"/sys/class/net/evil/mtu" leads to no file below /sys or /proc/sys: correct values')
    assert (outcome.writes, Path(f"{root}/etc/mtu").read_text()) == ((), "1500\n")


def test_a_folder_with_a_blank_in_its_name(root: str) -> None:
    """The kernel has some. The entry and the claims can be read again."""
    folder = "/sys/devices/platform/Fixed MDIO bus.0/fixed-0"
    host = host_with(root, '[values]\n"/sys/bus/mdio/devices/fixed-0/speed" = 9000\n', f"{folder}/speed")
    Path(f"{root}/sys/bus/mdio/devices").mkdir(parents=True)
    Path(f"{root}/sys/bus/mdio/devices/fixed-0").symlink_to("../../../devices/platform/Fixed MDIO bus.0/fixed-0")
    host.begin(WIN11)
    assert host.read(f"{folder}/speed") == "9000"
    host.state.remove("domains", f"{WIN11.uuid}.json")
    assert libhook(host, "recover").out.startswith(f'"{folder}/speed": what a guest without a journal entry wanted')
    assert (host.read(f"{folder}/speed"), host.leftovers) == ("1500", [])


def test_a_lookup_that_does_not_end_refuses_the_start_in_time(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is mounted below /proc/sys, systemd may have to mount first."""
    host = host_with(root, f'[values]\n"{CLASS}/mtu" = 9000\n', f"{BR0}/mtu")
    monkeypatch.setattr(samefile, "_file", lambda *_: hanging.hang(root))
    host.patience = 0
    hanging.late(root)
    outcome = host.event(WIN11, "prepare")
    hanging.let_go(root)
    assert reap(60)
    assert outcome.line.startswith(f"{CLASS}/mtu cannot be looked up (Connection timed out): see whether ls shows ")
    assert host.read(f"{BR0}/mtu") == "1500"


@pytest.mark.parametrize(
    ("is_old", "value", "said"),
    [(False, "9000", f"{BR0}/mtu was changed to nothing"), (True, "1400", f'{CLASS}/mtu was changed to "1400"')],
)
def test_a_device_that_is_renamed_meanwhile_is_not_taken_for_another(
    root: str, is_old: bool, value: str, said: str
) -> None:
    """The one that has its name by then keeps its own value, and that is said. An old entry has only the name."""
    host = host_with(root, f'[values]\n"{CLASS}/mtu" = 9000\n', f"{BR0}/mtu")
    host.begin(WIN11)
    if is_old:
        as_before(host, f"{BR0}/mtu", f"{CLASS}/mtu")
    Path(f"{root}{BR0}").rename(f"{root}/sys/devices/virtual/net/lan0")
    other = Path(f"{root}/sys/devices/pci0000:00/0000:00:1f.6/net/br0")
    other.mkdir(parents=True)
    (other / "mtu").write_text(f"{value}\n")
    Path(f"{root}{CLASS}").unlink()
    Path(f"{root}{CLASS}").symlink_to("../../devices/pci0000:00/0000:00:1f.6/net/br0")
    ended = host.event(WIN11, "release", "shutdown")
    assert any(f"{said} by somebody else, and stays so" in str(entry.get("left")) for entry in ended.log)
    assert (host.read(f"{CLASS}/mtu"), host.leftovers) == (value, [])


def test_a_device_that_is_gone_and_back_by_the_end(root: str) -> None:
    """It has its value of old, and nothing is to be done."""
    host = host_with(root, f'[values]\n"{CLASS}/mtu" = 9000\n', f"{BR0}/mtu")
    host.begin(WIN11)
    Path(f"{root}{BR0}/mtu").write_text("1500\n")
    host.event(WIN11, "release", "shutdown")
    assert (host.read(f"{BR0}/mtu"), host.leftovers) == ("1500", [])


def test_who_comes_by_another_name_meanwhile_is_refused(root: str) -> None:
    """Between a guest's plan and its claim. Its next start finds the other's claim."""
    host = host_with(root, f'[domains.win11.values]\n"{CLASS}/mtu" = 9000\n', f"{BR0}/mtu")
    host.begin(WIN11)
    as_before(host, f"{BR0}/mtu", f"{CLASS}/mtu")
    work = Work(host.machine, make_state(host.machine), Deadline.after(60), Config(), OTHER.uuid)
    (outcome,) = carry_out(work, [Value(f"{BR0}/mtu", "9000")])
    assert outcome.failure
    assert outcome.failure.reason.startswith(f"{BR0}/mtu is also {CLASS}/mtu, and another guest keeps it")
    with host.state.locked([f"shared-{file_name(thing(f'{BR0}/mtu'))}"], Deadline.after(60)), overdue.at_a_lock():
        (outcome,) = carry_out(work, [Value(f"{CLASS}/mtu", "9000")])
    assert outcome.failure
    assert "is not free" in outcome.failure.reason, "so nobody can come by another name at the same time"


@pytest.mark.parametrize("second", [f"{CLASS}/mtu", f"{BR0}/mtu"])
@pytest.mark.parametrize("turned", [False, True])
def test_who_comes_to_a_guest_of_an_earlier_version_claims_as_that_one_did(
    root: str, second: str, turned: bool
) -> None:
    """It followed no links. Whoever ends first leaves the other its value."""
    host = host_with(root, both(f"{CLASS}/mtu", second), f"{BR0}/mtu")
    host.begin(WIN11)
    as_before(host, f"{BR0}/mtu", f"{CLASS}/mtu")
    host.begin(OTHER)
    assert host.state.names("shared") == [f"{file_name(thing(f'{CLASS}/mtu'))}.json"]
    for one, value in zip([WIN11, OTHER][:: -1 if turned else 1], ("9000", "1500"), strict=True):
        host.event(one, "release", "shutdown")
        assert host.read(f"{BR0}/mtu") == value
    assert host.leftovers == []


@pytest.mark.parametrize("second", [f"{CLASS}/mtu", f"{BR0}/mtu"])
def test_who_wants_another_value_than_a_guest_of_an_earlier_version_is_refused(root: str, second: str) -> None:
    """By whichever name. The first guest keeps its value, and what was there before comes back at its end."""
    host = host_with(root, both(f"{CLASS}/mtu", second, "9000", "1400"), f"{BR0}/mtu")
    host.begin(WIN11)
    as_before(host, f"{BR0}/mtu", f"{CLASS}/mtu")
    outcome = host.event(OTHER, "prepare")
    assert outcome.line.startswith(f"the guest win11 ({WIN11.uuid}) wants ")
    assert host.read(f"{BR0}/mtu") == "9000"
    host.event(OTHER, "release", "failed")
    host.event(WIN11, "release", "shutdown")
    assert (host.read(f"{BR0}/mtu"), host.leftovers) == ("1500", [])
