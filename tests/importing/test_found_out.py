# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a script finds out on the imagined host, and otherwise on a real one: it is left, and not invented."""

from pathlib import Path

from test_carried import fates, imported, reasons


def test_what_a_script_finds_out_is_not_invented(tmp_path: Path) -> None:
    """The host there has another user, and other programs."""
    found = imported(tmp_path, begin="""
sudo -u $(ps ho user $(pgrep X)) foo one
$(id -un) two
sudo -u tim foo three""")  # fmt: skip
    assert found.text.count("[run.") == 1
    assert "it runs as a user that the script finds out" in reasons(found, "left")
    assert "root two: which program it is, the script finds out" in reasons(found, "left")


def test_a_device_that_a_script_finds_out_is_not_invented(tmp_path: Path) -> None:
    """The host there has a card, though nobody has named one. On a real host it is another; its class is the same."""
    found = imported(tmp_path, begin="""
card=$(lspci -D | grep VGA | cut -d' ' -f1)
virsh nodedev-detach pci_${card//[:.]/_}
echo on > /sys/bus/pci/devices/$card/power/control
foo $card
echo high > /sys/class/drm/card0/device/power_dpm_force_performance_level""")  # fmt: skip
    assert "0000:01:00.0" not in found.text
    assert '"/sys/class/drm/card0/device/power_dpm_force_performance_level" = "high"' in found.text
    assert reasons(found, "left").count("which device it is, the script finds out") == 2
    assert any("the scripts find out which devices they hand over" in line for line in found.lines)


def test_a_process_that_is_killed_by_name_is_there(tmp_path: Path) -> None:
    """Else kill would have no number, and nobody would hear of it."""
    found = imported(tmp_path, begin="kill -STOP $(pidof boinc)")
    assert fates(found) == {"kill -STOP $(pidof boinc)": {"danger"}}


def test_a_pattern_that_finds_nothing_here_is_left(tmp_path: Path) -> None:
    """bash takes it for a name then. On a host it stands for files."""
    lines = ("for x in /proc/irq/*/smp_affinity; do echo f > $x; done", "echo on > /sys/block/zd*/queue/scheduler",
             "for u in /sys/bus/usb/devices/*/power/control; do echo on > $u; done")  # fmt: skip
    found = imported(tmp_path, begin="\n".join(lines))
    assert "*" not in found.text
    assert fates(found) == {line: {"left"} for line in lines}


def test_a_refusal_that_is_lost_is_told(tmp_path: Path) -> None:
    """The hook ends with the status of its last command, as tee's. Its author believes that the start is refused."""
    (tmp_path / "check.sh").write_text("#!/bin/bash\nfoo one\nexit 3\n")
    found = imported(tmp_path, begin="/etc/libvirt/hooks/check.sh | tee -a /var/log/x.log")
    assert any(
        "check.sh:3: at prepare of a guest that they do not name this script ended with 3 here, and the hook with 0"
        in line
        for line in found.lines
    )
