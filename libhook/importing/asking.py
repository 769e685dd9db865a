# SPDX-License-Identifier: LGPL-2.1-or-later
"""Programs that change nothing of the host, or not with these words. Pure."""

import re
from collections.abc import Callable

TEXT_TOOLS_WORDS = (
    "cat grep egrep fgrep sed awk gawk mawk cut tr sort uniq head tail basename dirname readlink realpath ls"
    " find xargs wc tee printf echo true false test [ seq date expr xmllint xmlstarlet jq column paste comm diff"
    " rev tac nl od md5sum sha256sum sha1sum base64 mktemp stat file bc numfmt flock getopt tput xxd hexdump cmp"
    " split fold fmt join yes env python3 perl busybox strings bash sh dash which clear"
)
TEXT_TOOLS = frozenset(TEXT_TOOLS_WORDS.split())
FILE_TOOLS = frozenset(
    [
        "touch",
        "mkdir",
        "rm",
        "rmdir",
        "cp",
        "mv",
        "ln",
        "chmod",
        "install",
        "truncate",
        "chown",
        "chgrp",
        "setfacl",
        "dd",
    ]
)
ASKS_WORDS = (
    "lsmod lspci lsusb modinfo pgrep pidof ps lsof who users logname id whoami uname hostname nproc lscpu free"
    " dmesg journalctl findmnt mountpoint lsblk blkid getent systemd-detect-virt systemd-escape ss netstat arp"
    " ping nslookup host dig mokutil nvidia-xconfig cpufreq-info udevadm sync reset numactl hwloc-calc tty df du"
    " iptables-save dmidecode inxi lstopo uptime vmstat arping qemu-io pstree w last sensors cpuid hwinfo"
    " xdpyinfo"
)
ASKS = frozenset(ASKS_WORDS.split())
_ACTS = {
    program: frozenset(words.split())
    for program, words in {
        "systemctl": "start stop restart isolate kill enable disable mask unmask set-property suspend hibernate reboot"
        " poweroff daemon-reload reload try-restart reload-or-restart revert reset-failed hybrid-sleep"
        " suspend-then-hibernate import-environment",
        "ip": "add del delete set replace change flush append up down",
        "bridge": "add del set replace",
        "ddcutil": "setvcp",
        "nvidia-smi": "-pm -pl --persistence-mode -r --gpu-reset -lgc -rgc drain",
        "cpupower": "frequency-set set idle-set",
        "rc-service": "start stop restart zap",
        "service": "start stop restart reload",
        "driverctl": "set-override unset-override",
        "nmcli": "up down modify connect disconnect off on set delete add",
        "supergfxctl": "-m --mode -S",
    }.items()
}
"""Programs, and the words of which one makes them act."""
_VERBS = {
    program: frozenset(words.split())
    for program, words in {
        "virsh": "dumpxml list domstate dominfo domid domuuid nodedev-list nodedev-dumpxml net-list net-info"
        " net-dumpxml version uri domiflist domifaddr domblklist net-dhcp-leases capabilities vcpupin vcpuinfo"
        " qemu-monitor-command",
        "nft": "list describe",
        "loginctl": "list-sessions list-users list-seats show-session show-user show-seat session-status user-status",
        "powerprofilesctl": "get list",
        "zpool": "list status get",
        "zfs": "list get",
        "rfkill": "list",
        "pactl": "list info stat",
        "bluetoothctl": "show list devices info",
        "mdevctl": "list types",
        "brctl": "show",
        "docker": "ps inspect info images",
    }.items()
}
"""Programs, and the first words with which they only ask. Without any they do so, too."""
_OTHERS: dict[str, Callable[[list[str]], bool]] = {
    "iptables": lambda words: bool({*words} & {"-C", "-L", "-S", "--check", "--list", "-nL", "-V", "--version"}),
    "firewall-cmd": lambda words: any(word.startswith(("--query", "--list", "--get", "--state")) for word in words),
    "sysctl": lambda words: not any("=" in word for word in words) and "-p" not in words,
    "fuser": lambda words: (
        not any(word == "--kill" or (word[:1] == "-" != word[1:2] and "k" in word) for word in words)
    ),
    "xrandr": lambda words: (
        not {word for word in words if word[:2] == "--"} - {"--query", "--listmonitors", "--verbose"}
    ),
    "mount": lambda words: len(words) < 3 and (not words or words[0] in ("-l", "-t")),
    "swapon": lambda words: not words or "--show" in words,
    "setpci": lambda words: not any("=" in word for word in words),
    "mdadm": lambda words: "--detail" in words,
    "route": lambda words: not {"add", "del", "flush"} & {*words},
}


def only_asks(program: str, words: list[str]) -> bool:
    """Whether a program with these words only asks."""
    if program in _ACTS:
        return not _ACTS[program] & {*words}
    if program in _VERBS:
        return first(words) in _VERBS[program] | {""}
    return program in _OTHERS and _OTHERS[program](words)


def first(words: list[str]) -> str:
    """Return the first word that is no option; "" if there is none."""
    return next((word for word in words if not word.startswith("-")), "")


_ACTING_WORDS = (
    "add del delete set start stop restart run exec create destroy remove load unload load-module unload-module enable"
    " disable up down on off attach detach connect disconnect mount umount switch apply kill import export"
)
_ACTING = frozenset(_ACTING_WORDS.split())
_READERS = "grep|egrep|awk|gawk|sed|head|tail|cut|tr|wc|sort|uniq|jq|xargs|while|read"


def is_read(program: str, words: list[str], line: str) -> bool:
    """Whether a line reads what this program says, and no word of it says that it acts."""
    name = rf"(?<![\w-]){re.escape(program)}(?![\w-])"
    reads = rf"(?:\$\(|`|<\()[^()`]*{name}|{name}[^|;&]*(?<!\|)\|\s*(?:{_READERS})\b"
    return not _ACTING & {*words} and bool(re.search(reads, line))
