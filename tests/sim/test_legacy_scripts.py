# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which old hook scripts are run, by what, for how long, and which root does not run."""

import errno
import json
import os
import signal
import time
from pathlib import Path

import hanging
import pytest
from cases import NIC
from family import until
from old_scripts import PATH, PLAIN, SETTINGS, TREE, WIN11, calls, host_with, ran
from scenario import adopt_orphans, reap

from libhook.simulation import commands, faults


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
    host.call((name, "stopped", "end", "-"), WIN11.xml(-1))
    begun = host.call((name, "prepare", "begin", "-"), WIN11.xml(1, False))
    assert (begun.code, commands.ran(root)) == (0, [])


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


@pytest.fixture(name="late")
def _late(monkeypatch: pytest.MonkeyPatch) -> None:
    """A script that takes its time: once it runs, an hour has passed for the child that waits for it."""
    is_let_end, own = commands._is_let_end, os.getpid()

    def late(root: str, unit: str, _: float) -> bool:
        assert os.getpid() != own
        now = time.monotonic
        time.monotonic = lambda: now() + 3600
        return is_let_end(root, unit, 0)

    monkeypatch.setattr(commands, "_is_let_end", late)


def test_an_exit_status_is_not_taken_for_a_delay(root: str) -> None:
    """110 is ETIMEDOUT."""
    host = host_with(root, SETTINGS)
    commands.add(root, PATH, status=errno.ETIMEDOUT)
    assert f"{PATH} has ended with status 110" in host.event(WIN11, "prepare").line


@pytest.mark.usefixtures("late")
def test_a_script_that_is_late_is_ended(root: str) -> None:
    """All of it."""
    host = host_with(root, f"{SETTINGS}legacy.seconds = 60\n", seconds=600, status=0)
    said = host.event(WIN11, "prepare").line
    assert said == f"{PATH} has not ended within 60 s (prepare), and was ended: see journalctl -t libhook"
    ended = [json.loads(line) for line in Path(root, "var/log/systemctl.jsonl").read_text().splitlines()]
    assert [one["verb"] for one in ended[:2]] == ["kill", "stop"]
    assert host.driver(NIC) == "e1000e"


@pytest.mark.usefixtures("late")
def test_no_script_is_begun_without_time(root: str) -> None:
    """The time is that of the whole call."""
    folder = "/etc/libvirt/old-hooks/qemu.d"
    host = host_with(root, f'legacy = {{ path = "{folder}", seconds = 60 }}\n')
    commands.add(root, f"{folder}/a", seconds=600)
    commands.add(root, f"{folder}/b")
    assert f"{folder}/b has not ended within 60 s" in host.event(WIN11, "prepare").line
    assert [one["argv"][0] for one in commands.ran(root)][:2] == [f"{folder}/a", f"{folder}/a"]


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/etc/libvirt/hooks/qemu", "/etc/libvirt/hooks/qemu is run by libvirt itself: move it"),
        ("/etc/libvirt/hooks/qemu.d/mine", "/etc/libvirt/hooks/qemu.d/mine is run by libvirt itself: move it"),
        ("/etc/no-such", "/etc/no-such cannot be run (/etc/no-such: No such file or directory): correct the path"),
        (
            PATH,
            f"others may write to {PATH}, and root is to run {PATH}: check what is in it, then run: chmod go-w {PATH}",
        ),
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
    assert f"{PATH} cannot be executed: Failed to find \\x1bexecutable" in host.event(WIN11, "prepare").line
    faults.inject(root, faults.Fault("systemd-run*", nth=0, error="ENOENT"))
    refused = host.event(WIN11, "prepare")
    assert f"the old script {PATH} cannot be executed: No such file or directory" in refused.line


def test_a_systemd_that_never_answers_is_not_waited_for(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is a disk."""
    host = host_with(root)
    host.patience = 0
    with monkeypatch.context() as late:
        # A minute until it hangs. What comes then waits for the child that hangs, in vain.
        late.setattr("libhook.kinds.legacy._most", lambda _asked: 0.3 if Path(root, "begun").exists() else 60)
        late.setattr("libhook.effects.transient.run_old", lambda *_: hanging.hang(root))
        hanging.late(root)
        assert f"the old script {PATH} cannot be executed: Connection timed out" in host.event(WIN11, "prepare").line
    Path(root, "begun").unlink(missing_ok=True)
    monkeypatch.setattr("libhook.look.oldscripts.find", lambda *_: hanging.hang(root))
    hanging.late(root)
    assert f"{PATH} cannot be looked at in time" in host.event(WIN11, "prepare").line
    hanging.let_go(root)
    assert reap(60)


@pytest.mark.parametrize("launcher", [False, True])
@pytest.mark.parametrize("operation", ["migrate", "restore", "start"])
def test_a_filter_gives_libvirt_another_document(root: str, operation: str, launcher: bool) -> None:
    """What a script prints is the next one's document, and the last one's is libvirt's. Elsewhere it is logged."""
    folder = "/etc/libvirt/old-hooks/qemu.d"
    host = host_with(root, f'legacy = {{ path = "{folder}", filter = true }}\n', launcher=launcher)
    for name, printed in (("a", "<domain>a\udcff</domain>\n"), ("b", ""), ("c", "<domain>c</domain>")):
        commands.add(root, f"{folder}/{name}", stdout=printed.encode("utf-8", "replace").decode())
    outcome = host.event(PLAIN, operation)
    printed = outcome.stdout
    given = [one["stdin"] for one in commands.ran(root)]
    if operation == "start":
        assert (printed, set(given)) == ("", {PLAIN.xml(1, True).decode()})
        return
    assert (outcome.code, printed) == (0, "<domain>c</domain>")
    assert given == [PLAIN.xml(1, True).decode(), *2 * ["<domain>a?</domain>\n"]]
    commands.add(root, f"{folder}/b", stdout="<domain>b</domain>", status=1)
    refused = host.event(PLAIN, operation)
    assert (refused.code, refused.stdout) == (1, "")
    assert commands.ran(root)[-1]["stdin"] == PLAIN.xml(1, True).decode()


def test_a_hook_that_was_killed_begins_no_other_script(root: str) -> None:
    """Its child is still at the first, and somebody else may undo that already."""
    folder = "/etc/libvirt/old-hooks/qemu.d"
    host = host_with(root, f'legacy.path = "{folder}"\n')
    commands.add(root, f"{folder}/a")
    commands.add(root, f"{folder}/b")
    faults.inject(root, faults.Fault("systemd-run *", after=(("wait", "go"),)))
    adopt_orphans()
    pid = os.fork()
    if not pid:
        host.event(WIN11, "prepare")
        os._exit(0)
    until(lambda: commands.ran(root))
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    hanging.let_go(root)
    assert reap(60)
    assert [one["argv"][0] for one in commands.ran(root)] == [f"{folder}/a"]
    host.event(WIN11, "release", "failed")
    assert host.leftovers == []


@pytest.mark.parametrize("name", ["a/b", "qemu"])
def test_libvirts_own_hook_is_found_behind_links(root: str, name: str) -> None:
    """libhook must not call itself."""
    host = host_with(root, f'legacy.path = "/srv/{name}"\n')
    commands.add(root, "/etc/libvirt/hooks/qemu")
    os.makedirs(os.path.dirname(f"{root}/srv/{name}"), exist_ok=True)
    os.symlink(f"{root}/etc/libvirt/hooks/qemu", f"{root}/srv/{name}")
    assert f"/srv/{name} is run by libvirt itself: move it" in host.event(WIN11, "prepare").line
    assert commands.ran(root) == []


@pytest.mark.parametrize("place", ["hooks/win11/prepare/begin", "hooks/a", "old/win11/prepare/begin"])
def test_libvirts_own_hook_is_found_in_a_folder(root: str, place: str) -> None:
    """Also where the folder is libvirt's own, or has a link to the hook."""
    folder = place.split("/")[0]
    host = host_with(root, f'legacy.path = "/etc/libvirt/{folder}"\n')
    commands.add(root, "/etc/libvirt/hooks/qemu")
    os.makedirs(os.path.dirname(f"{root}/etc/libvirt/{place}"), exist_ok=True)
    os.symlink(f"{root}/etc/libvirt/hooks/qemu", f"{root}/etc/libvirt/{place}")
    assert " is run by libvirt itself: move it" in host.event(WIN11, "prepare").line
    assert commands.ran(root) == []
