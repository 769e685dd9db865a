# SPDX-License-Identifier: LGPL-2.1-or-later
"""The host does not sleep while a guest runs: ``sleep`` in the settings."""

import json
from pathlib import Path
from typing import Any

import overdue
import pytest
from cases import DISK, NIC
from command import libhook
from scenario import Host
from units import OTHER, WIN11, host_with, told

from libhook.children.child import Deadline
from libhook.facts.config import Config
from libhook.kinds.kind import Work
from libhook.kinds.sleep import LOGIND, UNIT, Awake, carry_out
from libhook.simulation import faults, systemd
from libhook.story.session import make_state

STAYS = 'or set sleep = "allow" in the settings'


def _host(root: str, config: str = 'sleep = "inhibit"\n') -> Host:
    host = host_with(root, config)
    systemd.add(root, UNIT, active="inactive")
    systemd.add(root, LOGIND)
    return host


def test_the_host_is_kept_awake_while_the_guest_lives(root: str) -> None:
    """The plan says so, the unit is up meanwhile, and is started before the device is touched."""
    host = _host(root)
    foretold = host.call(("win11", "prepare", "begin", "-"), WIN11.xml(1, False), dry_run=True)
    assert foretold.stderr[0] == f"keep the host from sleeping (start {UNIT})"
    assert told(host) == []
    host.begin(WIN11)
    assert (systemd.state(root, UNIT), told(host)) == ("active", [f"start {UNIT}"])
    assert "  sleep  inhibited" in libhook(host, "status").out
    ended = host.event(WIN11, "release", "shutdown")
    assert f"let the host sleep again, if no other guest needs it awake (stop {UNIT})" in ended.plan
    assert (systemd.state(root, UNIT), host.driver(NIC), host.leftovers) == ("inactive", "e1000e", [])


@pytest.mark.parametrize("first_to_end", [0, 1])
def test_the_last_guest_lets_it_sleep(root: str, first_to_end: int) -> None:
    """Whichever it is."""
    host = _host(root)
    guests = [WIN11, OTHER]
    for one in guests:
        host.begin(one)
    host.event(guests.pop(first_to_end), "release", "shutdown")
    assert systemd.state(root, UNIT) == "active"
    host.event(guests.pop(), "release", "shutdown")
    assert (systemd.state(root, UNIT), host.leftovers) == ("inactive", [])


def test_a_guest_of_its_own_may_let_it_sleep(root: str) -> None:
    """systemd is not even asked."""
    host = _host(root, 'sleep = "inhibit"\n[domains.win11]\nsleep = "allow"\n')
    host.begin(WIN11)
    assert not Path(root, "var/log/systemctl.jsonl").exists()
    host.begin(OTHER)
    assert systemd.state(root, UNIT) == "active"


def test_who_keeps_it_awake_by_hand_goes_on(root: str) -> None:
    """It was so before the first guest."""
    host = _host(root)
    systemd.change(root, UNIT, active="active")
    host.begin(WIN11)
    host.event(WIN11, "release", "shutdown")
    assert (systemd.state(root, UNIT), told(host), host.leftovers) == ("active", [], [])


def test_what_somebody_else_stopped_is_for_the_next_guest_again(root: str) -> None:
    """An administrator wanted the host to sleep all the same; that is no error at the guest's end."""
    host = _host(root)
    host.begin(WIN11)
    systemd.change(root, UNIT, active="inactive")
    host.begin(OTHER)
    assert systemd.state(root, UNIT) == "active"
    for one in (WIN11, OTHER):
        host.event(one, "release", "shutdown")
    assert (systemd.state(root, UNIT), host.leftovers) == ("inactive", [])


def test_a_lock_that_is_not_given_refuses_the_start(root: str) -> None:
    """As without a bus. No device is touched, and nothing is left."""
    host = _host(root)
    systemd.change(root, UNIT, starts=False)
    outcome = host.event(WIN11, "prepare")
    assert outcome.line == (
        f"the host cannot be kept from sleeping, because {UNIT} does not start: "
        f"this says why: systemctl status {UNIT}, {STAYS}"
    )
    assert (outcome.changed, host.driver(NIC)) == ((), "e1000e")
    host.event(WIN11, "release", "failed")
    assert host.leftovers == []


def test_the_start_is_waited_for(root: str) -> None:
    """A unit that is only about to be active may not get the lock."""
    host = _host(root)
    systemd.change(root, UNIT, start=0.2)
    host.begin(WIN11)
    assert systemd.state(root, UNIT) == "active"


@pytest.mark.parametrize(
    ("unit", "state", "said"),
    [
        (UNIT, None, f"{UNIT} is not on this host: run install.sh again"),
        (UNIT, {"load": "masked"}, f"{UNIT} is masked: systemctl unmask {UNIT}"),
        (LOGIND, None, f"{LOGIND} is not on this host: this says why: systemctl status {LOGIND}"),
        (LOGIND, {"load": "masked"}, f"{LOGIND} is masked: systemctl unmask {LOGIND}"),
        (LOGIND, {"load": "bad-setting"}, f"{LOGIND} is bad-setting: this says why: systemctl status {LOGIND}"),
    ],
)
def test_where_it_cannot_be_the_start_is_refused_at_once(
    root: str, unit: str, state: dict[str, Any] | None, said: str
) -> None:
    """Before anything is done, and in the dry run, too."""
    host = _host(root)
    if state:
        systemd.change(root, unit, **state)
    else:
        Path(root, "simulation/units", unit).unlink()
    done = libhook(host, "plan", "-", stdin=WIN11.xml(1, False))
    line = f"the host cannot be kept from sleeping, because {said}, {STAYS}"
    assert (done.code, f"refuse: {line}\n" in done.out) == (1, True)
    outcome = host.event(WIN11, "prepare")
    assert (outcome.line, outcome.changed, told(host)) == (line, (), [])


def test_a_systemd_that_does_not_answer_refuses_the_start(root: str) -> None:
    """Nobody knows whether it would work."""
    host = _host(root)
    faults.inject(root, faults.Fault("systemctl show*", nth=0, error="ECONNREFUSED"))
    assert host.event(WIN11, "prepare").line.startswith(f"systemd does not say what {UNIT} {LOGIND} does")


def test_where_systemd_does_not_answer_at_the_end_recover_makes_up_for_it(root: str) -> None:
    """The device comes back all the same."""
    host = _host(root)
    assert host.libvirt.start(WIN11).error == ""
    faults.inject(root, faults.Fault("systemctl show*", nth=0, error="ECONNREFUSED"))
    host.libvirt.stop("win11")
    assert (host.driver(NIC), systemd.state(root, UNIT)) == ("e1000e", "active")
    faults.heal(root)
    assert libhook(host, "recover").code == 0
    assert (systemd.state(root, UNIT), host.leftovers) == ("inactive", [])


def test_a_unit_that_does_not_stop_is_reported_once(root: str) -> None:
    """It stands in nobody's way."""
    host = _host(root)
    host.begin(WIN11)
    systemd.change(root, UNIT, stops=False)
    ended = host.event(WIN11, "release", "shutdown")
    said = f"the host is still kept from sleeping, because {UNIT} does not stop: this says why: systemctl status {UNIT}"
    assert said in [entry.get("left") for entry in ended.log]
    assert (host.driver(NIC), host.leftovers) == ("e1000e", [])


@pytest.mark.parametrize(("verb", "times"), [("start", 1), ("stop", 1), ("stop", 2)])
def test_a_child_that_is_killed_is_not_the_end_of_it(root: str, verb: str, times: int) -> None:
    """Somebody kills the child that asks systemd, before it has asked: another one does."""
    host = _host(root)
    killed = (faults.Fault(f"systemctl {verb} *", nth, before=(("kill", "writer"),)) for nth in range(1, times + 1))
    faults.inject(root, *killed)
    host.begin(WIN11)
    assert systemd.state(root, UNIT) == "active"
    host.event(WIN11, "release", "shutdown")
    assert (systemd.state(root, UNIT), host.leftovers) == ("inactive", [])


def test_another_at_work_on_it_refuses_the_start(root: str) -> None:
    """It waits no longer than its own time."""
    host = _host(root)
    work = Work(host.machine, make_state(host.machine), overdue.soon(), Config(), WIN11.uuid)
    with host.state.locked(["shared-sleep"], Deadline.after(200)):
        (outcome,) = carry_out(work, [Awake()])
    assert outcome.failure
    assert "shared-sleep" in outcome.failure.reason
    assert systemd.state(root, UNIT) == "inactive"


def test_the_plan_says_it_to_programs(root: str) -> None:
    """And a plan of the guest's end, too."""
    host = _host(root)
    shown = json.loads(libhook(host, "plan", "-", "--json", stdin=WIN11.xml(1, False)).out)
    assert {"action": "sleep", "sleep": "inhibit"}.items() <= shown["actions"][0].items()
    host.begin(WIN11)
    shown = json.loads(libhook(host, "plan", "-", "--json", "--event", "release", stdin=WIN11.xml(1)).out)
    (action,) = (one for one in shown["actions"] if one["action"] == "sleep")
    assert action["sleep"] is None
    assert host.driver(DISK) == "nvme"
