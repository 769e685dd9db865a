# SPDX-License-Identifier: LGPL-2.1-or-later
"""The kit for tests of handlers: it notices what it is there to notice, and leaves alone what is not its own."""

import os
import subprocess
import sys
from pathlib import Path
from threading import Thread

import pytest
from cases import NIC
from own import SWAPPINESS, code

from libhook.simulation.kernel import SimulatedKernel
from libhook.testing import (
    Assigned,
    Fault,
    Guest,
    Host,
    LibhookError,
    attach,
    detach,
    golden,
    nvidia,
    play,
    same_twice,
    undo_restores,
)

PLAIN, WIN11 = Guest("win11"), Guest("win11", (Assigned(NIC),))
SETS = {"sets": code('return {"settings": {"values": {"vm.swappiness": 10}}}')}


@pytest.fixture(name="host")
def _host(simulated_host: Host) -> Host:
    simulated_host.put(SWAPPINESS, "60")
    return simulated_host


def test_an_event_is_told_as_a_whole(host: Host) -> None:
    """What was planned, done, recorded and held, and the host after it."""
    host.unit("cups.service")
    host.program("/usr/bin/true")
    settings = '[units]\n"cups.service" = "down"\n[run.note]\ncommand = ["/usr/bin/true", "on"]\n'
    outcome = play("prepare", WIN11, host, settings)
    assert (outcome.code, outcome.refusals) == (0, ())
    assert outcome.writes[-1] == ("bus/pci/drivers_probe", NIC)
    assert [(one.argv, one.user) for one in outcome.commands] == [(("/usr/bin/true", "on"), "")]
    assert outcome.commands[0].stdin == WIN11.xml(1).decode()
    assert outcome.systemd == ("stop cups.service",)
    assert (outcome.after["cups.service"], outcome.after[f"{NIC} driver"]) == ("inactive", "vfio-pci")
    assert f"{NIC} driver: e1000e -> vfio-pci" in outcome.changed
    assert outcome.journal.keys() == {WIN11.uuid}
    play("start", WIN11, host)
    assert play("started", WIN11, host).records[0].endswith("res=success")
    over = play("release", WIN11, host, extra="shutdown")
    assert (over.systemd, over.journal) == (("start cups.service",), {})


def test_a_dry_run_does_nothing(host: Host) -> None:
    """And its plan is there."""
    outcome = play("prepare", PLAIN, host, handlers=SETS, dry_run=True)
    assert f'set {SWAPPINESS} to "10"' in outcome.plan
    assert outcome.after[SWAPPINESS] == "60"


def test_a_fault_holds_for_one_event(host: Host) -> None:
    """And the host is whole again after it."""
    no = Fault(f"set {SWAPPINESS} 10", error="EIO")
    assert play("prepare", PLAIN, host, handlers=SETS, faults=[no]).code == 1
    assert play("prepare", PLAIN, host).code == 0


def test_an_undo_that_does_not_restore_is_noticed(host: Host) -> None:
    """Whatever it is that does not come back."""
    host.fail(Fault(f"set {SWAPPINESS} 60", nth=0, ignored=True))
    with pytest.raises(AssertionError, match="after the guest's end"):
        undo_restores(PLAIN, host, handlers=SETS)


@pytest.mark.parametrize("fails", ["qemu", "host"])
def test_an_undo_that_does_not_restore_after_a_failed_start_is_noticed(host: Host, fails: str) -> None:
    """The second life and the third."""
    at = {"qemu": 4, "host": 6}[fails]  # each life first writes what there is
    host.fail(Fault(f"set {SWAPPINESS} 60", nth=at, ignored=True))
    with pytest.raises(AssertionError, match=f"failed in its {fails}"):
        undo_restores(PLAIN, host, handlers=SETS)


def test_a_guest_that_does_not_start_is_said(host: Host) -> None:
    """It is no proof that all is undone."""
    refuses = {"no": code('return {"refuse": "not today"}')}
    with pytest.raises(AssertionError, match="not today"):
        undo_restores(PLAIN, host, handlers=refuses)


def test_an_undo_that_restores(host: Host) -> None:
    """With a device, too."""
    undo_restores(WIN11, host, handlers=SETS)
    assert [one.operation for one in host.outcomes if one.code] == []


def test_a_handler_that_answers_otherwise_each_time_is_noticed(host: Host) -> None:
    """The plan that somebody read is not what is done then."""
    body = 'import time\nreturn {"warn": [str(time.perf_counter_ns())]}'
    with pytest.raises(AssertionError, match=r"two dry runs differ:\n(.*\n)+-warning: handler fickle"):
        same_twice("prepare", PLAIN, host, handlers={"fickle": code(body)})


def test_the_same_twice(host: Host) -> None:
    """A refusal is the same, too."""
    assert same_twice("prepare", PLAIN, host, handlers=SETS).after[SWAPPINESS] == "10"
    night = {"night": code('return {"refuse": given["time"]["local"][:16]}')}
    assert (
        "2026-02-01T03:04"
        in same_twice("prepare", PLAIN, host, "[handlers.night]\n", night, at="2026-02-01T03:04").line
    )


def test_hot_plug(host: Host) -> None:
    """The guest is started for it. What libhook or libvirt refuses is an outcome."""
    refuses = {"no": code('return {"refuse": "not this one"}', operations='"attach",')}
    refused = attach(NIC, PLAIN, host, handlers=refuses)
    assert (refused.code, refused.asked) == (1, ("no",))
    assert "not this one" in refused.line
    plugged = attach(NIC, PLAIN, host, settings="")
    assert (plugged.code, plugged.stdout, plugged.asked) == (0, f"win11: has pci {NIC} now\n", ())
    assert (plugged.after[f"{NIC} driver"], plugged.writes[-1]) == ("vfio-pci", ("bus/pci/drivers_probe", NIC))
    kept = detach(NIC, PLAIN, host, libvirt="kept")
    assert (kept.code, kept.after[f"{NIC} driver"]) == (1, "vfio-pci")
    assert detach(NIC, PLAIN, host).stdout == f"win11: gave up pci {NIC}\n"
    assert host.driver(NIC) == "e1000e"
    failed = attach(NIC, PLAIN, host, libvirt="monitor", faults=[Fault("record *attach*", returns=-1)])
    assert (failed.code, failed.after[f"{NIC} driver"]) == (1, "e1000e")
    host.stop(PLAIN)


def test_lives_do_not_mix(host: Host) -> None:
    """Either libvirtd plays the guest, with a QEMU, or the test plays its events."""
    host.start(WIN11)
    with pytest.raises(ValueError, match=r"end it by Host\.stop"):
        play("release", WIN11, host)
    host.stop(WIN11)
    play("prepare", WIN11, host)
    with pytest.raises(ValueError, match=r"or use Host\.start"):
        attach("0000:04:00.0", WIN11, host)
    with pytest.raises(ValueError, match="made of a document"):
        attach(NIC, Guest.of(PLAIN.xml()), host)


def test_a_package_and_a_broken_handler(host: Host, tmp_path: Path) -> None:
    """A package is copied whole; what enable says of a broken one is the error."""
    package = tmp_path / "pack"
    package.mkdir()
    (package / "__init__.py").write_text(code('from pack.words import WHY\nreturn {"refuse": WHY}'))
    (package / "words.py").write_text('WHY = "because"\n')
    assert "because" in play("prepare", PLAIN, host, handlers=[package]).line
    with pytest.raises(LibhookError, match="SyntaxError"):
        host.enable("broken", "def")


def test_a_module_and_a_mount_are_part_of_the_host(tmp_path: Path) -> None:
    """What a driver or an administrator changes shows."""
    host = Host(tmp_path / "host", nvidia())
    before = host.whole
    SimulatedKernel(host.root).unload("nvidia_uvm")
    host.unit("srv.mount", mounts="30 22 8:2 / /srv rw - ext4 /dev/sda2 rw")
    assert {name for name, text in host.whole.items() if before.get(name) != text} == {"modules", "mounts", "srv.mount"}


def test_other_children_are_left_alone(host: Host) -> None:
    """Who uses the kit may start and wait for processes of their own, also from a thread meanwhile."""
    codes = list[int]()
    with subprocess.Popen([sys.executable, "-c", "raise SystemExit(7)"]) as process:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        others = Thread(target=lambda: codes.extend(subprocess.call(["/bin/sh", "-c", "exit 7"]) for _ in range(20)))
        others.start()
        play("prepare", WIN11, host)
        play("release", WIN11, host)
        others.join()
        assert process.wait() == 7
    assert codes == [7] * 20


def test_a_golden_plan(tmp_path: Path) -> None:
    """Without a file it fails, and says how to write one; with another it shows what differs."""
    path = tmp_path / "plans" / "a.txt"
    with pytest.raises(AssertionError, match="run pytest with --libhook-regenerate"):
        golden.compare(["one"], path, regenerate=False)
    golden.compare(["one"], path, regenerate=True)
    golden.compare(["one"], path, regenerate=False)
    with pytest.raises(AssertionError, match=r"-one\n\+two"):
        golden.compare(["two"], path, regenerate=False)
    assert path.read_text() == "one\n"


def test_whoever_does_not_use_it_does_not_pay() -> None:
    """pytest loads the plugin on every host that has libhook."""
    asked = "import sys, libhook.pytest_plugin; print([name for name in sys.modules if name.startswith('libhook')])"
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    assert done.stdout == "['libhook', 'libhook.pytest_plugin']\n"
