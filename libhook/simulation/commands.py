# SPDX-License-Identifier: LGPL-2.1-or-later
"""The commands of a simulated host, as systemd-run runs them and in process groups where systemd does not run.

They do nothing. What one was given is noted in var/log/commands.jsonl. How it ends is in simulation/commands/NAME
(JSON), where NAME is the program's path with colons.
"""

import errno
import os
import shutil
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from libhook.simulation import modules, processes, store, systemd

if TYPE_CHECKING:
    from libhook.facts.launch import Launch

_POLL = 0.01
_STOPPED = 255
"""What systemd-run answers when a signal has ended the command."""


def add(root: str, program: str, **ends: Any) -> None:  # noqa: ANN401 - whatever JSON has
    """Put a program on the host: its ``status``, the ``seconds`` that it takes, or what systemd-run ``says``.

    ``stderr`` is what it says itself, ``stdout`` what it prints, and ``ends`` a process that it ends. ``modules`` are
    what it loads, or with ``-`` unloads, by its second argument: {"prepare": ["-amdgpu"]}.
    """
    path = f"{root}{program}"
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        file.write("#!/bin/sh\n")
    os.chmod(path, 0o755)  # noqa: S103 - a program
    os.makedirs(f"{root}/simulation/commands", exist_ok=True)
    store.save(root, "commands", _key(program), ends)


def ran(root: str) -> list[dict[str, Any]]:
    """What was run: ``unit``, ``argv``, ``user``, ``environment`` and ``stdin``."""
    return store.lines(f"{root}/var/log/commands.jsonl")


def systemd_run(root: str, arguments: tuple[str, ...], document: bytes, seconds: float) -> tuple[int, str]:
    """As the program: its exit status, and what it says itself."""
    at = arguments.index("--")
    options, argv = arguments[:at], [argument.replace("$$", "$") for argument in arguments[at + 1 :]]
    if argv[0] in ("/usr/bin/systemd-cat", "/usr/bin/nice"):
        argv = argv[argv.index("--") + 1 :]
    named = [option.partition("=")[2] for option in options if option.startswith("--setenv=")]
    (unit,) = (option.partition("=")[2] for option in options if option.startswith("--unit="))
    user = next((option.partition("=")[2] for option in options if option.startswith("--uid=")), "")
    limit = next((float(one.rpartition("=")[2]) for one in options if "RuntimeMaxSec=" in one), seconds)
    if unit in systemd.running(root):
        return 1, f"Failed to start transient service unit: Unit {unit} was already loaded or has a fragment file.\n"
    environment = dict(one.split("=", 1) for one in named)
    noted = {"unit": unit, "argv": argv, "user": user, "environment": environment, "stdin": document.decode()}
    store.append(f"{root}/var/log/commands.jsonl", noted)
    ends = ending(root, argv)
    if "stderr" in ends:
        store.append(f"{root}/var/log/journal.jsonl", {"unit": unit, "line": ends["stderr"]})
    for path in (one.partition("=file:")[2] for one in options if "StandardOutput=file:" in one):
        with open(path, "w", encoding="utf-8") as file:
            file.write(ends.get("stdout", ""))
    for module in ends.get("modules", {}).get(argv[2] if len(argv) > 2 else "", ()):  # as an old script does
        modules.turn(root, module)
    if "ends" in ends and os.path.exists(f"{root}/proc/{ends['ends']}"):
        processes.end(root, ends["ends"])
    if ends.get("says"):
        return 1, f"{ends['says']}\n"
    if "--wait" not in options:
        if not any("RuntimeMaxSec=" in option for option in options):  # what has a limit has ended by now
            systemd.add(root, unit, transient=True)
        return 0, ""
    takes = ends.get("seconds", 0.0)
    if takes and not _is_let_end(root, unit, min(takes, limit, seconds)):
        return _STOPPED, ""
    if takes > seconds:
        return errno.ETIMEDOUT, ""
    return (1 if takes > limit else ends.get("status", 0)), ""


def run_group(root: str, launch: "Launch", seconds: float) -> tuple[int | None, str]:
    """As Kernel.run_group, on a host without systemd."""
    noted = {"unit": "", "argv": [*launch.argv], "user": launch.user, "environment": dict(launch.environment)}
    store.append(f"{root}/var/log/commands.jsonl", {**noted, "stdin": launch.document.decode()})
    ends = ending(root, launch.argv)
    if ends.get("says"):
        return 1, ends["says"]
    if launch.output >= 0:
        os.write(launch.output, ends.get("stdout", "").encode())
    for line in filter(None, (ends.get("stderr"), ends.get("stdout") if launch.output < 0 else "")):
        store.append(f"{root}/var/log/syslog.jsonl", {"tag": launch.tag, "line": line})
    takes = ends.get("seconds", 0.0)
    time.sleep(min(takes, seconds))
    return (None if takes > seconds else ends.get("status", 0)), ""


def replace_systemd(root: str) -> None:
    """From now on systemd does not run on this host."""
    shutil.rmtree(f"{root}/run/systemd")


def _is_let_end(root: str, unit: str, seconds: float) -> bool:
    """Let the unit run for so long. Whether nobody has stopped it. It runs on if whoever waits for it is killed."""
    systemd.add(root, unit, transient=True)
    until = time.monotonic() + seconds
    while time.monotonic() < until and unit in systemd.running(root):
        time.sleep(_POLL)
    is_let = unit in systemd.running(root)
    systemd.add(root, unit, transient=True, active="inactive")
    return is_let


def journalctl(root: str, arguments: tuple[str, ...]) -> tuple[int, str]:
    """As the program: its exit status, and its output."""
    said = store.lines(f"{root}/var/log/journal.jsonl")
    lines = [one["line"] for one in said if f"_SYSTEMD_UNIT={one['unit']}" in arguments]
    return 0, "".join(f"{line}\n" for line in lines[-1:])


def ending(root: str, argv: Sequence[str]) -> dict[str, Any]:
    """How a command ends. Of a script that a shell runs, how the script ends."""
    own = argv[1:] if argv[0] in ("/bin/bash", "/bin/sh") and argv[1] != "-c" else argv
    return store.load(root, "commands", _key(own[0])) or {}


def _key(program: str) -> str:
    return program.replace("/", ":")
