# SPDX-License-Identifier: LGPL-2.1-or-later
"""libhook is uninstalled while it is at work: nothing that a guest needs is removed, and what is refused is undone."""

import json
import signal
import subprocess
from pathlib import Path

import pytest
from cases import NIC
from family import Begun, environment, until
from scenario import Host, guest
from unwaited import SLOW, end, worker
from upgrading import WIN11, Versions, begun, is_locked

from libhook.children.child import Deadline
from libhook.facts.address import PciAddress
from libhook.look import sysfs
from libhook.simulation import faults
from libhook.simulation.hosts import nic
from libhook.story.session import make_state


@pytest.fixture(name="versions")
def _versions(tmp_path: Path) -> Versions:
    """On a slow machine what is at work takes longer than the 40 s of install.sh."""
    versions = Versions(tmp_path)
    versions.wait_no_longer_than(600)
    return versions


@pytest.fixture(name="host")
def _host(versions: Versions) -> Host:
    """A host on which libhook is installed."""
    host = Host(str(versions.host), nic(), "write_deadline = 600\n", launcher=True)
    versions.install("first")
    return host


def ended(uninstalling: "subprocess.Popen[str]") -> tuple[int, str]:
    """How it ended, and what was wrong."""
    said = uninstalling.communicate(timeout=600)[1]
    return uninstalling.returncode, said


def is_on(versions: Versions) -> bool:
    """Whether libvirtd would run the hook."""
    return bool(versions.hook.stat().st_mode & 0o111)


def test_a_start_in_the_middle_keeps_its_way_back(versions: Versions, host: Host) -> None:
    """Its journal entry is written after install.sh has looked: that waits, looks again, and puts the hook back."""
    make_state(host.machine)
    lock = sysfs.name_of_lock(host.machine, PciAddress.parse(NIC))
    with begun(versions, host.root, "prepare") as hook:
        with host.state.locked([lock], Deadline.after(60)):
            hook.begin_with(WIN11.xml(1, False))
            until(lambda: is_locked(versions.named))
            uninstalling = versions.uninstall()
            until(lambda: not is_on(versions))
            assert host.state.uuids() == ()
        assert hook.go_on(b"") == (0, b"", b"")
    code, said = ended(uninstalling)
    assert (code, is_on(versions)) == (1, True)
    assert "a guest still has its devices through libhook: win11" in said
    assert (host.state.uuids(), host.driver(NIC)) == ((WIN11.uuid,), "vfio-pci")
    with begun(versions, host.root, "release") as hook:
        assert hook.go_on(WIN11.xml(-1)) == (0, b"", b"")
    assert host.driver(NIC) == "e1000e"
    assert ended(versions.uninstall()) == (0, "")
    assert (versions.hook.exists(), versions.lib.exists()) == (False, False)


def test_who_works_alone_is_waited_for(versions: Versions, host: Host) -> None:
    """libvirtd has its answer at ``started``, and the guest its devices: both stay."""
    for operation in ("prepare", "start", "started"):
        if operation == "started":
            faults.inject(host.root, SLOW)
        with begun(versions, host.root, operation) as hook:
            assert hook.go_on(WIN11.xml(1, operation != "prepare")) == (0, b"", b"")
    assert worker(host)
    versions.wait_no_longer_than(0)
    code, said = ended(versions.uninstall())
    assert (code, is_on(versions)) == (1, True)
    assert "a guest still has its devices through libhook: win11" in said
    end(host)
    assert host.trail == [f"start {NIC} success"]


def test_a_start_that_comes_too_late_is_refused(versions: Versions, host: Host) -> None:
    """Its shell had begun; nothing is taken that nobody would give back."""
    with begun(versions, host.root, "prepare") as hook:
        assert ended(versions.uninstall()) == (0, "")
        code, _, said = hook.go_on(WIN11.xml(1, False))
    assert (code, said.count(b"\n"), host.driver(NIC)) == (1, 1, "e1000e")


def test_who_does_not_end_is_named(versions: Versions, host: Host) -> None:
    """The wait is bounded."""
    versions.wait_no_longer_than(0)
    at_work = Begun([versions.command, "plan", "-"], environment(host.root))
    until(lambda: is_locked(versions.named))
    before = versions.there
    code, said = ended(versions.uninstall())
    assert (code, is_on(versions), versions.there) == (1, True, before)
    assert f"/lock is held by process {at_work.pid}, or a child that it left" in said
    assert at_work.go_on(WIN11.xml())[0] == 0
    assert ended(versions.uninstall()) == (0, "")


def test_an_uninstallation_that_is_ended_is_undone(versions: Versions, host: Host) -> None:
    """While it waits."""
    at_work = Begun([versions.command, "plan", "-"], environment(host.root))
    until(lambda: is_locked(versions.named))
    uninstalling = versions.uninstall()
    until(lambda: not is_on(versions))
    uninstalling.send_signal(signal.SIGTERM)
    assert at_work.go_on(WIN11.xml())[0] == 0
    assert ended(uninstalling)[0] == 1
    assert is_on(versions)
    with begun(versions, host.root, "prepare") as hook:
        assert hook.go_on(WIN11.xml(1, False)) == (0, b"", b"")


@pytest.mark.parametrize(
    ("changes", "blocks"),
    [
        ({"devices": [], "actions": []}, False),
        ({"devices": []}, True),
        ({"phase": "refused"}, True),
        ({"phase": "releasing"}, True),
        ({"format": 99, "devices": {}, "actions": []}, False),
        ({"format": 99, "devices": "otherwise"}, True),
    ],
)
def test_only_an_entry_that_holds_something_is_in_the_way(
    versions: Versions, host: Host, changes: dict[str, object], blocks: bool
) -> None:
    """Of a later version nobody knows, so that one is."""
    host.begin(guest(NIC))
    entry = Path(host.machine.state, "domains", f"{WIN11.uuid}.json")
    entry.write_text(json.dumps({**json.loads(entry.read_text()), **changes}))
    assert ended(versions.uninstall())[0] == blocks
    assert is_on(versions) if blocks else not versions.hook.exists()
