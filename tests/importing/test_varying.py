# SPDX-License-Identifier: LGPL-2.1-or-later
"""What each host says otherwise, and no script: it becomes no setting, neither of the imagined host nor of this one."""

from pathlib import Path

import pytest
from plainhost import plain
from test_carried import fates, imported, reasons

from libhook.importing import importer, life, sources


@pytest.mark.parametrize(
    ("line", "by"),
    [
        ("echo $(cat /sys/class/backlight/a/max_brightness) > /sys/class/backlight/a/brightness", "max_brightness"),
        ("echo $(( $(cat /sys/class/backlight/a/max_brightness) / 2 + 7 )) > /sys/b/c", "max_brightness"),
        ("sysctl -w kernel.shmmax=$(( $(cat /proc/sys/kernel/shmall) * 9 ))", "/proc/sys/kernel/shmall"),
        ("ip link set dev eth1 address $(cat /sys/class/net/eth0/address)", "/sys/class/net/eth0/address"),
        ("iptables -I FORWARD -s $(dig +short box.example.org) -j ACCEPT", "dig"),
        ("iptables -I FORWARD -s $(ip addr show eth0 | awk '/inet /{print $2}') -j ACCEPT", "ip"),
        ("iptables -I FORWARD -i $(ip route show default | awk '{print $5}') -j ACCEPT", "ip"),
        ("foo --uid $(id -u nobody-here)", "id"),
        ("foo --uid $(getent passwd nobody-here | cut -d: -f3)", "getent"),
        ("echo $(pgrep Xorg) > /sys/fs/cgroup/own/cgroup.procs", "pgrep"),
        ("grep nvme /proc/interrupts | cut -d: -f1 | while read i; do echo 1 > /proc/irq/$i/smp_affinity; done",
         "/proc/interrupts"),
        ("for i in /proc/irq/*/smp_affinity; do echo 1 > $i; done", "/proc/irq"),
    ],
)  # fmt: skip
def test_what_the_host_says_is_left(tmp_path: Path, line: str, by: str) -> None:
    """As it is read, as a sum of it, as a part of a path; and the reader hears what it depends on."""
    found = imported(tmp_path, begin=line)
    assert found.text.count("\n") == 1, found.text
    assert any("it depends on what this host says" in one and by in one for one in found.lines), found.lines


def test_a_user_that_a_script_finds_out_is_in_no_command(tmp_path: Path) -> None:
    """There is one user on the imagined host, whose name is made up."""
    found = imported(tmp_path, begin="U=$(who | cut -d' ' -f1)\nchown $U /dev/shm/x")
    assert "libhook-someone" not in "".join((found.text, *found.lines))


def test_the_number_of_a_user_of_this_host_is_known(tmp_path: Path) -> None:
    """Import runs where the guests run."""
    (tmp_path / "qemu").write_text('#!/bin/bash\n[ "$2" = prepare ] && foo /run/user/$(id -u tim)\nexit 0\n')
    found = importer.run(sources.read([str(tmp_path)]), [], ["x"], plain()._replace(users={"tim": 4711}))
    assert '"/run/user/4711"' in found.text


def test_a_branch_that_another_host_would_not_take_stays(tmp_path: Path) -> None:
    """Only other words at the same line come from the host: not whether a line runs."""
    found = imported(tmp_path, begin="""
[ "$(cat /proc/sys/net/ipv4/ip_forward)" = 0 ] && foo one
act() { foo $1; }
act two
[ "$(cat /sys/kernel/a)" = 0 ] && act three""")  # fmt: skip
    assert all(f'"{word}"]' in found.text for word in ("one", "two", "three"))


def test_huge_pages_that_are_added_are_told(tmp_path: Path) -> None:
    """The number is right where there are none before. The end takes none of the host's."""
    found = imported(tmp_path, begin='echo $(( $(cat /proc/sys/vm/nr_hugepages) + 1024 )) > /proc/sys/vm/nr_hugepages',
                     end='echo $(( $(cat /proc/sys/vm/nr_hugepages) - 1024 )) > /proc/sys/vm/nr_hugepages')  # fmt: skip
    assert '"vm.nr_hugepages" = 1024' in found.text
    assert {what for some in fates(found).values() for what in some} == {"kept", "undone"}
    assert any("the script adds 1024 to the huge pages that are there" in line for line in found.lines)


def test_what_was_noted_is_written_back_by_no_setting(tmp_path: Path) -> None:
    """What the imagined host had there is no value of this one's."""
    found = imported(tmp_path, begin="cat /proc/sys/kernel/shmmax > /run/old",
                     end="cat /run/old > /proc/sys/kernel/shmmax")  # fmt: skip
    assert found.text.count("\n") == 1
    assert "it writes back what it had noted, and did not change" in reasons(found, "needless")


def test_what_does_not_end_is_compared_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest of the guest's life is known, and what it writes comes from the host."""
    monkeypatch.setattr(life, "SECONDS", 20.0)
    monkeypatch.setattr(life, "_AGAIN", 20.0)
    lines = ("cat /proc/sys/kernel/shmmax > /run/old", "while :; do sleep 1; done")
    found = imported(tmp_path, begin="\n".join(lines), end="cat /run/old > /proc/sys/kernel/shmmax")
    assert found.text.count("\n") == 1, found.text
