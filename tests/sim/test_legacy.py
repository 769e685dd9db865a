# SPDX-License-Identifier: LGPL-2.1-or-later
"""Old hook scripts of the administrator's: ``legacy`` in the settings."""

import errno
import json
import os
import time
from pathlib import Path
from typing import Any

import holding
import pytest
from cases import NIC
from command import libhook
from scenario import Host, guest

from libhook.facts.legacy import units
from libhook.simulation import commands, faults, processes, systemd
from libhook.simulation.guests import Guest
from libhook.simulation.hosts import nic
from libhook.simulation.libvirt import Libvirt

WIN11, PLAIN = guest(NIC), guest()
PATH, TREE = "/etc/libvirt/old-hooks/qemu", "/etc/libvirt/hooks/qemu.d"
SETTINGS = f'[domains."win11"]\nlegacy.path = "{PATH}"\n'
LIFE = ["prepare begin -", "start begin -", "started begin -", "stopped end -", "release end shutdown"]


def host_with(root: str, config: str = SETTINGS, *, launcher: bool = False, **ends: Any) -> Host:  # noqa: ANN401
    """A host with this script, which ends so, and settings that were written a while ago."""
    host = Host(root, nic(), config, launcher=launcher)
    commands.add(root, PATH, **ends)
    for path in (Path(host.machine.config), Path(host.machine.config).parent):
        os.utime(path, (time.time() - 60,) * 2)
    return host


def calls(host: Host, path: str = PATH) -> list[str]:
    """What this script was called with, but for the guest's name."""
    return [" ".join(one["argv"][2:]) for one in commands.ran(host.root) if one["argv"][0] == path]


def ran(host: Host) -> list[str]:
    """The scripts that were run, below the tree."""
    return [
        next(arg for arg in one["argv"] if arg.startswith(TREE))[len(TREE) + 1 :] for one in commands.ran(host.root)
    ]


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
    host = holding.host_with(root, more=f'legacy.path = "{PATH}"\n')
    commands.add(root, PATH)
    holding.stream(root)
    foretold = host.call(("win11", "prepare", "begin", "-"), holding.WIN11.xml(1, False), dry_run=True)
    assert foretold.stderr[0] == f"run the old script {PATH} (prepare begin), for 120 s at most"
    assert any("(checked after: run the old script" in line for line in foretold.stderr)
    assert "is in use by the host" in host.event(holding.WIN11, "prepare").line
    assert calls(host) == ["prepare begin -", "stopped end -", "release end failed"]
    commands.add(root, PATH, ends=holding.STREAM)
    host.begin(holding.WIN11)
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


@pytest.mark.parametrize("name", ["win11", "--help", "a guest", "gäst", "$(id)\n"])
def test_a_tree_has_a_folder_for_each_guest(root: str, name: str) -> None:
    """The last is a script, or a folder of scripts in a shell's order. A failure ends a folder."""
    host = host_with(root, f'legacy.path = "{TREE}"\n')
    for script in ("prepare/begin/20 b", "prepare/begin/10-a", "prepare/begin/.hidden", "release/end", "start/begin/x"):
        commands.add(root, f"{TREE}/{name}/{script}")
    for script in ("prepare/begin/note", "started/begin"):
        path = Path(f"{root}{TREE}/{name}/{script}")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("#!/bin/sh\n")
    commands.add(root, f"{TREE}/libhook")  # libvirt runs it itself
    one = WIN11._replace(name=name)
    host.begin(one)
    host.event(one, "release", "shutdown")
    assert ran(host) == [f"{name}/{script}" for script in ("prepare/begin/10-a", "prepare/begin/20 b", "start/begin/x",
                                                           "release/end")]  # fmt: skip
    assert all(run["argv"][1] == name for run in commands.ran(root))
    commands.add(root, f"{TREE}/{name}/prepare/begin/10-a", status=1)
    assert "10-a has ended with status 1" in host.event(one, "prepare").line
    assert ran(host)[4:] == [f"{name}/prepare/begin/10-a", f"{name}/release/end"]
    host.event(one, "release", "failed")
    assert host.leftovers == []


@pytest.mark.parametrize("name", ["..", ".", "", "../old-hooks", "win11/../other", "/etc"])
def test_a_name_does_not_lead_out_of_the_tree(root: str, name: str) -> None:
    """Such a guest has no scripts."""
    host = host_with(root, f'legacy.path = "{TREE}"\n')
    for folder in (TREE, os.path.dirname(TREE), "/etc/libvirt/old-hooks", "/etc", f"{TREE}/other"):
        commands.add(root, f"{folder}/prepare/begin")
    host.call((name, "prepare", "begin", "-"), WIN11.xml(1, False))
    assert commands.ran(root) == []


def test_a_folder_as_libvirts_own(root: str) -> None:
    """Each executable file, hidden ones too, in byte order; a failure stops no other, and the last one is told."""
    folder = "/etc/libvirt/old-hooks/qemu.d"
    host = host_with(root, f'legacy.path = "{folder}"\n')
    for name, status in ((".hid", 0), ("10-a", 4), ("20-b~", 5), ("zz", 0), ("Ä", 0)):
        commands.add(root, f"{folder}/{name}", status=status)
    Path(f"{root}{folder}/README").write_text("")
    assert "20-b~ has ended with status 5" in host.event(WIN11, "prepare").line
    assert [one["argv"][0].rpartition("/")[2] for one in commands.ran(root)][:5] == [".hid", "10-a", "20-b~", "zz", "Ä"]


@pytest.mark.parametrize(("begins", "by"), [("", ["/bin/bash"]), (" #!/bin/sh\n", ["/bin/bash"]), ("\x7fELF\0", [])])
def test_a_file_without_interpreter_line_is_run_by_bash(root: str, begins: str, by: list[str]) -> None:
    """As it was by a dispatcher in bash. A program is run as it is."""
    host = host_with(root)
    Path(f"{root}{PATH}").write_text(begins)
    assert host.event(WIN11, "prepare").code == 0
    assert commands.ran(root)[0]["argv"] == [*by, PATH, "win11", "prepare", "begin", "-"]


@pytest.mark.parametrize("seconds", [0.3, 5.0])
def test_a_script_that_is_late_is_ended(root: str, seconds: float) -> None:
    """All of it. Scripts that come after it in libvirt's order have no time left. 110 is also an exit status."""
    host = host_with(root, f"{SETTINGS}legacy.seconds = 0.3\n", seconds=0.6, status=0)
    if seconds > 1:
        commands.add(root, PATH, status=errno.ETIMEDOUT)
        assert f"{PATH} has ended with status 110" in host.event(WIN11, "prepare").line
        return
    said = host.event(WIN11, "prepare").line
    assert said == f"{PATH} has not ended within 0.3 s (prepare), and was ended: see journalctl -t libhook"
    ended = [json.loads(line) for line in Path(root, "var/log/systemctl.jsonl").read_text().splitlines()]
    assert [one["verb"] for one in ended[:2]] == ["kill", "stop"]
    assert host.driver(NIC) == "e1000e"


def test_no_script_is_begun_without_time(root: str) -> None:
    """The time is that of the whole call."""
    folder = "/etc/libvirt/old-hooks/qemu.d"
    host = host_with(root, f'legacy = {{ path = "{folder}", seconds = 0.3 }}\n')
    commands.add(root, f"{folder}/a", seconds=0.6)
    commands.add(root, f"{folder}/b")
    assert f"{folder}/b has not ended within 0.3 s" in host.event(WIN11, "prepare").line
    assert [one["argv"][0] for one in commands.ran(root)][:2] == [f"{folder}/a", f"{folder}/a"]


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/etc/libvirt/hooks/qemu", "/etc/libvirt/hooks/qemu is run by libvirt itself: move it"),
        ("/etc/libvirt/hooks/qemu.d/mine", "/etc/libvirt/hooks/qemu.d/mine is run by libvirt itself: move it"),
        ("/etc/no-such", "/etc/no-such cannot be run (/etc/no-such: No such file or directory): correct the path"),
        (PATH, f"others may write to {PATH}, and root is to run {PATH}: chmod go-w {PATH}"),
    ],
)
def test_what_root_may_not_run_refuses(root: str, path: str, said: str) -> None:
    """Before anything is done. At the guest's end it is logged."""
    host = host_with(root, f'legacy.path = "{path}"\n')
    if "hooks/qemu.d" in path:
        commands.add(root, path)
    if path == PATH:
        Path(f"{root}{PATH}").chmod(0o777)
    assert said in host.event(WIN11, "prepare").line
    assert commands.ran(root) == []
    stopped = host.event(PLAIN._replace(name="x", uuid="11111111-2222-3333-4444-555555555555"), "stopped")
    assert stopped.code == 0
    assert said in stopped.logged("not done")[0]["outcome"] + ": " + said


def test_a_script_that_becomes_untrusted_is_not_run(root: str) -> None:
    """It is looked at each time; the guest's device comes back."""
    host = host_with(root)
    host.begin(WIN11)
    Path(f"{root}{PATH}").chmod(0o777)
    ended = host.event(WIN11, "release", "shutdown")
    (entry,) = [entry for entry in ended.logged("done") if "left" in entry]
    assert f"others may write to {PATH}" in entry["left"]
    assert (host.driver(NIC), host.leftovers, len(calls(host))) == ("e1000e", [], 3)


def test_systemd_that_cannot_run_it(root: str) -> None:
    """What systemd-run says is told, or that there is none."""
    host = host_with(root, says="Failed to find \x1bexecutable")
    assert f"{PATH} cannot be run: Failed to find \\x1bexecutable" in host.event(WIN11, "prepare").line
    faults.inject(root, faults.Fault("systemd-run*", nth=0, error="ENOENT"))
    refused = host.event(WIN11, "prepare")
    assert f"the old script {PATH} cannot be run: No such file or directory" in refused.line


def test_a_systemd_that_never_answers_is_not_waited_for(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is a disk."""
    host = host_with(root)
    monkeypatch.setattr("libhook.kinds.legacy._most", lambda _asked: 0.3)
    with monkeypatch.context() as late:
        late.setattr("libhook.effects.commands.run_old", lambda *_: time.sleep(5))
        assert f"the old script {PATH} cannot be run: Connection timed out" in host.event(WIN11, "prepare").line
    monkeypatch.setattr("libhook.look.oldscripts.find", lambda *_: time.sleep(5))
    host.configure(f"{SETTINGS}write_deadline = 0.3\n")
    assert f"{PATH} cannot be looked at in time" in host.event(WIN11, "prepare").line


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
        assert "s3cret" not in str(host.event(WIN11, operation, xml=xml))
    for path in Path(root).rglob("*"):
        assert path.name == "commands.jsonl" or not path.is_file() or b"s3cret" not in path.read_bytes()
