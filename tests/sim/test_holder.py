# SPDX-License-Identifier: LGPL-2.1-or-later
"""Sessions and processes that have a guest's device open, and are ended: ``end`` in the guest's settings."""

import json
from pathlib import Path

import pytest
from cases import GPU, SOUND
from command import libhook
from holding import (
    CARD,
    KWIN,
    LOGIND,
    OTHER,
    PLASMA,
    STREAM,
    SUNSHINE,
    WIN11,
    desktop,
    host_with,
    shorten,
    signals,
    stream,
)
from units import SDDM

from libhook.facts.machine import Machine
from libhook.simulation import logind, processes, systemd

TERM, KILL = 15, 9


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    shorten(monkeypatch)


def _lives(root: str, pid: int) -> bool:
    return Path(root, f"proc/{pid}").exists()


def test_a_session_and_a_program_are_ended_for_the_guest(root: str) -> None:
    """The plan says what, and that it stays so; PID 1 and logind let go with the session, and get no signal."""
    host = host_with(root, "sessions", SUNSHINE)
    desktop(root)
    stream(root)
    foretold = host.call(("win11", "prepare", "begin", "-"), WIN11.xml(1, False), dry_run=True)
    said = foretold.stderr
    at = said.index(f"end each session that has {GPU} open: this does not come back")
    with_ = f"kwin_wayland (pid {KWIN}), plasmashell (pid {PLASMA})"
    assert said[at + 1 : at + 4] == (
        f"  loginctl terminate-session: session 2 of the user 1000, with {with_}",
        f"end {SUNSHINE} where it has {GPU} open: this does not come back",
        f"  SIGTERM, and after 0 s SIGKILL: sunshine (pid {STREAM})",
    )
    assert said[at + 4].startswith(f"refuse unless {GPU} is free: ")
    assert said[0] == "load the module of vfio-pci"
    assert (signals(host), logind.is_there(root, "2"), foretold.changed) == ([], True, ())
    host.begin(WIN11)
    assert host.driver(GPU) == host.driver(SOUND) == "vfio-pci"
    assert (signals(host), logind.is_there(root, "2")) == ([(STREAM, TERM)], False)
    (held,) = host.outcomes[-1].journal.values()
    assert {action.kind for action in held.actions} == {"pci"}
    host.event(WIN11, "release", "shutdown")
    assert (host.driver(GPU), host.leftovers) == ("amdgpu", [])
    assert not logind.is_there(root, "2")


def test_logind_has_a_moment_to_let_go(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It closes what it has for a session a little after the session's last process has ended."""
    host = host_with(root, "sessions")
    desktop(root, closes=[])
    monkeypatch.setattr("libhook.effects.systemd.END_SECONDS", 60.0)
    looks: list[str] = []

    def is_populated(_machine: Machine, group: str) -> bool:
        looks.append(group)
        if len(looks) == 2:
            for pid in (1, LOGIND):
                processes.close_file(root, pid, CARD)
        return False

    monkeypatch.setattr("libhook.look.systemd.is_group_populated", is_populated)
    host.begin(WIN11)
    assert len(looks) > 2


def test_the_plan_says_it_to_programs(root: str) -> None:
    """As every action."""
    host = host_with(root, SUNSHINE)
    stream(root)
    shown = json.loads(libhook(host, "plan", "-", "--json", stdin=WIN11.xml(1, False)).out)
    (action,) = (one for one in shown["actions"] if one["action"] == "end")
    assert (action["what"], action["devices"], action["now"]) == (SUNSHINE, [GPU], [f"sunshine (pid {STREAM})"])


def test_nothing_is_ended_where_nothing_has_the_device_open(root: str) -> None:
    """Consent is not an order."""
    host = host_with(root, "sessions", SUNSHINE)
    logind.begin(root, "2")
    stream(root)
    processes.close_file(root, STREAM, CARD)
    host.begin(WIN11)
    assert (signals(host), logind.is_there(root, "2")) == ([], True)


def test_a_process_that_ignores_sigterm_is_killed(root: str) -> None:
    """After its time; another process of that program that has no such device open lives on."""
    host = host_with(root, SUNSHINE)
    stream(root, ignores=[TERM])
    stream(root, OTHER)
    processes.close_file(root, OTHER, CARD)
    host.begin(WIN11)
    assert signals(host) == [(STREAM, TERM), (STREAM, KILL)]
    assert _lives(root, OTHER)


def test_what_a_listed_program_has_open_costs_no_session(root: str) -> None:
    """It is in one, and only the process is ended."""
    host = host_with(root, "sessions", SUNSHINE)
    logind.begin(root, "2")
    stream(root, group=logind.group_of("2"))
    host.begin(WIN11)
    assert (signals(host), logind.is_there(root, "2")) == ([(STREAM, TERM)], True)


def test_what_the_end_of_a_unit_frees_is_not_ended(root: str) -> None:
    """The same process is ended by its unit, which comes back; nothing else is done."""
    host = host_with(root, SUNSHINE, more=f'[units]\n"{SDDM}" = "down"\n')
    stream(root)
    systemd.add(root, SDDM, process=STREAM)
    host.begin(WIN11)
    assert (signals(host), host.driver(GPU)) == ([], "vfio-pci")
    host.event(WIN11, "release", "shutdown")
    assert (systemd.state(root, SDDM), host.leftovers) == ("active", [])


def test_a_session_is_ended_once_a_unit_has_freed_the_rest(root: str) -> None:
    """The display server is the display manager's; the plan warns of what follows."""
    host = host_with(root, "sessions", more=f'[units]\n"{SDDM}" = "down"\n')
    desktop(root)
    stream(root, OTHER, program="/usr/bin/Xorg", group=f"/system.slice/{SDDM}")
    systemd.add(root, SDDM, process=OTHER)
    foretold = host.call(("win11", "prepare", "begin", "-"), WIN11.xml(1, False), dry_run=True)
    (warned,) = (line for line in foretold.stderr if line.startswith("warning: "))
    assert f"{GPU}: if it is free of all else, this is ended, and does not come back: session 2 of the" in warned
    assert any(f"{GPU} is also open in Xorg (pid {OTHER})" in line for line in foretold.stderr)
    host.begin(WIN11)
    assert (logind.is_there(root, "2"), host.driver(GPU)) == (False, "vfio-pci")
    host.event(WIN11, "release", "shutdown")
    assert (systemd.state(root, SDDM), host.leftovers) == ("active", [])


def test_a_use_that_is_allowed_is_not_ended(root: str) -> None:
    """The settings say that a screen may be taken: then nobody asks who has it open."""
    host = host_with(root, SUNSHINE)
    host.configure(f'holder_wait = 0.3\n[domains.win11]\nend = ["{SUNSHINE}"]\npreflight.display = "off"\n')
    stream(root)
    host.begin(WIN11)
    assert signals(host) == []


def test_the_log_says_what_was_ended(root: str) -> None:
    """For whoever misses it."""
    host = host_with(root, SUNSHINE)
    stream(root)
    outcome = host.event(WIN11, "prepare")
    (entry,) = (one for one in outcome.logged("done") if "ended" in one)
    assert (entry["action"], entry["ended"]) == (f"holder {SUNSHINE}", f"sunshine (pid {STREAM})")
