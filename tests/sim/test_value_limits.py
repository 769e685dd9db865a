# SPDX-License-Identifier: LGPL-2.1-or-later
"""Of two files of which one limits the other both come back: with one guest, and with two."""

from pathlib import Path

import pytest
from cases import DISK, NIC
from scenario import Host, guest

from libhook.simulation.guests import Guest
from libhook.simulation.hosts import workstation

ONE, OTHER = guest(NIC), guest(DISK, name="other")._replace(uuid="11111111-2222-3333-4444-555555555555")
_FOLDER = "/sys/devices/system/cpu/cpufreq/policy0"
_POLICY = (f"{_FOLDER}/scaling_governor", f"{_FOLDER}/energy_performance_preference")
_LIMITS = ("/sys/devices/system/cpu/intel_pstate/min_perf_pct", "/sys/devices/system/cpu/intel_pstate/max_perf_pct")
_FRAGMENTS = ("/proc/sys/net/ipv4/ipfrag_low_thresh", "/proc/sys/net/ipv4/ipfrag_high_thresh")
_CONSERVATIVE = "/sys/devices/system/cpu/cpufreq/conservative"
_THRESHOLDS = (f"{_CONSERVATIVE}/down_threshold", f"{_CONSERVATIVE}/up_threshold")
_TWO = [(_POLICY, ("powersave", "balance_performance"), ("performance", "performance")),
        (_POLICY, ("performance", "performance"), ("powersave", "balance_power")),
        (_LIMITS, ("50", "100"), ("30", "40")), (_LIMITS, ("20", "90"), ("90", "100")),
        (_FRAGMENTS, ("3145728", "4194304"), ("1048576", "2097152")),
        (_THRESHOLDS, ("20", "80"), ("70", "90"))]  # fmt: skip
_IPV4, _KERNEL = "/proc/sys/net/ipv4", "/proc/sys/kernel"
_APART = [
    ((f"{_IPV4}/ip_local_port_range", f"{_IPV4}/ip_unprivileged_port_start"), ("32768\t60999", "1024"),
     ("40000\t60000", "32000")),
    ((f"{_KERNEL}/sched_rt_runtime_us", f"{_KERNEL}/sched_rt_period_us"), ("950000", "1000000"), ("400000", "960000")),
    ((f"{_KERNEL}/perf_event_max_sample_rate", f"{_KERNEL}/perf_cpu_time_max_percent"), ("100000", "25"),
     ("50000", "0")),
    (("/proc/sys/net/sctp/pf_retrans", "/proc/sys/net/sctp/ps_retrans"), ("0", "65535"), ("5", "10")),
]  # fmt: skip


def _host(root: str, config: str, files: tuple[str, str], before: tuple[str, str]) -> Host:
    host = Host(root, workstation(), config)
    for path, value in zip(files, before, strict=True):
        Path(f"{root}{path}").parent.mkdir(parents=True, exist_ok=True)
        Path(f"{root}{path}").write_text(f"{value}\n")
    return host


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize(("files", "before", "wanted"), _TWO)
def test_two_files_of_which_one_limits_the_other_both_come_back(
    root: str, files: tuple[str, str], before: tuple[str, str], wanted: tuple[str, str], turned: bool
) -> None:
    """With the governor performance the preference takes nothing else, and no minimum is above its maximum."""
    lines = [f'"{path}" = "{value}"' for path, value in zip(files, wanted, strict=True)]
    host = _host(root, "\n".join(("[values]", *lines[:: -1 if turned else 1])) + "\n", files, before)
    for one in (ONE, OTHER):
        host.begin(one)
    for one in (ONE, OTHER):
        assert tuple(host.read(path) for path in files) == wanted
        assert [entry for entry in host.event(one, "release", "shutdown").log if "left" in entry] == []
    assert (tuple(host.read(path) for path in files), host.leftovers) == (before, [])


@pytest.mark.parametrize("ends", [(ONE, OTHER), (OTHER, ONE)], ids=["first", "second"])
@pytest.mark.parametrize("sets", [("0", "1"), ("1", "0"), ("01", "1"), ("1", "01"), ("01", "0"), ("0", "01")])
@pytest.mark.parametrize(
    ("before", "wanted"), [(("20", "40"), ("80", "90")), (("50", "100"), ("30", "40")), (("20", "90"), ("30", "40"))]
)
def test_two_guests_cannot_have_a_minimum_and_its_maximum_each(
    root: str, before: tuple[str, str], wanted: tuple[str, str], sets: tuple[str, str], ends: tuple[Guest, Guest]
) -> None:
    """One of them would go back while the other one keeps it from that. So also where one has both."""
    lines = [
        f"[domains.{one.name}.values]\n" + "".join(f'"{_LIMITS[int(n)]}" = {wanted[int(n)]}\n' for n in which)
        for one, which in zip((ONE, OTHER), sets, strict=True)
    ]
    host = _host(root, "".join(lines), _LIMITS, before)
    if host.event(ONE, "prepare").code:  # the kernel does not take its minimum, or its maximum
        host.event(ONE, "release", "failed")
    else:
        refused = host.event(OTHER, "prepare")
        said = "sets or limits the other: stop that guest first, or name the same in the settings of both; "
        assert (refused.code, f"the guest win11 ({ONE.uuid}) sets " in refused.line, said in refused.line) == (
            1,
            True,
            True,
        )
    for one in ends:
        host.event(one, "release", "shutdown")
    assert (tuple(host.read(path) for path in _LIMITS), host.leftovers) == (before, [])


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize(("files", "before", "wanted"), _APART)
def test_files_that_limit_each_other_in_either_order_do_not_go_together(
    root: str, files: tuple[str, str], before: tuple[str, str], wanted: tuple[str, str], turned: bool
) -> None:
    """The second one's value may keep the first one from going back. In one guest's settings it is an error."""
    turns = [1, 0] if turned else [0, 1]
    lines = [f'"{files[turn]}" = "{wanted[turn]}"\n' for turn in turns]
    config = f"[domains.win11.values]\n{lines[0]}[domains.other.values]\n{lines[1]}"
    host = _host(root, config, files, before)
    host.begin(ONE)
    first, second = (files[turn] for turn in turns)
    said = f"the guest win11 ({ONE.uuid}) sets {first}, and one of it and {second} sets or limits the other: stop "
    assert host.event(OTHER, "prepare").line.startswith(said)
    host.event(OTHER, "release", "failed")
    host.event(ONE, "release", "shutdown")
    assert (tuple(host.read(path) for path in files), host.leftovers) == (before, [])
    host.configure("[values]\n" + "".join(lines))
    outcome = host.event(ONE, "prepare")
    said = f'"{second}" and "{first}" do not go together, as one sets or limits the other: '
    assert (outcome.line.startswith(said), outcome.writes) == (True, ())
