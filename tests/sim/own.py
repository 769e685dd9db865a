# SPDX-License-Identifier: LGPL-2.1-or-later
"""Handlers by others on a simulated host."""

from pathlib import Path

import patience
from command import libhook
from scenario import Host

from libhook.simulation.hosts import workstation

SWAPPINESS = "/proc/sys/vm/swappiness"
WANTS = "[domains.win11.handlers.night]\n"
HEAD = "from libhook.handler import handler\n\n"


def host(root: str, config: str = WANTS, *, launcher: bool = False) -> Host:
    """A host with a sysctl, and settings that want the handler night."""
    found = Host(root, workstation(), config, launcher=launcher)
    found.put(SWAPPINESS, "60")
    return found


def patient(host: Host, folder: Path, seconds: float = 60.0) -> Path:
    """Its launcher, a copy in this folder in which a handler has so long: no clock but the real one is there."""
    run, copied = host.launching, patience.copy(folder, seconds)
    host.launching = lambda command, xml, environment: run([str(copied), *command[1:]], xml, environment)
    return copied


def code(body: str, operations: str = '"prepare",', more: str = "") -> str:
    """The text of a handler: ``body`` has the lines of its function."""
    lines = "".join(f"    {line}\n" for line in body.splitlines())
    return f"{HEAD}@handler(api=1, operations=({operations}){more})\ndef asked(given):\n{lines}"


def put(host: Host, text: str, name: str = "night") -> None:
    """Write a handler's file."""
    folder = Path(f"{host.root}/etc/libhook/handlers")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.py").write_text(text)


def enabled(host: Host, text: str, name: str = "night") -> None:
    """Write a handler's file, and enable it."""
    put(host, text, name)
    done = libhook(host, "handlers", "enable", name)
    assert (done.code, done.err) == (0, ""), done


def swappiness(host: Host) -> str:
    """The sysctl's value."""
    return host.read(SWAPPINESS)
