# SPDX-License-Identifier: LGPL-2.1-or-later
"""Programs that run another one: sudo, su, env, nohup and the like, and what they run, as whom.

The sandbox and the translation use the same text: it imports nothing of libhook.
"""

from typing import NamedTuple

_PLAIN: dict[str, tuple[str, ...]] = {
    "nohup": (), "setsid": (), "timeout": ("-s", "-k", "--signal", "--kill-after"), "nice": ("-n",),
    "ionice": ("-c", "-n"), "stdbuf": ("-o", "-e", "-i"), "time": (), "systemd-cat": ("-t", "-p"), "chrt": (),
    "exec": (), "unbuffer": (), "dbus-launch": (), "dbus-run-session": (), "daemonize": (), "sg": (),
}  # fmt: skip
"""Programs, and which of their options take a word."""
_SUDO = ("-u", "-g", "-U", "-h", "-p", "-C", "-r", "-t", "-D", "-R", "-T", "--user", "--group")
_RUN = ("-p", "-u", "-M", "-H", "-E", "-t", "--unit", "--property", "--uid", "--gid", "--description", "--slice",
        "--machine", "--setenv", "--on-active", "--working-directory")  # fmt: skip
WRAPPERS = frozenset((*_PLAIN, "sudo", "doas", "pkexec", "su", "runuser", "env", "systemd-run", "systemd-inhibit"))


class Inner(NamedTuple):
    """What such a program runs."""

    words: list[str]
    user: str = ""
    """"" for whoever ran it."""
    environment: dict[str, str] = {}  # noqa: RUF012 - never changed
    background: bool = False


def inner(name: str, words: list[str]) -> "Inner | None":
    """Return what is run. None if the program runs no other one, as ``chrt -p`` or a plain ``sudo -v``."""
    if name in ("su", "runuser"):
        return _su(words)
    if name == "env":
        return _assigned(*_split(words, ("-u", "-C", "-S")))
    if name in ("sudo", "doas", "pkexec"):
        options, rest = _split(words, _SUDO)
        found = _assigned([], rest)
        return found._replace(user=_after(options, ("-u", "--user"))) if found.words else None
    if name in ("systemd-run", "systemd-inhibit"):
        takes = _RUN if name == "systemd-run" else ("--what", "--who", "--why", "--mode")
        options, rest = _split(words, takes)
        waits = {"--wait", "--pipe", "-P", "-t", "--pty", "--scope"} & {*options}
        return Inner(rest, _after(options, ("--uid",)), background=name == "systemd-run" and not waits)
    if name in _PLAIN:
        options, rest = _split(words, _PLAIN[name])
        if name == "chrt" and "p" in "".join(option for option in options if option[:2] != "--"):
            return None
        skip = {"timeout": 1, "chrt": 1}.get(name, 0)
        return Inner(rest[skip:], background=name == "setsid" and not {"-w", "--wait"} & {*options})
    return None


def _su(words: list[str]) -> Inner:
    command, shell_words, user, plain = "", list[str](), "", False
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word in ("-c", "--command", "--session-command") and rest:
            command = rest.pop(0)
        elif word.startswith("--command="):
            command = word.partition("=")[2]
        elif word in ("-s", "--shell", "-g", "-G", "-w") and rest:
            rest.pop(0)
        elif word in ("-u", "--user") and rest:
            user, plain = rest.pop(0), True
        elif word == "--":
            shell_words, rest = rest, []
        elif word == "-" or word.startswith("-"):
            continue
        elif not user:
            user = word
        else:
            shell_words, rest = [word, *rest], []
    return Inner(["bash", "-c", command] if command else shell_words if plain or shell_words else [], user)


def _split(words: list[str], takes: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """Return the options with their words, and the rest."""
    at = 0
    while at < len(words) and words[at].startswith("-"):
        if words[at] == "--":
            return words[:at], words[at + 1 :]
        at += 2 if words[at] in takes else 1
    return words[:at], words[at:]


def _assigned(_options: list[str], words: list[str]) -> Inner:
    at = 0
    while at < len(words) and "=" in words[at] and words[at].partition("=")[0].isidentifier():
        at += 1
    return Inner(words[at:], environment=dict(word.split("=", 1) for word in words[:at]))


def _after(options: list[str], names: tuple[str, ...]) -> str:
    for at, word in enumerate(options):
        if word in names and at + 1 < len(options):
            return options[at + 1]
        for name in names:
            if word.startswith(f"{name}="):
                return word.partition("=")[2]
            if len(name) == 2 and word.startswith(name) and len(word) > 2 and word[1] != "-":
                return word[2:]
    return ""
