# SPDX-License-Identifier: LGPL-2.1-or-later
"""Runs in the sandbox: what the host's programs would answer of its processes and users."""

Answer = tuple[int, str]
State = dict[str, dict[str, object]]
USER = "libhook-someone"
"""The name of the one user that there is. What runs as this one, runs as somebody that a script has found out."""
YES: Answer = (0, "")
_PATIENCE = 3
_OWNERS = {"user": USER, "euser": USER, "ruser": USER, "tty": "tty2"}


def uid(state: State) -> int:
    """The number of the one user."""
    return 1000 + int(str(state["counts"].get("other", 0)))


def pgrep(words: list[str], state: State) -> Answer:
    """Find a process by its name. Who is asked for is there, if the host has such a program."""
    patterns = [word for at, word in enumerate(words) if not word.startswith("-") and words[at - 1 : at] != ["-u"]]
    found = {name: pid for name, pid in state["processes"].items() if any(word in name for word in patterns)}
    _waited_for(found, state)
    shows = any(word in ("-l", "-a", "-la", "-fl") for word in words)
    return (0 if found else 1), "".join(f"{pid} {name}\n" if shows else f"{pid}\n" for name, pid in found.items())


def pidof(words: list[str], state: State) -> Answer:
    """Find processes by name."""
    found = {word: state["processes"][word] for word in words if word in state["processes"]}
    _waited_for(found, state)
    return (0 if found else 1), " ".join(map(str, found.values())) + "\n" if found else ""


def _waited_for(found: "dict[str, object]", state: State) -> None:
    """Whoever is asked for again and again has ended then: a script waits for that."""
    asked = state.setdefault("asked", {})
    for name in found:
        asked[name] = f"{asked.get(name, '')}x"
        if len(str(asked[name])) >= _PATIENCE:
            state["processes"].pop(name, None)


def kill_by_name(words: list[str], state: State) -> Answer:
    """killall and pkill."""
    for word in words:
        for name in [name for name in state["processes"] if word in name]:
            del state["processes"][name]
    return YES


def ps(words: list[str], state: State) -> Answer:
    """List the processes, all of them the one user's; of the columns that are asked for."""
    wanted = [word for word in words if word.isdigit()]
    some = {name: pid for name, pid in state["processes"].items() if not wanted or str(pid) in wanted}
    asked = ""
    for at, word in enumerate(words[:-1]):
        if word in ("--format",) or (not word.startswith("--") and word.endswith("o")):
            asked = words[at + 1]
    asked = next((word.partition("=")[2] for word in words if word.startswith("--format=")), asked)
    bare = asked.endswith("=") or any(word in ("--no-headers", "--no-heading") for word in words) or words[:1] == ["ho"]
    if not asked:
        lines = [f"{pid:>5} ?  00:00:01 {name}" for name, pid in some.items()]
        return int(not some), "".join(f"{line}\n" for line in ("  PID TTY          TIME CMD", *lines))
    owners = {**_OWNERS, "uid": str(uid(state))}
    columns = [column.partition("=")[0] for column in asked.split(",")]
    rows = [
        [str(pid) if column == "pid" else owners.get(column, name) for column in columns] for name, pid in some.items()
    ]
    head = [] if bare else [[column.upper() for column in columns]]
    return int(not some), "".join(f"{' '.join(row)}\n" for row in (*head, *rows))
