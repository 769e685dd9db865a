# SPDX-License-Identifier: LGPL-2.1-or-later
"""Old hook scripts of the administrator's: ``legacy`` in the settings."""

import errno
import json
import os
from pathlib import Path

import pytest
from cases import DISK, GPU, NIC, SOUND
from command import libhook
from mounting import mount
from old_scripts import LIFE, PATH, PLAIN, SETTINGS, WIN11, calls, host_with
from scenario import Host, guest

from libhook.facts.legacy import units
from libhook.simulation import commands, processes, systemd
from libhook.simulation.guests import Guest
from libhook.simulation.hosts import workstation
from libhook.simulation.libvirt import Libvirt


@pytest.mark.parametrize("one", [WIN11, PLAIN])
@pytest.mark.parametrize("launcher", [False, True])
def test_a_script_is_called_at_each_step_of_a_life(root: str, one: Guest, launcher: bool) -> None:
    """As libvirt calls it, with its XML, whether the guest has host devices or not. Nothing of libhook's is left."""
    host = host_with(root, launcher=launcher)
    for _ in range(2):
        assert host.libvirt.start(one).error == ""
        assert host.libvirt.restart().error == ""
        host.libvirt.stop("win11", "shutdown")
        assert host.leftovers == []
    assert calls(host) == 2 * [*LIFE[:3], "reconnect begin -", *LIFE[3:]]
    for run in commands.ran(root):
        assert run["argv"][:2] == [PATH, "win11"]
        assert run["environment"] == {"LC_ALL": "C"}
        assert run["stdin"].startswith("<domain")
        assert run["unit"].startswith(f"libhook-legacy-{one.uuid}-{run['argv'][2]}-")


@pytest.mark.parametrize("launcher", [False, True])
@pytest.mark.parametrize("operation", ["migrate", "restore", "attach"])
def test_operations_at_which_libhook_does_nothing_itself(root: str, operation: str, launcher: bool) -> None:
    """A guest that is not known yet leaves no trace, and nothing is printed."""
    host = host_with(root, f"dry_run = false\nlegacy.path = '{PATH}'\n", launcher=launcher)
    outcome = host.event(WIN11, operation)
    assert (outcome.code, outcome.stderr, outcome.stdout) == (0, (), "")
    assert calls(host) == [f"{operation} begin -"]
    assert (host.leftovers, outcome.records) == ([], ())


@pytest.mark.parametrize("operation", ["start", "started", "stopped", "release", "reconnect", "migrate", "restore"])
def test_where_a_failure_counts(root: str, operation: str) -> None:
    """Where libvirt would end a guest that runs, or would not listen, it is only logged."""
    host = host_with(root)
    if operation not in ("migrate", "restore"):
        assert host.event(WIN11, "prepare").code == 0
    commands.add(root, PATH, status=3, stderr="no\x1b \udcff way")
    outcome = host.event(WIN11, operation)
    said = f"{PATH} has ended with status 3 ({operation}): no\\x1b \\udcff way: see journalctl -t libhook"
    counts = operation in ("start", "migrate", "restore")
    assert (outcome.code, outcome.stderr) == ((1, (said,)) if counts else (0, ()))
    entries = [entry for entry in outcome.log if entry.get("action") == f"legacy {PATH}"]
    assert [entry["level"] for entry in entries] == ["error"]
    host.event(WIN11, "release", "failed")
    assert (host.driver(NIC), host.leftovers) == ("e1000e", [])


def test_a_failure_at_prepare_refuses_and_is_undone_once(root: str) -> None:
    """The script gets what libvirt would call. When libvirt does that, it comes to nothing."""
    more = '[domains."win11".run.first]\ncommand = ["/usr/bin/first"]\nundo = ["/usr/bin/first", "back"]\n'
    host = host_with(root, SETTINGS + more, status=3, stderr="GPU is busy")
    commands.add(root, "/usr/bin/first")
    error = host.libvirt.start(WIN11).error
    assert error.endswith(f": {PATH} has ended with status 3 (prepare): GPU is busy: see journalctl -t libhook")
    assert calls(host) == ["prepare begin -", "stopped end -", "release end failed"]
    assert [one["argv"][-1] for one in commands.ran(root)][-1] == "back"
    assert (host.driver(NIC), host.leftovers) == ("e1000e", [])


def test_nothing_of_it_runs_if_libhook_refuses_before(root: str) -> None:
    """Neither at prepare nor at what libvirt calls then."""
    host = host_with(root, f'{SETTINGS}driver = "no-such"\n')
    assert "'no-such' is not a vfio driver" in host.libvirt.start(WIN11).error
    assert calls(host) == []
    assert host.leftovers == []


def test_a_start_that_fails_later_is_ended_as_libvirt_does(root: str) -> None:
    """QEMU dies; and the script's own failure at start. Each is called once."""
    host = host_with(root)
    assert host.libvirt.start(WIN11, "qemu").error
    assert calls(host) == [*LIFE[:2], "stopped end -", "release end failed"]
    assert (host.driver(NIC), host.leftovers) == ("e1000e", [])


def test_what_the_script_frees_is_looked_at_after_it(root: str) -> None:
    """It may stop the desktop, which has the card. If it does not, the start is refused, and it is called for that."""
    card, host = guest(GPU, SOUND), Host(root, workstation(), f'holder_wait = 0.3\nlegacy.path = "{PATH}"\n')
    commands.add(root, PATH)
    processes.add(root, 810, "sunshine", ["/dev/dri/card0"])
    foretold = host.call(("win11", "prepare", "begin", "-"), card.xml(1, False), dry_run=True)
    assert foretold.stderr[0] == f"run the old script {PATH} (prepare begin), for 120 s at most"
    assert any("(checked after: run the old script" in line for line in foretold.stderr)
    assert "is in use by the host" in host.event(card, "prepare").line
    assert calls(host) == ["prepare begin -", "stopped end -", "release end failed"]
    commands.add(root, PATH, ends=810)
    host.begin(card)
    assert calls(host)[3:] == LIFE[:3]


def test_its_place_is_after_units_and_before_the_device(root: str) -> None:
    """And at the guest's end the same backwards."""
    host = host_with(root, SETTINGS + '[domains."win11".units]\n"sddm.service" = "down"\n')
    systemd.add(root, "sddm.service")
    host.begin(WIN11)
    begun = host.outcomes[0]
    first, second = (next(at for at, line in enumerate(begun.plan) if what in line) for what in ("sddm", PATH))
    assert first < second < next(at for at, line in enumerate(begun.plan) if "-> vfio-pci" in line)
    ended = host.event(WIN11, "release", "shutdown")
    first, second = (next(at for at, line in enumerate(ended.plan) if what in line) for what in (PATH, "sddm"))
    assert first < second
    assert f"run the old script {PATH} (release end shutdown), for 120 s at most" in ended.plan


def test_a_dead_guest_is_ended_by_recover(root: str) -> None:
    """What its script would have been called with, without a document. What still runs is ended first."""
    host = host_with(root)
    assert host.event(WIN11, "prepare").code == 0
    for name, active in (("prepare-1", "active"), ("prepare-2", "inactive")):
        systemd.add(root, f"{units(WIN11.uuid)[:-1]}{name}.service", active=active, transient=True)
    assert f"legacy {PATH}" in libhook(host, "status").out
    processes.end(root, host.libvirt.pid)
    assert libhook(host, "recover").code == 0
    assert calls(host) == ["prepare begin -", "stopped end -", "release end failed"]
    assert [one["stdin"] for one in commands.ran(root)[1:]] == ["", ""]
    ended = [json.loads(line) for line in Path(root, "var/log/systemctl.jsonl").read_text().splitlines()]
    assert [one["names"] for one in ended if one["verb"] == "kill"] == [[f"{units(WIN11.uuid)[:-1]}prepare-1.service"]]
    assert host.leftovers == []


def test_a_dead_guests_script_gets_no_other_guests_event(root: str) -> None:
    """It is ended because another one wants the device."""
    host = host_with(root)
    host.begin(WIN11)
    processes.end(root, host.libvirt.pid)
    host.libvirt = Libvirt(root, host.hook)
    other = guest(NIC, name="other")._replace(uuid="11111111-2222-3333-4444-555555555555")
    assert host.event(other, "prepare").code == 0
    assert calls(host)[3:] == ["stopped end -", "release end failed"]
    assert [one["stdin"] for one in commands.ran(root)[3:]] == ["", ""]


def test_what_the_settings_take_away_is_still_ended(root: str) -> None:
    """And a guest that started without them is passed on, but not its prepare."""
    host = host_with(root)
    host.begin(WIN11)
    host.configure("")
    host.event(WIN11, "stopped")
    host.event(WIN11, "release", "shutdown")
    assert calls(host) == [*LIFE[:3], LIFE[4]]
    host.begin(WIN11)
    host.configure(SETTINGS)
    host.event(WIN11, "stopped")
    host.event(WIN11, "release", "shutdown")
    assert calls(host)[4:] == LIFE[3:]
    assert host.leftovers == []


def test_a_path_may_be_empty(root: str) -> None:
    """One guest does without what all others have."""
    host = host_with(root, f'legacy.path = "{PATH}"\n[domains."win11"]\nlegacy.path = ""\n')
    host.begin(WIN11)
    for operation in ("stopped", "release"):
        host.event(WIN11, operation)
    assert (calls(host), host.leftovers) == ([], [])


def test_started_is_waited_for(root: str) -> None:
    """As it was. No note says that libvirtd need not wait."""
    host = host_with(root)
    for operation in ("prepare", "start"):
        assert host.event(WIN11, operation).code == 0
    assert not os.path.exists(f"{root}/run/libhook/unwaited/{WIN11.uuid}")


def test_what_libhook_cannot_do_keeps_it_from_nothing(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """But a start."""
    host = host_with(root)
    host.begin(WIN11)

    def fail(*_: object) -> None:
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr("libhook.run._answer", fail)
    for operation, code in (("start", 1), ("reconnect", 0), ("stopped", 0)):
        assert host.event(WIN11, operation).code == code
    assert calls(host)[3:] == ["reconnect begin -", "stopped end -"]


def test_what_cannot_be_passed_on_is_in_the_way_of_nothing(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The devices come back, and the trail has the guest's start and end. Only a start is refused."""
    host = host_with(root)

    def fail(*_: object) -> None:
        raise OSError(errno.EIO, "broken")

    assert [host.event(WIN11, operation).code for operation in ("prepare", "start")] == [0, 0]
    monkeypatch.setattr("libhook.story.passing.plan", fail)
    assert host.event(WIN11, "start").code == 1
    outcomes = [host.event(WIN11, "started"), host.event(WIN11, "release", "shutdown")]
    assert [outcome.code for outcome in outcomes] == [0, 0]
    assert all(any(entry["event"] == "not passed on" for entry in outcome.log) for outcome in outcomes)
    assert (host.driver(NIC), host.leftovers) == ("e1000e", [])


def test_a_dry_run_runs_none(root: str) -> None:
    """The plan of each operation says what would be."""
    host = host_with(root)
    for operation in ("start", "started", "stopped", "reconnect", "migrate", "release"):
        over = operation in ("stopped", "release")
        arguments = ("win11", operation, "end" if over else "begin", "-")
        foretold = host.call(arguments, WIN11.xml(-1 if over else 1, True), dry_run=True)
        assert f"run the old script {PATH} ({' '.join(arguments[1:3])}), for 120 s at most" in foretold.stderr
    host.configure(f"dry_run = true\n{SETTINGS}")
    for operation in ("prepare", "start", "started", "stopped", "release"):
        assert host.event(WIN11, operation).code == 0
    assert commands.ran(root) == []


def test_secrets_are_in_no_log(root: str) -> None:
    """What libvirt hands over at migrate and restore has passwords. Only the script is given them."""
    host = host_with(root, status=1, stderr="no")
    xml = WIN11.xml(-1).replace(b"</devices>", b"<graphics type='vnc' passwd='s3cret'/></devices>")
    for operation in ("migrate", "restore"):
        assert "s3cret" not in str(tuple(host.event(WIN11, operation, xml=xml)._replace(commands=())))
    for path in Path(root).rglob("*"):
        assert path.name == "commands.jsonl" or not path.is_file() or b"s3cret" not in path.read_bytes()


def test_the_plan_as_data(root: str) -> None:
    """What is called, now and at the end."""
    host = host_with(root)
    path = Path(root, "win11.xml")
    path.write_bytes(WIN11.xml(1, False))

    def shown(*arguments: str) -> list[list[list[str]]]:
        actions = json.loads(libhook(host, "plan", str(path), "--json", *arguments).out)["actions"]
        return [one["calls"] for one in actions if (one["action"], one.get("path")) == ("legacy", PATH)]

    assert shown() == [[["prepare", "begin", "-"]]]
    host.begin(WIN11)
    assert shown("--event", "release") == [[["release", "end", "-"]]]
    assert shown("--event", "reconnect") == [[["reconnect", "begin", "-"]]]


def test_a_broken_entry_keeps_nothing_from_the_script(root: str) -> None:
    """Nobody knows what was called. libvirt would call it."""
    host = host_with(root)
    host.begin(WIN11)
    Path(f"{host.machine.state}/domains/{WIN11.uuid}.json").write_text("{")
    for operation in ("stopped", "release"):
        assert host.event(WIN11, operation).code == 0
    assert calls(host)[3:] == ["stopped end -", "release end -"]


def test_a_disk_that_the_script_unmounts_is_looked_at_after_it(root: str) -> None:
    """It is mounted still, so the start is refused then, and the script told."""
    host = Host(root, workstation(), f'holder_wait = 0.1\nlegacy.path = "{PATH}"\n')
    mount(root)
    commands.add(root, PATH)
    assert "is mounted on" in host.event(guest(DISK), "prepare").line
    assert calls(host) == ["prepare begin -", "stopped end -", "release end failed"]
