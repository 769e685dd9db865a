# SPDX-License-Identifier: LGPL-2.1-or-later
"""The host that scripts see: what they wait for comes, what they ask for is there, and what they need refuses."""

from pathlib import Path

import pytest
from plainhost import plain
from test_carried import fates, imported, reasons

from libhook.importing import importer, sources
from libhook.importing.life import Guest


def _tree(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


@pytest.mark.parametrize(
    "beside",
    [
        "( sleep 30; kill -TERM $$ ) &",
        "{ sleep 30; kill -TERM $$; } &",
        "watchdog() { sleep 30; kill -TERM $$; }\nwatchdog &",
        "( while true; do sleep 5; kill -TERM $$; done ) &",
    ],
)
def test_a_watchdog_kills_nobody(tmp_path: Path, beside: str) -> None:
    """It sleeps while the script works."""
    found = imported(tmp_path, begin=f"{beside}\nls /sys >/dev/null\nsystemctl stop smbd\nls /sys >/dev/null")
    assert '"smbd.service" = "down"' in found.text


def test_who_sleeps_beside_the_script_wakes_up(tmp_path: Path) -> None:
    """When the script has slept for as long, has ended, or waits for nothing else."""
    begin = (
        "( sleep 3; touch /tmp/ready ) &\n"
        "while [ ! -e /tmp/ready ]; do sleep 1; done\n"
        "( sleep 1; systemctl stop smbd ) </dev/null\n"
        "( sleep 20; systemctl stop nmbd ) &\n"
    )
    found = imported(tmp_path, begin=begin)
    assert '"smbd.service" = "down"' in found.text
    assert '"nmbd.service" = "down"' in found.text


@pytest.mark.parametrize(
    "waits",
    [
        "while [ ! -e /dev/vfio/12 ]; do sleep 1; done",
        "until [[ -e /run/other/socket ]]; do sleep 0.1; done",
        "while pgrep -x Xorg; do sleep 1; done",
        "systemctl stop nobody\nuntil systemctl is-active --quiet nobody; do sleep 1; done",
        "while lsmod | grep -q nvidia; do sleep 1; done",
        "while fuser -s /dev/dri/card0; do sleep 1; done",
    ],
)
def test_what_a_script_waits_for_comes(tmp_path: Path, waits: str) -> None:
    """So what comes after it is seen."""
    found = imported(tmp_path, begin=f"{waits}\nsystemctl stop smbd")
    assert '"smbd.service" = "down"' in found.text


@pytest.mark.parametrize(
    "shows", ["cat /proc/sys/vm/nr_hugepages", "awk '/HugePages_Total/ {print $2}' /proc/meminfo",
              "cat /sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages"],
)  # fmt: skip
@pytest.mark.parametrize("path", ["/proc/sys/vm", "/sys/kernel/mm/hugepages/hugepages-2048kB"])
def test_there_is_one_count_of_huge_pages(tmp_path: Path, path: str, shows: str) -> None:
    """Wherever it is written, and read."""
    begin = f"echo 4096 > {path}/nr_hugepages\nwhile [ $({shows}) != 4096 ]; do sleep 1; done\nsystemctl stop smbd"
    found = imported(tmp_path, begin=begin)
    assert '"vm.nr_hugepages" = 4096' in found.text
    assert '"smbd.service" = "down"' in found.text
    assert found.text.count("nr_hugepages") == 1


def test_systemd_runs_and_a_card_has_its_nodes(tmp_path: Path) -> None:
    """Scripts ask for both before they do anything."""
    begin = (
        "[[ -d /run/systemd/system ]] && systemctl stop sddm\n"
        "for one in /sys/class/drm/renderD*/device/vendor; do\n"
        "  [ $(cat $one) = 0x10de ] && modprobe -r nvidia\n"
        "done"
    )
    found = imported(tmp_path, begin=begin)
    assert '"sddm.service" = "down"' in found.text
    assert "device:display" in found.text


def test_a_driver_that_was_never_unloaded_is_not_called_needless(tmp_path: Path) -> None:
    """Its loading at the end is for who reads the report."""
    found = imported(tmp_path, begin="[ -e /nowhere ] && modprobe -r nvidia", end="modprobe nvidia")
    assert fates(found)["modprobe nvidia"] == {"left"}
    assert "nothing was seen to unload it" in reasons(found, "left")


def test_a_unit_that_is_stopped_by_a_variable_runs(tmp_path: Path) -> None:
    """Though its name stands behind ``start`` alone."""
    begin = 'all=(foo.service)\nfor one in "${all[@]}"; do systemctl is-active -q "$one" && systemctl stop "$one"; done'
    found = imported(tmp_path, begin=begin, end="systemctl start foo.service")
    assert '"foo.service" = "down"' in found.text


@pytest.mark.parametrize(
    "kills",
    ["kill -9 $(lsof -t /dev/dri/* | sort -u) || true", "lsof /dev/dri/* | awk 'NR>1 {print $2}' | xargs -r kill -9"],
)
def test_who_is_killed_because_of_the_card_is_told(tmp_path: Path, kills: str) -> None:
    """Nothing of it is carried over."""
    assert fates(imported(tmp_path, begin=kills))[kills] == {"danger"}


def test_a_file_that_is_read_is_no_reason_to_refuse(tmp_path: Path) -> None:
    """An empty one would break the script, and that proves nothing."""
    script = (
        "#!/bin/bash\nset -u\nc=/etc/x/$1.conf\n[ -f $c ] || exit 0\n. $c\n"
        '[ $2 = prepare ] && systemctl stop "$UNIT"\nexit 0\n'
    )
    _tree(tmp_path, {"etc/libvirt/hooks/qemu": script, "etc/x/win11.conf": "UNIT=a.service\n"})
    found = importer.run(sources.read([str(tmp_path)]), [Guest("win11")], ["x"], plain())
    assert '"a.service" = "down"' in found.text
    assert "require" not in found.text


def test_an_off_switch_is_no_reason_to_refuse(tmp_path: Path) -> None:
    """What refuses is what is tested right before, and each such test is found."""
    begin = (
        "[ -f /etc/nohook ] && exit 0\n"
        '[ -d /mnt/data/vm ] || { echo "mount first" >&2; exit 1; }\n'
        'if systemctl is-active --quiet backup; then echo "backup runs"; exit 1; fi\n'
        "systemctl stop smbd"
    )
    found = imported(tmp_path, begin=begin)
    assert "nohook" not in found.text
    assert 'file = "/mnt/data/vm"\nreason = "mount first"' in found.text
    assert 'unit = "backup.service"\nabsent = true\nreason = "backup runs"' in found.text
    assert '"smbd.service" = "down"' in found.text


def test_an_undo_whose_beginning_was_not_seen_is_left(tmp_path: Path) -> None:
    """The start did not go through here: what the scripts do at the end may have nothing to undo."""
    begin = "nvidia-smi -q | grep -q never-there || exit 1\nip link add name br9 type bridge\nsystemctl stop sddm"
    found = imported(tmp_path, begin=begin, end="ip link delete br9\nsystemctl start sddm")
    assert "undo" not in found.text
    assert fates(found)["ip link delete br9"] == {"left"}
    assert "the start did not go through here" in reasons(found, "left")
    whole = imported(tmp_path, begin=begin.replace(" || exit 1", ""), end="ip link delete br9")
    assert '"link", "delete", "br9"]' in whole.text


def test_a_script_ends_as_its_last_command_does(tmp_path: Path) -> None:
    """So a failure there has refused the start, and does so now."""
    found = imported(tmp_path, begin="ip link add name br9 type bridge\nip link set br9 up\nexit 0")
    assert found.text.count('on_failure = "log"') == 2
    (tmp_path / "qemu").write_text("#!/bin/bash\nif [ $2 = prepare ]; then\nip link add br9\nip link set br9 up\nfi\n")
    found = importer.run(sources.read([str(tmp_path)]), [], ["x"], plain())
    first, second = found.text.split("[run.")[1:]
    assert ('on_failure = "log"' in first, 'on_failure = "log"' in second) == (True, False)


def test_a_socket_and_a_folder_that_are_waited_for_are_what_they_are(tmp_path: Path) -> None:
    """As the test asks for them."""
    begin = (
        "while [ ! -S /run/it/socket ]; do sleep 1; done\n"
        "until [ -d /run/it/folder ]; do sleep 1; done\nsystemctl stop smbd"
    )
    assert '"smbd.service" = "down"' in imported(tmp_path, begin=begin).text


def test_another_users_manager_is_asked_by_root(tmp_path: Path) -> None:
    """The user would need the environment of a session."""
    line = "sudo -u tim systemctl --user --machine=tim@.host restart pipewire"
    found = imported(tmp_path, begin=line)
    assert "--machine=tim@.host" in found.text
    assert "user =" not in found.text
