# SPDX-License-Identifier: LGPL-2.1-or-later
"""A host on which a desktop, and a program of its user, have the graphics card open."""

from pathlib import Path

import pytest
from cases import GPU, SOUND
from scenario import Host, guest

from libhook.simulation import logind, processes, store
from libhook.simulation.hosts import workstation

CARD = "/dev/dri/card0"
SUNSHINE = "/usr/bin/sunshine"
KWIN, PLASMA, STREAM, OTHER, LOGIND = 800, 801, 810, 820, 700
MANAGER = "/user.slice/user-1000.slice/user@1000.service"
WIN11 = guest(GPU, SOUND)


def host_with(root: str, *end: str, more: str = "") -> Host:
    """With this list for the guest, and more lines of settings before it."""
    listed = ", ".join(f'"{one}"' for one in end)
    host = Host(root, workstation(), f"holder_wait = 0.3\n{more}\n[domains.win11]\nend = [{listed}]\n")
    processes.add(root, 699, "systemd-udevd")  # has nothing open
    return host


def desktop(root: str, **fields: object) -> None:
    """A session with its display server, one part of it under the user's manager, and what logind has for it."""
    processes.add(root, KWIN, "kwin_wayland", [CARD])
    logind.place(root, KWIN, "/usr/bin/kwin_wayland", logind.group_of("2"))
    processes.add(root, PLASMA, "plasmashell", [CARD])
    logind.place(root, PLASMA, "/usr/bin/plasmashell", f"{MANAGER}/session.slice/plasma-plasmashell.service")
    processes.add(root, LOGIND, "systemd-logind", [CARD])
    logind.place(root, LOGIND, "/usr/lib/systemd/systemd-logind", "/system.slice/systemd-logind.service")
    processes.open_file(root, 1, CARD)
    logind.place(root, 1, "/usr/lib/systemd/systemd", "/init.scope")
    logind.begin(root, "2", **{"processes": [KWIN, PLASMA], "closes": [1, LOGIND], **fields})


def stream(
    root: str, pid: int = STREAM, *, program: str = SUNSHINE, group: str = "", opened: str = CARD, **temper: object
) -> None:
    """A process of a program, in a service of the user's."""
    processes.add(root, pid, program.rpartition("/")[2], [opened] if opened else [])
    logind.place(root, pid, program, group or f"{MANAGER}/app.slice/sunshine.service", **temper)


def signals(host: Host) -> list[tuple[int, int]]:
    """Each pid and signal, in order."""
    return [(one["pid"], one["number"]) for one in store.lines(f"{host.root}/var/log/signals.jsonl")]


def shorten(monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not end shall not take long."""
    monkeypatch.setattr("libhook.kinds.holder.end.TERM_SECONDS", 0.4)
    monkeypatch.setattr("libhook.kinds.holder.end.KILL_SECONDS", 0.4)
    monkeypatch.setattr("libhook.effects.systemd.END_SECONDS", 0.5)


def refused(host: Host, *ended: int) -> str:
    """The line; the device was not touched, and only this was ended."""
    there = _there(host)
    outcome = host.event(WIN11, "prepare")
    assert outcome.code == 1
    assert host.driver(GPU) == "amdgpu"
    assert there - _there(host) == set(ended)
    return outcome.line


def _there(host: Host) -> set[int]:
    return {pid for pid in (1, LOGIND, KWIN, PLASMA, STREAM, OTHER) if Path(host.root, f"proc/{pid}").exists()}
