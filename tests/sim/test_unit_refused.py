# SPDX-License-Identifier: LGPL-2.1-or-later
"""Units that may not be stopped, do not stop, or do not help: the start is refused, and nothing is lost."""

from typing import Any
from unittest import mock

import overdue
import pytest
from cases import DISK, GPU, NIC, SOUND
from command import libhook
from scenario import guest
from units import BEFORE, CUPS, DESKTOP, OTHER, SDDM, SOCKET, UNITS, WIN11, host_with, states, told

from libhook.children.child import Deadline
from libhook.errors import BadInput, LibhookError
from libhook.facts.config import Config
from libhook.facts.machine import Machine
from libhook.facts.shared import file_name
from libhook.facts.unit import Unit
from libhook.kinds.kind import Work
from libhook.kinds.unit import carry_out, read
from libhook.kinds.unit.state import State
from libhook.look import systemd as look
from libhook.simulation import commands, faults, processes, store, systemd
from libhook.story import survey
from libhook.story.session import Session, make_state


def test_two_guests_that_contradict_each_other(root: str) -> None:
    """The second is refused, and is told which guest has it."""
    host = host_with(root, f'[units]\n"{CUPS}" = "down"\n[domains.other.units]\n"{CUPS}" = "up"\n')
    host.begin(WIN11)
    outcome = host.event(OTHER, "prepare")
    assert outcome.line.startswith(f"the guest win11 ({WIN11.uuid}) wants {CUPS} to be down, and this one up: ")
    assert (host.driver(DISK), systemd.state(root, CUPS)) == ("nvme", "inactive")


@pytest.mark.parametrize(
    ("units", "said"),
    [
        ('"absent.service" = "down"', "there is no unit absent.service on this host"),
        ('"storage.service" = "down"', "storage.service may not be stopped: it would take libvirtd.service along"),
        ('"stubborn.service" = "down"', "stubborn.service refuses to be stopped by hand"),
        ('"session.service" = "down"', "session.service refuses to be started by hand"),
        ('"idle.service" = "up"', "idle.service refuses to be started by hand"),
        ('"masked.service" = "up"', "masked.service is masked"),
        ('"storage.service" = "up"', "storage.service may not be stopped: it would take libvirtd.service along"),
        ('"woken.service" = "down"', "woken.service may not be stopped: it would take libvirtd.service along"),
        ('"run-r1.service" = "down"', "run-r1.service has no file: nobody could start it again"),
        (
            f'"{SDDM}" = "down"\n"display-manager.service" = "up"',
            f"{SDDM} is to be down, and display-manager.service up: they are one unit",
        ),
    ],
)
def test_what_may_not_be_is_refused_before_anything_is_done(root: str, units: str, said: str) -> None:
    """Nobody has lost a desktop."""
    host = host_with(root, f"[units]\n{units}\n")
    systemd.add(root, "libvirtd.service")
    systemd.add(root, "storage.service", required_by=["middle.service"])
    systemd.add(root, "middle.service", required_by=["libvirtd.service", "storage.service"])
    systemd.add(root, "stubborn.service", may_stop=False)
    systemd.add(root, "session.service", may_start=False)
    systemd.add(root, "idle.service", may_start=False, active="inactive")
    systemd.add(root, "masked.service", load="masked", active="inactive")
    systemd.add(root, "systemd-timesyncd.service", active="inactive")
    systemd.add(root, "woken.service", triggered_by=["waking.socket"])
    systemd.add(root, "waking.socket", required_by=["libvirtd.service"])
    systemd.add(root, "run-r1.service", transient=True)
    outcome = host.event(WIN11, "prepare")
    assert outcome.line.startswith(said)
    assert outcome.line.endswith(": correct units in the settings; libhook config shows where")
    assert (states(host), told(host), outcome.changed) == (BEFORE, [], ())


@pytest.mark.parametrize(
    "name", ["libvirtd.service", "systemd-timesyncd.service", "dbus.service", "virtqemud-ro.socket"]
)
def test_a_protected_unit_is_an_error_of_the_settings(root: str, name: str) -> None:
    """So libhook config shows it, and nobody learns of it at a start."""
    host = host_with(root, f'[units]\n"{name}" = "down"\n')
    wrong = f'/etc/libhook/config.toml: units."{name}" is wrong: it must be a unit that neither libvirt nor '
    assert libhook(host, "config").err.startswith(wrong)


@pytest.mark.parametrize("name", ["libvirt-nosleep@{name}.service", "virtiofsd-win11.service"])
def test_what_only_sounds_like_libvirts_may_be_up(root: str, name: str) -> None:
    """The first is the template that most published set-ups have."""
    host = host_with(root, f'[units]\n"{name}" = "up"\n')
    systemd.add(root, name.replace("{name}", "win11"), active="inactive")
    host.begin(WIN11)
    assert systemd.state(root, name.replace("{name}", "win11")) == "active"
    host.event(WIN11, "release", "shutdown")
    assert systemd.state(root, name.replace("{name}", "win11")) == "inactive"


def test_a_look_that_fails_after_a_stop_undoes_it(root: str) -> None:
    """The desktop does not wait for libvirt's release."""
    host = host_with(root)
    processes.add(root, DESKTOP, "Xorg")
    processes.open_file(root, DESKTOP, "/dev/dri/card0")
    systemd.change(root, SDDM, process=DESKTOP)
    looks = iter(range(2))
    seen = survey.look

    def look(session: Session, *arguments: Any) -> Any:  # noqa: ANN401 - as the real one
        if next(looks, None) is None:
            raise LibhookError("the second look fails", "try again")
        return seen(session, *arguments)

    next(looks)
    with mock.patch.object(survey, "look", look):
        outcome = host.event(guest(GPU, SOUND), "prepare")
    assert outcome.line == "the second look fails: try again"
    assert (states(host), host.driver(GPU)) == (BEFORE, "amdgpu")


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"stops": False}, f"{SDDM} does not stop: this says why: systemctl status {SDDM}"),
        ({"leaves": True}, f"{SDDM} is stopped, and processes of it are left: end them, then start the guest again"),
        ({"stop": 2.0}, f"{SDDM} is stopping: wait until it is down, then start the guest again"),
    ],
)
def test_a_stop_that_is_none_refuses_the_start(
    root: str, monkeypatch: pytest.MonkeyPatch, how: dict[str, Any], said: str
) -> None:
    """A stop job ends well all the same. What was stopped comes back, and no device is touched."""
    monkeypatch.setattr("libhook.effects.systemd.STOP_SECONDS", 0.5)
    host = host_with(root)
    systemd.change(root, SDDM, **how)
    outcome = host.event(WIN11, "prepare")
    assert said in outcome.line
    assert host.driver(NIC) == "e1000e"
    systemd.change(root, SDDM, stop=0.0)
    host.event(WIN11, "release", "failed")
    assert states(host) == BEFORE
    assert host.leftovers == []


def test_where_the_desktop_was_not_what_has_the_card_open_it_comes_back(root: str) -> None:
    """The guest is refused, as it would have been, and the desktop is there again."""
    host = host_with(root)
    processes.add(root, DESKTOP, "Xorg")
    processes.open_file(root, DESKTOP, "/dev/dri/card0")
    outcome = host.event(guest(GPU, SOUND), "prepare")
    assert outcome.line.startswith(f"{GPU} is in use by the host: ")
    assert (states(host), host.driver(GPU)) == (BEFORE, "amdgpu")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ('[values]\n"vm.absent" = 1\n', "/proc/sys/vm/absent"),
        ('[run.fail]\ncommand = ["/usr/bin/fail"]\n', "the command fail has ended with status 3"),
    ],
)
def test_what_fails_before_the_desktop_is_down_costs_no_desktop(root: str, settings: str, said: str) -> None:
    """Also where the desktop has the card open, so that libhook looks again once it is down."""
    host = host_with(root, f"{settings}{UNITS}")
    commands.add(root, "/usr/bin/fail", status=3)
    processes.add(root, DESKTOP, "Xorg", ["/dev/dri/card0"])
    systemd.change(root, SDDM, process=DESKTOP)
    outcome = host.event(guest(GPU, SOUND), "prepare")
    assert (outcome.code, said in outcome.line) == (1, True)
    assert not [call for call in told(host) if SDDM in call]
    assert (states(host), host.driver(GPU)) == (BEFORE, "amdgpu")


def test_what_was_to_be_taken_along_is_claimed_no_more(root: str) -> None:
    """It was claimed before the desktop went down, and the plan after that is a refusal."""
    host = host_with(root, f'siblings = "bind"\n{UNITS}')
    processes.add(root, DESKTOP, "Xorg")
    processes.open_file(root, DESKTOP, "/dev/dri/card0")
    assert host.event(guest(GPU), "prepare").code == 1
    host.event(guest(GPU), "release", "failed")
    assert host.leftovers == []


def test_a_systemd_that_does_not_answer_refuses_the_start(root: str) -> None:
    """And the give-back leaves it to the next."""
    host = host_with(root)
    faults.inject(root, faults.Fault("systemctl show*", nth=0, error="ECONNREFUSED"))
    outcome = host.event(WIN11, "prepare")
    assert outcome.line.startswith("systemd does not say what ")
    assert (outcome.code, outcome.changed) == (1, ())


@pytest.mark.parametrize(
    "name", ["libvirtd.service", "a/libvirtd.service", "-.mount", "-x.service", "nothing", "x.target"]
)
def test_a_journal_entry_that_names_another_unit_is_broken(name: str) -> None:
    """Root would act on it."""
    with pytest.raises(BadInput):
        read({"unit": name, "state": "down"})
    assert read({"unit": SDDM, "state": "down"}) == State(SDDM, "down")


def test_a_unit_on_which_another_works_refuses_the_start(root: str) -> None:
    """It waits no longer than its own time."""
    host = host_with(root)
    work = Work(host.machine, make_state(host.machine), overdue.soon(), Config(), WIN11.uuid)
    with host.state.locked([f"shared-{file_name(f'unit {SDDM}')}"], Deadline.after(200)):
        (outcome,) = carry_out(work, [State(SDDM, "down")])
    assert outcome.failure
    assert "shared-" in outcome.failure.reason
    assert systemd.state(root, SDDM) == "active"


def test_a_unit_whose_last_process_ends_a_moment_late_comes_back(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was still there when the start was refused, and gone when that was undone: our doing, both."""
    host = host_with(root, '[units]\n"foo.service" = "down"\n')
    systemd.add(root, "foo.service", leaves=True)
    real, seen = look.is_populated, list[str]()

    def once(machine: Machine, one: Unit) -> bool:
        seen.append(one.name)
        if len(seen) > 1:
            systemd._populate(root, "foo.service", False)
        return real(machine, one)

    monkeypatch.setattr(look, "is_populated", once)
    outcome = host.event(WIN11, "prepare")
    assert "foo.service is stopped, and processes of it are left" in outcome.line
    assert (len(seen) > 1, systemd.state(root, "foo.service")) == (True, "active")


def test_a_unit_that_is_gone_at_the_end_keeps_no_other_down(root: str) -> None:
    """As when its package was removed. systemd 262 begins none of several units if it does not know one of them."""
    host = host_with(root)
    host.begin(WIN11)
    store.unlink(f"{root}/simulation/units/{SOCKET}")
    host.event(WIN11, "release", "shutdown")
    assert systemd.state(root, CUPS) == "active"
