# SPDX-License-Identifier: LGPL-2.1-or-later
"""What must be so before a guest starts: ``require`` in the settings."""

import os
from pathlib import Path

import hanging
import pytest
from cases import GPU, NIC, SOUND
from command import libhook
from scenario import Host, guest, reap

from libhook.errors import BadInput
from libhook.facts import keys
from libhook.facts.requirement import parse
from libhook.kinds.require import KIND
from libhook.simulation import commands, faults, processes, systemd
from libhook.simulation.guests import Guest
from libhook.simulation.hosts import nic, workstation

WIN11, PLAIN = guest(NIC), guest()
IMAGE, PROGRAM, BACKUP = "/srv/image", "/usr/bin/backup", "backup.service"
CHECK = "/usr/local/bin/check"


def host_with(root: str, *entries: str) -> Host:
    """A host whose guests require these, and where each of them is so."""
    config = "".join(f"[require.a{number}]\n{entry}\n" for number, entry in enumerate(entries))
    host = Host(root, nic(), config)
    processes.add(root, 4711, "backup")
    os.symlink(PROGRAM, f"{root}/proc/4711/exe")
    os.makedirs(f"{root}/srv")
    Path(f"{root}{IMAGE}").touch()
    systemd.add(root, BACKUP)
    Path(f"{root}/proc/meminfo").write_text("MemTotal: 16777216 kB\nMemAvailable:    8388608 kB\n")
    return host


@pytest.mark.parametrize(
    ("entry", "wrong", "opposite"),
    [
        (f'file = "{IMAGE}"', f"{IMAGE} is not there", f"{IMAGE} is there"),
        (f'unit = "{BACKUP}"', f"unit {BACKUP} is not active", f"unit {BACKUP} is active"),
        (f'process = "{PROGRAM}"', f"{PROGRAM} is not running", f"{PROGRAM} is running"),
        ("memory = 8", "7.9 GiB of memory are free, and 8 must be", ""),
    ],
)
@pytest.mark.parametrize("one", [WIN11, PLAIN], ids=["with devices", "without"])
def test_what_is_required(root: str, entry: str, wrong: str, opposite: str, one: Guest) -> None:
    """Of guests with and without devices; where it is not so, nothing is done, and the dry run says the same."""
    host = host_with(root, entry)
    assert host.event(one, "prepare").code == 0
    host.event(one, "release", "failed")
    if opposite:
        host.configure(f"[require.a0]\n{entry}\nabsent = true\n")
        said = f"{opposite}: see to it, or change require.a0 in the settings; libhook config shows where"
        assert host.event(one, "prepare").line == said
    host.configure(f'[require.a0]\n{entry}\nreason = "do this"\n')
    Path(f"{root}{IMAGE}").unlink()
    os.unlink(f"{root}/proc/4711/exe")
    systemd.change(root, BACKUP, active="inactive")
    Path(f"{root}/proc/meminfo").write_text("MemTotal: 16777216 kB\nMemAvailable:    8388607 kB\n")
    foretold = host.call((one.name, "prepare", "begin", "-"), one.xml(1, False), dry_run=True)
    assert f"refuse: {wrong}: do this" in foretold.stderr
    refused = host.event(one, "prepare")
    assert (refused.code, refused.line) == (1, f"{wrong}: do this")
    host.event(one, "release", "failed")
    assert (host.driver(NIC), host.leftovers) == ("e1000e", [])


@pytest.mark.parametrize(
    ("state", "present", "absent"),
    [
        ("active", True, False),
        ("reloading", True, False),
        ("activating", False, False),
        ("deactivating", False, False),
        ("inactive", False, True),
        ("failed", False, True),
    ],
)
def test_a_unit_on_its_way_is_neither_there_nor_absent(root: str, state: str, present: bool, absent: bool) -> None:
    """A oneshot, as a backup mostly is, is "activating" all the time that it runs."""
    host = host_with(root, f'unit = "{BACKUP}"')
    systemd.change(root, BACKUP, active=state)
    assert host.event(PLAIN, "prepare").code == (not present)
    host.event(PLAIN, "release", "failed")
    host.configure(f'[require.a0]\nunit = "{BACKUP}"\nabsent = true\n')
    assert host.event(PLAIN, "prepare").code == (not absent)


@pytest.mark.parametrize("shown", [PROGRAM, f"{PROGRAM} (deleted)", "/usr/bin/backup3"])
def test_a_program_runs_under_its_own_path_too(root: str, shown: str) -> None:
    """Upgraded since, or named by a link."""
    host = host_with(root, f'process = "{PROGRAM}"')
    os.makedirs(f"{root}/usr/bin", exist_ok=True)
    if shown == "/usr/bin/backup3":
        os.symlink("backup3", f"{root}{PROGRAM}")
    os.unlink(f"{root}/proc/4711/exe")
    os.symlink(shown, f"{root}/proc/4711/exe")
    assert host.event(PLAIN, "prepare").code == 0


def test_a_file_that_cannot_be_looked_at_is_not_absent(root: str) -> None:
    """A disk that fails has lost nothing."""
    host = host_with(root)
    host.configure(f'[require.a0]\nfile = "/srv/{"a" * 300}"\nabsent = true\n')
    assert "cannot be looked at" in host.event(PLAIN, "prepare").line
    host.configure(f'[require.a0]\nfile = "{IMAGE}/below"\nabsent = true\n')
    assert host.event(PLAIN, "prepare").code == 0


def test_all_that_is_wrong_is_said(root: str) -> None:
    """In the order of the settings; a unit that is not there is not active."""
    host = host_with(root, 'unit = "no-such.service"', 'file = "/srv/none"', "memory = 9.5", f'file = "{IMAGE}"')
    assert host.event(WIN11, "prepare").line == (
        "unit no-such.service is not active; /srv/none is not there; 8 GiB of memory are free, and 9.5 must be: "
        "libhook plan win11 says what to do about each; about the first: "
        "see to it, or change require.a0 in the settings; libhook config shows where"
    )


def test_a_kernel_that_does_not_say_how_much_is_free(root: str) -> None:
    """Nothing is."""
    host = host_with(root, "memory = 0.1")
    Path(f"{root}/proc/meminfo").unlink()
    assert "0 GiB of memory are free, and 0.1 must be" in host.event(WIN11, "prepare").line


def test_a_disk_that_does_not_answer(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The start is refused in time."""
    host = host_with(root, f'file = "{IMAGE}"')
    monkeypatch.setattr("libhook.kinds.require._note", lambda *_: hanging.hang(root))
    host.patience = 0
    hanging.late(root)
    assert f"{IMAGE} cannot be looked at" in host.event(WIN11, "prepare").line
    hanging.let_go(root)
    assert reap(60)


def test_systemd_that_does_not_answer(root: str) -> None:
    """Nobody knows whether the unit is active."""
    host = host_with(root, f'unit = "{BACKUP}"')
    faults.inject(root, faults.Fault("systemctl show*", nth=0, error="ECONNREFUSED"))
    assert "systemd does not say" in host.event(WIN11, "prepare").line


def test_a_guest_that_runs_requires_nothing(root: str) -> None:
    """Nothing of it is journalled."""
    host = host_with(root, f'file = "{IMAGE}"')
    assert host.libvirt.start(WIN11).error == ""
    Path(f"{root}{IMAGE}").unlink()
    host.libvirt.restart()
    assert "require" not in libhook(host, "status").out
    host.libvirt.stop("win11")
    assert (host.driver(NIC), host.leftovers) == ("e1000e", [])
    with pytest.raises(BadInput):
        KIND.read({})


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("x", "with some of file, unit, process, memory, command, seconds, absent, reason"),
        ({"files": "/a"}, "with some of"),
        ({"name": "a", "file": "/a"}, "with some of"),
        ({}, "with one of file, unit, process, memory, command"),
        ({"file": "/a", "unit": "a.service"}, "with one of"),
        ({"file": "a"}, "with a whole path in file"),
        ({"file": "/a\0"}, "with a whole path in file"),
        ({"process": "backup"}, "with a program's whole path in process"),
        ({"unit": "backup"}, "with a unit's name in unit"),
        ({"unit": "b*.service"}, "with a unit's name in unit"),
        ({"memory": True}, "with a number of GiB in memory"),
        ({"memory": 0}, "with a number of GiB in memory"),
        ({"memory": float("inf")}, "with a number of GiB in memory"),
        ({"memory": 1, "absent": True}, "without absent, where memory or a command is required"),
        ({"command": ["/a"], "absent": True}, "without absent, where memory or a command is required"),
        ({"command": ["a"]}, "with a list of texts, the first a program's whole path"),
        ({"command": "/a"}, "with a list of texts, the first a program's whole path"),
        ({"command": ["/a"], "seconds": 601}, "with 0.1 to 600 seconds in seconds"),
        ({"file": "/a", "seconds": 1}, "without seconds, which only a command has"),
        ({"file": "/a", "absent": 1}, "with true or false in absent"),
        ({"file": "/a", "reason": "a\nb"}, "with a line of text in reason"),
        ({"file": "/a", "reason": ""}, "with a line of text in reason"),
    ],
)
def test_what_is_wrong_with_an_entry_is_said(table: object, said: str) -> None:
    """By the settings, too."""
    with pytest.raises(BadInput) as raised:
        parse("a", table)
    assert said in raised.value.message
    (wrong,) = keys.wrong_entries("require", {"a": table})
    wanted = f"{wrong.wanted} in {wrong.at[1]}" if len(wrong.at) == 2 else f"a section {raised.value.message}"
    assert said.removeprefix("with ") in wanted or wrong.near
    assert "sections with a name each" in keys.expectation("require", [table])


def test_the_name_of_a_question_becomes_part_of_a_units_name() -> None:
    """So it is plain."""
    table = {"command": ["/usr/bin/check"]}
    (wrong,) = keys.wrong_entries("require", {"a b": table})
    assert (wrong.at, wrong.wanted) == (("a b",), "a section named with at most 40 letters, digits, _ and -")


ASKS = f"""
[units]
"{BACKUP}" = "down"
[require.nas]
command = ["{CHECK}", "$x"]
{{}}
"""


@pytest.mark.parametrize("one", [WIN11, PLAIN], ids=["with devices", "without"])
def test_a_command_is_asked_before_anything_is_done(root: str, one: Guest) -> None:
    """By status 0 it agrees. It is journalled by nobody, and a dry run does not ask it."""
    host = host_with(root)
    commands.add(root, CHECK)
    host.configure(ASKS.format(""))
    foretold = host.call((one.name, "prepare", "begin", "-"), one.xml(1, False), dry_run=True).stderr
    assert f"refuse unless {CHECK} '$x' ends with status 0, for 30 s at most" in foretold[0]
    assert commands.ran(root) == []
    assert host.event(one, "prepare").code == 0
    (asked,) = commands.ran(root)
    assert (asked["argv"], asked["environment"]["LIBHOOK_OPERATION"]) == ([CHECK, "$x"], "prepare")
    assert "require" not in libhook(host, "status").out
    host.event(one, "release", "failed")
    assert len(commands.ran(root)) == 1
    assert (host.driver(NIC), host.leftovers) == ("e1000e", [])


@pytest.mark.parametrize(
    ("ends", "more", "said"),
    [
        ({"status": 2}, 'reason = "wake the NAS"', "the command require.nas has ended with status 2: wake the NAS"),
        ({"status": 2}, "", "the command require.nas has ended with status 2: see journalctl -u 'libhook-require-"),
        ({"seconds": 0.3}, "seconds = 0.2", "the command require.nas has not ended within 0.2 s: see journalctl"),
        ({"says": "Failed"}, "", "the command require.nas cannot be executed: Failed: correct require in the settings"),
    ],
)
def test_a_command_that_does_not_agree(root: str, ends: dict[str, object], more: str, said: str) -> None:
    """Nothing is done, and each start asks it again."""
    host = host_with(root)
    commands.add(root, CHECK, **ends)
    host.configure(ASKS.format(more))
    for _ in range(2):
        refused = host.event(WIN11, "prepare")
        assert (refused.code, refused.line[: len(said)]) == (1, said)
        assert systemd.running(root) == [BACKUP]
        host.event(WIN11, "release", "failed")
    assert len({one["unit"] for one in commands.ran(root)}) == 2
    assert (host.driver(NIC), host.leftovers) == ("e1000e", [])


def test_a_command_that_others_may_change_is_not_asked(root: str) -> None:
    """It would be run as root."""
    host = host_with(root)
    host.configure(ASKS.format(""))
    assert f"{CHECK} cannot be run" in host.event(WIN11, "prepare").line
    assert commands.ran(root) == []


def test_a_command_is_asked_once_and_before_anything_is_journalled(root: str) -> None:
    """Also where the card can be looked at only once the unit is down. Its no undoes nothing that was never done."""
    rules = '[run.rules]\ncommand = ["/usr/bin/rules", "in"]\nundo = ["/usr/bin/rules", "out"]\n'
    host = Host(root, workstation(), f"{ASKS.format('')}{rules}")
    for program in (CHECK, "/usr/bin/rules"):
        commands.add(root, program)
    processes.add(root, 800, "Xorg", ["/dev/dri/card0"])
    systemd.add(root, BACKUP, process=800)
    foretold = host.call(("win11", "prepare", "begin", "-"), guest(GPU, SOUND).xml(1, False), dry_run=True).stderr
    assert "require 60 s, " in foretold[-1]
    begun = host.event(guest(GPU, SOUND), "prepare")
    assert [one["argv"] for one in commands.ran(root)] == [[CHECK, "$x"], ["/usr/bin/rules", "in"]]
    assert begun.plan.count(foretold[0]) == 1
    host.event(guest(GPU, SOUND), "release", "failed")
    commands.add(root, CHECK, status=1)
    assert "has ended with status 1" in host.event(guest(GPU, SOUND), "prepare").line
    host.event(guest(GPU, SOUND), "release", "failed")
    assert [one["argv"] for one in commands.ran(root)][3:] == [[CHECK, "$x"]]
    assert (systemd.state(root, BACKUP), host.driver(GPU), host.leftovers) == ("active", "amdgpu", [])
