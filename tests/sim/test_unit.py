# SPDX-License-Identifier: LGPL-2.1-or-later
"""Units of systemd that are down or up while a guest runs: ``units`` in the settings."""

import json
from pathlib import Path

import overdue
import pytest
from cases import GPU, NIC, SOUND
from command import libhook
from scenario import guest
from units import BEFORE, CUPS, DESKTOP, IRQ, MEANWHILE, OTHER, SDDM, SOCKET, UNITS, WIN11, host_with, states, told

from libhook.children.child import Deadline
from libhook.facts.config import Config
from libhook.kinds.kind import Work
from libhook.kinds.unit import carry_out
from libhook.kinds.unit.state import State
from libhook.simulation import commands, faults, processes, systemd
from libhook.story.session import make_state


def test_units_are_as_the_guest_wants_them_while_it_lives(root: str) -> None:
    """An alias leads to the unit behind it; the socket goes and comes with its service."""
    host = host_with(root)
    foretold = host.call(("win11", "prepare", "begin", "-"), WIN11.xml(1, False), dry_run=True)
    assert foretold.stderr[:3] == (
        f"stop {SDDM} (display-manager.service), and wait for 100 s at most",
        f"stop {CUPS}, and wait for 100 s at most",
        f"start {IRQ}",
    )
    assert (states(host), told(host)) == (BEFORE, [])
    host.begin(WIN11)
    assert states(host) == MEANWHILE
    assert f"unit {SDDM}  down" in libhook(host, "status").out
    ended = host.event(WIN11, "release", "shutdown")
    assert states(host) == BEFORE
    assert f"give {SDDM} back its state, if no other guest needs it down" in ended.plan
    assert [set(one.split()) for one in told(host) if one.startswith("start") and CUPS in one] == [
        {"start", SOCKET, CUPS}
    ]
    assert host.leftovers == []


def test_in_a_container_too_a_unit_that_is_down_has_nothing_left(root: str) -> None:
    """The root of its control groups tells of all processes there. A host's has no such file (cgroup-v2.rst)."""
    host = host_with(root)
    Path(root, "sys/fs/cgroup/cgroup.events").write_text("populated 1\nfrozen 0\n")
    host.begin(WIN11)
    assert states(host) == MEANWHILE
    host.event(WIN11, "release", "shutdown")
    assert states(host) == BEFORE


@pytest.mark.parametrize("first_to_end", [0, 1])
def test_who_ends_first_leaves_the_other_its_units(root: str, first_to_end: int) -> None:
    """They come back with the last."""
    host = host_with(root)
    guests = [WIN11, OTHER]
    for one in guests:
        host.begin(one)
    host.event(guests.pop(first_to_end), "release", "shutdown")
    assert states(host) == MEANWHILE
    host.event(guests.pop(), "release", "shutdown")
    assert states(host) == BEFORE
    assert host.leftovers == []


def test_what_stops_along_comes_back_too(root: str) -> None:
    """A service that is bound to a mount, say."""
    host = host_with(root, f'[units]\n"{CUPS}" = "down"\n')
    systemd.add(root, "print.service")
    systemd.change(root, CUPS, required_by=["print.service"])
    systemd.change(root, "print.service", triggered_by=["print.timer"])
    systemd.add(root, "print.timer")
    host.begin(WIN11)
    assert systemd.state(root, "print.service") == "inactive"
    host.event(WIN11, "release", "shutdown")
    assert (systemd.state(root, "print.service"), states(host), host.leftovers) == ("active", BEFORE, [])


def test_up_is_the_unit_and_its_end_leaves_the_socket(root: str) -> None:
    """A service whose socket is on already; at the end only the socket is on again."""
    host = host_with(root, f'[units]\n"{CUPS}" = "up"\n')
    systemd.change(root, CUPS, active="inactive")
    host.begin(WIN11)
    assert (systemd.state(root, CUPS), systemd.state(root, SOCKET)) == ("active", "active")
    host.event(WIN11, "release", "shutdown")
    assert (systemd.state(root, CUPS), systemd.state(root, SOCKET), host.leftovers) == ("inactive", "active", [])


def test_a_unit_that_was_on_its_way_down_is_not_started(root: str) -> None:
    """Nor is anything that is called "stopping"."""
    host = host_with(root, f'[units]\n"{SDDM}" = "down"\n')
    systemd.change(root, SDDM, active="deactivating")
    host.begin(WIN11)
    host.event(WIN11, "release", "shutdown")
    assert not [call for call in told(host) if call.startswith("start")]
    assert host.leftovers == []


def test_where_systemd_does_not_answer_at_the_end_nothing_is_forgotten(root: str) -> None:
    """One of two guests ends meanwhile; recover makes up for it, and the other keeps what it needs."""
    host = host_with(root)
    for one in (WIN11, OTHER):
        assert host.libvirt.start(one).error == ""
    faults.inject(root, faults.Fault("systemctl show*", nth=0, error="ECONNREFUSED"))
    host.libvirt.stop("win11")
    assert host.driver(NIC) == "e1000e"
    faults.heal(root)
    assert libhook(host, "recover").code == 0
    assert states(host) == MEANWHILE
    host.libvirt.stop("other")
    assert (states(host), host.leftovers) == (BEFORE, [])


def test_a_slow_stop_takes_no_time_from_the_rest(root: str) -> None:
    """What is looked at after it has the whole time of an event again."""
    host = host_with(root)
    processes.add(root, DESKTOP, "Xorg", ["/dev/dri/card0"])
    systemd.change(root, SDDM, process=DESKTOP)
    overdue.when(lambda: systemd.state(root, SDDM) == "inactive", seconds=60)  # an event has 30 here
    host.begin(guest(GPU, SOUND))
    assert host.driver(GPU) == "vfio-pci"


def test_a_unit_that_does_not_start_again_is_reported_once(root: str) -> None:
    """Nothing more can be done for it: it stands in nobody's way."""
    host = host_with(root)
    host.begin(WIN11)
    systemd.change(root, SDDM, starts=False)
    ended = host.event(WIN11, "release", "shutdown")
    (entry,) = (entry for entry in ended.logged("done") if "left" in entry)
    assert entry["left"] == f"{SDDM} does not start: this says why: systemctl status {SDDM}"
    assert host.driver(NIC) == "e1000e"
    assert host.leftovers == []
    host.begin(WIN11)


def test_what_somebody_else_started_meanwhile_stays_as_it_is(root: str) -> None:
    """An administrator needed it."""
    host = host_with(root)
    host.begin(WIN11)
    systemd.change(root, SOCKET, active="active")
    ended = host.event(WIN11, "release", "shutdown")
    said = f'{CUPS} was changed to "{SOCKET}" by somebody else, and stays so'
    assert said in [entry.get("left") for entry in ended.log]
    assert (states(host), host.leftovers) == (BEFORE | {CUPS: "inactive"}, [])


def test_a_graphics_card_is_free_once_the_desktop_is_gone(root: str) -> None:
    """It is looked at after that; the refusal that it was, without these settings, is one no more."""
    host = host_with(root)
    processes.add(root, DESKTOP, "Xorg")
    processes.open_file(root, DESKTOP, "/dev/dri/card0")
    systemd.change(root, SDDM, process=DESKTOP)
    card = guest(GPU, SOUND)
    foretold = host.call(("win11", "prepare", "begin", "-"), card.xml(1, False), dry_run=True)
    unless = [line for line in foretold.stderr if line.startswith(f"refuse unless {GPU} is free")]
    assert [f"(checked after: stop {CUPS}" in line for line in unless] == [True]
    host.begin(card)
    assert host.driver(GPU) == "vfio-pci"
    host.event(card, "release", "shutdown")
    assert (states(host), host.leftovers) == (BEFORE, [])


def test_a_command_that_needs_the_units_down(root: str) -> None:
    """It is run between them and the device; another before them, wherever it stands. The undo is the reverse."""
    config = '[run.pool]\nafter = "units"\ncommand = ["/usr/bin/pool", "out"]\nundo = ["/usr/bin/pool", "in"]\n'
    host = host_with(root, f'{config}[run.first]\ncommand = ["/usr/bin/first"]\n{UNITS}')
    for program in ("/usr/bin/pool", "/usr/bin/first"):
        commands.add(root, program)
    foretold = libhook(host, "plan", "-", stdin=WIN11.xml(1, False)).out
    order = ["run /usr/bin/first", f"stop {SDDM}", f"start {IRQ}", "run /usr/bin/pool out", f"{NIC}:"]
    assert sorted(order, key=foretold.index) == order
    host.begin(WIN11)
    ended = host.event(WIN11, "release", "shutdown")
    order = ["undo the command pool", f"give {SDDM}", "end what is left of the command first"]
    assert sorted(order, key="\n".join(ended.plan).index) == order
    assert (states(host), host.leftovers) == (BEFORE, [])


def test_one_unit_by_two_names_is_stopped_once(root: str) -> None:
    """And the plan says so for programs, too."""
    host = host_with(root, f'[units]\n"{SDDM}" = "down"\n"display-manager.service" = "down"\n')
    shown = json.loads(libhook(host, "plan", "-", "--json", stdin=WIN11.xml(1, False)).out)
    (action,) = (one for one in shown["actions"] if one["action"] == "unit")
    assert (action["unit"], action["state"]) == (SDDM, "down")
    host.begin(WIN11)
    assert told(host) == [f"stop {SDDM}"]
    held = host.state.load(WIN11.uuid)
    assert held
    assert [one.subject for one in held.actions if one.kind == "unit"] == [SDDM]


def test_the_plan_says_how_long_it_may_take(root: str) -> None:
    """Each kind of action by its own limit, and all else; a look after the stop has as long again. Once, at the end."""
    host = host_with(root, f"write_deadline = 7.5\n{UNITS}")
    lines = libhook(host, "plan", "-", stdin=WIN11.xml(1, False)).out.splitlines()
    assert lines[-1] == "may take up to 152.5 s: unit 130 s, module 7.5 s, pci 7.5 s, all else 7.5 s"
    assert [line for line in lines if "may take" in line] == lines[-1:]
    shown = json.loads(libhook(host, "plan", "-", "--json", stdin=WIN11.xml(1, False)).out)
    assert (shown["seconds"], shown["limits"][0]) == (152.5, {"what": "unit", "seconds": 130})
    processes.add(root, DESKTOP, "Xorg")
    processes.open_file(root, DESKTOP, "/dev/dri/card0")
    lines = libhook(host, "plan", "-", stdin=guest(GPU, SOUND).xml(1, False)).out.splitlines()
    assert lines[-1] == "may take up to 160 s: unit 130 s, module 7.5 s, pci 7.5 s, all else 15 s"
    host.configure(f"write_deadline = 7.5\nsiblings = 'refuse'\n{UNITS}")
    refused = libhook(host, "plan", "-", "--json", stdin=guest(GPU).xml(1, False))
    assert (json.loads(refused.out)["seconds"], json.loads(refused.out)["limits"]) == (0, [])


def test_a_unit_that_is_gone_at_the_end_is_reported(root: str) -> None:
    """Somebody has removed its package."""
    host = host_with(root)
    host.begin(WIN11)
    Path(root, "simulation/units", SDDM).unlink()
    ended = host.event(WIN11, "release", "shutdown")
    assert f"{SDDM} was changed to nothing by somebody else, and stays so" in [one.get("left") for one in ended.log]
    assert (host.driver(NIC), host.leftovers) == ("e1000e", [])


def test_a_unit_of_the_guests_own_has_its_name(root: str) -> None:
    """Escaped, in the plan, for systemd, and in the journal entry; another guest has another unit."""
    host = host_with(root, '[units]\n"my-thing@{name}.service" = "up"\n')
    mine, own = WIN11._replace(name="win-11"), r"my-thing@win\x2d11.service"
    for unit in (own, "my-thing@other.service"):
        systemd.add(root, unit, active="inactive")
    assert f"start {own}\n" in libhook(host, "plan", "-", stdin=mine.xml(1, False)).out
    host.begin(mine)
    host.begin(OTHER)
    assert told(host) == [f"start {own}", "start my-thing@other.service"]
    host.event(mine, "release", "shutdown")
    assert (systemd.state(root, own), systemd.state(root, "my-thing@other.service")) == ("inactive", "active")


def test_a_name_that_makes_no_unit_refuses_the_start(root: str) -> None:
    """Each of its letters takes four in the unit's name. At its end such a guest is served all the same."""
    host = host_with(root, "")
    mine = WIN11._replace(name="*" * 80)
    host.begin(mine)
    host.configure('[units]\n"my-thing@{name}.service" = "down"\n')
    host.event(mine, "release", "shutdown")
    assert (host.driver(NIC), host.leftovers) == ("e1000e", [])
    outcome = host.event(mine, "prepare")
    assert outcome.line.endswith(".service is no unit's name: give the guest a shorter name")
    assert (told(host), outcome.changed) == ([], ())


def test_what_libvirt_has_come_to_depend_on_is_not_stopped(root: str) -> None:
    """Somebody changed the units after the plan was made."""
    host = host_with(root)
    systemd.add(root, "libvirtd.service")
    systemd.change(root, CUPS, required_by=["libvirtd.service"])
    work = Work(host.machine, make_state(host.machine), Deadline.after(200), Config(), WIN11.uuid)
    (outcome,) = carry_out(work, [State(CUPS, "down")])
    assert (bool(outcome.failure), told(host), systemd.state(root, "libvirtd.service")) == (True, [], "active")
