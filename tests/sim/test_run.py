# SPDX-License-Identifier: LGPL-2.1-or-later
"""Commands of the administrator's own: ``run`` in the settings."""

import errno
import json
import threading
from pathlib import Path
from typing import Any

import disturbing
import hanging
import pytest
from cases import NIC
from command import libhook
from scenario import Host, guest

from libhook.facts.command import unit
from libhook.simulation import commands, faults, processes, store, systemd
from libhook.simulation.hosts import nic
from libhook.simulation.libvirt import Libvirt

WIN11 = guest(NIC)
SCREEN, LIGHT, SHOW = "/usr/local/bin/screen", "/usr/local/bin/light", "/usr/bin/show"
SETTINGS = f"""
[run.screen]
command = ["{SCREEN}", "$HOME", "to guest"]
undo = ["{SCREEN}", "to host"]
[run.light]
command = ["{LIGHT}"]
undo = ["{LIGHT}", "off"]
user = "tim"
[run.show]
command = ["{SHOW}"]
background = true
at = "started"
"""
RUNNING = unit(WIN11.uuid, "show")


def host_with(root: str, config: str = SETTINGS, **ends: Any) -> Host:  # noqa: ANN401 - whatever JSON has
    """A host with these commands. ``ends`` is how the screen's ends."""
    host = Host(root, nic(), config)
    for program in (LIGHT, SHOW):
        commands.add(root, program)
    commands.add(root, SCREEN, **ends)
    return host


def argvs(host: Host) -> list[list[str]]:
    """What was run."""
    return [one["argv"] for one in commands.ran(host.root)]


def test_commands_are_run_in_order_and_undone_in_reverse(root: str) -> None:
    """Each with what it may know; the one in the background lives as long as the guest."""
    host = host_with(root)
    assert host.libvirt.start(WIN11).error == ""
    assert argvs(host) == [[SCREEN, "$HOME", "to guest"], [LIGHT], [SHOW]]
    screen, light, show = commands.ran(root)
    assert (screen["user"], light["user"]) == ("", "tim")
    assert screen["environment"] == {
        "LIBHOOK_GUEST": "win11",
        "LIBHOOK_UUID": WIN11.uuid,
        "LIBHOOK_OPERATION": "prepare",
        "LIBHOOK_DEVICES": str(NIC),
        "LIBHOOK_TAPS": "",
    }
    assert show["environment"]["LIBHOOK_OPERATION"] == "started"
    assert screen["stdin"].startswith("<domain")
    assert systemd.running(root) == [RUNNING]
    assert "run screen" in libhook(host, "status").out
    host.libvirt.stop("win11")
    assert argvs(host)[3:] == [[LIGHT, "off"], [SCREEN, "to host"]]
    light, screen = commands.ran(root)[3:]
    assert (light["user"], screen["user"]) == ("tim", "")
    assert screen["environment"] == {**commands.ran(root)[0]["environment"], "LIBHOOK_OPERATION": "release"}
    assert screen["stdin"].startswith("<domain")
    assert systemd.running(root) == []
    assert host.leftovers == []


def test_the_plan_says_what_would_be_run(root: str) -> None:
    """And nothing is."""
    host = host_with(root)
    foretold = host.call(("win11", "prepare", "begin", "-"), WIN11.xml(1, False), dry_run=True)
    assert [line for line in foretold.stderr if "run /" in line or "undone by" in line] == [
        f"run {SCREEN} '$HOME' 'to guest', for 30 s at most",
        f"  undone by {SCREEN} 'to host'",
        f"run {LIGHT} as tim, for 30 s at most",
        f"  undone by {LIGHT} off",
        f"once the guest runs, run {SHOW}, in the background as long as the guest lives",
    ]
    assert argvs(host) == []
    host.begin(WIN11)
    ended = host.call(("win11", "release", "end", "-"), WIN11.xml(-1, True), dry_run=True)
    of_commands = tuple(line for line in ended.stderr if "command" in line)
    assert of_commands == (
        "end what is left of the command show",
        f"undo the command light: {LIGHT} off as tim, for 30 s at most",
        f"undo the command screen: {SCREEN} 'to host', for 30 s at most",
    )
    assert ended.stderr == host.event(WIN11, "release").plan


@pytest.mark.parametrize(
    ("ends", "said"),
    [
        ({"status": 3}, "the command screen has ended with status 3: see journalctl -u libhook-run-"),
        (
            {"says": "Failed to find \x1bexecutable"},
            "the command screen cannot be executed: Failed to find \\x1bexecutable",
        ),
        ({"seconds": 0.3}, "the command screen has not ended within 0.2 s: see journalctl -u libhook-run-"),
    ],
)
def test_a_command_that_fails_refuses_the_start(root: str, ends: dict[str, Any], said: str) -> None:
    """Then all undos are run, also of the command itself: nobody knows how far it came."""
    first = f'[run.first]\ncommand = ["{LIGHT}"]\nundo = ["{LIGHT}", "first"]\n'
    seconds = 0.2 if "seconds" in ends else 60
    config = SETTINGS.replace("[run.screen]", f"{first}[run.screen]\nseconds = {seconds}")
    host = host_with(root, config, **ends)
    refused = host.event(WIN11, "prepare")
    assert refused.code == 1
    assert said in refused.line
    assert argvs(host)[-3:] == [[LIGHT, "off"], [SCREEN, "to host"], [LIGHT, "first"]]
    assert [LIGHT] not in argvs(host)[1:]
    assert host.driver(NIC) == "e1000e"
    host.event(WIN11, "release", "failed")
    assert host.leftovers == []


def test_a_failure_that_is_only_logged(root: str) -> None:
    """The guest starts; the undo is run all the same."""
    host = host_with(root, SETTINGS.replace("[run.light]", 'on_failure = "log"\n[run.light]'), status=3)
    begun = host.event(WIN11, "prepare")
    assert begun.code == 0
    (entry,) = [entry for entry in begun.logged("done") if "left" in entry]
    assert (entry["level"], entry["action"]) == ("error", "run screen")
    assert entry["left"].startswith("the command screen has ended with status 3")
    host.event(WIN11, "release", "failed")
    assert [SCREEN, "to host"] in argvs(host)
    assert host.leftovers == []


def test_an_undo_that_fails_is_reported_and_not_tried_again(root: str) -> None:
    """It stops nothing that is undone after it, and not the guest's next start."""
    host = host_with(root)
    host.begin(WIN11)
    commands.add(root, LIGHT, status=1)
    ended = host.event(WIN11, "release", "shutdown")
    (entry,) = [entry for entry in ended.logged("done") if "left" in entry]
    assert entry["left"].startswith("the command light has ended with status 1: see journalctl -u libhook-undo-")
    assert argvs(host)[-1] == [SCREEN, "to host"]
    assert (host.driver(NIC), host.leftovers) == ("e1000e", [])


def test_what_fails_once_the_guest_runs_is_logged(root: str) -> None:
    """Never refused, and undone at the end."""
    late = f'[run.screen]\ncommand = ["{SCREEN}"]\nundo = ["{SCREEN}", "back"]\nat = "started"\n'
    host = host_with(root, late, status=1)
    host.begin(WIN11)
    assert argvs(host) == [[SCREEN]]
    host.event(WIN11, "release", "shutdown")
    assert argvs(host) == [[SCREEN], [SCREEN, "back"]]
    assert host.leftovers == []


def test_a_dry_run_that_is_turned_on_meanwhile_begins_nothing(root: str) -> None:
    """What was run before is still undone."""
    host = host_with(root)
    for operation in ("prepare", "start"):
        assert host.event(WIN11, operation).code == 0
    host.configure(f"dry_run = true\n{SETTINGS}")
    begun = host.event(WIN11, "started")
    assert f"once the guest runs, run {SHOW}, in the background as long as the guest lives" in begun.plan
    assert [SHOW] not in argvs(host)
    host.event(WIN11, "release", "shutdown")
    assert argvs(host)[-1] == [SCREEN, "to host"]
    assert (host.driver(NIC), host.leftovers) == ("e1000e", [])


def test_a_command_is_told_the_names_of_the_taps(root: str) -> None:
    """Those that the XML has by then. The undo is told the same, though they are gone."""
    host = host_with(root, f'[run.screen]\nat = "start"\ncommand = ["{SCREEN}"]\nundo = ["{SCREEN}", "off"]\n')
    taps = "".join(f"<interface type='bridge'><target dev='vnet{number}'/></interface>" for number in (3, 4))
    host.event(WIN11, "prepare")
    host.call((WIN11.name, "start", "begin", "-"), WIN11.xml(1, True).replace(b"<memb", f"{taps}<memb".encode()))
    host.event(WIN11, "release", "shutdown")
    told, undone = (one["environment"]["LIBHOOK_TAPS"] for one in commands.ran(root))
    assert (told, undone) == ("vnet3 vnet4", "vnet3 vnet4")


def test_an_entry_with_an_undo_alone(root: str) -> None:
    """Something for the guest's end."""
    host = host_with(root, f'[run.screen]\nundo = ["{SCREEN}"]\n')
    foretold = host.call(("win11", "prepare", "begin", "-"), WIN11.xml(1, False), dry_run=True)
    assert f"at the guest's end run {SCREEN}, for 30 s at most" in foretold.stderr
    host.begin(WIN11)
    assert argvs(host) == []
    host.event(WIN11, "release", "shutdown")
    assert argvs(host) == [[SCREEN]]


def test_a_dead_guests_commands_are_undone_by_recover(root: str) -> None:
    """What still runs is ended first."""
    host = host_with(root)
    host.begin(WIN11)
    processes.end(root, host.libvirt.pid)
    assert systemd.running(root) == [RUNNING]
    assert libhook(host, "recover").code == 0
    assert systemd.running(root) == []
    assert argvs(host)[-1] == [SCREEN, "to host"]
    assert host.leftovers == []


def test_where_systemd_does_not_answer_the_guest_is_refused(root: str) -> None:
    """In time, and the device stays where it is."""
    host = host_with(root, SETTINGS.replace('undo = ["/usr/local/bin/screen", "to host"]', ""))
    faults.inject(root, faults.Fault("systemd-run*", nth=0, error="ENOENT"))
    refused = host.event(WIN11, "prepare")
    assert (
        "the command screen cannot be executed: No such file or directory: correct run in the settings" in refused.line
    )
    assert host.driver(NIC) == "e1000e"


def test_a_dead_guests_undo_is_given_no_other_guests_document(root: str) -> None:
    """It is undone because another one wants the device."""
    host = host_with(root)
    host.begin(WIN11)
    processes.end(root, host.libvirt.pid)
    host.libvirt = Libvirt(root, host.hook)
    other = guest(NIC, name="other")._replace(uuid="11111111-2222-3333-4444-555555555555")
    assert host.event(other, "prepare").code == 0
    undone = [one for one in commands.ran(root) if one["environment"]["LIBHOOK_OPERATION"] == "release"]
    assert [(one["argv"][-1], one["stdin"]) for one in undone] == [("off", ""), ("to host", "")]


def test_what_a_killed_hook_was_about_to_begin_is_ended(root: str) -> None:
    """Its child goes on, and asks systemd only while the guest is given back: nothing is left that runs."""
    host = host_with(root, f'[run.show]\ncommand = ["{SHOW}"]\nundo = ["{SHOW}", "off"]\nbackground = true\n')
    deed = disturbing.hook(host, ("win11", "prepare", "begin", "-"), WIN11.xml(1, False))
    disturbing.die(host, deed, disturbing.Point(1, "systemd-run it", "before", "late"), "go")
    timer = threading.Timer(0.5, store.create, (f"{root}/go", ""))
    timer.start()
    assert host.event(WIN11, "release", "failed").code == 0
    timer.join()
    assert argvs(host) == [[SHOW], [SHOW, "off"]]
    assert (systemd.running(root), host.leftovers) == ([], [])


def test_what_is_begun_between_two_looks_is_ended(root: str) -> None:
    """The child of a killed hook begins its command right after the first try to end that, and is gone itself."""
    host = host_with(root, f'[run.show]\ncommand = ["{SHOW}"]\nundo = ["{SHOW}", "off"]\nbackground = true\n')
    deed = disturbing.hook(host, ("win11", "prepare", "begin", "-"), WIN11.xml(1, False))
    disturbing.die(host, deed, disturbing.Point(1, "systemd-run it", "before", "late"), "go")
    faults.inject(root, faults.Fault("systemctl stop *", after=(("create", "go"), ("sleep", "1"))))
    assert host.event(WIN11, "release", "failed").code == 0
    assert argvs(host) == [[SHOW], [SHOW, "off"]]
    assert (systemd.running(root), host.leftovers) == ([], [])


@pytest.mark.parametrize(
    ("fault", "undos"),
    [
        (faults.Fault("systemctl stop *", before=(("kill", "writer"),)), 1),
        (faults.Fault("systemd-run *", before=(("kill", "writer"),)), 1),
        (faults.Fault("systemd-run *", after=(("kill", "writer"),)), 2),
    ],
)
def test_an_undo_is_run_though_its_child_is_killed(root: str, fault: faults.Fault, undos: int) -> None:
    """Twice perhaps: nobody knows how far it came."""
    host = host_with(root, f'[run.show]\ncommand = ["{SHOW}"]\nundo = ["{SHOW}", "off"]\nbackground = true\n')
    host.begin(WIN11)
    faults.inject(root, fault)
    host.event(WIN11, "release", "shutdown")
    assert argvs(host) == [[SHOW], *[[SHOW, "off"]] * undos]
    assert (systemd.running(root), host.leftovers) == ([], [])


def test_the_plan_as_data(root: str) -> None:
    """What is run, and what undoes it."""
    host = host_with(root)
    path = Path(root, "win11.xml")
    path.write_bytes(WIN11.xml(1, False))
    shown = json.loads(libhook(host, "plan", str(path), "--json").out)["actions"]
    (screen,) = [one for one in shown if one.get("name") == "screen"]
    assert (screen["action"], screen["undo"]) == ("run", False)
    assert screen["command"] == [SCREEN, "$HOME", "to guest"]
    host.begin(WIN11)
    shown = json.loads(libhook(host, "plan", str(path), "--event", "release", "--json").out)["actions"]
    assert [(one["command"], one["undo"]) for one in shown if one.get("name") == "screen"] == [
        ([SCREEN, "to host"], True)
    ]


def test_a_systemd_that_never_answers_is_not_waited_for(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether it answers late, or not at all."""
    host = host_with(root)
    with monkeypatch.context() as late:
        host.patience = 0
        late.setattr("libhook.kinds.run._most", lambda _one: 0.3)
        late.setattr("libhook.effects.transient.run", lambda *_, **__: hanging.hang(root))
        assert "the command screen does not end in time" in host.event(WIN11, "prepare").line
    hanging.let_go(root)
    host.patience = 60
    host.event(WIN11, "release", "failed")
    monkeypatch.setattr("libhook.effects.transient.run", lambda *_, **__: (errno.ETIMEDOUT, ""))
    assert "the command screen cannot be executed: Connection timed out" in host.event(WIN11, "prepare").line
