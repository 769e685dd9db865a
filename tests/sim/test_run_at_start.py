# SPDX-License-Identifier: LGPL-2.1-or-later
"""Commands that are run at ``start``: QEMU is there by then, and does not run yet."""

import pytest
from cases import NIC
from scenario import guest
from test_run import LIGHT, SCREEN, WIN11, argvs, host_with

from libhook.simulation import commands
from libhook.simulation.guests import Guest

AT_START = f"""
[run.screen]
command = ["{SCREEN}", "to guest"]
undo = ["{SCREEN}", "to host"]
[run.late]
command = ["{LIGHT}"]
undo = ["{LIGHT}", "off"]
at = "start"
"""


@pytest.mark.parametrize("one", [WIN11, guest()])
def test_a_command_at_start(root: str, one: Guest) -> None:
    """QEMU is there by then, and the devices are on vfio. It is undone first."""
    host = host_with(root, AT_START)
    foretold = host.call(("win11", "prepare", "begin", "-"), one.xml(1, False), dry_run=True).stderr
    assert f"once QEMU is there, run {LIGHT}, for 30 s at most" in foretold
    assert host.event(one, "prepare").code == 0
    assert argvs(host) == [[SCREEN, "to guest"]]
    assert host.event(one, "start").code == 0
    assert argvs(host)[1:] == [[LIGHT]]
    assert commands.ran(root)[-1]["environment"]["LIBHOOK_OPERATION"] == "start"
    host.event(one, "started")
    host.event(one, "release", "shutdown")
    assert argvs(host)[2:] == [[LIGHT, "off"], [SCREEN, "to host"]]
    assert host.leftovers == []


def test_a_command_at_start_that_fails_refuses_the_start(root: str) -> None:
    """libvirt ends the guest then, and all is undone at its release."""
    host = host_with(root, AT_START)
    commands.add(root, LIGHT, status=4)
    assert "the command late has ended with status 4" in host.libvirt.start(WIN11).error
    assert argvs(host) == [[SCREEN, "to guest"], [LIGHT], [LIGHT, "off"], [SCREEN, "to host"]]
    assert (host.driver(NIC), host.leftovers) == ("e1000e", [])
    assert host.records == [f"start {NIC} failed"]
    host.configure(f'{AT_START}on_failure = "log"\n')
    assert host.libvirt.start(WIN11).error == ""
