# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which command undoes which: the same program with the opposite words. Pure."""

import re
from collections.abc import Sequence

_SAME = {
    word: f"<{words[0]}>"
    for words in (
        ("-A", "-I", "-D", "--append", "--insert", "--delete"),
        ("add", "del", "delete", "replace", "insert", "append"), ("start", "stop", "restart"), ("up", "down"),
        ("on", "off", "auto"), ("--auto", "--off", "--on"), ("enable", "disable", "--enable", "--disable"),
        ("primary", "secondary"), ("block", "unblock"), ("connect", "disconnect"), ("attach", "detach"),
        ("define", "undefine"), ("export", "import"), ("lock", "unlock"), ("load", "unload"), ("begin", "end"),
        ("activate", "deactivate"), ("create", "destroy", "remove"), ("suspend", "resume"), ("mask", "unmask"),
        ("load-module", "unload-module"), ("prepare", "release"), ("open", "close"), ("freeze", "thaw"),
    )
    for word in words
}  # fmt: skip
_PROGRAMS = {"touch": "rm", "mkdir": "rmdir", "swapoff": "swapon", "mount": "umount", "ln": "rm"}
_MANY = frozenset(
    [
        "systemctl",
        "iptables",
        "ip6tables",
        "nft",
        "ip",
        "bridge",
        "modprobe",
        "sysctl",
        "sh",
        "env",
        "virsh",
        "docker",
        "tc",
        "nmcli",
    ]
)
"""Programs that do many things, so that two calls have nothing to do with each other."""
_ENOUGH = 0.3


def likeness(do: Sequence[str], undo: Sequence[str]) -> float:
    """How much one command looks like the undo of another: 0 for not at all, 1 for the same with opposite words."""
    one, other = _key(do), _key(undo)
    if one[0] != other[0]:
        return 0.0
    if one == other:
        return 1.0
    common = len({*one} & {*other})
    return common / max(len({*one}), len({*other}))


def undo_of(do: Sequence[str], among: Sequence[Sequence[str]], others: Sequence[Sequence[str]]) -> int | None:
    """The number of the command that undoes this one. None if none does.

    ``others`` are all that are done. Where a program is run once before and once after, the one undoes the other.
    """
    name = _key(do)[0]
    same = [at for at, argv in enumerate(among) if _key(argv)[0] == name]
    if len(same) == 1 and sum(_key(argv)[0] == name for argv in others) == 1 and name not in _MANY:
        return same[0]
    best = max(range(len(among)), key=lambda at: (likeness(do, among[at]), -at), default=None)
    return best if best is not None and likeness(do, among[best]) >= _ENOUGH else None


def is_removal(argv: Sequence[str]) -> bool:
    """Whether a command takes a rule away, or a thing of a name."""
    return bool({"-D", "--delete", "del", "delete"} & {*argv}) or any(word.startswith("--remove-") for word in argv)


def _key(argv: Sequence[str]) -> tuple[str, ...]:
    name = argv[0].rpartition("/")[2]
    words = list(argv[1:])
    for at, word in enumerate(words):
        if word in ("-I", "--insert") and at + 2 < len(words) and words[at + 2].isdigit():
            del words[at + 2]  # the place of a rule, which is only for its insertion
            break
    return (_PROGRAMS.get(name, name), *(_opposite(word) for word in words if word not in ("-w", "--wait")))


def _opposite(word: str) -> str:
    if found := re.match(r"--(add|remove)-(.+)", word):
        return f"--<add>-{found[2]}"
    return _SAME.get(word, word)
