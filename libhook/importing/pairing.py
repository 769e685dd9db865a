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
        ("load-module", "unload-module"), ("net-start", "net-destroy"), ("-N", "-X"),
        ("prepare", "release"), ("open", "close"), ("freeze", "thaw"),
    )
    for word in words
}  # fmt: skip
_PROGRAMS = {"touch": "rm", "mkdir": "rmdir", "swapoff": "swapon", "mount": "umount", "ln": "rm"}
_EXACT = frozenset(["iptables", "ip6tables", "ebtables", "arptables", "firewall-cmd"])
"""Programs whose every word says which rule it is."""
_SETTERS_WORDS = (
    "powerprofilesctl tuned-adm supergfxctl brightnessctl wpctl pactl ddcutil nvidia-smi nvidia-settings prime-select"
    " asusctl liquidctl amixer crontab cset light system76-power x86_energy_perf_policy"
)
_SETTERS = frozenset(_SETTERS_WORDS.split())
"""Programs whose last word is a value, and what stands before it says of what."""
_MAKERS = ("touch", "mkdir", "ln", "cp", "install", "sh")
"""Programs whose last word is the file that they make. sh is for a file that is written."""
_COPIERS = ("cp", "install", "ln")


def is_same(do: Sequence[str], undo: Sequence[str]) -> bool:
    """Whether two commands are the same, but for words that are each other's opposites."""
    return _key(do) == _key(undo)


def sets(do: Sequence[str], undo: Sequence[str]) -> bool:
    """Whether both give the same thing a value, which had another before."""
    names = {_bare(argv)[0].rpartition("/")[2] for argv in (do, undo)}
    return len(names) == 1 and (names <= {*_SETTERS, *_COPIERS, "sh"} or "set-property" in do)


def undos(dos: Sequence[Sequence[str]], among: Sequence[Sequence[str]]) -> dict[int, int]:
    """Which of the second commands undoes which of the first, by their numbers. Exact pairs come first.

    Else it must be the same program with the same object: a path, a unit, a device. Likeness alone says nothing.
    """
    found, free = dict[int, int](), dict.fromkeys(range(len(among)))
    mine, theirs = [_key(argv) for argv in dos], [_key(argv) for argv in among]

    def is_exact(at: int, other: int) -> bool:
        return mine[at] == theirs[other]

    def is_of_object(at: int, other: int) -> bool:
        return _has_its_object(dos[at], mine[at], among[other], theirs[other])

    for is_undo in (is_exact, is_of_object):
        for at in range(len(dos)):
            other = None if at in found else next((one for one in free if is_undo(at, one)), None)
            if other is not None:
                found[at] = other
                del free[other]
    return found


def _has_its_object(do: Sequence[str], mine: Sequence[str], undo: Sequence[str], theirs: Sequence[str]) -> bool:
    if undo[0].rpartition("/")[2] in ("rm", "rmdir"):
        return do[0].rpartition("/")[2] in _MAKERS and do[-1] in undo[1:]
    if mine[0] != theirs[0] or mine[0] in _EXACT:
        return False
    if mine[0] == "sh":
        return do[-1] == undo[-1]  # the file that is written
    if do[0].rpartition("/")[2] in _COPIERS:
        return do[-1] == undo[-1]  # another version of the same file
    if mine[0] in _SETTERS and not {"--reset", "reset", "-r"} & {*undo}:
        return len(mine) == len(theirs) > 1 and mine[:-1] == theirs[:-1]
    objects, own = _objects(theirs), _objects(mine)
    opposites = {word for word in mine if word[0] == "<"} & {*theirs}
    return bool(objects and objects <= own) or bool(opposites and own and own <= objects)


def _objects(key: Sequence[str]) -> set[str]:
    """The words that say of what: no options but their paths, no verbs; of an assignment only the name."""
    words = {word.partition("=")[2 if word[0] == "-" and "=/" in word else 0] if "=" in word else word
             for word in key[1:] if word}  # fmt: skip
    return {word for word in words if word and word[0] not in "-<" and not word.isdigit()}


def is_removal(argv: Sequence[str]) -> bool:
    """Whether a command takes a rule away, or a thing of a name."""
    return bool({"-D", "--delete", "del", "delete"} & {*argv}) or any(word.startswith("--remove-") for word in argv)


def _key(argv: Sequence[str]) -> tuple[str, ...]:
    argv = _bare(argv)
    name, words = argv[0].rpartition("/")[2], list(argv[1:])
    for at, word in enumerate(words):
        if word in ("-I", "--insert") and at + 2 < len(words) and words[at + 2].isdigit():
            del words[at + 2]  # the place of a rule, which is only for its insertion
            break
    if name == "mv":
        words.sort()
    return (_PROGRAMS.get(name, name), *(_opposite(word) for word in words if word not in ("-w", "--wait")))


def _bare(argv: Sequence[str]) -> Sequence[str]:
    """A command without the environment that it is given."""
    at = 0
    if argv[0].rpartition("/")[2] == "env":
        at = next((number for number, word in enumerate(argv) if number and "=" not in word), 0)
    return argv[at:]


def _opposite(word: str) -> str:
    if found := re.match(r"--(add|remove)-(.+)", word):
        return f"--<add>-{found[2]}"
    if word.startswith("/sys/") and word.endswith(("/bind", "/unbind")):
        return f"{word.rpartition('/')[0]}/<bind>"
    return _SAME.get(word, word)
