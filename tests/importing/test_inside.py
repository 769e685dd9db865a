# SPDX-License-Identifier: LGPL-2.1-or-later
"""What stands in for the host's programs in the sandbox, and the reader of its trace."""

import random

import pytest

from libhook.importing import pairing, trace
from libhook.importing.inside import answers, processes, wrapping
from libhook.importing.inside.wrapping import Inner


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("sudo -u tim DISPLAY=:0 xrandr --off", Inner(["xrandr", "--off"], "tim", {"DISPLAY": ":0"})),
        ("sudo --user=tim -i id", Inner(["id"], "tim")),
        ("sudo -v", None),
        ("su - tim -c ls", Inner(["bash", "-c", "ls"], "tim")),
        ("su -c ls tim", Inner(["bash", "-c", "ls"], "tim")),
        ("su", Inner([], "")),
        ("runuser -u tim -- ls -l", Inner(["ls", "-l"], "tim")),
        ("runuser -l tim -c ls", Inner(["bash", "-c", "ls"], "tim")),
        ("env A=1 B=2 ls", Inner(["ls"], "", {"A": "1", "B": "2"})),
        ("nohup ls", Inner(["ls"])),
        ("setsid ls", Inner(["ls"], background=True)),
        ("timeout -k 5 10 ls", Inner(["ls"])),
        ("nice -n 5 ls", Inner(["ls"])),
        ("chrt -f 1 ls", Inner(["ls"])),
        ("chrt -p 1 4711", None),
        ("systemd-run --uid=tim --unit=x ls", Inner(["ls"], "tim", background=True)),
        ("systemd-run --scope ls", Inner(["ls"])),
        ("ls -l", None),
    ],
)
def test_what_a_wrapper_runs(line: str, found: Inner | None) -> None:
    """And as whom, with what in its environment, and whether anybody waits."""
    name, *words = line.split()
    assert wrapping.inner(name, words) == found


def _state() -> processes.State:
    return {
        "units": {"sddm.service": "active", "a.timer": "inactive"},
        "aliases": {"display-manager.service": "sddm.service"},
        "desktop": {"sddm.service": True},
        "modules": {"nvidia": True},
        "drivers": {},
        "pci": {},
        "processes": {"Xorg": 1501},
        "counts": {"cpus": 8},
        "mounts": {"/mnt/a": True, "/mnt/b": False},
    }


@pytest.mark.parametrize(
    ("line", "code", "text"),
    [
        ("systemctl is-active display-manager", 0, "active\n"),
        ("systemctl is-active --quiet a.timer", 3, ""),
        ("systemctl show -p ActiveState --value sddm", 0, "active\n"),
        ("systemctl is-enabled a.timer", 1, ""),
        ("systemctl is-active unheard-of", 0, "active\n"),
        ("systemctl get-default", 0, "graphical.target\n"),
        ("lsmod", 0, "Module                  Size  Used by\nnvidia  16384  0\n"),
        ("rmmod nothing", 1, "rmmod: ERROR: Module nothing is not currently loaded\n"),
        ("pgrep -l Xorg", 0, "1501 Xorg\n"),
        ("pgrep nothing", 1, ""),
        ("pidof Xorg", 0, "1501\n"),
        ("ps ho user 1501", 0, "libhook-someone\n"),
        ("ps -o pid,comm", 0, "PID COMM\n1501 Xorg\n"),
        ("ps -eo user=", 0, "libhook-someone\n"),
        ("ps -p 7 --no-headers", 1, "  PID TTY          TIME CMD\n"),
        ("nproc", 0, "8\n"),
        ("getconf PAGE_SIZE", 0, "4096\n"),
        ("getconf _NPROCESSORS_ONLN", 0, "8\n"),
        ("systemctl list-timers", 0, "a.timer loaded inactive running a.timer\n"),
        ("systemctl list-units sdd*", 0, "sddm.service loaded active running sddm.service\n"),
        ("id -u", 0, "0\n"),
        ("id -u tim", 0, "1000\n"),
        ("loginctl list-users", 0, "1000 libhook-someone\n"),
        ("mountpoint -q /srv", 0, ""),
        ("mountpoint /mnt/b", 1, "/mnt/b is not a mountpoint\n"),
        ("findmnt /mnt/a", 0, "/dev/sda1 on /mnt/a type ext4 (rw)\n"),
        ("findmnt /mnt/b", 1, ""),
        ("df -h", 0, "/dev/sda1 on / type ext4 (rw)\n/dev/sdb1 on /mnt/a type ext4 (rw)\n"),
        ("iptables -C FORWARD", 1, ""),
    ],
)
def test_what_a_program_answers(line: str, code: int, text: str) -> None:
    """As on a host that has what the scripts name."""
    name, *words = line.split()
    assert answers.ANSWERS[name](words, _state()) == (code, text)


def test_the_graphical_target_has_its_desktop() -> None:
    """isolate starts it again."""
    state = _state()
    answers.systemctl(["isolate", "multi-user.target"], state)
    answers.systemctl(["isolate", "graphical.target"], state)
    assert state["units"]["sddm.service"] == "active"


def test_what_was_unmounted_is_gone() -> None:
    """So a loop that waits for that ends."""
    state = _state()
    assert answers.ANSWERS["umount"](["-l", "/mnt/a"], state) == (0, "")
    assert answers.ANSWERS["mountpoint"](["-q", "/mnt/a"], state) == (1, "")
    assert answers.ANSWERS["mount"](["-o", "ro", "/dev/sdb1", "/mnt/a"], state) == (0, "")
    assert "/mnt/a" in answers.ANSWERS["mount"]([], state)[1]


def test_what_was_stopped_is_inactive() -> None:
    """Also by its alias, and by a target that does not want it."""
    for line in ("stop display-manager", "isolate multi-user.target", "kill sddm"):
        state = _state()
        answers.systemctl(line.split(), state)
        assert state["units"]["sddm.service"] == "inactive"


@pytest.mark.parametrize(
    ("do", "undo"),
    [
        ("iptables -I FORWARD 1 -j ACCEPT", "iptables -D FORWARD -j ACCEPT"),
        ("iptables -N MINE", "iptables -X MINE"),
        ("ip link add link e name x type macvtap", "ip link del x"),
        ("firewall-cmd --add-port=80/tcp", "firewall-cmd --remove-port=80/tcp"),
        ("env DISPLAY=:0 xrandr --output A --off", "env DISPLAY=:1 xrandr --output A --auto"),
        ("touch /a", "rm /a"),
        ("ln -sf /b /a", "rm -f /a"),
        ("mount -t tmpfs tmpfs /run/x", "umount /run/x"),
        ("mv /a /b", "mv /b /a"),
        ("qemu-nbd --connect=/dev/nbd0 /x", "qemu-nbd --disconnect /dev/nbd0"),
        ("cryptsetup close data", "cryptsetup open /dev/sdb1 data --key-file /k"),
        ("crontab -u root /a", "crontab -u root /b"),
        ("cp /intel.conf /etc/x.conf", "cp /nvidia.conf /etc/x.conf"),
        ("ln -sfn /intel.conf /etc/x.conf", "ln -sfn /nvidia.conf /etc/x.conf"),
        ("cset shield -c 2-7 -k on", "cset shield -r"),
        ("cset -m shield --kthread on --cpu 4-7", "cset -m shield --reset"),
        ("ddcutil setvcp 60 0x0f", "ddcutil setvcp 60 0x11"),
        ("powerprofilesctl set performance", "powerprofilesctl set balanced"),
        ("systemctl set-property a.slice X=1", "systemctl set-property a.slice X=2"),
        ("sh -c p sh 1-4 /sys/bus/usb/drivers/b/unbind", "sh -c p sh 1-4 /sys/bus/usb/drivers/b/bind"),
    ],
)
def test_what_undoes_what(do: str, undo: str) -> None:
    """The opposite words, or the same program with the same object."""
    assert pairing.undos([do.split()], [["other", "thing"], undo.split()]) == {0: 1}


@pytest.mark.parametrize(
    ("do", "other"),
    [
        ("iptables -I FORWARD -s 10.0.0.1 -j ACCEPT", "iptables -D FORWARD -s 10.0.0.2 -j ACCEPT"),
        ("ip link add x type dummy", "ip link del y"),
        ("docker start a", "docker stop b"),
        ("cryptsetup close data", "cryptsetup status data more"),
        ("systemctl set-property a.slice X=1", "systemctl set-property b.slice X=2"),
        ("ddcutil setvcp 60 0x0f", "ddcutil setvcp 10 0x11"),
        ("touch /a", "rm /b"),
        ("cp /a /b", "cp /a /c"),
        ("touch /a", "touch-up /a"),
    ],
)
def test_what_is_only_alike_undoes_nothing(do: str, other: str) -> None:
    """It is about another object."""
    assert pairing.undos([do.split()], [other.split()]) == {}


def test_exact_undos_come_first() -> None:
    """A command that is nearly the same, and comes before, does not take another's undo."""
    dos = ["ip link set x up", "ip link add x"]
    assert pairing.undos([do.split() for do in dos], [["ip", "link", "del", "x"]]) == {1: 0}


def test_a_trace_that_makes_no_sense_is_passed_over() -> None:
    """A script may write what it likes into it. Reading it never fails, and takes time by its length."""
    lines = [
        '7 execve("/usr/bin/systemctl", ["systemctl", "stop", "x"], 0x1 /* 2 vars */) = 0',
        '7 write(199</.trace/lines>, "+\\1/etc/x\\0012\\1true\\n", 9) = 9',
        '7 openat(AT_FDCWD</>, "/sys/a", O_WRONLY|O_CREAT, 0666) = 3</sys/a>',
        "7 clone(child_stack=NULL <unfinished ...>",
        "7 <... clone resumed>) = 8",
        "8 +++ exited with 3 +++",
        "",
    ]
    chance = random.Random(1)  # noqa: S311 - no secret
    for _ in range(500):
        text = "\n".join(chance.choice(lines) for _ in range(20))
        at, end = sorted(chance.randrange(len(text) + 1) for _ in range(2))
        trace.read(text[:at] + chr(chance.randrange(300)) + text[end:], {})
    assert trace.read("\n".join(lines), {}).done[0].argv == ("/usr/bin/systemctl", "stop", "x")


def test_what_is_in_the_background_stays_in_its_lines_place() -> None:
    """Whoever of two processes comes first: the order is that of the forks."""
    runs = '{} execve("/{}", ["x"], 0x1) = 0'
    lines = (runs.format(7, "s"), "7 clone() = 8", "7 clone() = 9", runs.format(9, "b"), runs.format(8, "a"),
             runs.format(7, "c"))  # fmt: skip
    assert [one.path for one in trace.read("\n".join((*lines, "")), {}).done] == ["/s", "/a", "/b", "/c"]
