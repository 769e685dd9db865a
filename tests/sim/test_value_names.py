# SPDX-License-Identifier: LGPL-2.1-or-later
"""One file of /sys or /proc/sys under two names: guests that set it meet, however their settings name it."""

from pathlib import Path

import hanging
import pytest
from cases import DISK, NIC
from command import libhook
from scenario import Host, guest, journal_text, reap

from libhook.kinds import value
from libhook.simulation.hosts import workstation

WIN11, OTHER = guest(NIC), guest(DISK, name="other")._replace(uuid="11111111-2222-3333-4444-555555555555")
BR0, CLASS = "/sys/devices/virtual/net/br0", "/sys/class/net/br0"
CPUFREQ = "/sys/devices/system/cpu/cpufreq/policy0"
GOVERNOR = "/sys/devices/system/cpu/cpu{}/cpufreq/scaling_governor"
LINKS = {
    CLASS: "../../devices/virtual/net/br0",
    "/sys/devices/system/cpu/cpu0/cpufreq": "../cpufreq/policy0",
    "/sys/devices/system/cpu/cpu1/cpufreq": "../cpufreq/policy0",
}
LONG = "/".join(["queues"] * 30)
"""With it a claim's file is named by a hash."""
PAIRS = [
    (f"{CLASS}/mtu", f"{BR0}/mtu"),
    (GOVERNOR.format(0), GOVERNOR.format(1)),
    (GOVERNOR.format(1), f"{CPUFREQ}/scaling_governor"),
    (f"{CLASS}/{LONG}/mtu", f"{BR0}/{LONG}/mtu"),
]
"""Two names of one file each."""


def host_with(root: str, config: str, *files: str, value: str = "1500") -> Host:
    """One that has these files and links."""
    host = Host(root, workstation(), config)
    for link, target in LINKS.items():
        (path := Path(f"{root}{link}")).parent.mkdir(parents=True, exist_ok=True)
        (path.parent / target).mkdir(parents=True, exist_ok=True)
        path.symlink_to(target)
    for file in files:
        (whole := Path(f"{root}{file}")).parent.mkdir(parents=True, exist_ok=True)
        whole.write_text(f"{value}\n")
    return host


def both(first: str, second: str, *values: str) -> str:
    """The settings of two guests, each with one of the names."""
    one, other = values or ("9000", "9000")
    return f'[domains.win11.values]\n"{first}" = "{one}"\n[domains.other.values]\n"{second}" = "{other}"\n'


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_two_names_of_one_file_meet(root: str, first: str, second: str) -> None:
    """Whoever ends first leaves the other its value; with the last comes back what was there before."""
    ends = [WIN11, OTHER][:: 1 if PAIRS.index((first, second)) % 2 else -1]
    host = host_with(root, both(first, second), first)
    for one in (WIN11, OTHER):
        host.begin(one)
    assert host.read(first) == host.read(second) == "9000"
    assert len(host.state.names("shared")) == 1
    host.event(ends[0], "release", "shutdown")
    assert host.read(first) == "9000"
    host.event(ends[1], "release", "shutdown")
    assert (host.read(first), host.leftovers) == ("1500", [])
    assert [entry for entry in host._lines("libhook") if entry["level"] == "error"] == []


@pytest.mark.parametrize(("first", "second"), PAIRS[:2])
def test_two_values_under_two_names_are_refused(root: str, first: str, second: str) -> None:
    """The second guest is told of the first, and the host keeps the first one's value."""
    host = host_with(root, both(first, second, "9000", "1400"), first)
    host.begin(WIN11)
    line = host.event(OTHER, "prepare").line
    assert line.startswith(f"the guest win11 ({WIN11.uuid}) wants ")
    assert " to be 9000, and this one 1400: stop that guest first" in line
    assert host.read(first) == "9000"
    host.event(OTHER, "release", "failed")
    host.event(WIN11, "release", "shutdown")
    assert (host.read(first), host.leftovers) == ("1500", [])


def test_the_plan_names_the_file_and_what_the_settings_say(root: str) -> None:
    """And so does the journal entry: with the file's own name alone."""
    host = host_with(root, f'[values]\n"{CLASS}/mtu" = 9000\n', f"{BR0}/mtu")
    assert f'set {BR0}/mtu ({CLASS}/mtu) to "9000"' in libhook(host, "plan", "-", stdin=WIN11.xml()).out
    host.begin(WIN11)
    (action,) = (one for one in journal_text(host, WIN11.uuid)["actions"] if one["kind"] == "value")
    assert action == {"kind": "value", "path": f"{BR0}/mtu", "value": "9000"}


def test_an_act_is_no_value_by_another_name(root: str) -> None:
    """Its real path says what it is."""
    host = host_with(root, '[values]\n"/sys/bus/pci/drivers/harmless" = "0000:01:00.0"\n')
    Path(f"{root}/sys/bus/pci/drivers/harmless").symlink_to("e1000e/unbind")
    outcome = host.event(WIN11, "prepare")
    said = "/sys/bus/pci/drivers/harmless is no value: a write to /sys/bus/pci/drivers/e1000e/unbind does something"
    assert (outcome.line.split(": correct")[0], outcome.writes) == (said, ())


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
    assert outcome.line.startswith("there is no file /sys/class/net/evil/mtu: correct values")
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
    monkeypatch.setattr(value, "_note", lambda *_: hanging.hang(root))
    host.patience = 0
    hanging.late(root)
    outcome = host.event(WIN11, "prepare")
    hanging.let_go(root)
    assert reap(60)
    assert outcome.line.startswith(f"{CLASS}/mtu cannot be looked up (Connection timed out): see whether ls shows ")
    assert host.read(f"{BR0}/mtu") == "1500"


def test_a_device_that_is_renamed_meanwhile_is_not_taken_for_another(root: str) -> None:
    """The one that has its name by then keeps its own value, and that is said."""
    host = host_with(root, f'[values]\n"{CLASS}/mtu" = 9000\n', f"{BR0}/mtu")
    host.begin(WIN11)
    Path(f"{root}{BR0}").rename(f"{root}/sys/devices/virtual/net/lan0")
    other = Path(f"{root}/sys/devices/pci0000:00/0000:00:1f.6/net/br0")
    other.mkdir(parents=True)
    (other / "mtu").write_text("9000\n")
    Path(f"{root}{CLASS}").unlink()
    Path(f"{root}{CLASS}").symlink_to("../../devices/pci0000:00/0000:00:1f.6/net/br0")
    ended = host.event(WIN11, "release", "shutdown")
    said = f"{BR0}/mtu was changed to nothing"
    assert any(f"{said} by somebody else, and stays so" in str(entry.get("left")) for entry in ended.log)
    assert (host.read(f"{CLASS}/mtu"), host.leftovers) == ("9000", [])


def test_a_device_that_is_gone_and_back_by_the_end(root: str) -> None:
    """It has its value of old, and nothing is to be done."""
    host = host_with(root, f'[values]\n"{CLASS}/mtu" = 9000\n', f"{BR0}/mtu")
    host.begin(WIN11)
    Path(f"{root}{BR0}/mtu").write_text("1500\n")
    host.event(WIN11, "release", "shutdown")
    assert (host.read(f"{BR0}/mtu"), host.leftovers) == ("1500", [])
