# SPDX-License-Identifier: LGPL-2.1-or-later
"""libhook is upgraded while it is at work: whoever runs goes on with the version it began with, which stays."""

import fcntl
import os
import signal
import subprocess
import sys
from itertools import cycle
from pathlib import Path

import pytest
from amounts import AMOUNTS
from cases import NIC
from family import Begun, environment, until
from fault_means import python
from scenario import Host, reap
from upgrading import (
    RENAMED,
    WIN11,
    Versions,
    begun,
    is_locked,
)  # fmt: skip

from libhook.effects import locks
from libhook.simulation import faults
from libhook.simulation.hosts import nic
from libhook.simulation.store import shown

pytestmark = pytest.mark.race

NO_LIBVIRTD = """# libvirt's bindings where no libvirtd answers
import time
class libvirtError(Exception):
    def get_error_message(self): return "nobody answers"
def openReadOnly(uri): raise libvirtError()
def virEventRunDefaultImpl(): time.sleep(0.01)
def __getattr__(name): return lambda *arguments: 0
"""


@pytest.fixture(name="versions")
def _versions(tmp_path: Path) -> Versions:
    """The first version is installed."""
    versions = Versions(tmp_path)
    versions.install("first")
    return versions


@pytest.mark.rest
def test_lives_while_versions_alternate(versions: Versions, tmp_path: Path) -> None:
    """Nothing fails and nothing is left, though each of a guest's events may be another version's."""
    lives = [
        subprocess.Popen(
            [sys.executable, "-m", "upgraded_lives", root, versions.hook, str(AMOUNTS.upgraded // 2)],
            env={**os.environ, "PYTHONPATH": ":".join(filter(None, sys.path))},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for root in (tmp_path / "one", tmp_path / "other")
    ]
    installed = 0
    for name in cycle(("second", "third", "first")):
        if not any(life.poll() is None for life in lives):
            break
        versions.install(name)
        installed += 1
    assert installed > 1
    assert [life.communicate()[0].strip() for life in lives] == ["", ""]
    assert [life.returncode for life in lives] == [0, 0]


def upgrade_twice(versions: Versions) -> None:
    """After which nobody names the first version."""
    versions.install("second")
    versions.install("third")


def test_a_hook_whose_version_is_removed_before_it_has_it_is_run_again(versions: Versions, root: str) -> None:
    """As the version of now, with the same arguments and document, and by the same libvirtd."""
    Host(root, nic(), launcher=True)
    first = versions.named
    with begun(versions, root, "prepare") as hook:
        upgrade_twice(versions)
        assert not first.exists()
        assert hook.go_on(WIN11.xml(1, False)) == (0, b"", b"")
    assert shown(root, NIC) == "vfio-pci"
    with begun(versions, root, "release") as hook:
        versions.install("first")
        versions.install("second")
        assert hook.go_on(WIN11.xml(-1)) == (0, b"", b"")
    assert shown(root, NIC) == "e1000e"


def test_what_nobody_waits_for_is_waited_for_where_its_version_is_gone(versions: Versions, root: str) -> None:
    """At ``started``; it is run again as the version of now."""
    host = Host(root, nic(), launcher=True)
    for operation in ("prepare", "start"):
        with begun(versions, root, operation) as hook:
            assert hook.go_on(WIN11.xml(1, operation != "prepare")) == (0, b"", b"")
    with begun(versions, root, "started") as hook:
        upgrade_twice(versions)
        assert hook.go_on(WIN11.xml(1)) == (0, b"", b"")
    assert reap(60)
    assert host.trail == [f"start {NIC} success"]
    assert [held.phase for held in map(host.state.load, host.state.uuids()) if held] == ["started"]


@pytest.mark.parametrize("upgraded", [True, False])
def test_a_hook_that_cannot_have_its_version(versions: Versions, root: str, upgraded: bool) -> None:
    """Somebody removes it at that very moment; where nobody has put another in its place, it is refused in the end."""
    Host(root, nic(), launcher=True)
    with begun(versions, root, "prepare") as hook, (versions.named / "lock").open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if upgraded:
            versions.install("second")
        code, _, said = hook.go_on(WIN11.xml(1, False))
    assert (code, shown(root, NIC)) == ((0, "vfio-pci") if upgraded else (1, "e1000e"))
    assert said.count(b"\n") == code
    assert (b"python3 ended with status 4" in said) != upgraded


def test_a_version_stays_as_long_as_somebody_runs_from_it(versions: Versions, root: str) -> None:
    """The hook, and after it a child that hangs in a write and whom nobody waits for; then it goes."""
    Host(root, nic(), "write_deadline = 600\n", launcher=True)
    first = versions.named
    faults.hold(root, NIC)
    with begun(versions, root, "prepare") as hook:
        hook.begin_with(WIN11.xml(1, False))
        until(lambda: Path(root, "var/log/writes.jsonl").exists())
        upgrade_twice(versions)
        assert first in versions.there
        os.kill(python(hook.pid), signal.SIGKILL)
        hook.wait(300)
        hook.communicate()
    versions.install("second")
    assert first in versions.there
    faults.let_go(root, NIC)
    until(lambda: _goes(first, versions, "third"))


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["history", "-if", "-"], 0, b""),
        (["attach", "win11", "-", "-c", "test:///nowhere"], 1, b""),
        (["detach", "win11", "-", "-c", "test:///nowhere"], 1, b""),
        (["plan", "-"], 0, b"vfio-pci"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_command_goes_on_with_its_version(
    versions: Versions, root: str, arguments: list[str], code: int, said: bytes
) -> None:
    """It stands at its input while two upgrades pass, and ends as if there had been none."""
    Host(root, nic(), launcher=True)
    first = versions.named
    it = Begun([versions.command, *arguments], environment(root))
    until(lambda: is_locked(first))
    upgrade_twice(versions)
    assert first in versions.there
    document = b"type=LOGIN msg=audit(1795545001.000:11): x" if arguments[0] == "history" else WIN11.xml()
    ended = it.go_on(document)
    assert ended[0] == code, ended
    assert b"Traceback" not in ended[2]
    assert said in ended[1] + ended[2]
    versions.install("second")
    assert first not in versions.there


def test_a_watch_keeps_its_version(versions: Versions, root: str) -> None:
    """It lives long, as where nobody restarts it."""
    Host(root, nic(), launcher=True)
    first = versions.named
    (first / "libvirt.py").write_text(NO_LIBVIRTD)
    it = Begun([versions.command, "watch"], environment(root))
    until(lambda: is_locked(first))
    upgrade_twice(versions)
    assert first in versions.there
    it.send_signal(signal.SIGTERM)
    assert it.go_on(b"")[0] in (0, -signal.SIGTERM)
    until(lambda: _goes(first, versions, "second"))


def test_a_second_watch_is_refused_while_the_first_runs(versions: Versions, root: str) -> None:
    """It says so and ends; the first goes on, and when it has ended the next one may watch."""
    host = Host(root, nic(), launcher=True)
    (versions.named / "libvirt.py").write_text(NO_LIBVIRTD)
    command: list[str | Path] = [versions.command, "watch"]
    for _ in range(2):
        first = Begun(command, environment(root))
        until(lambda: locks.is_locked(f"{host.machine.state}/locks/watch"))
        code, out, said = Begun(command, environment(root)).go_on(b"")
        ended = first.poll()
        first.send_signal(signal.SIGTERM)
        assert first.go_on(b"")[0] in (0, -signal.SIGTERM)
        assert (code, out, ended) == (1, b"", None)
        assert b"watch is already running: one is enough; under systemd, run: systemctl status libhook-watch" in said


def _goes(first: Path, versions: Versions, at: str) -> bool:
    """Whether it is removed at this installation."""
    versions.install(at)
    return first not in versions.there


def test_a_command_whose_version_is_removed_before_it_has_it_is_run_again(versions: Versions, root: str) -> None:
    """As the hook is; and where none has taken its place, it says what Python says."""
    Host(root, nic(), launcher=True)
    text = versions.command.read_text()
    upgrade_twice(versions)
    late = versions.command.with_name("late")
    # The shebang's file is read before it is replaced: what ran is the old text, and by its name the new one is run.
    late.write_text(text.replace("import sys\n", f'import sys\nsys.argv[0] = "{versions.command}"\n', 1))
    late.chmod(0o755)
    assert Begun([late, "status"], environment(root)).go_on(b"") == (0, b"nothing is held\n", b"")
    late.write_text(text)
    code, out, error = Begun([late, "status"], environment(root)).go_on(b"")
    assert (code, out) == (1, b"")
    assert b"No module named 'libhook'" in error


def test_what_is_installed_is_not_changed(versions: Versions) -> None:
    """The same again is the same folder; one that is not whole, or has a link, gets another beside it, and goes."""
    first = versions.named
    before = {path: path.stat().st_ctime_ns for path in first.rglob("*")}
    assert versions.install("first") == first
    assert {path: path.stat().st_ctime_ns for path in first.rglob("*")} == before
    for damage in (_cut, _link, _plant, _open):
        damaged = versions.named
        damage(damaged)
        mended = versions.install("first")
        assert mended != damaged
        assert versions.install("first") == mended
        assert versions.there == {mended}
    assert len(RENAMED) == 3


def _cut(version: Path) -> None:
    (version / "libhook/facts/plan.py").write_text("")


def _link(version: Path) -> None:
    moved = (version / "libhook/facts/plan.py").rename(version.parents[1] / "plan.py")
    (version / "libhook/facts/plan.py").symlink_to(moved)


def _plant(version: Path) -> None:
    (version / "libhook/tomllib.py").touch()


def _open(version: Path) -> None:
    (version / "libhook").chmod(0o777)


def test_an_upgrade_from_the_first_layout(versions: Versions) -> None:
    """Its package stays for whoever runs from it and cannot say so, and goes with the installation after."""
    old = versions.lib / "libhook"
    for folder in (old, versions.lib / "hooks"):
        folder.mkdir()
        (folder / "file").touch()
    versions.command.write_text("#!/usr/bin/python3 -I\n")
    versions.hook.write_text(f"#!/bin/sh\nlib={versions.lib} # install.sh sets this\n")
    versions.install("first")
    assert (old / "file").exists()
    versions.install("first")
    assert sorted(path.name for path in versions.lib.iterdir()) == ["folders", "lock", "versions"]


def test_two_installations_at_once(versions: Versions) -> None:
    """The second says so, and changes nothing."""
    before = versions.there
    with (versions.lib / "lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = versions.run("second")
    assert (done.returncode, versions.there) == (1, before)
    assert "another install.sh runs" in done.stderr
