# SPDX-License-Identifier: LGPL-2.1-or-later
"""Units of systemd that are down or up while a guest runs: ``units`` in the settings."""

import json
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from cases import DISK, GPU, NIC, SOUND
from command import libhook
from scenario import Host, guest

from libhook.children.child import Deadline
from libhook.errors import BadInput, LibhookError
from libhook.facts.config import Config
from libhook.facts.shared import file_name
from libhook.kinds.kind import Work
from libhook.kinds.unit import State, carry_out, read
from libhook.simulation import faults, processes, store, systemd
from libhook.simulation.hosts import workstation
from libhook.story.session import Session, make_state

SDDM, CUPS, SOCKET, IRQ = "sddm.service", "cups.service", "cups.socket", "irqbalance.service"
WIN11, OTHER = guest(NIC), guest(DISK, name="other")._replace(uuid="11111111-2222-3333-4444-555555555555")
DESKTOP = 800
UNITS = f"""[units]
"display-manager.service" = "down"
"{CUPS}" = "down"
"{IRQ}" = "up"
"""
BEFORE = {SDDM: "active", CUPS: "active", SOCKET: "active", IRQ: "inactive"}
MEANWHILE = {SDDM: "inactive", CUPS: "inactive", SOCKET: "inactive", IRQ: "active"}


def _host(root: str, config: str = UNITS) -> Host:
    host = Host(root, workstation(), f"holder_wait = 0.3\n{config}")
    systemd.add(root, SDDM, names=["display-manager.service"])
    systemd.add(root, CUPS, triggered_by=[SOCKET])
    systemd.add(root, SOCKET)
    systemd.add(root, IRQ, active="inactive")
    return host


def _states(host: Host) -> dict[str, str]:
    return {name: systemd.state(host.root, name) for name in BEFORE}


def _told(host: Host) -> list[str]:
    calls = store.lines(f"{host.root}/var/log/systemctl.jsonl")
    return [" ".join((call["verb"], *call["names"])) for call in calls if call["verb"] != "show"]


def test_units_are_as_the_guest_wants_them_while_it_lives(root: str) -> None:
    """An alias leads to the unit behind it; the socket goes and comes with its service."""
    host = _host(root)
    foretold = host.call(("win11", "prepare", "begin", "-"), WIN11.xml(1, False), dry_run=True)
    assert foretold.stderr[:3] == (
        f"stop {SDDM} (display-manager.service), and wait for 100 s at most",
        f"stop {CUPS}, and wait for 100 s at most",
        f"start {IRQ}",
    )
    assert (_states(host), _told(host)) == (BEFORE, [])
    host.begin(WIN11)
    assert _states(host) == MEANWHILE
    assert f"unit {SDDM}  down" in libhook(host, "status").out
    ended = host.event(WIN11, "release", "shutdown")
    assert _states(host) == BEFORE
    assert f"give {SDDM} back its state, if no other guest needs it down" in ended.plan
    assert _told(host)[-1].startswith("start ")
    assert host.leftovers == []


@pytest.mark.parametrize("first_to_end", [0, 1])
def test_who_ends_first_leaves_the_other_its_units(root: str, first_to_end: int) -> None:
    """They come back with the last."""
    host = _host(root)
    guests = [WIN11, OTHER]
    for one in guests:
        host.begin(one)
    host.event(guests.pop(first_to_end), "release", "shutdown")
    assert _states(host) == MEANWHILE
    host.event(guests.pop(), "release", "shutdown")
    assert _states(host) == BEFORE
    assert host.leftovers == []


def test_two_guests_that_contradict_each_other(root: str) -> None:
    """The second is refused, and is told which guest has it."""
    host = _host(root, f'[units]\n"{CUPS}" = "down"\n[domains.other.units]\n"{CUPS}" = "up"\n')
    host.begin(WIN11)
    outcome = host.event(OTHER, "prepare")
    assert outcome.line.startswith(f"the guest win11 ({WIN11.uuid}) wants {CUPS} to be down, and this one up: ")
    assert (host.driver(DISK), systemd.state(root, CUPS)) == ("nvme", "inactive")


@pytest.mark.parametrize(
    ("units", "said"),
    [
        ('"absent.service" = "down"', "there is no unit absent.service on this host"),
        (
            '"libvirtd.service" = "down"',
            "libvirtd.service may not be stopped: libvirt or the host itself",
        ),
        ('"storage.service" = "down"', "storage.service may not be stopped: it would take libvirtd.service along"),
        ('"stubborn.service" = "down"', "stubborn.service refuses to be stopped by hand"),
        ('"masked.service" = "up"', "masked.service is masked"),
        ('"systemd-timesyncd.service" = "up"', "systemd-timesyncd.service may not be stopped"),
        ('"storage.service" = "up"', "storage.service may not be stopped: it would take libvirtd.service along"),
        ('"woken.service" = "down"', "woken.service may not be stopped: it would take libvirtd.service along"),
        ('"run-r1.service" = "down"', "run-r1.service has no file: nobody could start it again"),
        (
            f'"{SDDM}" = "down"\n"display-manager.service" = "up"',
            f"{SDDM} is to be down, and display-manager.service to be up: they are one unit",
        ),
    ],
)
def test_what_may_not_be_is_refused_before_anything_is_done(root: str, units: str, said: str) -> None:
    """Nobody has lost a desktop."""
    host = _host(root, f"[units]\n{units}\n")
    systemd.add(root, "libvirtd.service")
    systemd.add(root, "storage.service", required_by=["middle.service"])
    systemd.add(root, "middle.service", required_by=["libvirtd.service", "storage.service"])
    systemd.add(root, "stubborn.service", may_stop=False)
    systemd.add(root, "masked.service", load="masked", active="inactive")
    systemd.add(root, "systemd-timesyncd.service", active="inactive")
    systemd.add(root, "woken.service", triggered_by=["waking.socket"])
    systemd.add(root, "waking.socket", required_by=["libvirtd.service"])
    systemd.add(root, "run-r1.service", transient=True)
    outcome = host.event(WIN11, "prepare")
    assert outcome.line.startswith(said)
    assert outcome.line.endswith(": correct units in the settings: libhook config shows them")
    assert (_states(host), _told(host), outcome.changed) == (BEFORE, [], ())


def test_what_stops_along_comes_back_too(root: str) -> None:
    """A service that is bound to a mount, say."""
    host = _host(root, f'[units]\n"{CUPS}" = "down"\n')
    systemd.add(root, "print.service")
    systemd.change(root, CUPS, required_by=["print.service"])
    host.begin(WIN11)
    assert systemd.state(root, "print.service") == "inactive"
    host.event(WIN11, "release", "shutdown")
    assert (systemd.state(root, "print.service"), _states(host), host.leftovers) == ("active", BEFORE, [])


def test_up_is_the_unit_and_its_end_leaves_the_socket(root: str) -> None:
    """A service whose socket is on already; at the end only the socket is on again."""
    host = _host(root, f'[units]\n"{CUPS}" = "up"\n')
    systemd.change(root, CUPS, active="inactive")
    host.begin(WIN11)
    assert (systemd.state(root, CUPS), systemd.state(root, SOCKET)) == ("active", "active")
    host.event(WIN11, "release", "shutdown")
    assert (systemd.state(root, CUPS), systemd.state(root, SOCKET), host.leftovers) == ("inactive", "active", [])


def test_a_unit_that_was_on_its_way_down_is_not_started(root: str) -> None:
    """Nor is anything that is called "stopping"."""
    host = _host(root, f'[units]\n"{SDDM}" = "down"\n')
    systemd.change(root, SDDM, active="deactivating")
    host.begin(WIN11)
    host.event(WIN11, "release", "shutdown")
    assert not [call for call in _told(host) if call.startswith("start")]
    assert host.leftovers == []


def test_a_second_guest_keeps_down_what_systemd_has_forgotten(root: str) -> None:
    """By the same pattern: a unit that nobody names is unloaded once it is down."""
    host = _host(root, '[units]\n"sd*.service" = "down"\n')
    host.begin(WIN11)
    systemd.change(root, SDDM, hidden=True)
    host.begin(OTHER)
    host.event(WIN11, "release", "shutdown")
    assert systemd.state(root, SDDM) == "inactive"
    host.event(OTHER, "release", "shutdown")
    assert (_states(host), host.leftovers) == (BEFORE, [])


def test_where_systemd_does_not_answer_at_the_end_nothing_is_forgotten(root: str) -> None:
    """One of two guests ends meanwhile; recover makes up for it, and the other keeps what it needs."""
    host = _host(root)
    for one in (WIN11, OTHER):
        assert host.libvirt.start(one).error == ""
    faults.inject(root, faults.Fault("systemctl show*", nth=0, error="ECONNREFUSED"))
    host.libvirt.stop("win11")
    assert host.driver(NIC) == "e1000e"
    faults.heal(root)
    assert libhook(host, "recover").code == 0
    assert _states(host) == MEANWHILE
    host.libvirt.stop("other")
    assert (_states(host), host.leftovers) == (BEFORE, [])


def test_a_slow_stop_takes_no_time_from_the_rest(root: str) -> None:
    """What is looked at after it has the whole time of an event again."""
    host = _host(root, f"write_deadline = 1\n{UNITS}")
    processes.add(root, DESKTOP, "Xorg")
    processes.open_file(root, DESKTOP, "/dev/dri/card0")
    systemd.change(root, SDDM, process=DESKTOP, stop=1.2)
    host.begin(guest(GPU, SOUND))
    assert host.driver(GPU) == "vfio-pci"


def test_a_look_that_fails_after_a_stop_undoes_it(root: str) -> None:
    """The desktop does not wait for libvirt's release."""
    host = _host(root)
    processes.add(root, DESKTOP, "Xorg")
    processes.open_file(root, DESKTOP, "/dev/dri/card0")
    systemd.change(root, SDDM, process=DESKTOP)
    looks = iter(range(2))
    seen = Session.look

    def look(session: Session, *arguments: Any) -> Any:  # noqa: ANN401 - as the real one
        if next(looks, None) is None:
            raise LibhookError("the second look fails", "try again")
        return seen(session, *arguments)

    next(looks)
    with mock.patch.object(Session, "look", look):
        outcome = host.event(guest(GPU, SOUND), "prepare")
    assert outcome.line == "the second look fails: try again"
    assert (_states(host), host.driver(GPU)) == (BEFORE, "amdgpu")


def test_a_pattern_matches_what_is_loaded(root: str) -> None:
    """And where nothing matches, there is nothing to do."""
    host = _host(root, '[units]\n"nvidia-*.service" = "down"\n"cu*.service" = "down"\n')
    host.begin(WIN11)
    assert (systemd.state(root, CUPS), systemd.state(root, SDDM)) == ("inactive", "active")
    host.event(WIN11, "release", "shutdown")
    assert (_states(host), host.leftovers) == (BEFORE, [])


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"stops": False}, f"{CUPS} does not stop: see what systemctl status {CUPS} says"),
        ({"leaves": True}, f"{CUPS} is stopped, and processes of it are left: end them, then try again"),
        ({"stop": 2.0}, f"{CUPS} is stopping: end them, then try again"),
    ],
)
def test_a_stop_that_is_none_refuses_the_start(
    root: str, monkeypatch: pytest.MonkeyPatch, how: dict[str, Any], said: str
) -> None:
    """A stop job ends well all the same. What was stopped comes back, and no device is touched."""
    monkeypatch.setattr("libhook.effects.systemd.STOP_SECONDS", 0.5)
    host = _host(root)
    systemd.change(root, CUPS, **how)
    outcome = host.event(WIN11, "prepare")
    assert said in outcome.line
    assert host.driver(NIC) == "e1000e"
    systemd.change(root, CUPS, stop=0.0)
    host.event(WIN11, "release", "failed")
    assert _states(host) == BEFORE
    assert host.leftovers == []


def test_a_unit_that_does_not_start_again_is_reported_once(root: str) -> None:
    """Nothing more can be done for it: it stands in nobody's way."""
    host = _host(root)
    host.begin(WIN11)
    systemd.change(root, SDDM, starts=False)
    ended = host.event(WIN11, "release", "shutdown")
    (entry,) = (entry for entry in ended.logged("done") if "left" in entry)
    assert entry["left"] == f"{SDDM} does not start: see what systemctl status {SDDM} says"
    assert host.driver(NIC) == "e1000e"
    assert host.leftovers == []
    host.begin(WIN11)


def test_what_somebody_else_started_meanwhile_stays_as_it_is(root: str) -> None:
    """An administrator needed it."""
    host = _host(root)
    host.begin(WIN11)
    systemd.change(root, SOCKET, active="active")
    ended = host.event(WIN11, "release", "shutdown")
    said = f'{CUPS} was changed to "{SOCKET}" by somebody else, and stays so'
    assert said in [entry.get("left") for entry in ended.log]
    assert (_states(host), host.leftovers) == (BEFORE | {CUPS: "inactive"}, [])


def test_a_graphics_card_is_free_once_the_desktop_is_gone(root: str) -> None:
    """It is looked at after that; the refusal that it was, without these settings, is one no more."""
    host = _host(root)
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
    assert (_states(host), host.leftovers) == (BEFORE, [])


def test_where_the_desktop_was_not_what_has_the_card_open_it_comes_back(root: str) -> None:
    """The guest is refused, as it would have been, and the desktop is there again."""
    host = _host(root)
    processes.add(root, DESKTOP, "Xorg")
    processes.open_file(root, DESKTOP, "/dev/dri/card0")
    outcome = host.event(guest(GPU, SOUND), "prepare")
    assert outcome.line.startswith(f"{GPU} is in use by the host: ")
    assert (_states(host), host.driver(GPU)) == (BEFORE, "amdgpu")


def test_a_systemd_that_does_not_answer_refuses_the_start(root: str) -> None:
    """And the give-back leaves it to the next."""
    host = _host(root)
    faults.inject(root, faults.Fault("systemctl show*", nth=0, error="ECONNREFUSED"))
    outcome = host.event(WIN11, "prepare")
    assert outcome.line.startswith("systemd does not say what ")
    assert (outcome.code, outcome.changed) == (1, ())


@pytest.mark.parametrize("name", ["libvirtd.service", "a/b.service", "-.mount", "-x.service", "nothing", "x.target"])
def test_a_journal_entry_that_names_another_unit_is_broken(name: str) -> None:
    """Root would act on it."""
    with pytest.raises(BadInput):
        read({"unit": name, "state": "down"})
    assert read({"unit": SDDM, "state": "down"}) == State(SDDM, "down")


def test_one_unit_by_two_names_is_stopped_once(root: str) -> None:
    """And the plan says so for programs, too."""
    host = _host(root, f'[units]\n"{SDDM}" = "down"\n"display-manager.service" = "down"\n')
    shown = json.loads(libhook(host, "plan", "-", "--json", stdin=WIN11.xml(1, False)).out)
    (action,) = (one for one in shown["actions"] if one["action"] == "unit")
    assert (action["unit"], action["state"]) == (SDDM, "down")
    host.begin(WIN11)
    assert _told(host) == [f"stop {SDDM}"]
    held = host.state.load(WIN11.uuid)
    assert held
    assert [one.subject for one in held.actions if one.kind == "unit"] == [SDDM]


def test_a_unit_that_is_gone_at_the_end_is_reported(root: str) -> None:
    """Somebody has removed its package."""
    host = _host(root)
    host.begin(WIN11)
    Path(root, "simulation/units", SDDM).unlink()
    ended = host.event(WIN11, "release", "shutdown")
    assert f"{SDDM} was changed to nothing by somebody else, and stays so" in [one.get("left") for one in ended.log]
    assert (host.driver(NIC), host.leftovers) == ("e1000e", [])


def test_a_unit_on_which_another_works_refuses_the_start(root: str) -> None:
    """It waits no longer than its own time."""
    host = _host(root)
    work = Work(host.machine, make_state(host.machine), Deadline.after(0.1), Config(), WIN11.uuid)
    with host.state.locked([f"shared-{file_name(f'unit {SDDM}')}"], Deadline.after(20)):
        (outcome,) = carry_out(work, [State(SDDM, "down")])
    assert outcome.failure
    assert "shared-" in outcome.failure.reason
    assert systemd.state(root, SDDM) == "active"
