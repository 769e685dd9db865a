# SPDX-License-Identifier: LGPL-2.1-or-later
"""Commands that are run again once a new libvirtd has found the guest: ``reconnect`` of ``run`` in the settings."""

import os

import pytest
from cases import NIC
from scenario import Host, guest

from libhook.simulation import commands
from libhook.simulation.guests import Guest
from libhook.simulation.hosts import nic

WIN11, PLAIN = guest(NIC), guest()
SCREEN, LIGHT = "/usr/local/bin/screen", "/usr/local/bin/light"


def host_with(root: str, config: str) -> Host:
    """A host with these commands."""
    host = Host(root, nic(), config)
    for program in (SCREEN, LIGHT):
        commands.add(root, program)
    return host


def argvs(host: Host) -> list[list[str]]:
    """What was run."""
    return [one["argv"] for one in commands.ran(host.root)]


AGAIN = f"""
[run.rules]
command = ["{SCREEN}"]
undo = ["{SCREEN}", "off"]
reconnect = true
[run.once]
command = ["{LIGHT}"]
"""


@pytest.mark.parametrize("one", [WIN11, PLAIN], ids=["with devices", "without"])
def test_a_command_is_undone_and_run_again_for_a_new_libvirtd(root: str, one: Guest) -> None:
    """In that order, each waited for; only what asks for it, and only if it ran. Its undo comes once at the end."""
    host = host_with(root, AGAIN)
    host.libvirt.start(one)
    foretold = host.call((one.name, "reconnect", "begin", "-"), one.xml(1, True), dry_run=True).stderr
    assert f"once more {SCREEN} off, then {SCREEN}, for 30 s at most each" in foretold
    assert "run 120 s, " in foretold[-1]
    for _ in range(2):
        host.libvirt.restart()
    assert argvs(host)[2:] == [[SCREEN, "off"], [SCREEN]] * 2
    assert {it["environment"]["LIBHOOK_OPERATION"] for it in commands.ran(root)[2:]} == {"reconnect"}
    host.libvirt.stop("win11")
    assert argvs(host)[6:] == [[SCREEN, "off"]]
    assert host.leftovers == []


def test_what_fails_at_reconnect_is_logged(root: str) -> None:
    """A guest that runs is refused nothing. The command is run though its undo has failed; the end undoes it again."""
    host = host_with(root, AGAIN)
    host.libvirt.start(WIN11)
    commands.add(root, SCREEN, status=3)
    again = host.event(WIN11, "reconnect")
    assert (again.code, argvs(host)[2:]) == (0, [[SCREEN, "off"], [SCREEN]])
    assert [one["left"].partition(":")[0] for one in again.log if "left" in one] == [
        "the command rules has ended with status 3"
    ]
    host.libvirt.stop("win11")
    assert (argvs(host)[4:], host.leftovers) == ([[SCREEN, "off"]], [])


def test_at_reconnect_nothing_is_run_for_whom_it_was_not_run_before(root: str) -> None:
    """As after an upgrade, or where the settings are new."""
    host = host_with(root, "")
    host.libvirt.start(WIN11)
    host.configure(AGAIN)
    host.libvirt.restart()
    assert argvs(host) == []


def test_the_journal_says_what_is_run_again(root: str) -> None:
    """Whatever the settings say by then; even if nobody can read them."""
    host = host_with(root, AGAIN)
    host.libvirt.start(WIN11)
    for config in ("", "[run\n"):
        host.configure(config)
        assert host.event(WIN11, "reconnect").code == 0
    assert argvs(host)[2:] == [[SCREEN, "off"], [SCREEN]] * 2


def test_all_are_undone_in_reverse_first(root: str) -> None:
    """A rule that jumps into a chain goes before the chain, and comes after it. One that others may write to stays."""
    other = f'[run.second]\ncommand = ["{LIGHT}", "in"]\nundo = ["{LIGHT}", "out"]\nreconnect = true\n'
    host = host_with(root, AGAIN + other)
    host.libvirt.start(WIN11)
    host.libvirt.restart()
    assert argvs(host)[3:] == [[LIGHT, "out"], [SCREEN, "off"], [SCREEN], [LIGHT, "in"]]
    os.chmod(f"{root}{LIGHT}", 0o777)  # noqa: S103 - what others may change
    again = host.event(WIN11, "reconnect")
    assert argvs(host)[7:] == [[SCREEN, "off"], [SCREEN]]
    (left,) = (one["left"] for one in again.log if "left" in one)
    assert left.startswith(f"others may write to {LIGHT}, and root is to run")
