# SPDX-License-Identifier: LGPL-2.1-or-later
"""Units of users that are down or up while a guest runs: "USER/UNIT" and "@seat0/UNIT" in ``units``."""

from typing import Any

import hanging
import pytest
from cases import DISK, NIC
from command import libhook
from scenario import Host, guest

from libhook.children.child import Deadline
from libhook.errors import BadInput
from libhook.facts.config import Config
from libhook.facts.event import OPERATIONS, Event
from libhook.facts.host import NOTHING
from libhook.facts.plan import Refusal
from libhook.facts.situation import Situation
from libhook.facts.unit import is_anyones
from libhook.kinds.kind import Work
from libhook.kinds.unit import look, read, wanted
from libhook.kinds.unit.state import State
from libhook.simulation import faults, logind, store, systemd
from libhook.simulation.hosts import workstation
from libhook.xml import domxml

PIPEWIRE, SOCKET, PULSE = "pipewire.service", "pipewire.socket", "pipewire-pulse.service"
WIN11, OTHER = guest(NIC), guest(DISK, name="other")._replace(uuid="11111111-2222-3333-4444-555555555555")
DOWN = f'[units]\n"tim/{PIPEWIRE}" = "down"\n'
AT_SEAT = f'[units]\n"@seat0/{PIPEWIRE}" = "down"\n'


def _host(root: str, config: str = DOWN, user: str = "tim") -> Host:
    """A host on which the user is logged in, and hears music."""
    host = Host(root, workstation(), f"holder_wait = 0.3\n{config}")
    systemd.add(own := systemd.log_in(root, user), PIPEWIRE, triggered_by=[SOCKET], required_by=[PULSE])
    systemd.add(own, SOCKET)
    systemd.add(own, PULSE)
    return host


def _own(host: Host, user: str = "tim") -> str:
    return f"{host.root}/simulation/users/{user}"


def _states(host: Host, user: str = "tim") -> list[str]:
    return [systemd.state(_own(host, user), name) for name in (PIPEWIRE, SOCKET, PULSE)]


def _told(folder: str) -> list[str]:
    calls = store.lines(f"{folder}/var/log/systemctl.jsonl")
    return [" ".join((call["verb"], *call["names"])) for call in calls if call["verb"] != "show"]


def test_a_users_unit_is_down_while_the_guest_runs(root: str) -> None:
    """With its family. Only the user's manager is told; plan, status, journal and claim name user and unit."""
    host = _host(root)
    plan = libhook(host, "plan", "-", stdin=WIN11.xml(1, False)).out
    assert f"stop tim/{PIPEWIRE}, and wait for 100 s at most\n" in plan
    host.begin(WIN11)
    assert _states(host) == ["inactive"] * 3
    assert f"unit tim/{PIPEWIRE}  down" in libhook(host, "status").out
    assert "unit%20tim%2Fpipewire%2Eservice.json" in host.state.names("shared")
    ended = host.event(WIN11, "release", "shutdown")
    assert f"give tim/{PIPEWIRE} back its state, if no other guest needs it down" in ended.plan
    assert (_states(host), host.leftovers) == (["active"] * 3, [])
    told = [f"stop {PULSE} {PIPEWIRE} {SOCKET}", f"start {SOCKET} {PULSE} {PIPEWIRE}"]
    assert (_told(_own(host)), _told(host.root)) == (told, [])


def test_two_guests_and_two_users(root: str) -> None:
    """Each user's unit is a thing of its own, and comes back with the last guest that needs it."""
    host = _host(root, f'{DOWN}[domains.other.units]\n"eva/{PIPEWIRE}" = "down"\n"eva/pi*.socket" = "down"\n')
    eva = systemd.log_in(root, "eva")
    systemd.add(eva, PIPEWIRE)
    systemd.add(eva, SOCKET)
    host.begin(WIN11)
    assert systemd.state(eva, PIPEWIRE) == "active"
    host.begin(OTHER)
    assert [systemd.state(eva, name) for name in (PIPEWIRE, SOCKET)] == ["inactive"] * 2
    host.event(WIN11, "release", "shutdown")
    assert _states(host) == ["inactive"] * 3
    host.event(OTHER, "release", "shutdown")
    assert (_states(host), systemd.state(eva, SOCKET), host.leftovers) == (["active"] * 3, "active", [])


def test_a_second_guest_keeps_down_what_the_users_systemd_has_forgotten(root: str) -> None:
    """By the same pattern."""
    host = _host(root, '[units]\n"tim/pipewire*.service" = "down"\n')
    host.begin(WIN11)
    systemd.change(_own(host), PIPEWIRE, hidden=True)
    host.begin(OTHER)
    host.event(WIN11, "release", "shutdown")
    assert _states(host)[0] == "inactive"
    host.event(OTHER, "release", "shutdown")
    assert (_states(host), host.leftovers) == (["active"] * 3, [])


def test_who_is_at_the_seat_is_found_at_prepare(root: str) -> None:
    """And is who gets the unit back, whoever sits there by then."""
    host = _host(root, AT_SEAT)
    logind.sit(root, "seat0", "tim")
    host.begin(WIN11)
    assert _states(host) == ["inactive"] * 3
    held = host.state.load(WIN11.uuid)
    assert held
    assert [one.subject for one in held.actions if one.kind == "unit"] == [f"tim/{PIPEWIRE}"]
    logind.sit(root, "seat0", "eva")
    host.event(WIN11, "release", "shutdown")
    assert (_states(host), host.leftovers) == (["active"] * 3, [])


@pytest.mark.parametrize("user", ["", "root", "a b"])
def test_where_nobody_is_at_the_seat_nothing_is_done(root: str, user: str) -> None:
    """Nor for root, nor for a name that no user has."""
    host = _host(root, AT_SEAT)
    if user:
        logind.sit(root, "seat0", user)
    host.begin(WIN11)
    assert _states(host) == ["active"] * 3
    host.configure(AT_SEAT.replace("down", "up"))
    outcome = host.event(OTHER, "prepare")
    assert outcome.line == f"@seat0/{PIPEWIRE} cannot be started: nobody is logged in at seat0: log in there"


def test_a_seat_that_is_left_meanwhile_refuses_nothing(root: str) -> None:
    """A later look finds nobody there, since the session was ended: what was started for the guest is."""
    host = _host(root, AT_SEAT.replace("down", "up"))
    logind.sit(root, "seat0", "tim")
    systemd.change(_own(host), PIPEWIRE, active="inactive")
    host.begin(WIN11)
    held = host.state.load(WIN11.uuid)
    logind.sit(root, "seat0", "")
    event = Event("win11", OPERATIONS["prepare"], "-")
    config = Config(actions={"units": {f"@seat0/{PIPEWIRE}": "up"}})
    looked = {"unit": look(Work(host.machine, host.state, Deadline.after(200), config, WIN11.uuid))}
    situation = Situation(event, domxml.parse(WIN11.xml()), NOTHING, held, config, looked=looked)
    assert list(wanted(situation)) == []
    (refusal,) = wanted(situation._replace(held=None))
    assert isinstance(refusal, Refusal)


def test_a_logind_that_does_not_answer_refuses_the_start(root: str) -> None:
    """Somebody may be there."""
    host = _host(root, AT_SEAT)
    faults.inject(root, faults.Fault("loginctl*", error="ETIMEDOUT"))
    outcome = host.event(WIN11, "prepare")
    assert outcome.line == "logind does not say who is at seat0: this says more: loginctl seat-status seat0"


def test_without_the_users_manager_the_unit_is_down(root: str) -> None:
    """So there is nothing to do for down, and nothing that could start it."""
    host = _host(root)
    systemd.log_out(root, "tim")
    host.begin(WIN11)
    held = host.state.load(WIN11.uuid)
    assert held
    assert [one for one in held.actions if one.kind == "unit"] == []
    host.configure(DOWN.replace("down", "up"))
    outcome = host.event(OTHER, "prepare")
    said = f"tim/{PIPEWIRE} cannot be started: tim is not logged in: "
    said += "log in as that user, or to have those units without that, run: loginctl enable-linger tim"
    assert outcome.line == said
    for one, why in ((WIN11, "shutdown"), (OTHER, "failed")):
        host.event(one, "release", why)
    assert host.leftovers == []


def test_who_has_logged_out_by_the_end_is_reported(root: str) -> None:
    """The unit stays down; nothing is left that would be in the way."""
    host = _host(root)
    host.begin(WIN11)
    systemd.log_out(root, "tim")
    ended = host.event(WIN11, "release", "shutdown")
    said = f"tim/{PIPEWIRE} stays down: tim is not logged in any more: what is enabled there starts at a log-in"
    assert said in [entry.get("left") for entry in ended.log]
    assert (_states(host), host.driver(NIC), host.leftovers) == (["inactive"] * 3, "e1000e", [])


def test_who_logs_out_and_in_again_has_what_came_with_that(root: str) -> None:
    """It is as somebody else has made it."""
    host = _host(root)
    host.begin(WIN11)
    systemd.change(_own(host), SOCKET, active="active")
    ended = host.event(WIN11, "release", "shutdown")
    said = f'tim/{PIPEWIRE} was changed to "{SOCKET}" by somebody else, and stays so'
    assert said in [entry.get("left") for entry in ended.log]
    assert host.leftovers == []


def test_a_users_systemd_that_does_not_answer_is_in_nobodys_way(root: str) -> None:
    """It refuses a start, since nobody knows what runs. A guest's end does not wait for it; recover makes up for it."""
    host = _host(root)
    silence = faults.Fault("systemctl --user*", nth=0, error="ETIMEDOUT")
    faults.inject(root, silence)
    assert host.event(WIN11, "prepare").line == (
        f"the systemd of tim does not say what {PIPEWIRE} does (Connection timed out): this says more: systemctl status"
    )
    faults.inject(root, silence._replace(error="ENXIO"))
    assert host.event(WIN11, "prepare").line.startswith("there is no user tim: correct units in the settings")
    faults.heal(root)
    host.begin(WIN11)
    faults.inject(root, silence)
    ended = host.event(WIN11, "release", "shutdown")
    assert any("the systemd of tim does not say" in str(entry.get("left")) for entry in ended.log)
    assert (host.driver(NIC), host.state.uuids()) == ("e1000e", ())
    faults.heal(root)
    assert libhook(host, "recover").code == 0
    assert (_states(host), host.leftovers) == (["active"] * 3, [])


def test_up_is_started_and_stopped_again(root: str) -> None:
    """As the system's."""
    host = _host(root, '[units]\n"tim/looking-glass.service" = "up"\n')
    systemd.add(_own(host), "looking-glass.service", active="inactive")
    host.begin(WIN11)
    assert systemd.state(_own(host), "looking-glass.service") == "active"
    host.event(WIN11, "release", "shutdown")
    assert (systemd.state(_own(host), "looking-glass.service"), host.leftovers) == ("inactive", [])


@pytest.mark.parametrize(
    ("units", "said"),
    [
        ('"tim/absent.service" = "down"', "there is no unit tim/absent.service on this host"),
        ('"tim/dbu*.service" = "down"', "tim/dbus.service may not be stopped"),
        ('"nobody-there/a.service" = "down"', "there is no user nobody-there: correct units in the settings"),
        (f'"tim/{PULSE}" = "down"', f"tim/{PULSE} may not be stopped: it would take tim/dbus.service along"),
    ],
)
def test_what_may_not_be_is_refused(root: str, units: str, said: str) -> None:
    """Before anything is done."""
    host = _host(root, f"[units]\n{units}\n")
    systemd.add(_own(host), "dbus.service")
    systemd.change(_own(host), PULSE, required_by=["dbus.service"])
    outcome = host.event(WIN11, "prepare")
    assert (outcome.line[: len(said)], _told(_own(host)), outcome.changed) == (said, [], ())


@pytest.mark.parametrize(
    "answer",
    [
        {"names": [PIPEWIRE, "../evil.service"], "triggered_by": ["../../a", "x" * 300, "-H.service"]},
        {"triggered_by": [f"a{number}.socket" for number in range(300)]},
    ],
)
def test_what_a_users_systemd_says_is_checked(root: str, answer: dict[str, Any]) -> None:
    """A name that is none goes nowhere, and there is an end to how much is looked at."""
    host = _host(root)
    systemd.change(_own(host), PIPEWIRE, **answer)
    outcome = host.event(WIN11, "prepare")
    if len(answer["triggered_by"]) > 256:
        assert f"{PIPEWIRE} has more than 256 units that stop with it" in outcome.line
    else:
        assert outcome.code == 0
        asked = {name for call in store.lines(f"{_own(host)}/var/log/systemctl.jsonl") for name in call["names"]}
        assert asked == {PIPEWIRE, PULSE}


@pytest.mark.parametrize(
    "name", ["root/a.service", "@seat0/a.service", "@tty/a.service", "/a.service", "a/b/c.service", "-a/b.service"]
)
def test_a_journal_entry_names_a_user_and_a_unit(name: str) -> None:
    """No seat: who was there is known. The settings may name one."""
    with pytest.raises(BadInput):
        read({"unit": name, "state": "down"})
    assert is_anyones(name) is (name == "@seat0/a.service")
    assert read({"unit": "tim.b_1/a.service", "state": "up"}) == State("tim.b_1/a.service", "up")


@pytest.mark.parametrize("name", ["tim/a.mount", "{name}/a.service", "tim/{name}.automount", "@seat0", "tim/"])
def test_what_the_settings_may_not_name(root: str, name: str) -> None:
    """A guest's name chooses no user; mounts are the system's."""
    host = _host(root, f'[units]\n"{name}" = "down"\n')
    assert host.event(WIN11, "prepare").line.startswith(f'/etc/libhook/config.toml, line 3: units."{name}" is wrong: ')


def test_a_second_name_of_a_user_is_refused(root: str) -> None:
    """Two guests would not meet: the first to end would start what the other needs down. At a seat the first counts."""
    second = DOWN.replace("tim/", "TIM/")
    host = _host(root, f"[domains.win11.units]\n{DOWN[8:]}[domains.other.units]\n{second[8:]}")
    systemd.also_call(root, "tim", "TIM")
    host.begin(WIN11)
    refused = "TIM is another name of the user tim: write tim/ instead of TIM/ under units; libhook config shows where"
    assert host.event(OTHER, "prepare").line == refused
    host.event(OTHER, "release", "failed")
    logind.sit(root, "seat0", "TIM")
    host.configure(AT_SEAT)
    host.begin(OTHER)
    host.event(WIN11, "release", "shutdown")
    assert _states(host) == ["inactive"] * 3
    host.event(OTHER, "release", "shutdown")
    assert (_states(host), host.leftovers) == (["active"] * 3, [])


def test_a_users_name_that_got_another_meanwhile_is_given_back(root: str) -> None:
    """By the name in the journal entry."""
    host = _host(root, DOWN.replace("tim", "eva"), "eva")
    host.begin(WIN11)
    systemd.rename(root, "eva", "eve")
    host.event(WIN11, "release", "shutdown")
    assert (_states(host, "eva"), host.leftovers) == (["active"] * 3, [])


def test_a_name_that_the_settings_cannot_have_is_not_asked_for(root: str) -> None:
    """A directory may give a user's full name to whoever asks for the short one."""
    host = _host(root)
    systemd.rename(root, "tim", "tim@example.org")
    host.begin(WIN11)
    assert _states(host) == ["inactive"] * 3


@pytest.mark.parametrize("how", [{"error": "ETIMEDOUT"}, {"before": hanging.HANG}])
def test_a_directory_that_does_not_answer_refuses_the_start(root: str, how: dict[str, Any]) -> None:
    """Nobody knows who that is."""
    host = _host(root)
    host.patience = 0
    faults.inject(root, faults.Fault("first-name tim", **how))
    hanging.late(root)
    said = "nobody says who the user tim is (Connection timed out): this says more: getent passwd tim"
    assert host.event(WIN11, "prepare").line == said
    hanging.let_go(root)


def test_a_guests_name_goes_into_a_users_unit(root: str) -> None:
    """Escaped, as in the system's."""
    host = _host(root, '[units]\n"tim/my@{name}.service" = "up"\n')
    systemd.add(_own(host), own := r"my@win\x2d11.service", active="inactive")
    host.begin(WIN11._replace(name="win-11"))
    assert _told(_own(host)) == [f"start {own}"]
