# SPDX-License-Identifier: LGPL-2.1-or-later
"""Programs that must not become an entry of ``run``, or not with these words. Pure."""

import re

_ENDS = "it ends or changes the whole host, and not only while the guest runs"
_WIPES = "it takes away what is on a disk, for good"
_RULES = "it empties or deletes what others have put there"
_USERS = "it takes users or groups away, or changes them, for good"
_PROGRAMS = {
    program: why
    for words, why in (
        ("shutdown reboot poweroff halt init telinit kexec", _ENDS),
        ("mkfs mke2fs wipefs blkdiscard sgdisk sfdisk fdisk parted", _WIPES),
        ("userdel groupdel usermod deluser delgroup passwd chpasswd", _USERS),
        ("iptables-restore ip6tables-restore ebtables-restore arptables-restore", _RULES),
        ("killall5", "it kills all processes"),
    )
    for program in words.split()
}
_WORDS: dict[str, tuple[tuple[str, str], ...]] = {
    "nft": ((r"flush (ruleset|table|chain|set|map)", _RULES),
            (r"(^| )(-\w*f|--file)( |=|$)", "it loads a file of rules, which may empty or delete those of others")),
    "ip": ((r"(^| )(r|ro|rou|rout|route|a|addr|address|ru|rule|n|neigh) (f|flush)\b", _RULES),
           (r"(^| )flush( |$)", _RULES)),
    "ipset": ((r"^(destroy|flush|-X|-F|--destroy|--flush)", _RULES),),
    "dd": ((r"\bof=/dev/(?!shm/|null\b|tty)", _WIPES),),
    "tee": ((r"(^| )/dev/(?!shm/|null\b|tty|kmsg)", _WIPES), (r"(^| )/proc/sysrq-trigger", _ENDS)),
    "rm": ((r"^(?=.*(-\w*[rR]|--recursive)).* /[\w.-]*/?( |$)|^-\w*[rR]\w* /[\w.-]*/?( |$)",
            "it takes away a whole folder of the host"),),
    "zpool": ((r"^(destroy|labelclear)", _WIPES),),
    "zfs": ((r"^destroy", _WIPES),),
    "lvremove": ((r"", _WIPES),),
    "vgremove": ((r"", _WIPES),),
    "cryptsetup": ((r"luksFormat|erase|reencrypt", _WIPES),),
    "mdadm": ((r"--zero-superblock", _WIPES),),
    "hdparm": ((r"--security-erase|--trim-sector", _WIPES),),
    "nvme": ((r"^(format|sanitize|delete-ns)", _WIPES),),
}  # fmt: skip
"""Programs, what in their words is dangerous, and why."""


def why(program: str, words: list[str]) -> str:
    """Why this must not be carried over; "" if nothing is known against it."""
    if program in _PROGRAMS or program.startswith("mkfs."):
        return _PROGRAMS.get(program, _WIPES)
    text = " ".join(words)
    return next((told for pattern, told in _WORDS.get(program, ()) if re.search(pattern, text)), "")
